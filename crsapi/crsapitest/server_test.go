package crsapitest_test

import (
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"go.uber.org/goleak"
)

// servers are the kinds of servers.
var servers = map[string]func() *crsapitest.Server{"TCP": crsapitest.NewServer, "memory": crsapitest.NewMemoryServer}

// TestNetworkFaults breaks responses in all ways.
func TestNetworkFaults(t *testing.T) {
	for kind, start := range servers {
		srv := start()
		defer srv.Close()
		srv.SetTasks(region, numbered(50))
		c := connect(srv, "3.0")
		whole := c.do(c.request(query{})).body
		half := whole[:len(whole)/2]
		for name, test := range map[string]struct {
			do   crsapitest.Effect
			body string
			err  error // nil for any or none
		}{
			"none":                 {crsapitest.All(), whole, nil},
			"slow body":            {crsapitest.SlowBody(len(whole)/3, time.Millisecond), whole, nil},
			"truncated":            {crsapitest.TruncatedJSON, half, nil},
			"short":                {crsapitest.ShortBody, half, io.ErrUnexpectedEOF},
			"reset before headers": {crsapitest.ResetBeforeHeaders, "", syscall.ECONNRESET},
			"reset after headers":  {crsapitest.ResetAfterHeaders, "", syscall.ECONNRESET},
			"reset mid-body":       {crsapitest.ResetMidBody, half, syscall.ECONNRESET},
		} {
			remove := srv.Inject(crsapitest.Fault{Do: test.do})
			// The client repeats a request if a reused connection ends before the
			// response.
			srv.Client().CloseIdleConnections()
			res := c.do(c.request(query{}))
			remove()
			ok := res.err == nil && res.body == test.body && res.ContentLength == int64(len(test.body))
			if test.err != nil {
				ok = res.err != nil && (kind == "memory" || errors.Is(res.err, test.err)) && strings.HasPrefix(test.body, res.body)
			}
			if !ok {
				t.Errorf("%s, %s: %d bytes, error %v", kind, name, len(res.body), res.err)
			}
		}
	}
}

// TestClose: Close ends responses that never end, all goroutines, and the listener.
func TestClose(t *testing.T) {
	for name, effect := range map[string]crsapitest.Effect{
		"hang": crsapitest.Hang, "latency": crsapitest.Latency(time.Hour), "slow body": crsapitest.SlowBody(1, time.Hour),
	} {
		for kind, start := range servers {
			t.Run(name+", "+kind, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				srv := start()
				srv.SetTasks(region, numbered(10))
				arrived := make(chan struct{}, 3)
				srv.OnRequest(func(crsapitest.Request) { arrived <- struct{}{} })
				srv.Inject(crsapitest.Fault{Do: effect})
				c := connect(srv, "2.0")
				var group sync.WaitGroup
				for range cap(arrived) {
					group.Go(func() {
						if res := c.do(c.request(query{})); res.err == nil {
							t.Errorf("a response was complete: %v", res)
						}
					})
				}
				for range cap(arrived) {
					<-arrived
				}
				srv.Close()
				group.Wait()
				if res := c.do(c.request(query{})); res.err == nil {
					t.Error("the closed server responded")
				}
			})
		}
	}
}

// TestLatency: in a bubble, the server has the clock of the bubble. It reads the list after
// the latency.
func TestLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := crsapitest.NewMemoryServer()
		defer srv.Close()
		srv.SetTasks(region, tasks("a"))
		srv.Inject(crsapitest.Fault{Do: crsapitest.Latency(time.Minute)})
		go func() {
			time.Sleep(30 * time.Second)
			srv.Add(region, tasks("b")...)
		}()
		start := time.Now()
		if got := connect(srv, "2.0").send(t, query{}).list; got != "2: b a" || time.Since(start) != time.Minute {
			t.Errorf("%s after %v", got, time.Since(start))
		}
	})
}

// TestHook: the hook sees each request before the list is read. Refused requests count, but
// reach no hook.
func TestHook(t *testing.T) {
	eachAPI(t, func(t *testing.T, srv *crsapitest.Server, c *client) {
		var seen []crsapitest.Request
		srv.OnRequest(func(r crsapitest.Request) {
			seen = append(seen, r)
			srv.Add(r.Region, tasks("a")...)
		})
		got := c.send(t, query{}).list
		c.key = "wrong"
		c.send(t, query{})
		c.region = "ap-nowhere"
		c.send(t, query{})
		if got != "1: a" || len(seen) != 1 || seen[0] != (crsapitest.Request{API: c.api, Action: c.action, Region: region}) {
			t.Errorf("%s, hook got %+v", got, seen)
		}
		if got := [3]int{srv.Requests(""), srv.Requests(region), srv.Requests("ap-nowhere")}; got != [3]int{3, 2, 0} {
			t.Errorf("requests %d", got)
		}
	})
}
