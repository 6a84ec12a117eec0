package collector_test

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
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

const (
	envKilledFolder = "CRS_TEST_KILLED_FOLDER"
	envKilledLast   = "CRS_TEST_KILLED_LAST"
)

// scriptedList is the list at a step. A task is submitted at every step, is pending, then
// executing, then ends, and leaves after 90 steps. Every 40 steps an instance is new.
func scriptedList(step int) (tasks []crsapi.Task) {
	for i := max(0, step-90); i <= step; i++ {
		luck := rand.New(rand.NewPCG(7, uint64(i)))
		end := []crsapi.Status{crsapi.StatusSucceeded, crsapi.StatusFailed, crsapi.StatusError}[luck.IntN(3)]
		life := []crsapi.Status{crsapi.StatusPending, crsapi.StatusExecuting, end}
		tasks = append(tasks, crsapi.Task{
			RedisID: fmt.Sprintf("crs-%03d", i/40), TaskName: []string{backup, clean}[luck.IntN(2)],
			StartTime: time.Unix(1_700_000_000+int64(i), 0).UTC(), Status: life[min(2, (step-i)/(1+luck.IntN(4)))],
		})
	}
	return tasks
}

// lastStep returns the step of the newest list, for each of which the file has a byte.
func lastStep(t *testing.T, folder string) int {
	t.Helper()
	steps, err := os.ReadFile(filepath.Join(folder, "steps"))
	if err != nil {
		t.Fatal(err)
	}
	return len(steps) - 1
}

// stdoutWriter writes a response to standard output. What is written there is
// exposed before the handler knows.
type stdoutWriter struct{ header http.Header }

func (w stdoutWriter) Header() http.Header         { return w.header }
func (w stdoutWriter) WriteHeader(int)             {}
func (w stdoutWriter) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// TestKilledExporter is not a test, but the process that is killed. The last one has one
// list only, and lives until no series holds counts.
func TestKilledExporter(t *testing.T) {
	folder := os.Getenv(envKilledFolder)
	if folder == "" {
		return
	}
	s := newSimulator(t, crsapi.API20)
	h := s.watch(t, collector.Config{StateFile: filepath.Join(folder, "state")}).Handler()
	steps, err := os.OpenFile(filepath.Join(folder, "steps"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer steps.Close()
	last := os.Getenv(envKilledLast) != ""
	for n := 0; n < 4 || !last; n++ {
		s.SetTasks(guangzhou, scriptedList(lastStep(t, folder)))
		h.ServeHTTP(stdoutWriter{http.Header{}}, request())
		if last {
			continue
		}
		if _, err := steps.Write([]byte{'.'}); err != nil {
			t.Fatal(err)
		}
	}
}

// Whenever the exporter is killed, no counter falls, begins above 0, or misses a task.
func TestStateSurvivesKills(t *testing.T) {
	folder, luck, exposed := t.TempDir(), rand.New(rand.NewPCG(7, 0)), map[string]int{}
	if err := os.WriteFile(filepath.Join(folder, "steps"), []byte{'.'}, 0o600); err != nil {
		t.Fatal(err)
	}
	live(t, folder, exposed, nil) // makes the list of step 0 the baseline
	for range *kills {
		live(t, folder, exposed, &death{luck.IntN(5) == 0, time.Duration(luck.IntN(60_000)) * time.Microsecond})
	}
	live(t, folder, exposed, nil)

	last, want, known := lastStep(t, folder), map[string]int{}, map[string]bool{}
	for step := range last + 1 {
		for _, task := range scriptedList(step) {
			for _, status := range documented {
				want[transitions(task.RedisID, task.TaskName, status)] += 0
			}
			series := transitions(task.RedisID, task.TaskName, task.Status.String())
			identity := fmt.Sprint(series, task.StartTime)
			if step > 0 && !known[identity] {
				want[series]++
			}
			known[identity] = true
		}
	}
	if !maps.Equal(exposed, want) {
		t.Errorf("got %v, want %v", exposed, want)
	}
	t.Logf("%d kills, %d lists, %d counters", *kills, last+1, len(want))
}

// death is when an exporter is killed: some time after its start if early, else
// after its first output.
type death struct {
	early bool
	after time.Duration
}

// live runs the exporter until it dies or, if it is the last one, ends. It checks what the
// exporter exposes.
func live(t *testing.T, folder string, exposed map[string]int, dies *death) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExporter$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envKilledFolder+"="+folder)
	if dies == nil {
		cmd.Env = append(cmd.Env, envKilledLast+"=1")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	if dies != nil {
		if !dies.early {
			_, _ = r.Peek(1)
		}
		defer time.AfterFunc(dies.after, func() { _ = cmd.Process.Kill() }).Stop()
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break // an incomplete line was not exposed
		}
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
	err = cmd.Wait()
	if exited := cmd.ProcessState.Exited(); exited != (dies == nil) || exited && err != nil {
		t.Fatalf("the exporter ended with %v: %s", err, stderr.String())
	}
}
