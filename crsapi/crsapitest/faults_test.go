package crsapitest_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestFaults(t *testing.T) {
	expect := func(t *testing.T, a *asker, want ...int) {
		t.Helper()
		if got := codes(t, a, len(want)); !slices.Equal(got, want) {
			t.Errorf("codes %v, want %v", got, want)
		}
	}
	t.Run("region", func(t *testing.T) {
		srv, a := newServer(t)
		srv.SetTasks("ap-other", nil)
		srv.Inject(crsapitest.Fault{Region: "ap-other", Do: crsapitest.APIError(4103)})
		expect(t, a, 0, 0)
		a.region = "ap-other"
		expect(t, a, 4103, 4103)
	})
	t.Run("skip and count", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Skip: 2, Count: 3, Do: crsapitest.APIError(6000)})
		expect(t, a, 0, 0, 6000, 6000, 6000, 0, 0)
	})
	t.Run("an invalid request is not counted", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Skip: 1, Count: 1, Do: crsapitest.APIError(6000)})
		a.key = "wrong"
		expect(t, a, 4100, 4100, 4100)
		a.key = crsapitest.SecretKey
		expect(t, a, 0, 6000, 0)
	})
	t.Run("rate", func(t *testing.T) {
		srv, a := newServer(t)
		draw := func(seed uint64) []int {
			srv.ClearFaults()
			srv.Seed(seed)
			srv.Inject(crsapitest.Fault{Rate: 0.5, Do: crsapitest.APIError(5100)})
			return codes(t, a, 200)
		}
		first, again, other := draw(1), draw(1), draw(2)
		failed := 0
		for _, code := range first {
			if code == 5100 {
				failed++
			}
		}
		if failed < 70 || failed > 130 {
			t.Errorf("%d of 200 failed", failed)
		}
		if !slices.Equal(first, again) || slices.Equal(first, other) {
			t.Error("the sequence does not depend on the seed alone")
		}
	})
	t.Run("rate and count", func(t *testing.T) {
		srv, a := newServer(t)
		srv.Inject(crsapitest.Fault{Rate: 0.5, Count: 2, Do: crsapitest.APIError(5100)})
		codes(t, a, 50)
		if n := srv.Answers(region, 5100); n != 2 {
			t.Errorf("%d failed, want 2", n)
		}
	})
	t.Run("removed and cleared", func(t *testing.T) {
		srv, a := newServer(t)
		remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(5100)})
		srv.Inject(crsapitest.Fault{Skip: 2, Do: crsapitest.APIError(6200)})
		expect(t, a, 5100)
		remove()
		remove()
		expect(t, a, 0, 6200)
		srv.ClearFaults()
		expect(t, a, 0)
	})
	t.Run("on open connections", func(t *testing.T) {
		srv, a := newServer(t)
		expect(t, a, 0)
		srv.Inject(crsapitest.Fault{Do: srv.OnOpenConnections(crsapitest.APIError(5100))})
		expect(t, a, 5100, 5100)
		if n := srv.Connections(); n != 1 {
			t.Errorf("%d connections for 3 requests", n)
		}
		a.client.CloseIdleConnections()
		expect(t, a, 0, 0)
		if n := srv.Connections(); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("combined, the last wins", func(t *testing.T) {
		srv, a := newServer(t)
		srv.SetTasks(region, numbered(9))
		srv.Inject(crsapitest.Fault{Do: crsapitest.PageCap(3)})
		srv.Inject(crsapitest.Fault{Do: crsapitest.All(crsapitest.IgnoreOffset, crsapitest.Total(func(total int) int { return total + 1 }))})
		if got := a.list(t, "offset", "5"); got != "10: 0 1 2" {
			t.Error(got)
		}
		srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(5100)})
		srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(6000)})
		expect(t, a, 6000)
	})
	t.Run("invalid arguments", func(t *testing.T) {
		for name, f := range map[string]func(){
			"no effect":         func() { crsapitest.New().Inject(crsapitest.Fault{}) },
			"negative count":    func() { crsapitest.New().Inject(crsapitest.Fault{Count: -1, Do: crsapitest.Hang}) },
			"negative skip":     func() { crsapitest.New().Inject(crsapitest.Fault{Skip: -1, Do: crsapitest.Hang}) },
			"rate over 1":       func() { crsapitest.New().Inject(crsapitest.Fault{Rate: 1.5, Do: crsapitest.Hang}) },
			"rate not a number": func() { crsapitest.New().Inject(crsapitest.Fault{Rate: math.NaN(), Do: crsapitest.Hang}) },
			"status 0":          func() { crsapitest.HTTPStatus(0) },
			"cap 0":             func() { crsapitest.PageCap(40, 0) },
			"no cap":            func() { crsapitest.PageCap() },
			"unknown API":       func() { crsapitest.New().Inject(crsapitest.Fault{API: "4.0", Do: crsapitest.Hang}) },
			"0 bytes":           func() { crsapitest.SlowBody(0, 0) },
			"no region":         func() { crsapitest.New().SetTasks("", nil) },
			"no key":            func() { crsapitest.New().SetAccount(crsapitest.Account{SecretID: "a"}) },
			"short window":      func() { crsapitest.New().SetWindow(time.Millisecond) },
			"negative drop":     func() { crsapitest.New().Drop(region, -1) },
			"no total":          func() { crsapitest.Total(nil) },
			"one text":          func() { crsapitest.APIError(4000, "x") },
			"no instances":      func() { crsapitest.Generate(1, 0, 1) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s: no panic", name)
					}
				}()
				f()
			}()
		}
	})
}
