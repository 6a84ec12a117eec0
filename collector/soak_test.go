//go:build soak

package collector_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

const (
	soakScrapes = 120 // through each API: half an hour at a scrape every 15 s
	soakSeed    = 4
	// soakTimeout is longer than any poll here takes. A poll that outlives its
	// scrape would count what no scrape has shown.
	soakTimeout  = "10"    // seconds
	soakHeadroom = 4 << 20 // bytes by which the heap may grow after a quarter of the scrapes
)

var soakStatuses = []crsapi.Status{
	crsapi.StatusError, crsapi.StatusPending, crsapi.StatusExecuting, crsapi.StatusSucceeded, crsapi.StatusFailed,
}

// soakTask identifies a task: no two tasks with the same name have the same second.
type soakTask struct {
	redisID, taskName string
	start             int64
}

func soakTaskOf(t crsapi.Task) soakTask { return soakTask{t.RedisID, t.TaskName, t.StartTime.Unix()} }

// soakRegion is the real list of a region, and what must be counted.
type soakRegion struct {
	name   string
	api    crsapi.API
	server *crsapitest.Server

	mu       sync.Mutex
	random   *rand.Rand
	clock    time.Time
	base     int             // tasks of the baseline that are still listed, at the tail
	tasks    []crsapi.Task   // newest first
	versions [][]crsapi.Task // the lists since the last scrape began

	ended   map[string]int                      // series: tasks that ended since the baseline
	seen    map[soakTask]map[crsapi.Status]bool // statuses that scrapes have shown
	entered map[string]int                      // series: transitions that scrapes have shown
}

func newSoakRegion(name string, api crsapi.API, server *crsapitest.Server, seed uint64) *soakRegion {
	r := &soakRegion{
		name: name, api: api, server: server, random: rand.New(rand.NewPCG(soakSeed, seed)),
		clock: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		tasks: crsapitest.Generate(300, 6, seed),
		ended: map[string]int{}, entered: map[string]int{}, seen: map[soakTask]map[crsapi.Status]bool{},
	}
	r.base = len(r.tasks)
	r.publish()
	return r
}

// series names the counter that a task adds to, with the status that the API has
// for it.
func (r *soakRegion) series(t crsapi.Task) string {
	t = through(r.api, []crsapi.Task{t})[0]
	return fmt.Sprintf(`crs_task_transitions_total{redisId=%q,region=%q,status=%q,taskName=%q}`, t.RedisID, r.name, t.Status, t.TaskName)
}

func (r *soakRegion) publish() {
	r.server.SetTasks(r.name, r.tasks)
	r.versions = append(r.versions, through(r.api, r.tasks))
}

// move submits up to two tasks, advances others, and removes as many old ones.
func (r *soakRegion) move() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.tasks[:len(r.tasks)-r.base] {
		t := &r.tasks[i]
		switch {
		case r.random.IntN(3) > 0:
		case t.Status == crsapi.StatusPending:
			t.Status = crsapi.StatusExecuting
		case t.Status == crsapi.StatusExecuting:
			t.Status = []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusError}[r.random.IntN(3)]
			r.ended[r.series(*t)]++
		}
	}
	for range r.random.IntN(3) {
		r.clock = r.clock.Add(time.Duration(1+r.random.IntN(30)) * time.Second)
		status := soakStatuses[r.random.IntN(len(soakStatuses))]
		instance := r.random.IntN(4)
		t := crsapi.Task{
			RedisID: fmt.Sprintf("crs-soak%d", instance), RedisName: fmt.Sprintf("soak %d", instance), ProjectID: "0",
			TaskName: []string{backup, "cleanInstance"}[r.random.IntN(2)], StartTime: r.clock, Status: status,
		}
		if status != crsapi.StatusPending && status != crsapi.StatusExecuting {
			r.ended[r.series(t)]++
		}
		r.tasks = slices.Insert(r.tasks, 0, t)
	}
	// A task stays until a scrape has shown its end: else nothing can count it.
	for len(r.tasks) > 300 {
		last := r.tasks[len(r.tasks)-1]
		if r.base == 0 && !r.seen[soakTaskOf(last)][through(r.api, r.tasks[len(r.tasks)-1:])[0].Status] {
			break
		}
		r.tasks = r.tasks[:len(r.tasks)-1]
		r.base = max(r.base-1, 0)
	}
	r.publish()
}

// begin forgets all versions of the list except the current one.
func (r *soakRegion) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.versions = r.versions[len(r.versions)-1:]
}

// check compares a scrape with the real list and reports whether the region is up.
func (r *soakRegion) check(t *testing.T, samples map[string]string) bool {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	got := listed(r.name, samples)
	if !up(samples, r.name) {
		if len(got) != 0 {
			t.Errorf("%s is down and shows %d series of a list", r.name, len(got))
		}
		return false
	}
	for _, tasks := range slices.Backward(r.versions) {
		if maps.Equal(got, truth(r.name, tasks)) {
			r.observe(tasks)
			return true
		}
	}
	t.Errorf("%s is up with wrong numbers, none of %d versions:%s", r.name, len(r.versions), difference(got, truth(r.name, through(r.api, r.tasks))))
	return true
}

func (r *soakRegion) observe(tasks []crsapi.Task) {
	baseline := len(r.seen) == 0
	for _, t := range tasks {
		key := soakTaskOf(t)
		if r.seen[key] == nil {
			r.seen[key] = map[crsapi.Status]bool{}
		}
		if !r.seen[key][t.Status] && !baseline {
			r.entered[r.series(t)]++
		}
		r.seen[key][t.Status] = true
	}
}

// wantCounted checks that the counters have exactly the transitions.
func (r *soakRegion) wantCounted(t *testing.T, samples map[string]string) (total int) {
	t.Helper()
	got := map[string]string{}
	for name, value := range samples {
		if strings.HasPrefix(name, "crs_task_transitions_total{") && strings.Contains(name, r.name) && value != "0" {
			got[name] = value
		}
	}
	want := map[string]string{}
	for name, n := range r.entered {
		want[name] = strconv.Itoa(n)
		total += n
	}
	if d := difference(got, want); d != "" {
		t.Errorf("%s: transitions:%s", r.name, d)
	}
	for name, n := range r.ended {
		if got[name] != strconv.Itoa(n) {
			t.Errorf("%s is %q, but %d tasks ended in it", name, got[name], n)
		}
	}
	return total
}

// soakFault is an effect with its name.
type soakFault struct {
	name string
	do   crsapitest.Effect
}

// soakFaults are applied to regions, through either API. Faults that a single
// response does not show are not among them.
func soakFaults() []soakFault {
	return []soakFault{
		{"APIError(4100)", crsapitest.APIError(4100)},
		{"APIError(4200)", crsapitest.APIError(4200)},
		{"APIError(4300)", crsapitest.APIError(4300)},
		{"APIError(4400)", crsapitest.APIError(4400)},
		{"APIError(4500)", crsapitest.APIError(4500)},
		{"APIError(6000)", crsapitest.APIError(6000)},
		{"HTTPStatus(502)", crsapitest.HTTPStatus(http.StatusBadGateway)},
		{"HTTPStatus(429)", crsapitest.HTTPStatus(http.StatusTooManyRequests)},
		{"HTTPStatus(200)", crsapitest.HTTPStatus(http.StatusOK)},
		{"Redirect(\"http://localhost:9/\")", crsapitest.Redirect("http://localhost:9/")},
		{"Hang", crsapitest.Hang},
		{"Latency(30 * ms)", crsapitest.Latency(30 * time.Millisecond)},
		{"SlowHeaders(10 * ms)", slowHeaders(10 * time.Millisecond)},
		{"SlowBody(64, 10*ms)", crsapitest.SlowBody(64, 10*time.Millisecond)},
		{"ResetBeforeHeaders", crsapitest.ResetBeforeHeaders},
		{"ResetAfterHeaders", crsapitest.ResetAfterHeaders},
		{"ResetMidBody", crsapitest.ResetMidBody},
		{"ShortBody", crsapitest.ShortBody},
		{"EndlessBody", endlessBody()},
		{"GzipBomb(1 << 28)", gzipBomb(1 << 28)},
		{"TruncatedJSON", crsapitest.TruncatedJSON},
		{"Body(\"{}\")", crsapitest.Body("{}")},
		{"totalPlus(1)", totalPlus(1)},
		{"totalPlus(-1)", totalPlus(-1)},
		{"totalOf(-1)", totalOf(-1)},
		{"totalJitter(2)", totalJitter(2)},
		{"PageCap(33)", crsapitest.PageCap(33)},
		{"RoundOffsets", crsapitest.RoundOffsets},
		{"IgnoreOffset", crsapitest.IgnoreOffset},
		{"NumbersAsText", crsapitest.NumbersAsText},
		{"TotalAsText", crsapitest.TotalAsText},
		{"Envelope(InternalError)", crsapitest.Envelope("InternalError", "x")},
	}
}

// slowHeaders waits before each byte of the headers.
func slowHeaders(wait time.Duration) crsapitest.Effect {
	return crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		for _, c := range []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}") {
			time.Sleep(wait)
			if _, err := conn.Write([]byte{c}); err != nil {
				return
			}
		}
	}))
}

// endlessBody sends a body that never ends.
func endlessBody() crsapitest.Effect {
	return crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		part := bytes.Repeat([]byte("x"), 32<<10)
		for err := error(nil); err == nil; {
			_, err = w.Write(part)
		}
	}))
}

// gzipBomb sends a gzip body of this size when it is uncompressed.
func gzipBomb(size int) crsapitest.Effect {
	return crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		part := make([]byte, 32<<10)
		for sent := 0; sent < size; sent += len(part) {
			if _, err := z.Write(part); err != nil {
				return
			}
		}
		_ = z.Close()
	}))
}

// settled returns the heap in use and the number of goroutines after the
// simulator and its connections were closed.
func settled(t *testing.T, atMost int) (heap uint64, goroutines int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for waiting := true; waiting && runtime.NumGoroutine() > atMost; {
		select {
		case <-tick.C:
		case <-limit:
			waiting = false
		}
	}
	// The second one frees what a sync.Pool holds.
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc, runtime.NumGoroutine()
}

// soakExporter is an exporter with the real client.
type soakExporter struct {
	t       *testing.T
	handler http.Handler
}

func startSoak(t *testing.T, server *crsapitest.Server, api crsapi.API, regions []*soakRegion) soakExporter {
	t.Helper()
	client := crsapi.DefaultConfig(api)
	client.Limiter, client.RequestTimeout = nil, 400*time.Millisecond
	client.Credentials = credentials.Static{SecretID: crsapitest.SecretID, SecretKey: crsapitest.SecretKey}
	client.Endpoint = server.URL
	if api != crsapi.API20 {
		client.Endpoint = server.URL3
	}
	cfg := collector.Config{Dial: collector.DialAPIs(client), TimeoutOffset: 500 * time.Millisecond}
	for _, r := range regions {
		cfg.Regions = append(cfg.Regions, r.name)
	}
	e, err := collector.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return soakExporter{t, e.Handler()}
}

// scrapeWithin scrapes with a timeout in seconds.
func (e soakExporter) scrapeWithin(timeout string) samples {
	e.t.Helper()
	w := serve(e.handler, request("Accept", textFormat, "X-Prometheus-Scrape-Timeout-Seconds", timeout))
	if w.Code != http.StatusOK {
		e.t.Fatalf("HTTP status %d", w.Code)
	}
	return parse(w.Body.String())
}

func TestSoak(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
		t.Run("API "+string(api), func(t *testing.T) { testSoak(t, api) })
	}
}

func testSoak(t *testing.T, api crsapi.API) {
	server := crsapitest.NewServer()
	simulator, at := server.Simulator, server.URL
	defer func() { server.Close() }()
	regions := []*soakRegion{newSoakRegion(guangzhou, api, server, 1), newSoakRegion(shanghai, api, server, 2), newSoakRegion("ap-beijing", api, server, 3)}
	exporter := startSoak(t, server, api, regions)

	var (
		random          = rand.New(rand.NewPCG(soakSeed, soakSeed))
		effects         = soakFaults()
		begin           = time.Now()
		faults, failed  int
		heap, heaps     uint64
		routines, spare int
	)
	// sample closes every connection, which is an outage too.
	sample := func(atMost int) (uint64, int) {
		server.Close()
		heap, n := settled(t, atMost)
		server = simulator.Serve(listenAt(t, at))
		return heap, n
	}
	samples := exporter.scrapeWithin(soakTimeout)
	for _, r := range regions {
		if !r.check(t, samples) {
			t.Fatalf("%s is down before any fault", r.name)
		}
	}
	_, routines = sample(0)
	for i := range soakScrapes {
		if i == soakScrapes/4 {
			heap, spare = sample(routines)
			if spare > routines {
				t.Errorf("%d goroutines after a quarter, %d at first", spare, routines)
			}
		}
		var injected []string
		lies := map[*soakRegion]bool{} // about the total
		for _, r := range regions {
			r.move()
			r.begin()
			if random.IntN(3) > 0 {
				continue
			}
			effect := effects[random.IntN(len(effects))]
			fault := crsapitest.Fault{Region: r.name, Do: effect.do}
			switch random.IntN(3) {
			case 0:
				fault.Rate = 0.5
			case 1:
				fault.Skip, fault.Count = random.IntN(4), 1+random.IntN(3)
			}
			simulator.Inject(fault)
			lies[r] = strings.HasPrefix(effect.name, "total")
			injected = append(injected, fmt.Sprintf("%s %s, skip %d, count %d, rate %g", r.name, effect.name, fault.Skip, fault.Count, fault.Rate))
			faults++
		}
		// In one of three scrapes, a list moves between two of its pages. With a
		// false total that differs as much as the lists before and after do, a
		// mix of both looks right, and nothing shows that it is not.
		moving, at := regions[random.IntN(len(regions))], 2+random.IntN(4)
		if random.IntN(3) == 0 && !lies[moving] {
			var mu sync.Mutex
			requests := 0
			simulator.OnRequest(func(req crsapitest.Request) {
				if req.Region != moving.name {
					return
				}
				mu.Lock()
				defer mu.Unlock()
				if requests++; requests == at {
					moving.move()
				}
			})
		}
		samples := exporter.scrapeWithin(soakTimeout)
		simulator.OnRequest(nil)
		for _, r := range regions {
			if !r.check(t, samples) {
				failed++
			}
		}
		simulator.ClearFaults()
		if t.Failed() {
			t.Fatalf("at scrape %d with %q", i, injected)
		}
	}
	// Two scrapes show the 0 of a new series before its first count.
	for range 3 {
		samples = exporter.scrapeWithin(soakTimeout)
		for _, r := range regions {
			r.begin()
			if !r.check(t, samples) {
				t.Errorf("%s does not recover", r.name)
			}
		}
	}
	counted := 0
	for _, r := range regions {
		counted += r.wantCounted(t, samples)
	}
	wantIdle(t, simulator)
	heaps, spare = sample(routines)
	if spare > routines {
		t.Errorf("%d goroutines at the end, %d at first", spare, routines)
	}
	if heaps > heap+soakHeadroom {
		t.Errorf("heap in use is %d bytes at the end, %d after a quarter", heaps, heap)
	}
	fmt.Printf("soak through API %s: %d scrapes of %d regions, %d faults injected, %d polls failed, %d transitions exact, "+
		"goroutines %d at first and %d at the end, heap %.1f MiB after a quarter and %.1f MiB at the end, %.0f s\n",
		api, soakScrapes, len(regions), faults, failed, counted, routines, spare,
		float64(heap)/(1<<20), float64(heaps)/(1<<20), time.Since(begin).Seconds())
}

// totalJitter returns an effect that adds a random number from -n to n to
// totalCount.
func totalJitter(n int) crsapitest.Effect {
	return crsapitest.Total(func(total int) int { return total - n + rand.IntN(2*n+1) })
}

var listGauge = regexp.MustCompile(`^crs_(tasks|task_last_start_timestamp_seconds|task_oldest_start_timestamp_seconds|instance_info)\{`)

// truth returns the gauges that a region with these tasks must have.
func truth(region string, tasks []crsapi.Task) map[string]string {
	samples := map[string]string{}
	counts := map[string]int{}
	newest := map[string]crsapi.Task{}
	number := func(v int64) string { return strconv.FormatFloat(float64(v), 'g', -1, 64) }
	series := func(metric string, t crsapi.Task, status crsapi.Status) string {
		return fmt.Sprintf(`%s{redisId=%q,region=%q,status=%q,taskName=%q}`, metric, t.RedisID, region, status, t.TaskName)
	}
	extreme := func(name string, at int64, first bool) {
		if known, ok := samples[name]; ok {
			v, _ := strconv.ParseFloat(known, 64)
			if first == (int64(v) < at) {
				return
			}
		}
		samples[name] = number(at)
	}
	for _, t := range tasks {
		for status := crsapi.StatusError; status <= crsapi.StatusFailed; status++ {
			counts[series("crs_tasks", t, status)] += 0
		}
		counts[series("crs_tasks", t, t.Status)]++
		extreme(series("crs_task_last_start_timestamp_seconds", t, t.Status), t.StartTime.Unix(), false)
		if t.Status == crsapi.StatusPending || t.Status == crsapi.StatusExecuting {
			extreme(series("crs_task_oldest_start_timestamp_seconds", t, t.Status), t.StartTime.Unix(), true)
		}
		if known, ok := newest[t.RedisID]; !ok || t.StartTime.After(known.StartTime) {
			newest[t.RedisID] = t
		}
	}
	for name, n := range counts {
		samples[name] = number(int64(n))
	}
	for id, t := range newest {
		samples[fmt.Sprintf(`crs_instance_info{projectId=%q,redisId=%q,redisName=%q,region=%q}`, t.ProjectID, id, t.RedisName, region)] = "1"
	}
	return samples
}

// listed returns the gauges of a region's list in a scrape.
func listed(region string, samples map[string]string) map[string]string {
	list := map[string]string{}
	for name, value := range samples {
		if listGauge.MatchString(name) && strings.Contains(name, fmt.Sprintf("region=%q", region)) {
			list[name] = value
		}
	}
	return list
}

// difference returns a few of the series in which two sets of samples differ.
func difference(got, want map[string]string) string {
	var b strings.Builder
	names := map[string]string{}
	maps.Copy(names, want)
	maps.Copy(names, got)
	written := 0
	for name := range names {
		if g, w := got[name], want[name]; g != w && written < 5 {
			written++
			fmt.Fprintf(&b, "\n%s is %q, want %q", name, g, w)
		}
	}
	return b.String()
}

func up(samples map[string]string, region string) bool {
	return samples[fmt.Sprintf("crs_up{region=%q}", region)] == "1"
}

// wantIdle waits until the simulator has no request in flight: it notices with a
// delay that a client has disconnected.
func wantIdle(t *testing.T, simulator *crsapitest.Simulator) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for simulator.InFlight() != 0 {
		select {
		case <-tick.C:
		case <-limit:
			t.Errorf("%d requests are still in flight", simulator.InFlight())
			return
		}
	}
}

// listenAt listens at the address of a closed server.
func listenAt(t *testing.T, of string) net.Listener {
	t.Helper()
	address, err := url.Parse(of)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// totalOf returns an effect that sets totalCount to n.
func totalOf(n int) crsapitest.Effect {
	return crsapitest.Total(func(int) int { return n })
}

// totalPlus returns an effect that adds n to totalCount.
func totalPlus(n int) crsapitest.Effect {
	return crsapitest.Total(func(total int) int { return total + n })
}

// through returns tasks as an API lists them: API 3.0 has no status error.
func through(api crsapi.API, tasks []crsapi.Task) []crsapi.Task {
	tasks = slices.Clone(tasks)
	for i := range tasks {
		if api == crsapi.API30 && tasks[i].Status == crsapi.StatusError {
			tasks[i].Status = crsapi.StatusFailed
		}
	}
	return tasks
}
