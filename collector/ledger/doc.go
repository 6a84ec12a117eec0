// Package ledger counts how many tasks were seen to enter each status, and knows the
// [Facts] that outlive a list. With a [Store] that has a file, both survive restarts,
// kills and full disks.
//
// # Counters
//
// No task counts twice in one status, the first sample of every series is 0, and no
// counter decreases.
//
// Rows of a list have no id. A task is known by its instance, its name and its second of
// submission. A row that vanishes and comes back counts once. A new failure counts even
// if an older one has left the list since the last poll.
//
// The first sample is 0, or PromQL's increase would miss the first failure. What a new
// series has to count shows once two scrapes have shown its 0, so that both servers of a
// pair have it.
//
// Some tasks are remembered, and not counted:
//
//   - those of the first list, which is the baseline;
//   - history: a task that appears later, but was submitted more than an hour before the
//     newest task of the baseline;
//   - those of the first list of another source: another API, other filters, or another
//     endpoint, UTC offset or role.
//
// The counters of an instance are forgotten when it has not been listed for 30 days.
//
// # Facts
//
// A fact hardly ever falls, so that max over a pair of exporters is right. It is +Inf
// while nothing is owed: the instance is closed or deleted, or has left the list in
// order. One that left it while its backups failed or were overdue stays so for 7 days. A
// change of the API keeps the facts, any other change of the source forgets them.
//
// # The state file
//
// The file is one snapshot of all regions. When something has changed, all of it is
// written: temporary file, fsync, rename, fsync of the folder (not on Windows). A value is
// on disk before a scrape shows it, so that neither a kill nor a power failure nor a full
// disk makes a counter go back.
//
// While the disk fails or stalls, polls go on, and scrapes show the counters as last
// saved. One scrape waits a second for a write that stalls, the others do not wait. A file
// that was removed or replaced is written again at the next change. A region that is not
// watched in one run keeps its part of the file for 30 days.
package ledger
