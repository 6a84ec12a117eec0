// Package mirror keeps an exact copy of a task list that changes while it is read.
//
// A request by bounds is for "the newest page up to second s". The answer is of one
// moment and has the number of tasks that are listed up to s. All its seconds are
// complete except that of its last row, where the next request begins.
//
// The copy is a superset: it has every task that is listed up to the second known,
// and perhaps some that have left. The head, the newest page of all, is requested last.
// If as many tasks are listed below its rows as the copy has there, the two are
// equal, since a superset of the same size is the same set: the copy is the list of
// that moment. Otherwise tasks that have left are taken out and the head is requested
// again, or all is read again, or the poll fails.
//
// A server that refuses bounds, or gives them another meaning, is read by limit and
// offset only. The proof is the same, but a change can cost a reading of all pages.
//
// Assumptions, which a turn corrects where they fail: no task appears more than a
// minute below the newest one; a task that succeeded stays so, and one that failed
// more than an hour ago; rows come newest first; no answer is older than one before it.
//
// # What a poll costs
//
// The list is divided into windows, which each fit in a page. A poll requests
//
//   - the head;
//   - each window with a task that may still change: one that is unfinished, or failed
//     within the last hour;
//   - as many of the other windows, in turn, as the caller wants;
//   - two or three more pages when old tasks have left the list, and about a dozen when
//     an instance was deleted.
//
// TestCost has the numbers.
package mirror
