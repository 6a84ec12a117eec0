package year

import (
	"flag"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(1000) // at 100, a third of the time goes into collecting garbage
	goleak.VerifyTestMain(m)
}

var (
	seed      = flag.Uint64("seed", 1, "seed of the scenario")
	days      = flag.Int("days", 0, "duration of the scenario; 0 for a week of few instances")
	instances = flag.Int("instances", 40, "number of instances")
	inventory = flag.Bool("inventory", false, "the exporters read inventories, and some instances have no task")
	coarse    = flag.Bool("coarse", false, "steps of four minutes while nothing happens")
	rulesFlag = flag.String("rules", "../../prometheus/rules/crs.yml", "file of the rules")
)

// TestScenario plays a scenario and judges the alerts: by default a week, else what the
// flags say. The rules must be right about all of it, but for what nobody knew any more: the
// report names each.
func TestScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out the week")
	}
	o := options{Seed: *seed, Days: *days, Instances: *instances, Coarse: *coarse, Inventory: *inventory}
	if *days == 0 {
		o = options{Seed: *seed, Days: 7, Instances: 15, Inventory: true}
	}
	j := performShipped(t, o)
	t.Log("\n" + j.report())
	for key, n := range j.counts {
		if problem, _, _ := strings.Cut(key, ": "); !excused[problem] {
			t.Errorf("%s: %d times", key, n)
		}
	}
}

// TestPath plays few troubles from the simulator of the API to the page: exporter, rules,
// alerts, inhibitions. It is fast, so that each change is tested with the shipped rules.
func TestPath(t *testing.T) {
	told := []string{
		"backup failed", "backup ended as error", "backup hangs, then fails", "backup switched off",
		"import runs long", "resize fails", "failed, and listed no more",
	}
	j := performShipped(t, options{Seed: 1, Days: 3, Instances: 8, Coarse: true, Script: append(told, "renamed")})
	for _, kind := range told {
		if k := j.kinds[kind]; k == nil || len(k.detection) != 1 {
			t.Errorf("%s: no alert tells it", kind)
		}
	}
	if len(j.counts) > 0 {
		t.Error("\n" + j.report())
	}
}

// performShipped plays a scenario to the rules of the flag.
func performShipped(t *testing.T, o options) *judgement {
	t.Helper()
	content, err := os.ReadFile(*rulesFlag)
	check(t, err)
	// The annotations change nothing that fires, and take a quarter of an evaluation.
	text := regexp.MustCompile(`(?m)^ {8}annotations:\n( {10}.*\n)+`).ReplaceAllString(string(content), "")
	return perform(t, newScenario(o), text)[0]
}

// perform plays a scenario once, to each of some texts of rules, and judges what fires.
func perform(t *testing.T, sc *scenario, rules ...string) (judged []*judgement) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begin))
		s := newStage(t, sc)
		var players []*prometheus
		for _, text := range rules {
			players = append(players, newPrometheus(t, text, newNotices(t, sc)))
		}
		for _, at := range sc.steps() {
			if since := at.Sub(begin); since > 0 && since%(30*day) == 0 {
				t.Logf("%d days are played", since/day)
			}
			time.Sleep(time.Until(at))
			does, answers := s.step(t, at)
			for _, p := range players {
				p.step(t, at, does, answers)
			}
		}
		for _, p := range players {
			judged = append(judged, judge(sc, p.notices))
		}
	})
	return judged
}
