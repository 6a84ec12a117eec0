package collector_test

import (
	"bufio"
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
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
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

var kills = flag.Int("kills", 8, "how often TestStateSurvivesKills kills the exporter")

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
				RedisID: fmt.Sprintf("crs-%03d", i/40), TaskName: []string{backup, clean}[luck.IntN(2)],
				StartTime: time.Unix(int64(start), 0).UTC(), Status: status,
			})
		}
	}
	return tasks
}

// scriptedCounts is the counters by series after every step up to the last has been
// polled. From the step of the switch on, the list comes from API 3.0.
func scriptedCounts(last, switched int) map[string]int {
	counts := map[string]int{}
	for r, region := range killedRegions {
		model := newCounterModel(region)
		for step := range last + 1 {
			tasks := scriptedList(r, step)
			for i := range tasks {
				if step >= switched && tasks[i].Status == crsapi.StatusError {
					tasks[i].Status = crsapi.StatusFailed
				}
			}
			model.apply(tasks, step == switched)
		}
		for series, c := range model.counters {
			counts[series] = c.value + c.held
		}
	}
	return counts
}

// never is the step of a switch that does not happen.
const never = math.MaxInt32

// killedFolder has the state file, and the numbers that outlive a process.
type killedFolder string

func (f killedFolder) read(name string) int {
	text, err := os.ReadFile(filepath.Join(string(f), name))
	n, notANumber := strconv.Atoi(string(text))
	if err := cmp.Or(err, notANumber); err != nil {
		panic(err)
	}
	return n
}

func (f killedFolder) write(name string, n int) {
	name = filepath.Join(string(f), name)
	err := os.WriteFile(name+".new", []byte(strconv.Itoa(n)), 0o600)
	if err == nil {
		err = os.Rename(name+".new", name)
	}
	if err != nil {
		panic(err)
	}
}

// stdoutWriter writes a response to standard output. What is written there is
// exposed before the handler knows.
type stdoutWriter struct{ header http.Header }

func (w stdoutWriter) Header() http.Header         { return w.header }
func (w stdoutWriter) WriteHeader(int)             {}
func (w stdoutWriter) Write(p []byte) (int, error) { return os.Stdout.Write(p) }

// TestKilledExporter is not a test, but the process that is killed. The last one lives
// until every row was listed again, the API was switched, and no series holds counts.
func TestKilledExporter(t *testing.T) {
	folder := killedFolder(os.Getenv(envKilledDir))
	if folder == "" {
		return
	}
	var apis []crsapi.API
	for api := range strings.SplitSeq(os.Getenv(envKilledAPIs), ",") {
		apis = append(apis, crsapi.API(api))
	}
	s := newSimulator(t, apis...)
	h := s.watch(t, collector.Config{StateFile: filepath.Join(string(folder), "state")}, killedRegions...).Handler()
	first, switched := folder.read("step"), folder.read("switched")
	last := never
	if os.Getenv(envKilledLast) != "" {
		last = first + 3
		if switched != never {
			last = max(last, switched)
		}
	}
	for n := first; n <= last+2 || last == never; n++ {
		step := min(n, last)
		folder.write("step", step)
		for i, region := range killedRegions {
			s.SetTasks(region, scriptedList(i, step))
		}
		if step >= switched {
			s.Inject(crsapitest.Fault{API: "2.0", Do: crsapitest.RetiredForbidden})
		}
		h.ServeHTTP(stdoutWriter{http.Header{}}, request())
	}
}

func TestStateSurvivesKills(t *testing.T) {
	for _, api := range testedAPIs()[:max(1, len(testedAPIs())-1)] { // the protocol of tce is that of 2.0
		t.Run("API "+string(api), func(t *testing.T) {
			t.Run("every list is polled", func(t *testing.T) { killing{kills: *kills, apis: string(api)}.survive(t) })
			t.Run("lists change during the downtime", func(t *testing.T) { killing{kills: *kills, apis: string(api), pass: true}.survive(t) })
		})
	}
	t.Run("switch", func(t *testing.T) {
		const few = 5 // so that many switches are close to a kill
		for i := range max(1, *kills/4/few) {
			killing{kills: few, apis: "2.0,3.0", switches: true, seed: uint64(i)}.survive(t)
		}
	})
}

// killing is a run of an exporter that is killed several times.
type killing struct {
	kills    int
	apis     string // in the order of succession, with commas
	switches bool   // API 2.0 is retired after some kills
	pass     bool   // lists change during the downtime
	seed     uint64
}

func (k killing) survive(t *testing.T) {
	folder, luck, exposed := killedFolder(t.TempDir()), rand.New(rand.NewPCG(7, k.seed)), map[string]int{}
	switched := never
	if k.apis == "3.0" {
		switched = -1
	}
	folder.write("switched", never)
	folder.write("step", 0)
	k.live(t, folder, exposed, nil) // makes the list of step 0 the baseline
	for i := 0; i < k.kills && !t.Failed(); i++ {
		if k.switches && i == k.kills/2 {
			switched = folder.read("step") + 1 + luck.IntN(40)
			folder.write("switched", switched)
		}
		k.live(t, folder, exposed, &death{luck.IntN(5) == 0, time.Duration(luck.IntN(60_000)) * time.Microsecond})
		if k.pass {
			folder.write("step", folder.read("step")+luck.IntN(4))
		}
	}
	k.live(t, folder, exposed, nil)

	last := folder.read("step")
	want := scriptedCounts(last, switched)
	if k.pass {
		// How many tasks were seen to begin depends on the downtime. The ends are
		// final.
		for _, m := range []map[string]int{want, exposed} {
			maps.DeleteFunc(m, func(series string, _ int) bool {
				return strings.Contains(series, `"pending"`) || strings.Contains(series, `"executing"`)
			})
		}
	}
	for series := range want {
		if exposed[series] != want[series] {
			t.Errorf("%s is %d, want %d", series, exposed[series], want[series])
		}
	}
	if len(exposed) != len(want) {
		t.Errorf("%d counters, want %d", len(exposed), len(want))
	}
	t.Logf("%d kills, %d lists, %d counters", k.kills, last+1, len(want))
}

// death is when an exporter is killed: some time after its start if early, else
// after its first output.
type death struct {
	early bool
	after time.Duration
}

// live runs the exporter until it is killed or, if it is not killed, has exposed
// all counts. It checks what the exporter exposes.
func (k killing) live(t *testing.T, folder killedFolder, exposed map[string]int, dies *death) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledExporter$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), envKilledDir+"="+string(folder), envKilledAPIs+"="+k.apis)
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
	if dies != nil {
		if !dies.early {
			_, _ = r.Peek(1)
		}
		defer time.AfterFunc(dies.after, func() { _ = cmd.Process.Kill() }).Stop()
	}
	for {
		line, err := r.ReadString('\n')
		if err == io.EOF {
			break // an incomplete line was not exposed
		}
		if err != nil {
			t.Error(err)
			break
		}
		checkExposed(t, strings.TrimSuffix(line, "\n"), exposed)
	}
	err = cmd.Wait()
	if exited := cmd.ProcessState.Exited(); exited != (dies == nil) || exited && err != nil {
		t.Fatalf("the exporter ended with %v: %s", err, stderr.String())
	}
}

// checkExposed checks a line of an exposition against what was exposed before.
func checkExposed(t *testing.T, line string, exposed map[string]int) {
	t.Helper()
	i := strings.LastIndexByte(line, ' ')
	series, value := line[:max(0, i)], line[i+1:]
	switch {
	case strings.HasPrefix(line, "crs_task_transitions_total{"):
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
	case strings.HasPrefix(line, "crs_up{") && value != "1",
		strings.HasPrefix(line, "crs_state_errors_total ") && value != "0",
		strings.HasPrefix(line, "crs_state_last_reset") && value != "0":
		t.Error(line)
	}
}
