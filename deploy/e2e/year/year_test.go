package year

import (
	"flag"
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
	seed       = flag.Uint64("seed", 1, "of the scenario; another one is another year")
	days       = flag.Int("days", 7, "that the scenario lasts")
	instances  = flag.Int("instances", 40, "of the account at each time")
	coarse     = flag.Bool("coarse", false, "take steps of four minutes while nothing happens")
	recordings = flag.String("recording", "", "file that keeps what the exporters showed; if it is there, only the rules are played")
	rulesFlag  = flag.String("rules", "../../prometheus/rules/crs.yml", "file of the rules")
)

const alertmanagerFile = "../../alertmanager/alertmanager.yml"

// TestScenario plays a scenario and judges the alerts.
func TestScenario(t *testing.T) {
	sc := newScenario(options{Seed: *seed, Days: *days, Instances: *instances, Coarse: *coarse})
	path := *recordings
	if path == "" {
		path = filepath.Join(t.TempDir(), "recording")
	}
	if _, err := os.Stat(path); err != nil {
		begun := time.Now()
		recordScenario(t, sc, path)
		t.Logf("recorded in %s", time.Since(begun).Round(time.Second))
	}
	j := replay(t, sc, path, *rulesFlag)
	t.Log("\n" + j.report())
}

// replay plays a recording to the rules and judges what fires.
func replay(t *testing.T, sc *scenario, path, rulesFile string) *judgement {
	t.Helper()
	n, err := newNotices(alertmanagerFile)
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPrometheus(t.TempDir(), rulesFile, n.see)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	h, err := play(path, p.step)
	if err != nil {
		t.Fatal(err)
	}
	if h.Options != sc.options {
		t.Fatalf("the recording is of %+v, not of %+v", h.Options, sc.options)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("replayed in %s; %d evaluations, %s each", time.Since(begun).Round(time.Second), p.count, (p.spent / time.Duration(max(1, p.count))).Round(time.Microsecond))
	return judge(sc, n)
}
