package crsapitest

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request on its way to an answer. Effects set its fields;
// answer carries them out.
type exchange struct {
	sim        *Simulator
	region     *region // nil if unknown
	regionName string  // empty if unknown
	query      query
	now        time.Time
	zone       *time.Location

	echo                   bool
	raw, source, signature string // of the request, for echo

	// Before the answer.
	hang  bool
	delay time.Duration

	// What the answer is.
	render render

	// How a page is read and written.
	cap          int
	roundOffset  bool
	ignoreOffset bool
	total        func(total int) int
	stringCode   bool
	stringTotal  bool
	floats       bool
	data         *string // raw JSON; empty leaves the field out
	taskSet      *string // raw JSON; empty leaves the field out
	whenEmpty    []Effect

	// How it goes over the wire.
	header  http.Header
	date    time.Duration // off the simulator's clock
	noDate  bool
	cut     bool
	deliver deliver

	left bool
}

// answer is a whole HTTP response, ready to be sent or spoilt.
type answer struct {
	status int
	header http.Header
	body   []byte
	code   *int // of the API; nil where the answer has none
}

type (
	render  func(x *exchange, a *answer)
	deliver func(x *exchange, w http.ResponseWriter, r *http.Request, a *answer)
)

// leave ends the count of the exchange as one in flight.
func (x *exchange) leave() {
	if x.left {
		return
	}
	x.left = true
	x.sim.counts.leave("")
	if x.regionName != "" {
		x.sim.counts.leave(x.regionName)
	}
}

// counted counts the answer as given.
func (x *exchange) counted(a *answer) {
	if a.code == nil {
		return
	}
	x.sim.counts.answer("", *a.code)
	if x.regionName != "" {
		x.sim.counts.answer(x.regionName, *a.code)
	}
}

func (x *exchange) answer(w http.ResponseWriter, r *http.Request) {
	x.wait(r.Context())

	buf := x.sim.buffer()
	a := &answer{status: http.StatusOK, header: make(http.Header, 4), body: (*buf)[:0]}
	defer func() {
		*buf = a.body
		x.sim.buffers.Put(buf)
	}()

	x.render(x, a)
	if x.cut {
		a.body = a.body[:len(a.body)/2]
		a.code = nil
	}
	x.finishHeader(a)
	x.deliver(x, w, r, a)
}

// buffer returns a buffer to be given back to s.buffers.
func (s *Simulator) buffer() *[]byte {
	if buf, ok := s.buffers.Get().(*[]byte); ok {
		return buf
	}
	return new([]byte)
}

// wait lets latency pass. It does not return to a client that has left.
func (x *exchange) wait(ctx context.Context) {
	if x.hang {
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	}
	pause(ctx, x.delay)
}

// pause aborts the handler when the client leaves or the server closes.
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

// finishHeader sets what every answer has.
func (x *exchange) finishHeader(a *answer) {
	if a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		a.header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	a.header.Set("Date", x.now.Add(x.date).UTC().Format(http.TimeFormat))
	if x.noDate {
		a.header["Date"] = nil
	}
	if x.echo {
		a.header.Set("X-Debug-Request", x.secrets())
	}
	maps.Copy(a.header, x.header)
}

// secrets is what EchoSecrets hands out, and empty without it.
func (x *exchange) secrets() string {
	if !x.echo {
		return ""
	}
	return " [source " + x.source + "] [signature " + x.signature + "] [request " + x.raw + "]"
}

func (a *answer) json() { a.header.Set("Content-Type", "application/json; charset=utf-8") }

// renderHTML answers as a gateway does that never asked the API.
func renderHTML(status int) render {
	return func(x *exchange, a *answer) {
		a.status = status
		a.header.Set("Content-Type", "text/html; charset=utf-8")
		title := strconv.Itoa(status) + " " + http.StatusText(status)
		a.body = append(a.body, "<html>\r\n<head><title>"...)
		a.body = append(a.body, title...)
		a.body = append(a.body, "</title></head>\r\n<body>\r\n<center><h1>"...)
		a.body = append(a.body, title...)
		a.body = append(a.body, "</h1></center>\r\n<hr>"...)
		a.body = append(a.body, x.secrets()...)
		a.body = append(a.body, "</body>\r\n</html>\r\n"...)
	}
}

func renderRefusal(e *refusal) render {
	return func(x *exchange, a *answer) {
		a.json()
		a.code = &e.code
		a.body = append(a.body, `{"code":`...)
		a.body = appendInt(a.body, e.code, x.stringCode)
		a.body = append(a.body, `,"message":`...)
		a.body = appendString(a.body, e.message+x.secrets())
		a.body = append(a.body, `,"codeDesc":`...)
		a.body = appendString(a.body, e.codeDesc+x.secrets())
		a.body = append(a.body, '}')
	}
}

// renderPage answers as the document says, but for the faults on the way.
func renderPage(x *exchange, a *answer) {
	limit, offset := x.query.limit, x.query.offset
	if x.cap > 0 {
		limit = min(limit, x.cap)
	}
	if x.roundOffset {
		offset -= offset % limit
	}
	if x.ignoreOffset {
		offset = 0
	}

	// The rows come last and decide what is before them.
	buf := x.sim.buffer()
	defer x.sim.buffers.Put(buf)
	e := encoder{zone: x.zone, floatProgress: x.floats}
	rows, n, total := x.region.appendRows((*buf)[:0], x.query.filter, offset, limit, e)
	*buf = rows

	if n == 0 {
		for _, effect := range x.whenEmpty {
			effect(x)
		}
	}
	if x.total != nil {
		total = x.total(total)
	}

	a.json()
	a.code = new(int)
	a.body = append(a.body, `{"code":`...)
	a.body = appendInt(a.body, 0, x.stringCode)
	a.body = append(a.body, `,"message":"","codeDesc":"Success","totalCount":`...)
	a.body = appendInt(a.body, total, x.stringTotal)
	switch {
	case x.data != nil:
		a.body = appendField(a.body, `,"data":`, *x.data)
	case x.taskSet != nil:
		a.body = append(a.body, `,"data":{`...)
		a.body = appendField(a.body, `"redisTaskSet":`, *x.taskSet)
		a.body = append(a.body, '}')
	default:
		a.body = append(a.body, `,"data":{"redisTaskSet":[`...)
		a.body = append(a.body, rows...)
		a.body = append(a.body, `]}`...)
	}
	a.body = append(a.body, '}')
}

// appendField appends nothing where there is no value.
func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, name...)
	return append(b, value...)
}

func appendInt(b []byte, n int, quoted bool) []byte {
	if !quoted {
		return strconv.AppendInt(b, int64(n), 10)
	}
	b = append(b, '"')
	b = strconv.AppendInt(b, int64(n), 10)
	return append(b, '"')
}
