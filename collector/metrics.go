package collector

import "slices"

// Metric describes one metric family that an Exporter exposes.
type Metric struct {
	Name   string
	Type   string   // counter, gauge or histogram
	Labels []string // in the order of the documents; nil for none
	Help   string
}

const (
	typeCounter   = "counter"
	typeGauge     = "gauge"
	typeHistogram = "histogram"
)

var (
	taskLabels   = []string{"region", "redisId", "taskName", "status"}
	regionLabels = []string{"region"}
)

var (
	tasksMetric = Metric{
		"crs_tasks", typeGauge, taskLabels,
		"Tasks in the API's list by status. The five documented statuses are always exported for what is listed, unknown only where one occurs.",
	}
	transitionsMetric = Metric{
		"crs_task_transitions_total", typeCounter, taskLabels,
		"Tasks seen to enter the status since the exporter began to watch. What the first successful poll of a region lists counts nothing, and the first sample of a series is always 0.",
	}
	lastStartMetric = Metric{
		"crs_task_last_start_timestamp_seconds", typeGauge, taskLabels,
		"Submission time of the newest listed task in the status, in seconds since the epoch.",
	}
	oldestStartMetric = Metric{
		"crs_task_oldest_start_timestamp_seconds", typeGauge, taskLabels,
		"Submission time of the oldest listed task that is pending or executing, in seconds since the epoch.",
	}
	instanceInfoMetric = Metric{
		"crs_instance_info", typeGauge,
		[]string{"region", "redisId", "redisName", "projectId"},
		"Constant 1 for each instance listed, with the name and the project that its newest task gives.",
	}

	upMetric = Metric{
		"crs_up", typeGauge, regionLabels,
		"Whether this scrape's poll of the region succeeded whole: 1 if so, else 0 and nothing that describes the list.",
	}
	pollDurationMetric = Metric{
		"crs_poll_duration_seconds", typeGauge, regionLabels,
		"How long the last finished poll of the region took, whether it succeeded or not.",
	}
	pollPagesMetric = Metric{
		"crs_poll_pages", typeGauge, regionLabels,
		"Pages read by the last finished poll of the region, those of repeated readings included.",
	}
	rejectedRowsMetric = Metric{
		"crs_poll_rejected_rows", typeGauge, regionLabels,
		"Rows of the last finished poll of the region that could not be read and are in no other metric. Normally 0.",
	}
	lastSuccessMetric = Metric{
		"crs_last_success_timestamp_seconds", typeGauge, regionLabels,
		"End of the last successful poll of the region, in seconds since the epoch.",
	}

	apiRequestsMetric = Metric{
		"crs_api_requests_total", typeCounter, regionLabels,
		"HTTP requests sent to the API, retries included.",
	}
	apiFailuresMetric = Metric{
		"crs_api_failures_total", typeCounter,
		[]string{"region", "reason"},
		"Failed HTTP requests by reason, and polls that failed without a failed request: as decode or timeout.",
	}
	apiDurationMetric = Metric{
		"crs_api_request_duration_seconds", typeHistogram, regionLabels,
		"Duration of the HTTP requests to the API, failed ones included.",
	}
	apiClockSkewMetric = Metric{
		"crs_api_clock_skew_seconds", typeGauge, regionLabels,
		"The API's clock less the exporter's by the Date header of the last answer. Positive if the API's clock is ahead.",
	}

	stateErrorsMetric = Metric{
		"crs_state_errors_total", typeCounter, nil,
		"Failed attempts to write the state file. Until one succeeds, the counters of transitions stay where they were last saved.",
	}
	stateSizeMetric = Metric{
		"crs_state_size_bytes", typeGauge, nil,
		"Size of the state file, 0 if there is none yet.",
	}
	stateLastResetMetric = Metric{
		"crs_state_last_reset_timestamp_seconds", typeGauge, nil,
		"When a state file that could not be used was last set aside and the counters began anew, in seconds since the epoch. 0 if no such file is there.",
	}

	buildInfoMetric = Metric{
		"crs_exporter_build_info", typeGauge,
		[]string{"version", "revision", "branch", "goversion", "goos", "goarch", "tags"},
		"A metric with a constant '1' value labeled by version, revision, branch, goversion from which crs_exporter was built, and the goos and goarch for the build.",
	}
)

// StateMetrics returns the families that an Exporter with a Config.StateFile
// exposes beside those of [Metrics].
func StateMetrics() []Metric {
	return []Metric{stateErrorsMetric, stateSizeMetric, stateLastResetMetric}
}

// Metrics returns every family with the prefix crs_ that any Exporter exposes,
// in the order of the documents. Beside them are go_*, process_* and promhttp_*.
func Metrics() []Metric {
	all := []Metric{
		tasksMetric, transitionsMetric, lastStartMetric, oldestStartMetric, instanceInfoMetric,
		upMetric, pollDurationMetric, pollPagesMetric, rejectedRowsMetric, lastSuccessMetric,
		apiRequestsMetric, apiFailuresMetric, apiDurationMetric, apiClockSkewMetric,
		buildInfoMetric,
	}
	for i := range all {
		all[i].Labels = slices.Clone(all[i].Labels)
	}
	return all
}
