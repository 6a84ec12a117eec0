package crsapitest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// Each documented code must have the documented text.
func TestAPIErrors(t *testing.T) {
	srv, a := newServer(t)
	for _, code := range []int{
		4000, 4100, 4101, 4102, 4103, 4104, 4105, 4106, 4110, 4200, 4300, 4400, 4420, 4480, 4500, 4600, 5000, 5100, 6000, 6100, 6200, 9999,
	} {
		remove := srv.Inject(crsapitest.Fault{Do: crsapitest.APIError(code)})
		desc := map[int]string{4000: "InvalidParameter", 4100: "AuthFailure", 4400: "RequestLimitExceeded", 4420: "RequestLimitExceeded", 4480: "RequestLimitExceeded"}[code]
		if d := a.ask(t).documented(t); d.Code != code || d.CodeDesc != desc || d.Message == "" {
			t.Errorf("%d: %+v", code, d)
		}
		remove()
	}
}

func TestResponses(t *testing.T) {
	const page = `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":[`
	tests := []struct {
		name   string
		do     crsapitest.Effect
		status int
		body   string // a prefix if it ends in "…"
		header map[string]string
	}{
		{name: "none", do: crsapitest.All(), status: 200, body: page + "…"},
		{
			name: "API error with other text", do: crsapitest.APIError(4000, "Desc", "(11201)\"quoted\""), status: 200,
			body: `{"code":4000,"message":"(11201)\"quoted\"","codeDesc":"Desc"}`,
		},
		{
			name: "API error with a string code", do: crsapitest.All(crsapitest.APIError(4400, "d", "m"), crsapitest.Format{StringCode: true}), status: 200,
			body: `{"code":"4400","message":"m","codeDesc":"d"}`,
		},
		{
			name: "API 3.0 envelope", do: crsapitest.Envelope("AuthFailure.SignatureFailure", "no"), status: 200,
			body: `{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure","Message":"no"},"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`,
		},
		{
			name: "HTTP status", do: crsapitest.HTTPStatus(502), status: 502,
			body:   "<html>\r\n<head><title>502 Bad Gateway</title></head>…",
			header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
		},
		{
			name: "HTML with 200", do: crsapitest.HTTPStatus(200), status: 200,
			body:   "<html>…",
			header: map[string]string{"Content-Type": "text/html; charset=utf-8"},
		},
		{
			name: "HTTP status with a header", do: crsapitest.All(crsapitest.HTTPStatus(429), crsapitest.Header("Retry-After", "7")), status: 429,
			body:   "<html>…",
			header: map[string]string{"Retry-After": "7"},
		},
		{
			name: "no content", do: crsapitest.HTTPStatus(204), status: 204,
			body: "",
		},
		{
			name: "redirect", do: crsapitest.Redirect("https://elsewhere.example/v2/index.php"), status: 307,
			body:   "<html>…",
			header: map[string]string{"Location": "https://elsewhere.example/v2/index.php"},
		},
		{name: "other body", do: crsapitest.Body("not JSON"), status: 200, body: "not JSON"},
		{name: "empty body", do: crsapitest.Body(""), status: 200, body: ""},
		{
			name: "handler", do: crsapitest.All(crsapitest.DateSkew(0), crsapitest.Header("X-Kept", "1"), crsapitest.Respond(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
			}))), status: 418,
			body:   "short and stout",
			header: map[string]string{"X-Kept": "1", "Content-Type": "text/plain; charset=utf-8"},
		},
		{name: "string code", do: crsapitest.Format{StringCode: true}, status: 200, body: `{"code":"0","message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":[{…`},
		{name: "string total", do: crsapitest.Format{StringTotal: true}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":"3","data":{"redisTaskSet":[{…`},
		{name: "data null", do: crsapitest.Format{Data: new("null")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":null}`},
		{name: "data array", do: crsapitest.Format{Data: new("[]")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":[]}`},
		{name: "data missing", do: crsapitest.Format{Data: new("")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3}`},
		{name: "task set null", do: crsapitest.Format{TaskSet: new("null")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":null}}`},
		{name: "task set object", do: crsapitest.Format{TaskSet: new("{}")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{"redisTaskSet":{}}}`},
		{name: "task set missing", do: crsapitest.Format{TaskSet: new("")}, status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":3,"data":{}}`},
		{name: "only for empty pages, page not empty", do: crsapitest.Format{EmptyOnly: true, Data: new("null")}, status: 200, body: page + "{…"},
		{
			name: "float progress", do: crsapitest.All(crsapitest.Format{FloatProgress: true}, crsapitest.PageCap(1)), status: 200,
			body: page + `{"startTime":"2024-03-01 20:00:00","taskName":"backupInstance","redisName":"n","redisId":"0","projectId":0,"status":2,"progress":1.0}]}}`,
		},
		{name: "total", do: crsapitest.Total(func(int) int { return -1 }), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":-1,"data":{…`},
		{name: "total changed", do: crsapitest.Total(func(total int) int { return total - 5 }), status: 200, body: `{"code":0,"message":"","codeDesc":"Success","totalCount":-2,"data":{…`},
		{name: "no Date", do: crsapitest.Header("Date", ""), status: 200, body: page + "…", header: map[string]string{"Date": ""}},
	}
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(3))
	a.client = &http.Client{
		Transport:     srv.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv.ClearFaults()
			srv.Inject(crsapitest.Fault{Do: test.do})
			res := a.ask(t)
			if res.err != nil || res.StatusCode != test.status {
				t.Fatalf("%v, error %v", res.Response, res.err)
			}
			prefix, cut := strings.CutSuffix(test.body, "…")
			if body := string(res.body); body != test.body && (!cut || !strings.HasPrefix(body, prefix)) {
				t.Errorf("body %q, want %q", body, test.body)
			}
			for name, want := range test.header {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
	t.Run("only for empty pages, page empty", func(t *testing.T) {
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{Do: crsapitest.Format{EmptyOnly: true, Data: new("null"), StringTotal: true}})
		if body := string(a.ask(t, "offset", "3").body); body != `{"code":0,"message":"","codeDesc":"Success","totalCount":"3","data":null}` {
			t.Error(body)
		}
	})
	t.Run("later format wins", func(t *testing.T) {
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{Do: crsapitest.Format{StringCode: true, Data: new("null")}})
		srv.Inject(crsapitest.Fault{Do: crsapitest.Format{Data: new("[]")}})
		if body := string(a.ask(t).body); body != `{"code":"0","message":"","codeDesc":"Success","totalCount":3,"data":[]}` {
			t.Error(body)
		}
	})
	t.Run("Date", func(t *testing.T) {
		srv.ClearFaults()
		srv.Inject(crsapitest.Fault{Do: crsapitest.DateSkew(-time.Hour)})
		date, err := http.ParseTime(a.ask(t).Header.Get("Date"))
		if off := time.Since(date); err != nil || off < 59*time.Minute || off > 61*time.Minute {
			t.Errorf("Date differs by %v, error %v", off, err)
		}
	})
}

func TestPagingFaults(t *testing.T) {
	srv, a := newServer(t)
	srv.SetTasks(region, numbered(10))
	type page struct{ offset, limit, want string }
	tests := []struct {
		name  string
		do    crsapitest.Effect
		pages []page
	}{
		{"page cap", crsapitest.PageCap(3), []page{{"0", "5", "10: 0 1 2"}, {"5", "2", "10: 5 6"}}},
		{"page caps in turn", crsapitest.PageCap(3, 1), []page{{"0", "5", "10: 0 1 2"}, {"3", "5", "10: 3"}, {"4", "5", "10: 4 5 6"}}},
		{"offsets rounded to the limit", crsapitest.RoundOffsets, []page{{"0", "4", "10: 0 1 2 3"}, {"4", "4", "10: 4 5 6 7"}, {"7", "4", "10: 4 5 6 7"}}},
		{
			"offsets rounded to the cap",
			crsapitest.All(crsapitest.RoundOffsets, crsapitest.PageCap(3)),
			[]page{{"3", "5", "10: 3 4 5"}, {"5", "5", "10: 3 4 5"}},
		},
		{"offsets ignored", crsapitest.IgnoreOffset, []page{{"0", "2", "10: 0 1"}, {"8", "2", "10: 0 1"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv.ClearFaults()
			srv.Inject(crsapitest.Fault{Do: test.do})
			for _, p := range test.pages {
				if got := a.list(t, "offset", p.offset, "limit", p.limit); got != p.want {
					t.Errorf("offset %s limit %s: %s, want %s", p.offset, p.limit, got, p.want)
				}
			}
		})
	}
}
