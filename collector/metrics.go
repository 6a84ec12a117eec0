package collector

import "slices"

// Metric describes one metric family that an Exporter exposes.
type Metric struct {
	Name   string
	Type   string   // counter, gauge or histogram
	Labels []string // in the order of the README; nil for none
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
		"Tasks in the API's list by status. Every listed instance and task name has the five documented statuses, and unknown only if it occurs.",
	}
	transitionsMetric = Metric{
		"crs_task_transitions_total", typeCounter, taskLabels,
		"Tasks seen to enter the status since the exporter started to watch. Tasks listed at the first successful poll of a region do not count. The first sample of a series is always 0.",
	}
	lastStartMetric = Metric{
		"crs_task_last_start_timestamp_seconds", typeGauge, taskLabels,
		"Submission time of the newest listed task in the status, in seconds since the epoch.",
	}
	oldestStartMetric = Metric{
		"crs_task_oldest_start_timestamp_seconds", typeGauge, taskLabels,
		"Submission time of the oldest listed task that is pending or executing, in seconds since the epoch.",
	}
	lastDurationMetric = Metric{
		"crs_task_last_duration_seconds", typeGauge, taskLabels,
		"Time from submission to end of the newest listed task in the status. Only finished tasks, and only with API 3.0.",
	}
	lastBackupMetric = Metric{
		"crs_backup_last_start_timestamp_seconds", typeGauge,
		[]string{"region", "redisId", "outcome"},
		"Submission time of the newest listed backup that finished with the outcome (succeeded or failed), by hand or automatic, in seconds since the epoch.",
	}
	usualIntervalMetric = Metric{
		"crs_backup_usual_interval_seconds", typeGauge,
		[]string{"region", "redisId"},
		"Second longest time between successive listed finished backups of the instance, whatever their outcome. Only where at least three such intervals are listed.",
	}
	instanceGoneMetric = Metric{
		"crs_instance_gone", typeGauge,
		[]string{"region", "redisId"},
		"1 if the instance was closed or deleted, or could not be created, and no later task shows that it exists. Else 0.",
	}
	aliveSinceMetric = Metric{
		"crs_instance_alive_since_timestamp_seconds", typeGauge,
		[]string{"region", "redisId"},
		"Submission time of the newest listed newInstance or startInstance that succeeded, in seconds since the epoch.",
	}
	oldestTaskMetric = Metric{
		"crs_instance_oldest_start_timestamp_seconds", typeGauge,
		[]string{"region", "redisId"},
		"Submission time of the oldest listed task of the instance, in seconds since the epoch. The instance has existed since then.",
	}
	instanceInfoMetric = Metric{
		"crs_instance_info", typeGauge,
		[]string{"region", "redisId", "redisName", "projectId"},
		"Constant 1 for each listed instance, with the name and project of its newest task.",
	}

	upMetric = Metric{
		"crs_up", typeGauge, regionLabels,
		"1 if this scrape's poll of the region succeeded completely, else 0. With 0, no metric describes the list.",
	}
	apiInfoMetric = Metric{
		"crs_api_info", typeGauge,
		[]string{"region", "api"},
		"Constant 1 for the API that the region is read through: 2.0, 3.0 or tce.",
	}
	pagesInfoMetric = Metric{
		"crs_pages_info", typeGauge,
		[]string{"region", "url"},
		"Constant 1 for the URL of the exporter's HTML pages. Only with --web.external-url.",
	}
	pollDurationMetric = Metric{
		"crs_poll_duration_seconds", typeGauge, regionLabels,
		"Duration of the last finished poll of the region, successful or not.",
	}
	pollPagesMetric = Metric{
		"crs_poll_pages", typeGauge, regionLabels,
		"Pages read by the last finished poll of the region, including pages read again.",
	}
	rejectedRowsMetric = Metric{
		"crs_poll_rejected_rows", typeGauge, regionLabels,
		"Rows of the last finished poll of the region that could not be read. No other metric contains them. Normally 0.",
	}
	lastSuccessMetric = Metric{
		"crs_last_success_timestamp_seconds", typeGauge, regionLabels,
		"End of the last successful poll of the region, in seconds since the epoch.",
	}

	fullReadingsMetric = Metric{
		"crs_full_readings_total", typeCounter,
		[]string{"region", "cause"},
		"Full readings of the list: the first one, those that were due (each poll, or each interval of --crs.full-sync-interval), and those after a mismatch.",
	}
	correctionsMetric = Metric{
		"crs_corrections_total", typeCounter, regionLabels,
		"What full readings corrected: tasks that were missing, and statuses of tasks that seemed to be final. Normally 0.",
	}
	readingPagesMetric = Metric{
		"crs_reading_pages", typeGauge, regionLabels,
		"Pages of a full reading that goes on across scrapes. No series otherwise.",
	}
	readingPagesReadMetric = Metric{
		"crs_reading_pages_read", typeGauge, regionLabels,
		"Pages that a full reading which goes on across scrapes has read so far. No series otherwise.",
	}

	apiRequestsMetric = Metric{
		"crs_api_requests_total", typeCounter, regionLabels,
		"HTTP requests sent to the API, retries included.",
	}
	apiFailuresMetric = Metric{
		"crs_api_failures_total", typeCounter,
		[]string{"region", "reason"},
		"Failed HTTP requests by reason. A poll that fails without a failed request counts as decode or timeout. Requests for the reason of a failed task do not count.",
	}
	apiDurationMetric = Metric{
		"crs_api_request_duration_seconds", typeHistogram, regionLabels,
		"Duration of the HTTP requests to the API, including failed requests.",
	}
	apiClockSkewMetric = Metric{
		"crs_api_clock_skew_seconds", typeGauge, regionLabels,
		"Clock of the API minus clock of the exporter, from the Date header of the last response. Positive if the API is ahead.",
	}

	firstSeenMetric = Metric{
		"crs_task_first_seen_delay_seconds", typeGauge, regionLabels,
		"Age that the newest task had when a poll first listed it. Far below 0, or about whole hours: --crs.utc-offset or a clock is wrong.",
	}

	stateErrorsMetric = Metric{
		"crs_state_errors_total", typeCounter, nil,
		"Failed writes of the state file. Until a write succeeds, the counters of transitions stay as last saved.",
	}
	stateSizeMetric = Metric{
		"crs_state_size_bytes", typeGauge, nil,
		"Size of the state file, 0 as long as no file exists.",
	}
	stateLastResetMetric = Metric{
		"crs_state_last_reset_timestamp_seconds", typeGauge, nil,
		"When a damaged state file was last set aside and the counters restarted at zero, in seconds since the epoch. 0 if there is no such file.",
	}

	buildInfoMetric = Metric{
		"crs_exporter_build_info", typeGauge,
		[]string{"version", "revision", "branch", "goversion", "goos", "goarch", "tags"},
		"A metric with a constant '1' value labeled by version, revision, branch, goversion from which crs_exporter was built, and the goos and goarch for the build.",
	}
)

// StateMetrics returns the families that only an Exporter with a
// Config.StateFile exposes.
func StateMetrics() []Metric {
	return []Metric{stateErrorsMetric, stateSizeMetric, stateLastResetMetric}
}

// Metrics returns the families with the prefix crs_ that every Exporter exposes,
// in the order of the README. Also exposed: go_*, process_* and promhttp_*.
func Metrics() []Metric {
	all := []Metric{
		tasksMetric, transitionsMetric, lastStartMetric, oldestStartMetric, lastDurationMetric,
		lastBackupMetric, usualIntervalMetric, instanceGoneMetric, aliveSinceMetric, oldestTaskMetric, instanceInfoMetric,
		upMetric, apiInfoMetric, pagesInfoMetric, pollDurationMetric, pollPagesMetric, rejectedRowsMetric, lastSuccessMetric,
		fullReadingsMetric, correctionsMetric, readingPagesMetric, readingPagesReadMetric,
		apiRequestsMetric, apiFailuresMetric, apiDurationMetric, apiClockSkewMetric, firstSeenMetric,
		buildInfoMetric,
	}
	for i := range all {
		all[i].Labels = slices.Clone(all[i].Labels)
	}
	return all
}
