// Package mirror keeps a copy of one region's task list in step with the API, at
// the cost of what changed.
//
// The list moves while it is read: tasks enter at its new end, leave at its old
// end, leave with their instance, and change their status. One answer is of one
// moment, two answers are of two. So a Mirror reads windows of submission time
// that fit in a page, which are complete and of one moment whatever moves
// elsewhere. The copy has every listed task up to a horizon, and answers only take
// tasks out of it. The first page, the head, comes last and tells how many tasks
// are listed: if the copy has as many, it is the list, at the moment of the head.
//
// Assumptions about the API, which a full reading corrects where they fail:
//
//   - A task that succeeded stays so, and one that failed more than a day ago.
//   - No task appears more than a minute below the newest one.
//   - A page is newest first. No answer is older than one before it.
package mirror
