package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// interrupted runs a function between the answer to Verify and its use.
type interrupted struct {
	*server
	between func(q crsapi.Query)
}

func (l *interrupted) Page(ctx context.Context, q crsapi.Query) (*crsapi.Page, error) {
	p, err := l.server.Page(ctx, q)
	if ctx.Value(verifying{}) != nil && l.between != nil {
		l.between(q)
	}
	return p, err
}

func verifyContext(t *testing.T) context.Context {
	return context.WithValue(t.Context(), verifying{}, true)
}

// TestVerify corrects a copy, and waits before each request.
func TestVerify(t *testing.T) {
	s := plain(crsapi.API30, 1000, 10, 5)
	at := s.nodes[500].start
	for i := range 250 { // a second of three pages
		n := newNode(fmt.Sprintf("crs-%d", i), "cleanInstance", at, crsapi.StatusSucceeded)
		n.TaskID = int64(5000 + i)
		s.add(n)
	}
	m := newMirror(s, 100)
	poll(t, m, false)
	for _, i := range []int{400, 600, 900, 1200} {
		s.change(i, func(n *node) { n.Status = crsapi.StatusFailed })
	}
	s.reset()
	waits := 0
	err := m.Verify(verifyContext(t), func(context.Context) error {
		if waits != s.requests {
			t.Errorf("%d calls of wait before request %d", waits, s.requests)
		}
		waits++
		return nil
	})
	if err != nil || waits != s.requests || waits > 20 {
		t.Errorf("%d calls of wait, %d requests, %v", waits, s.requests, err)
	}
	expect(t, m, s)
	if r := poll(t, m, false); r.Corrections != 4 || len(r.Changed) != 4 {
		t.Errorf("%d corrections, %d changes", r.Corrections, len(r.Changed))
	}
}

// TestVerifyEnds ends Verify by its context, by wait and by an error.
func TestVerifyEnds(t *testing.T) {
	s := plain(crsapi.API30, 1000, 10, 5)
	m := newMirror(s, 100)
	if err := m.Verify(t.Context(), noWait); err != nil || s.requests > 0 {
		t.Errorf("without a copy: %v, %d requests", err, s.requests)
	}
	poll(t, m, false)
	ctx, cancel := context.WithCancel(verifyContext(t))
	n := 0
	err := m.Verify(ctx, func(ctx context.Context) error {
		if n++; n == 3 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 3 {
		t.Errorf("%v after %d requests", err, n)
	}
	stop := errors.New("stop")
	if err := m.Verify(t.Context(), func(context.Context) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	s.habits.faults = 1
	var e *crsapi.Error
	if err := m.Verify(t.Context(), noWait); !errors.As(err, &e) || e.Reason != crsapi.ReasonServer {
		t.Error(err)
	}
	s.habits.faults = 0
	s.after = func(_ crsapi.Query, p *crsapi.Page) { p.Tasks = nil }
	if err := m.Verify(t.Context(), noWait); !isDecode(err) {
		t.Error(err)
	}
	s.after = nil
	s.habits.ignore = "end"
	if err := m.Verify(t.Context(), noWait); !isDecode(err) {
		t.Error(err)
	}
	poll(t, m, false)
	expect(t, m, s)
}

// TestVerifyBesidePoll: an answer from before a poll is not used after it.
func TestVerifyBesidePoll(t *testing.T) {
	s := plain(crsapi.API30, 1000, 10, 5)
	s.change(500, func(n *node) { n.Status = crsapi.StatusExecuting })
	l := &interrupted{server: s}
	m := mirror.New(mirror.Config{Lister: l, PageSize: 100, Concurrency: 1})
	poll(t, m, false)
	second := s.nodes[500].start
	l.between = func(q crsapi.Query) {
		if q.BeginTime.Unix() <= second && second <= q.EndTime.Unix() && s.nodes[500].Status == crsapi.StatusExecuting {
			s.change(500, func(n *node) { n.Status = crsapi.StatusSucceeded })
			poll(t, m, false)
			expect(t, m, s)
		}
	}
	if err := m.Verify(verifyContext(t), noWait); err != nil {
		t.Fatal(err)
	}
	expect(t, m, s)
	if s.nodes[500].Status != crsapi.StatusSucceeded {
		t.Error("no poll beside Verify")
	}

	// A poll during each request: Verify ends all the same.
	l.between = func(crsapi.Query) { poll(t, m, false) }
	s.reset()
	if err := m.Verify(verifyContext(t), noWait); err != nil || s.requests > 80 {
		t.Errorf("%v, %d requests", err, s.requests)
	}
	expect(t, m, s)
}

// TestVerifyWhileNamesGo: a poll that drops unused strings does not confuse a
// verification that reads a long second.
func TestVerifyWhileNamesGo(t *testing.T) {
	s := plain(crsapi.API30, 1000, 10, 5)
	at := s.nodes[500].start
	for i := range 250 {
		n := newNode(fmt.Sprintf("crs-%d", i), "cleanInstance", at, crsapi.StatusSucceeded)
		n.TaskID = int64(5000 + i)
		s.add(n)
	}
	for i := range 200 {
		s.change(i+800, func(n *node) { n.RedisName = fmt.Sprint("name ", n.start) })
	}
	l := &interrupted{server: s}
	m := mirror.New(mirror.Config{Lister: l, PageSize: 100, Concurrency: 1})
	poll(t, m, false)
	round := 0
	l.between = func(q crsapi.Query) {
		if q.Offset > 0 && round < 20 { // of the long second
			round++
			for i := range 200 {
				s.change(i+800, func(n *node) { n.RedisName = fmt.Sprint("name ", round, n.start) })
			}
			poll(t, m, true)
		}
	}
	for range 3 {
		if err := m.Verify(verifyContext(t), noWait); err != nil {
			t.Fatal(err)
		}
	}
	if round == 0 {
		t.Error("no poll beside Verify")
	}
	l.between = nil
	poll(t, m, true)
	expect(t, m, s)
	for task := range m.All() {
		if !slices.ContainsFunc(s.nodes, func(n *node) bool { return n.TaskID == task.TaskID && n.RedisName == task.RedisName }) {
			t.Fatal(task)
		}
	}
}
