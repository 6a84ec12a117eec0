package crsapitest_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

func TestWindowAndClock(t *testing.T) {
	srv, a := newServer(t)
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }

	srv.SetWindow(2 * time.Hour)
	if code := a.code(t, "Timestamp", ago(119*time.Minute)); code != 0 {
		t.Errorf("within two hours: code %d", code)
	}
	if code := a.code(t, "Timestamp", ago(121*time.Minute)); code != 4200 {
		t.Errorf("older than two hours: code %d", code)
	}

	srv.SetWindow(5 * time.Minute)
	srv.SetClockSkew(time.Hour)
	res := a.ask(t)
	if d := res.documented(t); d.Code != 4200 {
		t.Errorf("server an hour ahead: code %d", d.Code)
	} else if _, after, _ := strings.Cut(d.Message, "server time is "); !strings.HasPrefix(after, ago(-time.Hour)[:6]) {
		t.Errorf("message %q does not contain the time of the server", d.Message)
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err != nil || time.Until(date) < 59*time.Minute || time.Until(date) > 61*time.Minute {
		t.Errorf("Date %q", res.Header.Get("Date"))
	}
	srv.SetClockSkew(-time.Hour)
	if code := a.code(t); code != 4500 {
		t.Errorf("server an hour behind: code %d", code)
	}
	if code := a.code(t, "Timestamp", ago(time.Hour)); code != 0 {
		t.Errorf("correct by the clock of the server: code %d", code)
	}
}

func TestHookChangesList(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(6))
	srv.SetTasks("ap-other", nil)
	var seen []string
	srv.OnRequest(func(r crsapitest.Request) {
		seen = append(seen, fmt.Sprintf("%s %s %d+%d #%d %s", r.Region, r.Method, r.Offset, r.Limit, r.Seq, r.Param("redisName")))
		if r.Seq == 2 {
			srv.Add(r.Region, tasks("new")...)
			srv.Drop(r.Region, 2)
			srv.Update(r.Region, func(list []crsapi.Task) []crsapi.Task { return list })
			srv.Inject(crsapitest.Fault{Skip: 1, Do: crsapitest.APIError(5100)})
		}
	})
	for i, want := range []string{"6: 0 1 2", "5: 2 3"} {
		if got := a.list(t, "offset", strconv.Itoa(i*3), "limit", "3"); got != want {
			t.Errorf("page %d: %s, want %s", i, got, want)
		}
	}
	a.region = "ap-other"
	if code := a.code(t, "redisName", "n"); code != 5100 {
		t.Errorf("after the hook injected a fault: code %d", code)
	}
	want := []string{"ap-guangzhou GET 0+3 #1 ", "ap-guangzhou GET 3+3 #2 ", "ap-other GET 0+100 #1 n"}
	if !slices.Equal(seen, want) {
		t.Errorf("hook got %q, want %q", seen, want)
	}
	srv.OnRequest(nil)
	a.ask(t)
	if len(seen) != 3 {
		t.Error("a removed hook was called")
	}
}

func TestEchoSecrets(t *testing.T) {
	srv, a := newServer(t)
	srv.SetAccount(crsapitest.Account{SecretID: a.id, SecretKey: a.key, Token: "canary-token"})
	a.token = "canary-token"
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	srv.EchoSecrets(true)

	p := a.params()
	signature := a.signature(p)
	p["Signature"] = "wrong" + signature
	res := a.do(a.raw(t, encode(p)))
	d := res.documented(t)
	header := res.Header.Get("X-Debug-Request")
	for _, secret := range []string{"SecretId=" + a.id, "Token=canary-token", "wrong" + signature, encode(p), "GET127.0.0.1/v2/index.php?Action="} {
		if !strings.Contains(d.Message, secret) || !strings.Contains(d.CodeDesc, secret) || !strings.Contains(header, secret) {
			t.Errorf("no %s in message %s, codeDesc %s or header %s", secret, d.Message, d.CodeDesc, header)
		}
	}
	if d.Code != 4100 || strings.Contains(string(res.body), a.key) {
		t.Errorf("code %d, or the SecretKey is in %s", d.Code, res.body)
	}

	for name, effect := range map[string]crsapitest.Effect{
		"API error": crsapitest.APIError(4100),
		"envelope":  crsapitest.Envelope("AuthFailure", "no"),
		"HTML":      crsapitest.HTTPStatus(502),
		"redirect":  crsapitest.Redirect("https://elsewhere.example/"),
	} {
		remove := srv.Inject(crsapitest.Fault{Do: effect})
		res := a.ask(t)
		if !strings.Contains(string(res.body), "canary-token") || res.Header.Get("X-Debug-Request") == "" {
			t.Errorf("%s: %s", name, res.body)
		}
		if name == "redirect" && !strings.Contains(res.Header.Get("Location"), "Signature=") {
			t.Errorf("Location %s", res.Header.Get("Location"))
		}
		remove()
	}
	// The body of a page does not change.
	if res := a.ask(t); res.documented(t).Code != 0 || strings.Contains(string(res.body), "canary") || res.Header.Get("X-Debug-Request") == "" {
		t.Errorf("page %s, headers %v", res.body, res.Header)
	}
	srv.ClearFaults()
	if res := a.ask(t, "limit", "0"); strings.Contains(string(res.body), "canary") || res.Header.Get("X-Debug-Request") != "" {
		t.Errorf("after ClearFaults: %s", res.body)
	}
}

// BenchmarkPage verifies and encodes one page of 100 rows from the middle of the
// list, without a network.
func BenchmarkPage(b *testing.B) {
	for _, n := range []int{1_000, 100_000, 1_000_000} {
		sim := crsapitest.New()
		sim.SetTasks(region, crsapitest.Generate(n, 1000, 1))
		a := newDirectAsker(sim)
		for _, filter := range []string{"", "taskType.0"} {
			name := fmt.Sprintf("tasks=%d", n)
			pairs := []string{"offset", strconv.Itoa(n / 2)}
			if filter != "" {
				name += "/filtered"
				pairs = append(pairs, filter, "task_backupInstance")
			}
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				var size int
				for b.Loop() {
					b.StopTimer()
					r := a.request(b, pairs...)
					w := httptest.NewRecorder()
					b.StartTimer()
					sim.ServeHTTP(w, r)
					size = w.Body.Len()
				}
				b.ReportMetric(float64(size), "bytes/page")
				if got := sim.Answers(region, 0); got == 0 || size < 100*100 {
					b.Fatalf("%d successful responses, the last one of %d bytes", got, size)
				}
			})
		}
	}
}
