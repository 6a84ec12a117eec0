package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// progressInterval is the time between two reports of progress.
const progressInterval = 10 * time.Second

// Check polls each region once and prints a table of the results, what is wrong with
// advice, and how the API answers, for a report. It waits as long as a poll may take,
// and writes to progress while a long list is read. The error says how many regions
// failed, or that ctx ended. credentials names the source of the credentials.
func (e *Exporter) Check(ctx context.Context, credentials string, out, progress io.Writer) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.Poll(ctx)
		if ctx.Err() == nil {
			e.running.Wait() // for inventories
		}
	}()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for polling := true; polling; {
		select {
		case <-done:
			polling = false
		case <-ctx.Done():
			polling = false
		case <-tick.C:
			for _, s := range e.Status() {
				if s.PagesDue > 0 {
					_, _ = fmt.Fprintf(progress, "%s, API %s: reading the list, %d of about %d pages\n", s.Region, s.API, s.PagesRead, s.PagesDue)
				}
			}
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("check: %w", context.Cause(ctx))
	}
	all := e.Status()
	if _, err := io.WriteString(out, report(credentials, all, e.TaskLists())); err != nil {
		return fmt.Errorf("check: print: %w", err)
	}
	failed := 0
	for _, s := range all {
		if s.Err != nil || s.Inventory.Err != nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("check: %d of %d regions failed", failed, len(all))
	}
	return nil
}

// report returns what Check prints. lists has a list for each region that succeeded.
func report(credentials string, all []RegionStatus, lists []*TaskList) string {
	var b strings.Builder // never fails
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tAPI\tCREDENTIALS\tTASKS\tINSTANCES\tNEWEST TASK\tCLOCK SKEW\tREQUESTS\tDURATION\tRESULT")
	for _, s := range all {
		tasks, instances, newest, result := "-", "-", "-", "ok"
		if s.Err == nil {
			tasks, instances = fmt.Sprint(s.Tasks), fmt.Sprint(max(s.Instances, len(s.Inventory.Instances)))
			if s.Inventory.Err != nil {
				result = "inventory " + resultOf(s.Inventory.Err)
			}
		} else {
			result = resultOf(s.Err)
		}
		if !s.NewestTask.IsZero() {
			newest = s.NewestTask.UTC().Format(time.RFC3339)
		}
		fmt.Fprintln(table, strings.Join([]string{
			s.Region, string(s.API), credentials, tasks, instances, newest,
			s.ClockSkew.Round(time.Second).String(), fmt.Sprint(s.Requests), s.Duration.Round(time.Millisecond).String(), result,
		}, "\t"))
	}
	_ = table.Flush()
	for i, s := range all {
		for _, p := range s.Problems() {
			fmt.Fprintf(&b, "\n%s, API %s: %s\n  %s\n", s.Region, s.API, p.What, p.Advice)
		}
		if s.Err == nil && s.Tasks > 0 {
			names := map[string]int{}
			for _, series := range lists[i].series {
				for _, n := range series.count {
					names[series.TaskName] += n
				}
			}
			by := "beginTime and endTime, newest first"
			if s.ByOffset != "" {
				by = "limit and offset only"
			}
			fmt.Fprintf(&b, "\n%s, API %s, how the API answers (for a report):\n", s.Region, s.API)
			fmt.Fprintf(&b, "  read by: %s\n  pages: %d, tasks: %d, rows that could not be read: %d\n", by, s.Pages, s.Tasks, s.Rejected)
			fmt.Fprintf(&b, "  age of the newest task by --crs.utc-offset: %s\n", s.End.Sub(s.NewestTask).Round(time.Second))
			fmt.Fprintf(&b, "  task names: %s\n  statuses: %s\n", counts(names), counts(lists[i].Counts()))
		}
	}
	return b.String()
}

// counts returns the counts above 0, ordered by name.
func counts(of map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] > 0 {
			all = append(all, fmt.Sprintf("%s %d", name, of[name]))
		}
	}
	return strings.Join(all, ", ")
}

// resultOf returns the reason of a failed poll, with the API's code if there is one.
func resultOf(err error) string {
	var failed *crsapi.Error
	switch {
	case errors.As(err, &failed) && failed.Code != 0:
		return fmt.Sprintf("%s %d", failed.Reason, failed.Code)
	case failed != nil:
		return strings.TrimSpace(string(failed.Reason) + " " + failed.CodeDesc)
	}
	reason, _ := reasonOf(err)
	return string(reason)
}
