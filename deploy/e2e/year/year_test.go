package year

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

var (
	seed       = flag.Uint64("seed", 1, "seed of the scenario")
	days       = flag.Int("days", 0, "duration of the scenario; 0 for a week of few instances")
	instances  = flag.Int("instances", 40, "number of instances")
	coarse     = flag.Bool("coarse", false, "steps of four minutes while nothing happens")
	recordings = flag.String("recording", "", "file that keeps the recording of the exporters; if it exists, only the rules are played")
	rulesFlag  = flag.String("rules", "../../prometheus/rules/crs.yml", "file of the rules")
)

const alertmanagerFile = "../../alertmanager/alertmanager.yml"

// tolerated is what the shipped rules get wrong in the week that the tests play. Each
// number may only fall.
var tolerated = map[string]int{}

// TestScenario plays a scenario and judges the alerts: by default a week, whose
// judgement must not be worse than what is tolerated, else what the flags say.
func TestScenario(t *testing.T) {
	o := options{Seed: *seed, Days: *days, Instances: *instances, Coarse: *coarse}
	week := *days == 0
	if week {
		o = options{Seed: *seed, Days: 7, Instances: 15}
	}
	j, err := perform(t, newScenario(o), *recordings, *rulesFlag)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + j.report())
	if !week || *seed != 1 {
		return
	}
	for _, p := range problems {
		if n := j.total(p); n != tolerated[p] {
			t.Errorf("%s: %d, want %d", p, n, tolerated[p])
		}
	}
}

// perform plays a scenario to the rules and judges the alerts. With a file, the
// recording is kept there; if it is there already, it is played.
func perform(t *testing.T, sc *scenario, file, rulesFile string) (*judgement, error) {
	t.Helper()
	if file != "" {
		if _, err := os.Stat(file); err != nil {
			recordTo(t, sc, file)
		}
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return replay(t, sc, f, rulesFile)
	}
	// The rules are played while the recording is made. The pipe belongs to no bubble.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	type result struct {
		j   *judgement
		err error
	}
	done := make(chan result)
	go func() {
		j, err := replay(t, sc, r, rulesFile)
		done <- result{j, errors.Join(err, r.Close())}
	}()
	recorded := t.Run("record", func(t *testing.T) { recordScenario(t, sc, w) })
	err = w.Close()
	played := <-done
	if !recorded && played.err == nil {
		played.err = errors.New("the recording is incomplete")
	}
	return played.j, errors.Join(err, played.err)
}

func recordTo(t *testing.T, sc *scenario, file string) {
	t.Helper()
	f, err := os.CreateTemp(filepath.Dir(file), "recording")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(f.Name())
	recordScenario(t, sc, f)
	if err := errors.Join(f.Close(), os.Rename(f.Name(), file)); err != nil {
		t.Fatal(err)
	}
}

// replay plays a recording to the rules and judges what fires.
func replay(t *testing.T, sc *scenario, from io.Reader, rulesFile string) (*judgement, error) {
	n, err := newNotices(alertmanagerFile)
	if err != nil {
		return nil, err
	}
	p, err := newPrometheus(t.TempDir(), rulesFile, n.see)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	h, err := play(from, p.step)
	if err := errors.Join(err, p.close()); err != nil {
		return nil, err
	}
	if h.Options != sc.options {
		return nil, fmt.Errorf("the recording is of %+v, not of %+v", h.Options, sc.options)
	}
	t.Logf("played in %s; %d evaluations, %s each", time.Since(begun).Round(time.Second), p.count, (p.spent / time.Duration(max(1, p.count))).Round(time.Microsecond))
	return judge(sc, n), nil
}
