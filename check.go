package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

const (
	// checkTimeout bounds the whole check. It is what Prometheus grants a
	// scrape at an interval of a minute, at most.
	checkTimeout = time.Minute
	// maxClockSkew is less than the narrowest window of the API's documents,
	// five minutes, so that a clock that drifts shows before it is refused.
	maxClockSkew = time.Minute
)

// finding is what came of asking one region.
type finding struct {
	region    string
	tasks     int
	instances map[string]struct{}
	newest    time.Time // zero where nothing is listed
	rejected  int
	requests  []time.Duration
	skew      time.Duration
	hasSkew   bool
	err       error
}

// checkRegions asks every region once, side by side, for the list that a
// scrape would ask for, and prints what came of it. It fails where a region
// did.
func checkRegions(ctx context.Context, cfg *config, out io.Writer) error {
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	findings := make([]*finding, len(cfg.regions))
	var regions sync.WaitGroup
	for i, region := range cfg.regions {
		regions.Go(func() { findings[i] = checkRegion(bounded, cfg, region) })
	}
	regions.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("check: %w", context.Cause(ctx))
	}
	if _, err := io.WriteString(out, report(cfg, findings)); err != nil {
		return fmt.Errorf("check: print: %w", err)
	}
	failed := 0
	for _, f := range findings {
		if f.err != nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("check: %d of %d regions failed", failed, len(findings))
	}
	return nil
}

func checkRegion(ctx context.Context, cfg *config, region string) *finding {
	f := &finding{region: region, instances: map[string]struct{}{}}
	var mu sync.Mutex
	client, err := newClient(cfg, region, func(a crsapi.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		f.requests = append(f.requests, a.Duration)
		if a.HasClockSkew {
			f.skew, f.hasSkew = a.ClockSkew, true
		}
	})
	if err != nil {
		f.err = err
		return f
	}
	defer client.CloseIdleConnections()
	query := crsapi.Query{TaskTypes: cfg.taskTypes}
	if cfg.lookback > 0 {
		query.BeginTime, query.EndTime = time.Now().Add(-cfg.lookback), time.Now().Add(24*time.Hour)
	}
	ids := slices.Compact(slices.Sorted(slices.Values(cfg.redisIDs)))
	if len(ids) == 0 {
		ids = []string{""}
	}
	for _, query.RedisID = range ids {
		sweep, err := client.Sweep(ctx, query)
		if err != nil {
			f.err = err
			return f
		}
		f.tasks += sweep.Len()
		f.rejected += sweep.Rejected()
		for task := range sweep.All() {
			f.instances[task.RedisID] = struct{}{}
			if task.StartTime.After(f.newest) {
				f.newest = task.StartTime
			}
		}
	}
	return f
}

// report is a table of the regions, and below it what an operator has to do.
func report(cfg *config, findings []*finding) string {
	var b, rows strings.Builder
	rows.WriteString("REGION\tCREDENTIALS\tTASKS\tINSTANCES\tNEWEST TASK\tCLOCK SKEW\tLATENCY\tRESULT\n")
	zone := time.FixedZone("", int(cfg.utcOffset/time.Second))
	for _, f := range findings {
		tasks, instances, newest, skew, latency := "-", "-", "-", "-", "-"
		if f.err == nil {
			tasks, instances = strconv.Itoa(f.tasks), strconv.Itoa(len(f.instances))
		}
		if f.err == nil && !f.newest.IsZero() {
			newest = f.newest.In(zone).Format(time.RFC3339)
		}
		if f.hasSkew {
			skew = f.skew.Round(time.Second).String()
		}
		if len(f.requests) > 0 {
			// The median, or the set-up of the first connection would count.
			slices.Sort(f.requests)
			latency = f.requests[(len(f.requests)-1)/2].Round(time.Millisecond).String()
		}
		fmt.Fprintf(&rows, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			f.region, credentialsSource(cfg.credentials), tasks, instances, newest, skew, latency, f.result())
	}
	// A strings.Builder takes everything.
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = io.WriteString(table, rows.String())
	_ = table.Flush()
	for _, f := range findings {
		for _, p := range f.problems(cfg) {
			fmt.Fprintf(&b, "\n%s: %s\n  %s\n", f.region, p.what, p.todo)
		}
	}
	return b.String()
}

func credentialsSource(provider credentials.Provider) string {
	if known, ok := provider.(interface {
		Status() credentials.Status
	}); ok {
		return known.Status().Source
	}
	return "demo"
}

// result is one word, and the API's code if it gave one.
func (f *finding) result() string {
	var failed *crsapi.Error
	switch {
	case f.err == nil:
		return "ok"
	case !errors.As(f.err, &failed):
		return "failed"
	case failed.Code != 0:
		return fmt.Sprintf("%s %d", failed.Reason, failed.Code)
	default:
		return string(failed.Reason)
	}
}

// problem is what went wrong and what to do about it.
type problem struct{ what, todo string }

func (f *finding) problems(cfg *config) []problem {
	var all []problem
	if f.err != nil {
		todo := "See the error above."
		var failed *crsapi.Error
		if errors.As(f.err, &failed) {
			todo = advice(failed, cfg)
		}
		all = append(all, problem{f.err.Error(), todo})
	}
	if f.skew.Abs() > maxClockSkew {
		direction := "behind"
		if f.skew < 0 {
			direction = "ahead of"
		}
		all = append(all, problem{
			fmt.Sprintf("this machine's clock is %s %s the API's", f.skew.Abs().Round(time.Second), direction),
			"Set the clock, by NTP: the API refuses requests signed too long before or after its own time.",
		})
	}
	if f.rejected > 0 {
		all = append(all, problem{
			fmt.Sprintf("%d rows of the list could not be read", f.rejected),
			"They are in no metric but crs_poll_rejected_rows. If they stay, the API answers something new: report it.",
		})
	}
	return all
}

const allowAction = "Attach a CAM policy that allows redis:GetRedisTaskList on qcs::redis:*:*:instance/* to the key's user or role; redis:Describe* does not cover it."

// advice says what an operator can do about an error, by the API's code where
// it gave one.
func advice(e *crsapi.Error, cfg *config) string {
	host := cfg.endpoint
	if u, err := url.Parse(cfg.endpoint); err == nil {
		host = u.Host
	}
	switch e.Code {
	case 4000:
		return "A parameter was refused: compare --crs.region, --crs.redis-id, --crs.task-type and --crs.page-size with what the API takes."
	case 4100:
		return "The SecretKey does not belong to the SecretId: set both anew, without blanks and quotes around them."
	case 4104:
		return "The SecretId does not exist: it was deleted, or is another account's. Make a key in the console, under CAM, and set it."
	case 4105:
		return "The token is not good, or no more: temporary credentials need their token beside the pair, and have to be renewed before they expire."
	case 4106:
		return "The key's user has to pass MFA, which an exporter cannot: use the key of a user without it."
	case 4200, 4500:
		return "The API takes the request for an old one: set this machine's clock, by NTP."
	case 4300:
		return "The account is blocked or in arrears: see the billing pages of the console."
	case 4600:
		return "The API wants https: see --crs.endpoint."
	case 5000:
		return "The API does not know what was asked for: see --crs.redis-id and --crs.region."
	case 6100:
		return "The host does not serve GetRedisTaskList: see --crs.endpoint."
	}
	switch e.Reason {
	case crsapi.ReasonAuth:
		if !e.Requested {
			return "The credentials could not be read from their source: mend what the error names."
		}
		return "The credentials were refused: set a key pair that is good, with its token if it is temporary."
	case crsapi.ReasonDenied:
		if e.Code == 0 && e.CodeDesc == "" {
			return "Something before the API refused the request: see --crs.endpoint, and whether a proxy or firewall is in the way to " + host + "."
		}
		return allowAction
	case crsapi.ReasonThrottled:
		return fmt.Sprintf("The quota is used up: lower --crs.rate-limit (now %g requests a second, per region), scrape less often, or see who else asks with this account.", cfg.rateLimit)
	case crsapi.ReasonTimeout:
		if !e.Requested {
			return fmt.Sprintf("The list cannot be read in %s: narrow it by --crs.lookback or --crs.redis-id, or raise --crs.rate-limit if the quota allows.", checkTimeout)
		}
		return fmt.Sprintf("%s did not answer in time: see the way there (route, firewall, proxy), or raise --crs.request-timeout (now %s).", host, cfg.requestTimeout)
	case crsapi.ReasonNetwork:
		return fmt.Sprintf("There is no connection to %s: see DNS, route, firewall, the proxy of the environment, and the CA certificates.", host)
	case crsapi.ReasonServer:
		return "The API says that it is at fault: try again in some minutes."
	case crsapi.ReasonDecode:
		return "The answer is not the API's: see --crs.endpoint, and whether a proxy answers in place of " + host + "."
	default:
		return "The API refused the request for a reason of its own: see the error above, --crs.endpoint and --crs.region."
	}
}
