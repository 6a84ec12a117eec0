package crsapitest

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// exchange is one request and what is known about its response. Effects set its
// fields; respond applies them.
type exchange struct {
	sim     *Simulator
	request Request
	list    *taskList // nil if the region is unknown
	query   query
	now     time.Time
	zone    *time.Location

	echo                   bool
	raw, source, signature string // of the request, for echo

	delay    time.Duration
	render   render
	habits   habits
	pageCap  int                 // of the rows of a page; 0 for none
	total    func(total int) int // changes the total; nil for none
	dateSkew time.Duration
	send     send
}

// response is a complete HTTP response, before network faults are applied.
type response struct {
	status int
	header http.Header
	body   []byte
}

type (
	render func(x *exchange) *response
	send   func(w http.ResponseWriter, r *http.Request, p *response)
)

func (x *exchange) respond(w http.ResponseWriter, r *http.Request) {
	pause(r.Context(), x.delay)
	p := x.render(x)
	w.Header().Set("Date", x.now.Add(x.dateSkew).UTC().Format(http.TimeFormat))
	if x.echo {
		w.Header().Set("X-Debug-Request", x.secrets())
	}
	x.send(w, r, p)
}

// pause waits for d. It aborts the handler if the client disconnects or the
// server closes.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// secrets returns the text that EchoSecrets adds to responses, or "".
func (x *exchange) secrets() string {
	if !x.echo {
		return ""
	}
	return " [source " + x.source + "] [signature " + x.signature + "] [request " + x.raw + "]"
}

// htmlPage is the error page of a gateway in front of the API.
func htmlPage(status int) render {
	title := strconv.Itoa(status) + " " + http.StatusText(status)
	return func(x *exchange) *response {
		body := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n<hr>" +
			x.secrets() + "</body>\r\n</html>\r\n"
		return &response{status, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, []byte(body)}
	}
}

// rawJSON is a response with a body that need not be JSON.
func rawJSON(body []byte) *response {
	return &response{http.StatusOK, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body}
}

// json returns a response with v as its body. Invalid UTF-8 becomes U+FFFD.
func (x *exchange) json(v any) *response {
	body, err := json.Marshal(v,
		jsontext.AllowInvalidUTF8(true),
		json.StringifyNumbers(x.habits.has(NumbersAsText)),
	)
	if err != nil {
		panic("crsapitest: encode a response: " + err.Error())
	}
	return rawJSON(body)
}

// apiError is an error of API 2.0. API 3.0 has another code for it.
func apiError(code int, desc, message string) render {
	return func(x *exchange) *response {
		if x.request.API != api2 {
			return envelope(cmp.Or(apiErrors[code].name, "Code"+strconv.Itoa(code)), message)(x)
		}
		return x.json(struct {
			Code     int    `json:"code"`
			Message  string `json:"message"`
			CodeDesc string `json:"codeDesc"`
		}{code, message + x.secrets(), desc + x.secrets()})
	}
}

// requestID is that of every response of API 3.0.
const requestID = "3c140219-cfe9-470e-b241-907877d6fb03"

// envelope is an error of API 3.0.
func envelope(code, message string) render {
	type (
		failure struct{ Code, Message string }
		content struct {
			Error     failure
			RequestID string `json:"RequestId"`
		}
		body struct{ Response content }
	)
	return func(x *exchange) *response {
		return x.json(body{content{failure{code, message + x.secrets()}, requestID}})
	}
}
