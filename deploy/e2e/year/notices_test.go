package year

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"go.yaml.in/yaml/v3"
)

// firing is one alert from the moment it fires until it ends.
type firing struct {
	alert  string
	labels labels.Labels
	span             // to is zero while it fires
	paged  time.Time // when it first was a page; zero if it was none, or was inhibited
}

// identity is what makes two firings the same alert for a reader.
func (f *firing) identity() string {
	get := f.labels.Get
	return fmt.Sprintf("%s %s %s", f.alert, get("region"), get("redisId")+get("taskName")+get("instance"))
}

// notices follows which alerts fire, and which of them page.
type notices struct {
	inhibit []inhibitRule
	open    map[string]*firing // by labels
	firings []*firing
	end     time.Time // of the last evaluation
	// Prometheus is down, or has just been started. An alert that fires again then has not ended.
	restart []span
	lost    []span // the same, where its data is lost
}

// settle is how long a started Prometheus may take to fire an alert again: it restores
// the alert's state after two evaluations, and gives it a grace of ten minutes.
const settle = 15 * time.Minute

func newNotices(t *testing.T, sc *scenario) *notices {
	t.Helper()
	text, err := os.ReadFile("../../alertmanager/alertmanager.yml")
	check(t, err)
	var c struct {
		InhibitRules []inhibitRule `yaml:"inhibit_rules"`
	}
	check(t, yaml.Unmarshal(text, &c))
	n := &notices{inhibit: c.InhibitRules, open: map[string]*firing{}}
	for _, i := range sc.incidents {
		if i.promDoes != runs {
			s := span{i.from, i.to.Add(settle)}
			n.restart = append(n.restart, s)
			if i.promDoes == lost {
				n.lost = append(n.lost, s)
			}
		}
	}
	n.restart = merge(n.restart)
	return n
}

// inhibitRule is an entry of Alertmanager's inhibit_rules.
type inhibitRule struct {
	Source matchers `yaml:"source_matchers"`
	Target matchers `yaml:"target_matchers"`
	Equal  []string `yaml:"equal"`
}

type matchers []*labels.Matcher

// UnmarshalYAML parses a list of matchers. Those with quotes are the same in PromQL.
func (ms *matchers) UnmarshalYAML(node *yaml.Node) error {
	var texts []string
	if err := node.Decode(&texts); err != nil {
		return err
	}
	parsed, err := syntax.ParseMetricSelector("{" + strings.Join(texts, ",") + "}")
	*ms = parsed
	return err
}

func (ms matchers) match(l labels.Labels) bool {
	return !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// see is called after each evaluation.
func (n *notices) see(at time.Time, now []labels.Labels) {
	n.end = at
	seen := map[string]bool{}
	for i, l := range now {
		key := l.String()
		seen[key] = true
		f := n.open[key]
		if f == nil {
			f = n.resumed(key, at)
		}
		if f == nil {
			f = &firing{alert: l.Get(labels.AlertName), labels: l.Copy(), span: span{from: at}}
			n.firings = append(n.firings, f)
		}
		n.open[key] = f
		f.to = time.Time{}
		if f.paged.IsZero() && l.Get("severity") == "critical" && !n.inhibited(i, now) {
			f.paged = at
		}
	}
	for key, f := range n.open {
		if !seen[key] {
			f.to = at
			delete(n.open, key)
		}
	}
}

// resumed returns the firing with these labels that was open before a gap.
func (n *notices) resumed(key string, at time.Time) *firing {
	gap := slices.IndexFunc(n.restart, func(s span) bool { return s.contains(at) })
	if gap < 0 {
		return nil
	}
	for _, f := range slices.Backward(n.firings) {
		if !f.to.IsZero() && f.to.After(n.restart[gap].from) && f.labels.String() == key {
			return f
		}
	}
	return nil
}

// inhibited reports if another alert that fires inhibits this one, as the inhibit_rules
// of Alertmanager say.
func (n *notices) inhibited(target int, all []labels.Labels) bool {
	for _, rule := range n.inhibit {
		if !rule.Target.match(all[target]) {
			continue
		}
		for source, l := range all {
			differs := func(name string) bool { return l.Get(name) != all[target].Get(name) }
			if source != target && rule.Source.match(l) && !slices.ContainsFunc(rule.Equal, differs) {
				return true
			}
		}
	}
	return false
}
