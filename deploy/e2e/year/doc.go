// Package year judges the shipped alerts over a simulated time: a week in each run of
// the tests, a year with make year. It has tests only.
//
//	scenario   what happens, from a seed: backups and other tasks, troubles of the
//	           instances, incidents of the API, the exporters and Prometheus; and the
//	           truth about each of them
//	stage      plays the scenario in a testing/synctest bubble: the lists of the API, its
//	           incidents, and what each scrape gets
//	watcher    the real exporter, with the real client, across its restarts
//	prometheus stores what is scraped, and evaluates the rules, with Prometheus' own engine,
//	           rules and storage, stale markers, restarts and the restored state of alerts
//	notices    which alerts fired from when until when, and which were pages after
//	           Alertmanager's inhibitions
//	judge      compares them with the truth
//
// The truth does not follow the rules. It is written where a trouble is injected, from
// the user's view: which alerts are right, from when it can be known, and when it is
// cured. See the tables in troubles_test.go and incidents_test.go. An alert is wrong if
//
//	missed                 no right alert fires, though the region could be watched
//	                       for long enough before the cure
//	detected late          it fires later than the fault's kind allows
//	cleared without a cure nothing fires for the fault any more, and it is not cured,
//	                       or nobody can see that it is
//	fired again            the same alert fires twice for one fault
//	more than one page     critical alerts after the inhibitions, for one fault
//	inhibited              critical alerts for one fault, and none of them is a page
//	fired on               it fires long after the cure could be seen
//	fired too early        it fires before there is a fault, and goes on into one
//	no fault explains it   all others
//
// No rule can prevent that an alert is cleared, or fires or pages again, after Prometheus
// lost its data, after an exporter without a state file restarted, while Prometheus and
// the only exporter were away, or when one of a pair came back that had missed the
// failure: "nobody knew it any more". The report counts and names these, and the test passes.
//
// While a region cannot be watched, nothing has to be detected, and what fires has to go on.
// An alert that goes on within a quarter of an hour after Prometheus was down has not
// ended: Prometheus restores it.
//
// Not simulated: Alertmanager's grouping and repetition; a pair of Prometheus; two accounts,
// the exceptions of an operator, and a wrong time zone, which deploy/prometheus/tests have.
//
// Flags of the test binary: -seed, -days, -instances, -coarse for steps of four minutes where
// nothing happens, -inventory for exporters that read inventories, with instances that have no
// task, and -rules for other rules:
//
//	go test -run TestScenario -v ./year -days 30 -coarse -rules /tmp/crs.yml
//	go test -run TestScenario -v ./year -days 1 -instances 1000
package year
