package year

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(1000) // at 100, a third of the time goes into collecting garbage
	goleak.VerifyTestMain(m)
}

var (
	seed       = flag.Uint64("seed", 1, "seed of the scenario")
	days       = flag.Int("days", 0, "duration of the scenario; 0 for a week of few instances")
	instances  = flag.Int("instances", 40, "number of instances")
	coarse     = flag.Bool("coarse", false, "steps of four minutes while nothing happens")
	recordings = flag.String("recording", "", "file that keeps the recording of the exporters; if it exists, only the rules are played")
	paired     = flag.Bool("pair", false, "two Prometheus, of which one at a time is in trouble")
	rulesFlag  = flag.String("rules", "../../prometheus/rules/crs.yml", "file of the rules")
)

const alertmanagerFile = "../../alertmanager/alertmanager.yml"

// TestScenario plays a scenario and judges the alerts: by default a week, else what the
// flags say. The rules must be right about all of it, but for what nobody knew any more: the
// report names each.
func TestScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out the week")
	}
	o := options{Seed: *seed, Days: *days, Instances: *instances, Coarse: *coarse, Pair: *paired}
	if *days == 0 {
		o = options{Seed: *seed, Days: 7, Instances: 15}
	}
	j, err := perform(t, newScenario(o), *recordings, *rulesFlag)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + j.report())
	wantRight(t, j)
}

// TestPath plays few troubles from the simulator of the API to the page: exporter, rules,
// alerts, inhibitions. It is fast, so that each change is tested with the shipped rules.
func TestPath(t *testing.T) {
	const script = "backup failed;backup hangs, then fails;backup switched off;import runs long;resize fails;failed, and listed no more;renamed"
	j, err := perform(t, newScenario(options{Seed: 1, Days: 3, Instances: 7, Coarse: true, Script: script}), "", *rulesFlag)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range strings.Split(strings.TrimSuffix(script, ";renamed"), ";") {
		if k := j.kinds[kind]; k == nil || k.toldOf != 1 {
			t.Errorf("%s: no alert tells it", kind)
		}
	}
	if len(j.counts) > 0 {
		t.Error("\n" + j.report())
	}
}

// TestPairOfPrometheus has one Prometheus of two in trouble: down for forty minutes, without
// its data, restarted. That must change nothing.
func TestPairOfPrometheus(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out the week")
	}
	j, err := perform(t, newScenario(options{Seed: 54, Days: 4, Instances: 8, Coarse: true, Pair: true}), "", *rulesFlag)
	if err != nil {
		t.Fatal(err)
	}
	wantRight(t, j)
}

// wantRight tells each problem that a rule can prevent.
func wantRight(t *testing.T, j *judgement) {
	t.Helper()
	for _, problem := range problems {
		if n := j.total(problem); n > 0 && !slices.Contains(excused, problem) {
			t.Errorf("%s: %d times\n%s", problem, n, j.report())
		}
	}
}

// perform plays a scenario to the rules and judges the alerts. With a file, the
// recording is kept there; if it is there already, only the rules are played.
func perform(t *testing.T, sc *scenario, file, rulesFile string) (*judgement, error) {
	t.Helper()
	if file == "" {
		return performLive(t, sc, io.Discard, rulesFile)
	}
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return performAndKeep(t, sc, file, rulesFile)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return replay(t, sc, f, rulesFile)
}

func performAndKeep(t *testing.T, sc *scenario, file, rulesFile string) (*judgement, error) {
	t.Helper()
	f, err := os.CreateTemp(filepath.Dir(file), "recording")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	j, err := performLive(t, sc, f, rulesFile)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return j, os.Rename(f.Name(), file)
}

// performLive plays the rules while the recording is made.
func performLive(t *testing.T, sc *scenario, keep io.Writer, rulesFile string) (*judgement, error) {
	t.Helper()
	r, w, err := os.Pipe() // belongs to no bubble
	if err != nil {
		return nil, err
	}
	var (
		j      *judgement
		failed error
		player sync.WaitGroup
	)
	player.Go(func() {
		j, failed = replay(t, sc, r, rulesFile)
		failed = errors.Join(failed, r.Close()) // so that the recorder ends, too
	})
	recorded := t.Run("record", func(t *testing.T) { recordScenario(t, sc, io.MultiWriter(w, keep)) })
	err = w.Close()
	player.Wait()
	if !recorded && failed == nil {
		failed = errors.New("the recording is incomplete")
	}
	return j, errors.Join(failed, err)
}

// replay plays a recording to the rules and judges what fires.
func replay(t *testing.T, sc *scenario, from io.Reader, rulesFile string) (*judgement, error) {
	n, err := newNotices(sc, alertmanagerFile)
	if err != nil {
		return nil, err
	}
	rulesFile, err = withExceptions(t, rulesFile, sc.excepted)
	if err != nil {
		return nil, err
	}
	all := make(prometheuses, sc.prometheuses())
	for i := range all {
		if all[i], err = newPrometheus(t.TempDir(), rulesFile); err != nil {
			return nil, errors.Join(err, all[:i].close())
		}
	}
	begun := time.Now()
	h, err := play(from, func(f frame) error { return all.step(f, n) })
	if err := errors.Join(err, all.close()); err != nil {
		return nil, err
	}
	if h.Options != sc.options {
		return nil, fmt.Errorf("the recording is of %+v, not of %+v", h.Options, sc.options)
	}
	t.Logf("played in %s", time.Since(begun).Round(time.Second))
	for _, p := range all {
		t.Logf("%d evaluations, %s each", p.count, (p.spent / time.Duration(max(1, p.count))).Round(time.Microsecond))
	}
	return judge(sc, n), nil
}

// withExceptions returns a copy of the rules with the maximum ages that an operator
// sets for some instances.
func withExceptions(t *testing.T, file string, ids map[time.Duration][]string) (string, error) {
	t.Helper()
	if len(ids) == 0 {
		return file, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	const rule = "- record: crs:backup_deadline_timestamp_seconds\n        expr: |\n          max without (instance, pod) (\n"
	before, after, found := strings.Cut(string(text), rule)
	if !found {
		return "", fmt.Errorf("%s has no rule for exceptions", file)
	}
	exceptions := ""
	for age, of := range ids {
		exceptions += fmt.Sprintf("            last_over_time(crs_backup_last_good_timestamp_seconds{redisId=~%q}[15m]) + %.0f or\n",
			strings.Join(of, "|"), age.Seconds())
	}
	name := filepath.Join(t.TempDir(), "rules.yml")
	return name, os.WriteFile(name, []byte(before+rule+exceptions+after), 0o600)
}
