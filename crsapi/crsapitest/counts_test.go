package crsapitest_test

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestCounts(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks("ap-other", nil)
	codes(t, a, 3)
	a.region = "ap-other"
	codes(t, a, 1)
	a.ask(t, "limit", "0")
	a.ask(t, "Region", "ap-nowhere")
	a.key = "wrong"
	a.ask(t)
	srv.Inject(crsapitest.Fault{Do: crsapitest.HTTPStatus(500)})
	a.key = crsapitest.SecretKey
	a.ask(t)
	srv.ClearFaults()
	srv.Inject(crsapitest.Fault{Do: crsapitest.TruncatedJSON})
	a.ask(t)
	srv.ClearFaults()

	got := map[string]int{}
	for _, name := range []string{"", region, "ap-other", "ap-nowhere"} {
		got[name+" requests"] = srv.Requests(name)
		for _, code := range []int{0, 4000, 4100} {
			got[name+" "+strconv.Itoa(code)] = srv.Answers(name, code)
		}
	}
	want := map[string]int{
		" requests": 9, " 0": 4, " 4000": 2, " 4100": 1,
		region + " requests": 3, region + " 0": 3, region + " 4000": 0, region + " 4100": 0,
		"ap-other requests": 5, "ap-other 0": 1, "ap-other 4000": 1, "ap-other 4100": 1,
		"ap-nowhere requests": 0, "ap-nowhere 0": 0, "ap-nowhere 4000": 0, "ap-nowhere 4100": 0,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s: %d, want %d", name, got[name], n)
		}
	}
}

func TestInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, a := newMemoryServer(t)
		srv.SetTasks("ap-other", nil)
		srv.SetTasks(region, []crsapi.Task{})
		srv.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Second)})
		for range 2 {
			for i := range 5 {
				r := a.request(t)
				if i == 4 {
					r = a.request(t, "Region", "ap-other")
				}
				go func() {
					if res := a.do(r); res.err != nil {
						t.Error(res.err)
					}
				}()
			}
			synctest.Wait()
			if all, here, other := srv.InFlight(""), srv.InFlight(region), srv.InFlight("ap-other"); all != 5 || here != 4 || other != 1 {
				t.Errorf("in flight %d, %d, %d", all, here, other)
			}
			time.Sleep(2 * time.Second)
		}
		if n := srv.InFlight(""); n != 0 {
			t.Errorf("%d still in flight", n)
		}
	})
}
