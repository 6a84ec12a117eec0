package collector_test

import (
	"bufio"
	"errors"
	"flag"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
)

var kills = flag.Int("kills", 16, "how often TestStateSurvivesKills kills the exporter")

const envKilledFolder = "CRS_TEST_KILLED_FOLDER"

// lastStep returns the step of the newest list, for each of which the file has a byte.
func lastStep(t *testing.T, folder string) int {
	t.Helper()
	steps, err := os.ReadFile(filepath.Join(folder, "steps"))
	if err != nil {
		t.Fatal(err)
	}
	return len(steps) - 1
}

// restart starts an exporter whose state file is in a folder.
func restart(t *testing.T, folder string) (*simulator, *collector.Exporter) {
	t.Helper()
	s := newSimulator(t, crsapi.API20)
	s.SetTasks(guangzhou, scriptedList(lastStep(t, folder)))
	return s, s.watch(t, collector.Config{StateFile: filepath.Join(folder, "state")})
}

// stdoutWriter writes a response to standard output. What is written there is
// exposed before the handler knows.
type stdoutWriter struct{ header http.Header }

func (w stdoutWriter) Header() http.Header         { return w.header }
func (w stdoutWriter) WriteHeader(int)             {}
func (w stdoutWriter) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// TestKilledExporter is not a test, but the process that is killed.
func TestKilledExporter(t *testing.T) {
	folder := os.Getenv(envKilledFolder)
	if folder == "" {
		return
	}
	s, e := restart(t, folder)
	steps, err := os.OpenFile(filepath.Join(folder, "steps"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e.Handler().ServeHTTP(stdoutWriter{http.Header{}}, request())
		if _, err := steps.Write([]byte{'.'}); err != nil {
			t.Fatal(err)
		}
		s.SetTasks(guangzhou, scriptedList(lastStep(t, folder)))
	}
}

// Whenever the exporter is killed, no counter falls, begins above 0, or misses a task.
func TestStateSurvivesKills(t *testing.T) {
	folder, luck, exposed := t.TempDir(), rand.New(rand.NewPCG(7, 0)), map[string]int{}
	if err := os.WriteFile(filepath.Join(folder, "steps"), []byte{'.'}, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(line string) {
		i := strings.LastIndexByte(line, ' ')
		series, value := line[:max(0, i)], line[i+1:len(line)-1]
		switch {
		case strings.HasPrefix(line, "crs_task_transitions_total{"):
			n, err := strconv.Atoi(value)
			before, known := exposed[series]
			if err != nil || n < before || !known && n != 0 {
				t.Errorf("%s, %t, was %d before", line, known, before)
			}
			exposed[series] = n
		case strings.HasPrefix(line, "crs_up{") && value != "1",
			strings.HasPrefix(line, "crs_state_errors_total ") && value != "0",
			strings.HasPrefix(line, "crs_state_last_reset") && value != "0":
			t.Error(line)
		}
	}
	live := func() {
		_, e := restart(t, folder)
		for range 4 { // until no series holds counts
			for line := range strings.Lines(scrapeAs(t, e, textFormat)) {
				check(line)
			}
		}
		e.Close()
	}
	live() // makes the list of step 0 the baseline
	for range *kills {
		killed(t, folder, luck.IntN(5) == 0, time.Duration(luck.IntN(60_000))*time.Microsecond, check)
	}
	live()
	if want := scriptedCounters(0, lastStep(t, folder)); !maps.Equal(exposed, want) {
		t.Errorf("got %v, want %v", exposed, want)
	}
	t.Logf("%d kills, %d lists, %d counters", *kills, lastStep(t, folder)+1, len(exposed))
}

// killed runs the exporter, and kills it some time after its start if early, else after its first
// output. It checks each line that was exposed.
func killed(t *testing.T, folder string, early bool, after time.Duration, check func(line string)) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExporter$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envKilledFolder+"="+folder)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err := errors.Join(err, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if !early {
		_, _ = r.Peek(1)
	}
	defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // an incomplete line was not exposed
		}
		check(line)
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the exporter ended with %v: %s", err, stderr.String())
	}
}
