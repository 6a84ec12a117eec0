package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"golang.org/x/sync/errgroup"
)

// maxClockSkew is below the smallest limit in the API's documents, five
// minutes, so that a clock that drifts is reported before it is refused.
const maxClockSkew = time.Minute

// finding is the result of checking one region through one API.
type finding struct {
	collector.RegionStatus

	cfg crsapi.Config

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

// checkRegions polls every region once through every API, as a scrape does, and
// prints the results. It waits as long as a poll may take, and fails if the
// exporter could not read a region. It does not use the state file: it runs
// beside the exporter.
func checkRegions(ctx context.Context, s *settings, source string, out, progress io.Writer) error {
	s.collector.StateFile = ""
	progress = log.NewSyncWriter(progress)
	apis := s.checkedAPIs()
	byAPI := make([][]*finding, len(apis))
	group, ctx := errgroup.WithContext(ctx)
	for i, api := range apis {
		group.Go(func() (err error) {
			byAPI[i], err = s.checkAPI(ctx, api, progress)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var regions []checkedRegion
	for i := range byAPI[0] {
		r := checkedRegion{used: s.usedAPIs()}
		for _, findings := range byAPI {
			r.findings = append(r.findings, findings[i])
		}
		regions = append(regions, r)
	}
	if _, err := io.WriteString(out, report(source, regions)); err != nil {
		return fmt.Errorf("check: print: %w", err)
	}
	failed := 0
	for _, r := range regions {
		if r.current() == nil {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("check: %d of %d regions failed", failed, len(regions))
	}
	return nil
}

// checkAPI polls every region through one API.
func (s *settings) checkAPI(ctx context.Context, api crsapi.API, progress io.Writer) ([]*finding, error) {
	cfg := s.configOf(api)
	var findings []*finding
	var clients []*crsapi.Client
	possible, ok := s.without(api)
	if !ok {
		for _, region := range s.collector.Regions {
			err := fmt.Errorf("API %s has none of the task types %q", api, s.collector.TaskTypes)
			findings = append(findings, &finding{cfg: cfg, RegionStatus: collector.RegionStatus{Region: region, API: api, Err: err}})
		}
		return findings, nil
	}
	exporter, err := possible.newExporter(func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
		f := &finding{cfg: cfg}
		client, err := newClient(cfg, region, func(a crsapi.Attempt) {
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
		return nil, err
	}
	pollOnce(ctx, exporter, progress)
	exporter.Close()
	for _, client := range clients {
		client.CloseIdleConnections()
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("check: %w", context.Cause(ctx))
	}
	for i, status := range exporter.Status() {
		findings[i].RegionStatus = status
	}
	return findings, nil
}

// tellAfter is how often a check tells how far it is.
const tellAfter = 10 * time.Second

// pollOnce polls all regions and waits for the polls. It tells of lists that take
// long to read.
func pollOnce(ctx context.Context, exporter *collector.Exporter, progress io.Writer) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		exporter.Poll(ctx)
	}()
	tick := time.NewTicker(tellAfter)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			for _, status := range exporter.Status() {
				if status.PagesDue > 0 {
					_, _ = fmt.Fprintf(progress, "%s, API %s: the list is still being read, %d of about %d pages\n", status.Region, status.API, status.PagesRead, status.PagesDue)
				}
			}
		}
	}
}

// without returns the settings without the task types that an API lacks, unless
// it is the first in use, where they are an error. ok is false if none is left.
func (s *settings) without(api crsapi.API) (possible *settings, ok bool) {
	c := *s
	if api != s.usedAPIs()[0] && len(s.collector.TaskTypes) > 0 {
		c.collector.TaskTypes = slices.DeleteFunc(slices.Clone(s.collector.TaskTypes), func(taskType string) bool {
			return !slices.Contains(api.TaskTypes(), taskType)
		})
		return &c, len(c.collector.TaskTypes) > 0
	}
	return &c, true
}

// checkedRegion is what is found of one region.
type checkedRegion struct {
	used     []crsapi.API // by the exporter, in the order of succession
	findings []*finding   // of each API that was asked
}

// current returns the finding of the API that the exporter would read the region
// through, nil if it could not read it.
func (r *checkedRegion) current() *finding {
	for _, api := range r.used {
		i := slices.IndexFunc(r.findings, func(f *finding) bool { return f.API == api })
		switch {
		case i < 0:
			return nil
		case r.findings[i].Err == nil:
			return r.findings[i]
		case r.findings[i].reason() != crsapi.ReasonRetired:
			return nil
		}
	}
	return nil
}

// verdict says through which API the region can be read.
func (r *checkedRegion) verdict() string {
	var works, fails []string
	for _, f := range r.findings {
		if f.Err == nil {
			works = append(works, string(f.API))
		} else {
			fails = append(fails, string(f.API))
		}
	}
	current := r.current()
	switch {
	case len(works) == 0:
		return "no API can read this region."
	case current == nil && r.used[0] == crsapi.API20:
		return fmt.Sprintf("only API %s can read this region: set --crs.api=%s.", works[0], works[0])
	case current == nil:
		return fmt.Sprintf("only API %s can read this region: remove --crs.api=%s.", works[0], r.used[0])
	case len(fails) > 0 && r.isRetired(fails[0]):
		return fmt.Sprintf("the exporter uses API %s: API %s is retired.", current.API, fails[0])
	case len(fails) > 0:
		return fmt.Sprintf("the exporter uses API %s. What API %s needs is below.", current.API, fails[0])
	default:
		return fmt.Sprintf("the exporter uses API %s. API %s works too.", current.API, other(works, string(current.API)))
	}
}

func (r *checkedRegion) isRetired(api string) bool {
	return slices.ContainsFunc(r.findings, func(f *finding) bool {
		return string(f.API) == api && f.reason() == crsapi.ReasonRetired
	})
}

func other(apis []string, api string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(apis), func(a string) bool { return a == api }), ", ")
}

// report is a table of the regions, followed by advice.
func report(source string, regions []checkedRegion) string {
	var b strings.Builder // never fails
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tAPI\tCREDENTIALS\tTASKS\tINSTANCES\tNEWEST TASK\tCLOCK SKEW\tLATENCY\tRESULT")
	for _, r := range regions {
		for _, f := range r.findings {
			fmt.Fprintln(table, strings.Join(f.row(source), "\t"))
		}
	}
	_ = table.Flush()
	for _, r := range regions {
		if len(r.findings) > 1 {
			fmt.Fprintf(&b, "\n%s: %s\n", r.findings[0].Region, r.verdict())
		}
		for _, f := range r.findings {
			if f.reason() == crsapi.ReasonRetired && r.current() != nil {
				continue // the verdict says so
			}
			for _, p := range f.problems() {
				fmt.Fprintf(&b, "\n%s, API %s: %s\n  %s\n", f.Region, f.API, p.What, p.Advice)
			}
		}
	}
	return b.String()
}

func (f *finding) row(source string) []string {
	tasks, instances, newest, skew, latency := "-", "-", "-", "-", "-"
	if f.Err == nil {
		tasks, instances = strconv.Itoa(f.Tasks), strconv.Itoa(f.Instances)
		if !f.NewestTask.IsZero() {
			newest = f.NewestTask.In(time.FixedZone("", int(f.cfg.UTCOffset/time.Second))).Format(time.RFC3339)
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
	return []string{f.Region, string(f.API), source, tasks, instances, newest, skew, latency, f.result()}
}

// reason is empty if the poll succeeded or if no reason is known.
func (f *finding) reason() crsapi.Reason {
	var failed *crsapi.Error
	if !errors.As(f.Err, &failed) {
		return ""
	}
	return failed.Reason
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
	case failed.CodeDesc != "":
		return fmt.Sprintf("%s %s", failed.Reason, failed.CodeDesc)
	default:
		return string(failed.Reason)
	}
}

type problem struct{ What, Advice string }

func (f *finding) problems() []problem {
	var all []problem
	if f.Err != nil {
		p := problem{f.Err.Error(), "See the error above."}
		var failed *crsapi.Error
		if errors.As(f.Err, &failed) {
			p.Advice = advice(failed, f.cfg)
		}
		all = append(all, p)
	}
	if f.Err == nil && f.Tasks == 0 && f.Rejected == 0 {
		all = append(all, problem{
			"the API lists no task in this region",
			"A region whose name is wrong looks like this: compare --crs.region or " + envRegion + " with the regions of the console. " +
				"If --crs.redis-id, --crs.task-type or --crs.lookback is set, it may leave nothing.",
		})
	}
	if f.OutOfTime {
		all = append(all, problem{
			"each instance was asked for, which takes longer than a scrape: crs_up would be 0",
			"Allow the key to list the whole region, raise --crs.rate-limit if the quota allows it, or raise the scrape timeout. " + allow(f.API),
		})
	}
	if len(f.Unlisted) > 0 {
		all = append(all, problem{
			fmt.Sprintf("the API lists no task of %d watched instances: %s", len(f.Unlisted), strings.Join(f.Unlisted, ", ")),
			"It does not know them in this region, or they have no task: compare --crs.redis-id with the instances of the region in the console.",
		})
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

// allow says which CAM policy an API needs.
func allow(api crsapi.API) string {
	switch api {
	case crsapi.API20:
		return "Attach a CAM policy that allows redis:GetRedisTaskList on qcs::redis:*:*:instance/* to the user or role of the key; redis:Describe* does not include it."
	case crsapi.API30:
		return "Attach a CAM policy that allows redis:DescribeTaskList and redis:DescribeTaskInfo on the resource * to the user or role of the key."
	default:
		return "Attach a CAM policy that allows redis:GetRedisTaskList on the resource * to the user or role of the key."
	}
}

// unknownSecretID does not claim that the key was deleted: a mistake in copying it
// looks the same.
const unknownSecretID = "The API does not know the SecretId: compare it, character by character, with the keys in the console, under CAM. " +
	"It may be incomplete, of another site (mainland, international, private cloud), or deleted."

// adviceByName says what an operator can do about codes of API 3.0.
func adviceByName(code string, cfg crsapi.Config) string {
	switch code {
	case "AuthFailure.SignatureFailure":
		return "The SecretKey does not belong to the SecretId: set both again, without spaces and quotes."
	case "AuthFailure.SecretIdNotFound":
		return unknownSecretID
	case "AuthFailure.TokenFailure":
		return "The token is invalid or expired: temporary credentials need the token that belongs to them, and must be renewed before they expire."
	case "AuthFailure.MFAFailure":
		return "The user of the key must use MFA, which an exporter cannot: use the key of a user without MFA."
	case "AuthFailure.SignatureExpire":
		return "The API considers the request expired: set this machine's clock with NTP."
	case "ResourceUnavailable.NoRedisService", "UnsupportedRegion":
		return "There is no Redis in this region: see --crs.region."
	case "InvalidAction", "NoSuchProduct", "NoSuchVersion", "InvalidParameter.ActionNotFound":
		return fmt.Sprintf("The host does not serve API %s of Redis: see %s.", cfg.API, endpointFlag(cfg.API))
	}
	return ""
}

// advice says what an operator can do about an error, by the API's code if
// there is one.
func advice(e *crsapi.Error, cfg crsapi.Config) string {
	host := cfg.Endpoint
	if u, err := url.Parse(host); err == nil {
		host = u.Host
	}
	flag := endpointFlag(cfg.API)
	if e.Reason == crsapi.ReasonRetired {
		if cfg.API != crsapi.API20 {
			return fmt.Sprintf("The vendor has retired API %s.", cfg.API)
		}
		return "The vendor has retired API 2.0, for all or for this account: use --crs.api=3.0 (or auto). " + allow(crsapi.API30)
	}
	if named := adviceByName(e.CodeDesc, cfg); named != "" && e.Code == 0 {
		return named
	}
	switch e.Code {
	case 4000:
		return "The API refused a parameter: compare --crs.region, --crs.redis-id, --crs.task-type and --crs.page-size with what the API accepts."
	case 4100:
		return "The SecretKey does not belong to the SecretId: set both again, without spaces and quotes."
	case 4104:
		return unknownSecretID
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
		return "The host does not serve GetRedisTaskList: see --crs.endpoint, or use --crs.api=3.0."
	}
	switch e.Reason {
	case crsapi.ReasonAuth:
		if !e.Requested {
			return "The credentials could not be read from their source: fix the error above."
		}
		return "The credentials were refused: set a valid key pair, with its token if it is temporary."
	case crsapi.ReasonDenied:
		if e.Code == 0 && e.CodeDesc == "" {
			return "Something in front of the API refused the request: see " + flag + ", and check for a proxy or firewall on the path to " + host + "."
		}
		return allow(cfg.API)
	case crsapi.ReasonThrottled:
		return "The request quota is used up: lower --crs.rate-limit, scrape less often, or find out who else uses this account."
	case crsapi.ReasonTimeout:
		if !e.Requested {
			return "Reading the list takes too long: narrow it with --crs.lookback or --crs.redis-id, or raise --crs.rate-limit if the quota allows it."
		}
		return fmt.Sprintf("%s did not respond in time: check the network path (route, firewall, proxy), or raise --crs.request-timeout (now %s).", host, cfg.RequestTimeout)
	case crsapi.ReasonNetwork:
		if e.HTTPStatus == http.StatusProxyAuthRequired {
			return "Set the credentials of the proxy in HTTPS_PROXY (HTTP_PROXY for an http endpoint), as http://user:password@host:port, or exempt " + host + " with NO_PROXY."
		}
		var unresolved *net.DNSError
		if errors.As(e.Err, &unresolved) && cfg.API == crsapi.API20 {
			return fmt.Sprintf("The name %s does not resolve: check DNS and the proxy of the environment. If the vendor has switched API 2.0 off, use --crs.api=3.0.", host)
		}
		return fmt.Sprintf("Cannot connect to %s: check DNS, route, firewall, the proxy of the environment, and the CA certificates.", host)
	case crsapi.ReasonServer:
		return "The API reports an internal error: try again in a few minutes."
	case crsapi.ReasonDecode:
		return "The response is not from the API: see " + flag + ", and check for a proxy that responds instead of " + host + "."
	default:
		return "The API refused the request for an unclassified reason: see the error above, " + flag + " and --crs.region."
	}
}
