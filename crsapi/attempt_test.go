package crsapi_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
)

// closer is a RoundTripper that counts the calls of CloseIdleConnections.
type closer struct {
	transportFunc
	closed int
}

func (c *closer) CloseIdleConnections() { c.closed++ }

// TestRetries has the number of attempts for each kind of failure, and the advice to the
// operator. Each attempt has a signature of its own, and closes the connections if they may
// be the cause.
func TestRetries(t *testing.T) {
	type failure struct {
		status int
		body   string
		cut    error // ends the body
		err    error // of the transport
		reason crsapi.Reason
		tries  int
		keep   bool // the connections
		advice string
	}
	const api, decode, network, timeout = crsapi.ReasonAPI, crsapi.ReasonDecode, crsapi.ReasonNetwork, crsapi.ReasonTimeout
	const broken, silent = "Cannot connect to HOST", "--crs.request-timeout"
	eachCase(t, map[string]failure{
		"307": {status: 307, reason: api, tries: 1, advice: "ENDPOINT"},
		"401": {status: 401, reason: crsapi.ReasonDenied, tries: 1, advice: "in front of the API"},
		"403": {status: 403, reason: crsapi.ReasonDenied, tries: 1, advice: "in front of the API"},
		"404": {status: 404, reason: api, tries: 1, advice: "HOST does not serve API VERSION"},
		"407": {status: 407, reason: network, tries: 1, advice: "HTTPS_PROXY"},
		"429": {status: 429, reason: crsapi.ReasonThrottled, tries: 4, keep: true, advice: "--crs.rate-limit"},
		"500": {status: 500, reason: crsapi.ReasonServer, tries: 4, advice: "try again"},

		"HTML":      {body: "<html>", reason: decode, tries: 2, advice: "ENDPOINT|instead of HOST"},
		"empty":     {reason: decode, tries: 2, advice: "ENDPOINT"},
		"cut":       {body: `{"code":0`, cut: io.ErrUnexpectedEOF, reason: network, tries: 4, advice: broken},
		"too slow":  {body: `{"code":0`, cut: context.DeadlineExceeded, reason: timeout, tries: 4, advice: silent},
		"no total":  {body: `{"code":0,"Response":{"RequestId":"r"}}`, reason: decode, tries: 1, advice: "ENDPOINT"},
		"internal":  {body: errorJSON(6000), reason: crsapi.ReasonServer, tries: 4, advice: "try again"},
		"throttled": {body: errorJSON(4400), reason: crsapi.ReasonThrottled, tries: 4, keep: true, advice: "--crs.rate-limit"},
		"replayed":  {body: errorJSON(4500), reason: crsapi.ReasonAuth, tries: 2, keep: true, advice: "NTP"},
		"denied":    {body: errorJSON(4103), reason: crsapi.ReasonDenied, tries: 1, keep: true, advice: "redis:ACTION"},

		"reset":   {err: errors.New("connection reset by peer"), reason: network, tries: 4, advice: broken},
		"timeout": {err: context.DeadlineExceeded, reason: timeout, tries: 4, advice: silent},
		"no host": {err: &net.DNSError{Err: "no such host", Name: "proxy", IsNotFound: true}, reason: network, tries: 4, advice: broken},
		"no DNS":  {err: &net.DNSError{Err: "timeout", Name: "h", IsTimeout: true}, reason: timeout, tries: 4, advice: silent},
	}, func(t *testing.T, api crsapi.API, test failure) {
		signatures := map[string]bool{}
		sent := 0
		transport := &closer{transportFunc: func(r *http.Request) (*http.Response, error) {
			sent++
			request := read(r)
			// API 3.0 has no nonce: two signatures of one second are equal.
			signatures[request.signature+request.timestamp] = true
			if want := fmt.Sprint(time.Now().Unix()); request.timestamp != want {
				t.Errorf("timestamp %s, want %s", request.timestamp, want)
			}
			time.Sleep(time.Second)
			if test.err != nil {
				return nil, test.err
			}
			resp, err := respond(cmp.Or(test.status, http.StatusOK), test.body)
			resp.Header.Set("Location", "https://elsewhere.example.test/") // must not be followed
			if test.cut != nil {
				resp.Body = io.NopCloser(io.MultiReader(resp.Body, iotest.ErrReader(test.cut)))
			}
			return resp, err
		}}
		var seen recorder
		c := newClient(t, api, transport, seen.in)
		_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
		failed := wantError(t, err, test.reason)
		wantAdvice(t, err, api, test.advice)
		if responded := test.err == nil && test.cut == nil; !failed.Requested || responded && failed.HTTPStatus != cmp.Or(test.status, http.StatusOK) {
			t.Errorf("error %+v", failed)
		}
		if got := seen.reasons(); got != repeat(test.reason, test.tries) || sent != test.tries || len(signatures) != test.tries {
			t.Errorf("attempts %s, %d requests and %d signatures, want %d of %s", got, sent, len(signatures), test.tries, test.reason)
		}
		closed := test.tries
		if test.keep {
			closed = 0
		}
		if transport.closed != closed {
			t.Errorf("connections closed %d times, want %d", transport.closed, closed)
		}
		if cause := cmp.Or(test.err, test.cut); cause != nil && !errors.Is(err, cause) {
			t.Errorf("%v does not wrap %v", err, cause)
		}
	})
}

// TestDeadlines ends calls by a deadline, by a cancellation, and by a cancellation
// whose cause is a deadline.
func TestDeadlines(t *testing.T) {
	hang := transportFunc(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	throttle := always(errorJSON(4400))
	const never, atOnce, short, long = 0, -1, 50 * time.Millisecond, 2 * time.Second
	type end struct {
		transport     transportFunc
		deadline, end time.Duration
		cause         error
		attempts      string
		reason        crsapi.Reason // "" for context.Canceled
		within        time.Duration
	}
	eachCase(t, map[string]end{
		"each attempt times out":         {hang, time.Hour, never, nil, "timeout timeout timeout timeout", crsapi.ReasonTimeout, 30 * time.Second},
		"deadline":                       {hang, long, never, nil, "timeout", crsapi.ReasonTimeout, long},
		"deadline as a cause":            {hang, never, long, context.DeadlineExceeded, "timeout", crsapi.ReasonTimeout, long},
		"cancelled, with another cause":  {hang, never, long, fmt.Errorf("page 2: %w", context.DeadlineExceeded), "ok", "", long},
		"no retry after the deadline":    {throttle, short, never, nil, "throttled", crsapi.ReasonThrottled, 0},
		"cancelled between two attempts": {throttle, never, short, nil, "throttled", "", short},
		"deadline between two attempts":  {throttle, never, short, context.DeadlineExceeded, "throttled", crsapi.ReasonThrottled, short},
		"cancelled before":               {hang, never, atOnce, nil, "", "", 0},
	}, func(t *testing.T, api crsapi.API, test end) {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		if test.end > 0 {
			time.AfterFunc(test.end, func() { cancel(test.cause) })
		} else if test.end < 0 {
			cancel(test.cause)
		}
		if test.deadline != never {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, test.deadline)
			defer stop()
		}
		var seen recorder
		c := newClient(t, api, test.transport, seen.in)
		begin := time.Now()
		_, err := c.Page(ctx, crsapi.Query{Limit: 1})
		if took := time.Since(begin); took > test.within {
			t.Errorf("took %v, want at most %v", took, test.within)
		}
		if got := seen.reasons(); got != test.attempts {
			t.Errorf("attempts %q, want %q", got, test.attempts)
		}
		if test.reason != "" {
			if failed := wantError(t, err, test.reason); failed.Requested != (test.attempts != "") {
				t.Errorf("Requested is %v", failed.Requested)
			}
		} else if failed := (*crsapi.Error)(nil); errors.As(err, &failed) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
	})
}

// TestLimits sends requests for two regions of one host: the rate limit is for both,
// the concurrency for each. Responses come at the same moment, which must not send those
// that wait for a slot at the same moment.
func TestLimits(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		var mu sync.Mutex
		var at []time.Time
		inFlight := map[string]int{}
		limiter := crsapi.NewLimiter(20)
		var group sync.WaitGroup
		for _, region := range []string{"ap-guangzhou", "ap-shanghai"} {
			enter := func(n int) {
				mu.Lock()
				defer mu.Unlock()
				if inFlight[region] += n; inFlight[region] > 3 {
					t.Errorf("%s: %d requests in flight", region, inFlight[region])
				}
				if n > 0 {
					at = append(at, time.Now())
				}
			}
			c := newClient(t, api, transportFunc(func(*http.Request) (*http.Response, error) {
				enter(1)
				time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
				enter(-1)
				return respond(http.StatusOK, listJSON(api, 0))
			}), func(cfg *crsapi.Config) { cfg.Region, cfg.Limiter, cfg.Concurrency = region, limiter, 3 })
			for range 30 {
				group.Go(func() {
					if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		group.Wait()
		for i := range at[1:] {
			if gap := at[i+1].Sub(at[i]); gap < 50*time.Millisecond {
				t.Fatalf("%v between two requests", gap)
			}
		}
		if took := at[len(at)-1].Sub(at[0]); len(at) != 60 || took < 9*time.Second || took > 10*time.Second {
			t.Errorf("%d requests, 6 a second, took %v", len(at), took)
		}
	})
}

// TestSecretsAreRedacted makes the server and the transport quote every secret.
func TestSecretsAreRedacted(t *testing.T) {
	type quote = func(text string) (*http.Response, error)
	body := func(format string) quote {
		return func(text string) (*http.Response, error) { return respond(http.StatusOK, fmt.Sprintf(format, text)) }
	}
	fail := func(wrap func(text string) error) quote {
		return func(text string) (*http.Response, error) { return nil, wrap(text) }
	}
	eachCase(t, map[string]quote{
		"message":              body(`{"code":4100,"message":%q}`),
		"codeDesc":             body(`{"code":4000,"codeDesc":%q}`),
		"code":                 body(`{"code":%q}`),
		"code of API 3.0":      body(`{"Response":{"Error":{"Code":%q,"Message":"m"}}}`),
		"message of API 3.0":   body(`{"Response":{"Error":{"Code":"AuthFailure","Message":%q}}}`),
		"RequestId of no list": body(`{"code":0,"Response":{"RequestId":%q}}`),
		"HTML":                 body("<p>%s"),
		"status":               func(text string) (*http.Response, error) { return respond(500, text) },
		"encoding": func(text string) (*http.Response, error) {
			resp, err := respond(http.StatusOK, "")
			resp.Header.Set("Content-Encoding", text)
			return resp, err
		},
		"plain":      fail(errors.New),
		"*url.Error": fail(func(text string) error { return &url.Error{Op: "Get", URL: text, Err: io.EOF} }),
		"wrapped": fail(func(text string) error {
			return fmt.Errorf("proxy: %w", &net.OpError{Op: "dial", Err: errors.New(text)})
		}),
		"timeout": fail(func(text string) error { return &net.DNSError{Err: "timeout", Name: text, IsTimeout: true} }),
	}, func(t *testing.T, api crsapi.API, answer quote) {
		for _, method := range methods[api] {
			secrets := []string{canaryID, canaryKey, canaryToken, ""}
			c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
				sent := read(r)
				secrets[3] = sent.signature
				return answer(strings.Join(append(secrets, sent.text, url.PathEscape(canaryToken), url.QueryEscape(canaryKey)), " "))
			}), func(cfg *crsapi.Config) { cfg.Method = method })
			_, err := c.Page(t.Context(), crsapi.Query{Limit: 1})
			if err == nil || secrets[3] == "" || strings.Contains(err.Error(), "Nonce=") && strings.Contains(err.Error(), "EOF") {
				t.Errorf("got %v, want an error without the URL", err)
			}
			for e := err; e != nil; e = errors.Unwrap(e) {
				text := fmt.Sprintf("%v %+v %#v %q", e, e, e, e) + crsapi.Advice(e, api)
				for _, secret := range secrets {
					for _, written := range []string{secret, url.QueryEscape(secret), url.PathEscape(secret)} {
						if strings.Contains(text, written) {
							t.Errorf("%s: %q is in %s", method, written, text)
						}
					}
				}
			}
		}
	})
}

// TestNoReplay ends a kept connection during a request: net/http must not send the request
// again, because the API refuses a nonce that it has seen.
func TestNoReplay(t *testing.T) {
	eachAPI(t, func(t *testing.T, api crsapi.API) {
		var seen recorder
		c, server := serve(t, api, nil, seen.in)
		for range 2 {
			if _, err := c.Page(t.Context(), crsapi.Query{}); err != nil {
				t.Error(err)
			}
			server.Inject(crsapitest.Fault{Count: 1, Do: crsapitest.ResetBeforeHeaders})
		}
		if got := seen.reasons(); got != "ok network ok" || server.Requests(region) != 3 {
			t.Errorf("attempts %s, %d requests", got, server.Requests(region))
		}
	})
}

// TestUnusableBody: a body without an end is not read, and an encoding is named.
func TestUnusableBody(t *testing.T) {
	for encoding, want := range map[string]string{
		"br": `the response has the content encoding "br", which was not requested`, "": "the response is larger than 8 MiB", "identity": "",
	} {
		c := newClient(t, two, transportFunc(func(*http.Request) (*http.Response, error) {
			resp, err := respond(http.StatusOK, listJSON(two, 0))
			if resp.Header.Set("Content-Encoding", encoding); encoding == "" {
				resp.Body = io.NopCloser(rand.Reader)
			}
			return resp, err
		}))
		_, err := c.Page(t.Context(), crsapi.Query{})
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(wantError(t, err, crsapi.ReasonDecode).Error(), ": "+want) {
			t.Errorf("%s: got %v, want %q", encoding, err, want)
		}
	}
}

// TestClockSkew sends requests 0.4 s into a second; the responses come 0.2 s later.
func TestClockSkew(t *testing.T) {
	for header, want := range map[time.Duration]time.Duration{ // of the Date header, from the second of the request
		0: 0, time.Second: 400 * time.Millisecond, -time.Second: -400 * time.Millisecond, time.Hour: time.Hour - 600*time.Millisecond,
		math.MaxInt64: 0, // no valid header
	} {
		synctest.Test(t, func(t *testing.T) {
			date, valid := time.Now().UTC().Add(header), header < math.MaxInt64
			time.Sleep(400 * time.Millisecond)
			var seen recorder
			c := newClient(t, two, transportFunc(func(*http.Request) (*http.Response, error) {
				time.Sleep(200 * time.Millisecond)
				resp, err := respond(http.StatusOK, listJSON(two, 0))
				if resp.Header.Set("Date", "yesterday"); valid {
					resp.Header.Set("Date", date.Format(http.TimeFormat))
				}
				return resp, err
			}), seen.in)
			p, err := c.Page(t.Context(), crsapi.Query{})
			if err != nil || valid && !p.Date.Equal(date) || !valid && !p.Date.IsZero() {
				t.Fatalf("got %+v, %v", p, err)
			}
			attempt := crsapi.Attempt{Action: "GetRedisTaskList", Duration: 200 * time.Millisecond, ClockSkew: want, HasClockSkew: valid}
			if got := seen[0]; got != attempt {
				t.Errorf("got  %+v\nwant %+v", got, attempt)
			}
		})
	}
}

// keys is a Provider and RefusalObserver. After a refusal it has the next key, but none
// after the last. An empty ID is an invalid key.
type keys struct {
	ids     []string
	err     error
	refused int
}

func (k *keys) Key(context.Context) (credentials.Key, error) {
	return credentials.Key{SecretID: k.ids[0], SecretKey: canaryKey}, k.err
}

func (k *keys) Refused(key credentials.Key) {
	k.refused++
	if key.SecretID == k.ids[0] && len(k.ids) > 1 {
		k.ids = k.ids[1:]
	}
}

func TestNoKey(t *testing.T) {
	for want, provider := range map[string]*keys{
		"credentials: file is gone":          {ids: []string{"i"}, err: errors.New("file is gone")},
		"credentials: the SecretId is empty": {ids: []string{""}},
	} {
		var seen recorder
		c := newClient(t, two, always(""), seen.in, func(cfg *crsapi.Config) { cfg.Credentials = provider })
		_, err := c.Page(t.Context(), crsapi.Query{})
		if failed := wantError(t, err, crsapi.ReasonAuth); failed.Requested || !strings.HasSuffix(err.Error(), want) || len(seen) > 0 {
			t.Errorf("got %v after %d attempts, want %s", err, len(seen), want)
		}
		wantAdvice(t, err, two, "could not be read from their source")
	}
}

// TestRenewedKey: a refused key is sent once, and its successor once, valid or not.
func TestRenewedKey(t *testing.T) {
	type renewal struct {
		body  string   // of the refusal
		next  []string // keys after the first
		want  string   // keys of the requests
		works bool
	}
	eachCase(t, map[string]renewal{
		"the same key":         {errorJSON(4104), []string{"old"}, "[old]", false},
		"a good key":           {errorJSON(4104), []string{"good"}, "[old good]", true},
		"3.0, a good key":      {envelope("AuthFailure.TokenFailure"), []string{"good"}, "[old good]", true},
		"another bad key":      {errorJSON(4100), []string{"bad", "worse"}, "[old bad]", false},
		"no key":               {errorJSON(4104), []string{""}, "[old]", false},
		"denied, a good key":   {errorJSON(4102), []string{"good"}, "[old]", false},
		"expired, the old key": {errorJSON(4200), []string{"old"}, "[old old]", false},
	}, func(t *testing.T, api crsapi.API, test renewal) {
		var sent []string
		c := newClient(t, api, transportFunc(func(r *http.Request) (*http.Response, error) {
			id := read(r).secretID
			sent = append(sent, id)
			if id == "good" {
				return respond(http.StatusOK, listJSON(api, 0))
			}
			return respond(http.StatusOK, test.body)
		}), func(cfg *crsapi.Config) { cfg.Credentials = &keys{ids: append([]string{"old"}, test.next...)} })
		if _, err := c.Page(t.Context(), crsapi.Query{}); (err == nil) != test.works || fmt.Sprint(sent) != test.want {
			t.Errorf("keys %v, want %s; error %v", sent, test.want, err)
		}
	})
}
