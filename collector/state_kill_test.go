package collector

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
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

	"github.com/crs-exporter/crs_exporter/crsapi"
)

var kills = flag.Int("kills", 20, "how often TestStateSurvivesKills kills the exporter")

const (
	envKilledDir  = "CRS_TEST_KILLED_DIR"
	envKilledLast = "CRS_TEST_KILLED_LAST"
	killedWindow  = 90 // steps after which a task is listed no more
)

var killedRegions = []string{"ap-beijing", "ap-shanghai"}

// scriptedList is the list of a region at a step. A task is submitted at every
// step, sometimes two in the same second; each is pending, then executing, then
// ends; rows vanish and come back; every 40 steps an instance is new.
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
		for range twins {
			tasks = append(tasks, crsapi.Task{
				RedisID:   fmt.Sprintf("crs-%03d", i/40),
				TaskName:  []string{backup, clean}[luck.IntN(2)],
				StartTime: time.Unix(1_700_000_000+int64(i), 0).UTC(),
				Status:    status,
			})
		}
	}
	return tasks
}

// scriptedCounts is what the counters say, by their series, once every step up
// to the last has been polled.
func scriptedCounts(last int) map[string]int {
	counts := map[string]int{}
	for r, region := range killedRegions {
		type group struct {
			key    seriesKey
			start  int64
			status status
		}
		most := map[group]int{}
		for step := range last + 1 {
			now := map[group]int{}
			for _, t := range scriptedList(r, step) {
				key := seriesKey{t.RedisID, t.TaskName}
				now[group{key, t.StartTime.Unix(), statusOf(t.Status)}]++
				for st := range unknown {
					counts[transitions(region, key, st)] += 0
				}
			}
			for g, n := range now {
				if more := n - most[g]; more > 0 {
					most[g] = n
					if step > 0 {
						counts[transitions(region, g.key, g.status)] += more
					}
				}
			}
		}
	}
	return counts
}

func transitions(region string, key seriesKey, st status) string {
	return fmt.Sprintf("crs_task_transitions_total{redisId=%q,region=%q,status=%q,taskName=%q}",
		key.redisID, region, statusNames[st], key.taskName)
}

func readStep(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "step"))
	if err != nil {
		panic(err)
	}
	n, err := strconv.Atoi(string(text))
	if err != nil {
		panic(err)
	}
	return n
}

func writeStep(dir string, step int) {
	name := filepath.Join(dir, "step")
	if err := os.WriteFile(name+".new", []byte(strconv.Itoa(step)), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		panic(err)
	}
}

// stdoutWriter answers a scrape on standard output: what is written there is
// exposed before the handler knows.
type stdoutWriter struct{ header http.Header }

func (w stdoutWriter) Header() http.Header         { return w.header }
func (w stdoutWriter) WriteHeader(int)             {}
func (w stdoutWriter) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// TestStateKilledExporter is no test, but the process that is killed.
func TestStateKilledExporter(t *testing.T) {
	dir := os.Getenv(envKilledDir)
	if dir == "" {
		return
	}
	step := readStep(dir)
	sources := map[string]Source{}
	for i, region := range killedRegions {
		sources[region] = sourceFunc(func(context.Context, crsapi.Query) (List, error) {
			return list(scriptedList(i, step)...), nil
		})
	}
	e := newTestExporter(t, Config{StateFile: filepath.Join(dir, "state")}, sources)
	e.state.minLog = 4 << 10 // so that it is written anew now and then
	h := e.Handler()
	scrape := func() {
		h.ServeHTTP(stdoutWriter{http.Header{}}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	}
	if os.Getenv(envKilledLast) != "" {
		for range 4 { // until every row was back once
			writeStep(dir, step)
			scrape()
			step++
		}
		step--
		for range 2 { // until nothing is held back
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
	t.Run("every list is polled", func(t *testing.T) { surviveKills(t, false) })
	t.Run("lists pass while it is down", func(t *testing.T) { surviveKills(t, true) })
}

func surviveKills(t *testing.T, pass bool) {
	var (
		dir     = t.TempDir()
		luck    = rand.New(rand.NewPCG(7, 11))
		exposed = map[string]int{}
		scrapes = 0
		early   = 0
	)
	writeStep(dir, 0)
	// A first life makes the baseline the list of step 0.
	scrapes += live(t, dir, exposed, nil)
	for range *kills {
		n := live(t, dir, exposed, &death{luck.IntN(5) == 0, time.Duration(luck.IntN(60_000)) * time.Microsecond})
		scrapes += n
		if n == 0 {
			early++
		}
		if pass {
			writeStep(dir, readStep(dir)+luck.IntN(4))
		}
		if t.Failed() {
			return
		}
	}
	scrapes += live(t, dir, exposed, nil)
	last := readStep(dir)

	want := scriptedCounts(last)
	if pass {
		// How many tasks were seen to begin depends on when it was down; the
		// ends are final.
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
	t.Logf("%d kills, %d of them before a scrape ended; %d scrapes, %d lists, %d counters, %d transitions",
		*kills, early, scrapes, last+1, len(want), sum)
}

// death is when an exporter is killed: some time after its start or, if not so
// early, its first output.
type death struct {
	early bool
	after time.Duration
}

// live runs the exporter until it is killed or, if it is not, has settled. It
// checks what it exposes.
func live(t *testing.T, dir string, exposed map[string]int, dies *death) (scrapes int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStateKilledExporter$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envKilledDir+"="+dir)
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
			break // half a line was not exposed
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
