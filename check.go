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

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxClockSkew is below the smallest limit in the API's documents, five
// minutes, so that a clock that drifts is reported before it is refused.
const maxClockSkew = time.Minute

// finding is the result of checking one region.
type finding struct {
	collector.RegionStatus

	mu        sync.Mutex
	latencies []time.Duration // of the requests
	skew      time.Duration   // the API's clock less ours
	hasSkew   bool
}

func (f *finding) observe(a crsapi.Attempt) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latencies = append(f.latencies, a.Duration)
	if a.HasClockSkew {
		f.skew, f.hasSkew = a.ClockSkew, true
	}
}

// checkRegions polls every region once, as a scrape does, and prints the
// results. It waits as long as a poll may take, and fails if a region fails. It
// does not use the state file: it runs beside the exporter.
func checkRegions(ctx context.Context, s *settings, source string, out io.Writer) error {
	var findings []*finding
	var clients []*crsapi.Client
	s.collector.StateFile = ""
	exporter, err := s.newExporter(func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
		f := &finding{}
		client, err := s.newClient(region, func(a crsapi.Attempt) {
			observe(a)
			f.observe(a)
		})
		if err != nil {
			return nil, err
		}
		findings, clients = append(findings, f), append(clients, client)
		return []collector.Source{collector.FromAPI(client)}, nil
	})
	if err != nil {
		return err
	}
	exporter.Poll(ctx)
	exporter.Close()
	for _, client := range clients {
		client.CloseIdleConnections()
	}
	if ctx.Err() != nil {
		return fmt.Errorf("check: %w", context.Cause(ctx))
	}
	failed := 0
	for i, status := range exporter.Status() {
		findings[i].RegionStatus = status
		if status.Err != nil {
			failed++
		}
	}
	if _, err := io.WriteString(out, report(s, source, findings)); err != nil {
		return fmt.Errorf("check: print: %w", err)
	}
	if failed > 0 {
		return fmt.Errorf("check: %d of %d regions failed", failed, len(findings))
	}
	return nil
}

// report is a table of the regions, followed by advice.
func report(s *settings, source string, findings []*finding) string {
	var b strings.Builder // never fails
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tCREDENTIALS\tTASKS\tINSTANCES\tNEWEST TASK\tCLOCK SKEW\tLATENCY\tRESULT")
	for _, f := range findings {
		fmt.Fprintln(table, strings.Join(f.row(s, source), "\t"))
	}
	_ = table.Flush()
	for _, f := range findings {
		for _, p := range f.problems(s) {
			fmt.Fprintf(&b, "\n%s: %s\n  %s\n", f.Region, p.what, p.advice)
		}
	}
	return b.String()
}

func (f *finding) row(s *settings, source string) []string {
	tasks, instances, newest, skew, latency := "-", "-", "-", "-", "-"
	if f.Err == nil {
		tasks, instances = strconv.Itoa(f.Tasks), strconv.Itoa(f.Instances)
		if !f.NewestTask.IsZero() {
			newest = f.NewestTask.In(time.FixedZone("", int(s.api.UTCOffset/time.Second))).Format(time.RFC3339)
		}
	}
	if f.hasSkew {
		skew = f.skew.Round(time.Second).String()
	}
	if n := len(f.latencies); n > 0 {
		// The median leaves out the set-up of the first connection.
		slices.Sort(f.latencies)
		latency = f.latencies[(n-1)/2].Round(time.Millisecond).String()
	}
	return []string{f.Region, source, tasks, instances, newest, skew, latency, f.result()}
}

// result is one word, and the API's code if there is one.
func (f *finding) result() string {
	var failed *crsapi.Error
	switch {
	case f.Err == nil:
		return "ok"
	case !errors.As(f.Err, &failed):
		return "failed"
	case failed.Code != 0:
		return fmt.Sprintf("%s %d", failed.Reason, failed.Code)
	default:
		return string(failed.Reason)
	}
}

type problem struct{ what, advice string }

func (f *finding) problems(s *settings) []problem {
	var all []problem
	if f.Err != nil {
		p := problem{f.Err.Error(), "See the error above."}
		var failed *crsapi.Error
		if errors.As(f.Err, &failed) {
			p.advice = advice(failed, s)
		}
		all = append(all, p)
	}
	if f.skew.Abs() > maxClockSkew {
		direction := "behind"
		if f.skew < 0 {
			direction = "ahead of"
		}
		all = append(all, problem{
			fmt.Sprintf("this machine's clock is %s %s the API's", f.skew.Abs().Round(time.Second), direction),
			"Set the clock with NTP: the API refuses requests whose time differs too much from its own.",
		})
	}
	if f.Rejected > 0 {
		all = append(all, problem{
			fmt.Sprintf("%d rows of the list could not be read", f.Rejected),
			"Only crs_poll_rejected_rows counts them. If they stay, the API has changed: report it.",
		})
	}
	return all
}

const allowAction = "Attach a CAM policy that allows redis:GetRedisTaskList on qcs::redis:*:*:instance/* to the user or role of the key; redis:Describe* does not include it."

// advice says what an operator can do about an error, by the API's code if
// there is one.
func advice(e *crsapi.Error, s *settings) string {
	host := s.api.Endpoint
	if u, err := url.Parse(host); err == nil {
		host = u.Host
	}
	switch e.Code {
	case 4000:
		return "The API refused a parameter: compare --crs.region, --crs.redis-id, --crs.task-type and --crs.page-size with what the API accepts."
	case 4100:
		return "The SecretKey does not belong to the SecretId: set both again, without spaces and quotes."
	case 4104:
		return "The SecretId does not exist: it was deleted, or it is from another account. Create a key in the console, under CAM, and set it."
	case 4105:
		return "The token is invalid or expired: temporary credentials need the token that belongs to them, and must be renewed before they expire."
	case 4106:
		return "The user of the key must use MFA, which an exporter cannot: use the key of a user without MFA."
	case 4200, 4500:
		return "The API considers the request expired: set this machine's clock with NTP."
	case 4300:
		return "The account is blocked or in arrears: see the billing pages of the console."
	case 4600:
		return "The API requires https: see --crs.endpoint."
	case 5000:
		return "The API does not know the resource: see --crs.redis-id and --crs.region."
	case 6100:
		return "The host does not serve GetRedisTaskList: see --crs.endpoint."
	}
	switch e.Reason {
	case crsapi.ReasonAuth:
		if !e.Requested {
			return "The credentials could not be read from their source: fix the error above."
		}
		return "The credentials were refused: set a valid key pair, with its token if it is temporary."
	case crsapi.ReasonDenied:
		if e.Code == 0 && e.CodeDesc == "" {
			return "Something in front of the API refused the request: see --crs.endpoint, and check for a proxy or firewall on the path to " + host + "."
		}
		return allowAction
	case crsapi.ReasonThrottled:
		return "The request quota is used up: lower --crs.rate-limit, scrape less often, or find out who else uses this account."
	case crsapi.ReasonTimeout:
		if !e.Requested {
			return "Reading the list takes too long: narrow it with --crs.lookback or --crs.redis-id, or raise --crs.rate-limit if the quota allows it."
		}
		return fmt.Sprintf("%s did not respond in time: check the network path (route, firewall, proxy), or raise --crs.request-timeout (now %s).", host, s.api.RequestTimeout)
	case crsapi.ReasonNetwork:
		return fmt.Sprintf("Cannot connect to %s: check DNS, route, firewall, the proxy of the environment, and the CA certificates.", host)
	case crsapi.ReasonServer:
		return "The API reports an internal error: try again in a few minutes."
	case crsapi.ReasonDecode:
		return "The response is not from the API: see --crs.endpoint, and check for a proxy that responds instead of " + host + "."
	default:
		return "The API refused the request for an unclassified reason: see the error above, --crs.endpoint and --crs.region."
	}
}
