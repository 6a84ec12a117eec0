package collector_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

var kills = flag.Int("kills", 20, "how often TestStateSurvivesKills kills the exporter")

const (
	envKilledDir  = "CRS_TEST_KILLED_DIR"
	envKilledLast = "CRS_TEST_KILLED_LAST"
	envKilledAPIs = "CRS_TEST_KILLED_APIS"
	killedWindow  = 90            // steps after which a task is not listed any more
	killedEpoch   = 1_700_000_000 // submission of the newest task of the baseline
	killedLate    = 60 * 60       // older tasks than this before killedEpoch are history
)

var killedRegions = []string{"ap-beijing", "ap-shanghai"}

// scriptedList is the list of a region at a step. A task is submitted at every
// step, sometimes two in the same second; each is pending, then executing, then
// ends; rows vanish and return; every 40 steps an instance is new. Some tasks
// come to light late, some of them are history.
func scriptedList(region, step int) []crsapi.Task {
	var tasks []crsapi.Task
	for i := max(0, step-killedWindow); i <= step; i++ {
		luck := rand.New(rand.NewPCG(uint64(region), uint64(i)))
		end := []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusError}[luck.IntN(3)]
		status := []crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting, end}[min(2, (step-i)/(1+luck.IntN(4)))]
		twins := 1 + luck.IntN(2)
		away := 4 + luck.IntN(20) // steps after its submission
		if step-i >= away && step-i < away+3 {
			continue
		}
		start := killedEpoch + i
		switch i % 25 {
		case 7:
			start -= killedLate
		case 19:
			start, status = killedEpoch-killedLate-i, end // history has ended long ago
		}
		for range twins {
			tasks = append(tasks, crsapi.Task{
				RedisID:   fmt.Sprintf("crs-%03d", i/40),
				TaskName:  []string{backup, clean}[luck.IntN(2)],
				StartTime: time.Unix(int64(start), 0).UTC(),
				Status:    status,
			})
		}
	}
	return tasks
}

// scriptedCounts is the counters by series after every step up to the last has
// been polled, and how many transitions they leave out. From the step of the
// change-over on, the list comes from API 3.0.
func scriptedCounts(last, changeOver int) (counts map[string]int, leftOut int) {
	counts = map[string]int{}
	for r, region := range killedRegions {
		type second struct {
			redisID, taskName string
			start             int64
			status            string
		}
		most, known := map[second]int{}, map[second]bool{}
		for step := range last + 1 {
			now := map[second]int{}
			for _, t := range scriptedList(r, step) {
				if step >= changeOver && t.Status == crsapi.StatusError {
					t.Status = crsapi.StatusFailed
				}
				now[second{t.RedisID, t.TaskName, t.StartTime.Unix(), t.Status.String()}]++
				for _, status := range documented {
					counts[transitionsIn(region, t.RedisID, t.TaskName, status)] += 0
				}
			}
			for s, n := range now {
				inAnyStatus := s
				inAnyStatus.status = ""
				history := s.start < killedEpoch-killedLate && !known[inAnyStatus]
				more := n - most[s]
				if more <= 0 {
					continue
				}
				most[s] = n
				switch {
				case step == 0:
				case step == changeOver, history:
					leftOut += more
				default:
					counts[transitionsIn(region, s.redisID, s.taskName, s.status)] += more
				}
			}
			for s := range now {
				s.status = ""
				known[s] = true
			}
		}
	}
	return counts, leftOut
}

// never is the step of a change-over that does not happen.
const never = math.MaxInt32

func readStep(dir string) int { return readNumber(dir, "step") }

func readNumber(dir, name string) int {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		panic(err)
	}
	return n
}

func writeStep(dir string, step int) { writeNumber(dir, "step", step) }

func writeNumber(dir, name string, n int) {
	name = filepath.Join(dir, name)
	if err := os.WriteFile(name+".new", []byte(strconv.Itoa(n)), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		panic(err)
	}
}

// stdoutWriter writes a response to standard output. What is written there is
// exposed before the handler knows.
type stdoutWriter struct{ header http.Header }

func (w stdoutWriter) Header() http.Header         { return w.header }
func (w stdoutWriter) WriteHeader(int)             {}
func (w stdoutWriter) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// TestKilledExporter is not a test, but the process that is killed.
func TestKilledExporter(t *testing.T) {
	dir := os.Getenv(envKilledDir)
	if dir == "" {
		return
	}
	step, changeOver := readStep(dir), readNumber(dir, "change-over")
	var apis []crsapi.API
	for api := range strings.SplitSeq(os.Getenv(envKilledAPIs), ",") {
		apis = append(apis, crsapi.API(api))
	}
	server := crsapitest.NewMemoryServer()
	t.Cleanup(server.Close)
	sources := map[string]collector.Source{}
	for _, region := range killedRegions {
		sources[region] = nil
	}
	e := newExporter(t, collector.Config{
		StateFile: filepath.Join(dir, "state"),
		Dial: func(region string, observe func(crsapi.Attempt)) ([]collector.Source, error) {
			return dialSimulated(server, region, observe, apis...)
		},
	}, sources)
	h := e.Handler()
	scrape := func() {
		for i, region := range killedRegions {
			server.SetTasks(region, scriptedList(i, step))
		}
		if step >= changeOver {
			server.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
		}
		h.ServeHTTP(stdoutWriter{http.Header{}}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	if os.Getenv(envKilledLast) != "" {
		// Until every row was listed again, and through the change-over.
		for n := 0; n < 4 || changeOver != never && step <= changeOver; n++ {
			writeStep(dir, step)
			scrape()
			step++
		}
		step--
		for range 2 { // until no series holds counts
			scrape()
		}
		return
	}
	for ; ; step++ {
		writeStep(dir, step)
		scrape()
	}
}

func TestStateSurvivesKills(t *testing.T) {
	for _, api := range []crsapi.API{crsapi.API20, crsapi.API30} {
		t.Run("API "+string(api), func(t *testing.T) {
			t.Run("every list is polled", func(t *testing.T) { killing{kills: *kills, apis: string(api)}.survive(t) })
			t.Run("lists change during the downtime", func(t *testing.T) { killing{kills: *kills, apis: string(api), pass: true}.survive(t) })
		})
	}
	t.Run("change-over", func(t *testing.T) {
		const few = 5 // so that many change-overs are close to a kill
		for i := range max(1, *kills/4/few) {
			killing{kills: few, apis: "2.0,3.0", changeOver: true, seed: uint64(i)}.survive(t)
		}
	})
}

// killing is a run of an exporter that is killed several times.
type killing struct {
	kills      int
	apis       string // in the order of succession, with commas
	changeOver bool   // API 2.0 is retired after some kills
	pass       bool   // lists change during the downtime
	seed       uint64
}

func (k killing) survive(t *testing.T) {
	var (
		dir     = t.TempDir()
		luck    = rand.New(rand.NewPCG(7, k.seed))
		exposed = map[string]int{}
		scrapes = 0
		early   = 0
	)
	changeOver := never
	if k.apis == "3.0" {
		changeOver = -1
	}
	writeNumber(dir, "change-over", never)
	writeStep(dir, 0)
	// The first process makes the list of step 0 the baseline.
	scrapes += k.live(t, dir, exposed, nil)
	for i := range k.kills {
		if k.changeOver && i == k.kills/2 {
			changeOver = readStep(dir) + 1 + luck.IntN(40)
			writeNumber(dir, "change-over", changeOver)
		}
		n := k.live(t, dir, exposed, &death{luck.IntN(5) == 0, time.Duration(luck.IntN(60_000)) * time.Microsecond})
		scrapes += n
		if n == 0 {
			early++
		}
		if k.pass {
			writeStep(dir, readStep(dir)+luck.IntN(4))
		}
		if t.Failed() {
			return
		}
	}
	scrapes += k.live(t, dir, exposed, nil)
	last := readStep(dir)

	want, leftOut := scriptedCounts(last, changeOver)
	if k.pass {
		// How many tasks were seen to begin depends on the downtime. The ends are
		// final.
		for _, m := range []map[string]int{want, exposed} {
			maps.DeleteFunc(m, func(series string, _ int) bool {
				return strings.Contains(series, `"pending"`) || strings.Contains(series, `"executing"`)
			})
		}
	}
	if !maps.Equal(exposed, want) {
		for series := range want {
			if exposed[series] != want[series] {
				t.Errorf("%s is %d, want %d", series, exposed[series], want[series])
			}
		}
		t.Errorf("%d counters, want %d", len(exposed), len(want))
	}
	sum := 0
	for _, n := range want {
		sum += n
	}
	t.Logf("%d kills, %d of them before a scrape ended; %d scrapes, %d lists, %d counters, %d transitions, %d left out",
		k.kills, early, scrapes, last+1, len(want), sum, leftOut)
}

// death is when an exporter is killed: some time after its start if early, else
// after its first output.
type death struct {
	early bool
	after time.Duration
}

// live runs the exporter until it is killed or, if it is not killed, has exposed
// all counts. It checks what the exporter exposes.
func (k killing) live(t *testing.T, dir string, exposed map[string]int, dies *death) (scrapes int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExporter$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envKilledDir+"="+dir, envKilledAPIs+"="+k.apis)
	if dies == nil {
		cmd.Env = append(cmd.Env, envKilledLast+"=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if dies != nil && !dies.early {
		_, _ = r.Peek(1)
	}
	done, killed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(killed)
		if dies == nil {
			return
		}
		select {
		case <-time.After(dies.after):
			_ = cmd.Process.Kill()
		case <-done:
		}
	}()
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // an incomplete line was not exposed
		}
		if err != nil {
			t.Error(err)
			break
		}
		series, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "} ")
		switch {
		case strings.HasPrefix(line, "crs_task_transitions_total{"):
			series += "}"
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Error(err)
			}
			before, known := exposed[series]
			if n < before {
				t.Errorf("%s fell from %d to %d", series, before, n)
			}
			if !known && n != 0 {
				t.Errorf("the first sample of %s is %d", series, n)
			}
			exposed[series] = n
		case strings.HasPrefix(line, "crs_up{"):
			scrapes++
			if value != "1" {
				t.Error(line)
			}
		case strings.HasPrefix(line, "crs_state_errors_total "), strings.HasPrefix(line, "crs_state_last_reset"):
			if !strings.HasSuffix(line, " 0\n") {
				t.Error(line)
			}
		}
	}
	close(done)
	<-killed
	err = cmd.Wait()
	if dies == nil && err != nil {
		t.Fatalf("the exporter ended with %v: %s", err, stderr.String())
	}
	if dies != nil && cmd.ProcessState.Exited() {
		t.Fatalf("the exporter ended before it was killed: %v: %s", err, stderr.String())
	}
	return scrapes / len(killedRegions)
}
