package crsapitest

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// exchange is one request and what is known about its response. Effects set its
// fields; respond applies them.
type exchange struct {
	sim        *Simulator
	list       *taskList // nil if the region is unknown
	regionName string    // empty if the region is unknown
	query      taskQuery
	api        string
	action     string
	dialect    *dialect // nil for API 2.0
	now        time.Time
	zone       *time.Location
	conn       int64 // number of the connection; 0 without a Server

	echo                   bool
	raw, source, signature string // of the request, for echo

	request Request // as the hooks get it
	read    bool    // the response shows the list
	seed    uint64

	// Before the response.
	hang  bool
	delay time.Duration

	// Content of the response.
	render render

	// Reading and writing a page.
	cap         int
	habits      habits
	age         time.Duration // of the version of the list to read
	total       func(total int) int
	format      Format
	emptyFormat Format // on top of format, for pages without rows

	// Transport of the response.
	header   http.Header
	dateSkew time.Duration
	truncate bool
	deliver  deliver

	ended bool
}

// reply is a complete HTTP response, before network faults are applied.
type reply struct {
	status int
	header http.Header
	body   []byte
	code   *int    // of API 2.0; nil if the response has none
	name   *string // the code of API 3.0, empty for success; nil if the response has none
}

type (
	render  func(x *exchange, p *reply)
	deliver func(x *exchange, w http.ResponseWriter, r *http.Request, p *reply)
)

// end stops counting the exchange as in flight.
func (x *exchange) end() {
	if x.ended {
		return
	}
	x.ended = true
	x.sim.release(x)
	x.sim.counts.end("")
	if x.regionName != "" {
		x.sim.counts.end(x.regionName)
	}
}

// countCode counts the API codes of a response.
func (x *exchange) countCode(p *reply) {
	x.sim.counts.code("", p)
	if x.regionName != "" {
		x.sim.counts.code(x.regionName, p)
	}
}

func (x *exchange) respond(w http.ResponseWriter, r *http.Request) {
	x.wait(r.Context())

	buf := x.sim.buffer()
	p := &reply{status: http.StatusOK, header: make(http.Header, 4), body: (*buf)[:0]}
	defer func() {
		*buf = p.body
		x.sim.buffers.Put(buf)
	}()

	x.render(x, p)
	x.habits.finish(p)
	x.hook()
	if x.truncate {
		p.body = p.body[:len(p.body)/2]
		p.code, p.name = nil, nil
	}
	x.finishHeader(p)
	x.deliver(x, w, r, p)
}

// hook calls the hook of OnResponse.
func (x *exchange) hook() {
	if !x.read {
		return
	}
	x.sim.mu.Lock()
	hook := x.sim.responseHook
	x.sim.mu.Unlock()
	if hook != nil {
		hook(x.request)
	}
}

// sawList notes which version of the list the response shows.
func (x *exchange) sawList(version int) { x.read, x.request.Version = true, version }

// buffer returns a buffer. The caller returns it to s.buffers.
func (s *Simulator) buffer() *[]byte {
	if buf, ok := s.buffers.Get().(*[]byte); ok {
		return buf
	}
	return new([]byte)
}

// wait applies Hang and Latency.
func (x *exchange) wait(ctx context.Context) {
	if x.hang {
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	}
	pause(ctx, x.delay)
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

// finishHeader sets the headers that every response has.
func (x *exchange) finishHeader(p *reply) {
	if p.status != http.StatusNoContent && p.status != http.StatusNotModified {
		p.header.Set("Content-Length", strconv.Itoa(len(p.body)))
	}
	p.header.Set("Date", x.now.Add(x.dateSkew).UTC().Format(http.TimeFormat))
	if x.echo {
		p.header.Set("X-Debug-Request", x.secrets())
	}
	for name, values := range x.header {
		if values[0] == "" {
			values = nil // net/http adds no Date if the value is nil
		}
		p.header[name] = values
	}
}

// secrets returns the text that EchoSecrets adds to responses, or "".
func (x *exchange) secrets() string {
	if !x.echo {
		return ""
	}
	return " [source " + x.source + "] [signature " + x.signature + "] [request " + x.raw + "]"
}

func (p *reply) setJSON() { p.header.Set("Content-Type", "application/json; charset=utf-8") }

// renderHTML returns the error page of a gateway in front of the API.
func renderHTML(status int) render {
	return func(x *exchange, p *reply) {
		p.status = status
		p.header.Set("Content-Type", "text/html; charset=utf-8")
		title := strconv.Itoa(status) + " " + http.StatusText(status)
		p.body = append(p.body, "<html>\r\n<head><title>"...)
		p.body = append(p.body, title...)
		p.body = append(p.body, "</title></head>\r\n<body>\r\n<center><h1>"...)
		p.body = append(p.body, title...)
		p.body = append(p.body, "</h1></center>\r\n<hr>"...)
		p.body = append(p.body, x.secrets()...)
		p.body = append(p.body, "</body>\r\n</html>\r\n"...)
	}
}

func renderRefusal(e *refusal) render {
	return func(x *exchange, p *reply) {
		if x.api != api2 {
			renderRefusal3(refuse3(codeName(e.code), e.message))(x, p)
			p.code = &e.code
			return
		}
		p.setJSON()
		p.code = &e.code
		p.body = append(p.body, `{"code":`...)
		p.body = appendInt(p.body, e.code, x.format.StringCode)
		p.body = append(p.body, `,"message":`...)
		p.body = appendString(p.body, e.message+x.secrets())
		p.body = append(p.body, `,"codeDesc":`...)
		p.body = appendString(p.body, e.codeDesc+x.secrets())
		p.body = append(p.body, '}')
	}
}

// page appends the rows of a page, with the faults of the exchange. It returns
// them with the format and the total of the page.
func (x *exchange) page(b []byte) (rows []byte, format Format, total int) {
	query, filter := x.query, x.query.filter
	if x.dialect != nil {
		x.list.giveIDs()
		query.limit = min(query.limit, maxLimit3)
		if !x.habits.has(PageNumbers) {
			query.offset -= query.offset % query.limit
		}
	}
	x.habits.change(&filter)
	offset, limit := x.habits.place(query, x.cap)

	e := rowEncoder{zone: x.zone, floatProgress: x.format.FloatProgress, dialect: x.dialect, endTime: noTime, null: x.format.Null, habits: x.habits}
	if x.format.EndTime != nil {
		e.endTime = *x.format.EndTime
	}
	q := pageQuery{
		selection: selection{filter: filter, random: x.habits.has(UnsortedRows)},
		offset:    offset, limit: limit,
		age: x.age, oldestFirst: x.habits.has(OldestFirst), ties: x.habits.has(ShuffleTies), tieSeed: mix(x.seed, uint64(x.request.Seq)),
	}
	if q.random {
		q.seed = x.seed
	}
	rows, n, total, version := x.list.appendRows(b, q, e)
	x.sawList(version)
	format = x.format
	if n == 0 {
		format.add(x.emptyFormat)
	}
	if x.habits.has(TotalOfPage) {
		total = n
	}
	if x.total != nil {
		total = x.total(total)
	}
	return rows, format, total
}

// renderPage writes a page as documented, with the faults of the exchange.
func renderPage(x *exchange, p *reply) {
	// The fields before the rows depend on the rows, so encode the rows first.
	buf := x.sim.buffer()
	defer x.sim.buffers.Put(buf)
	rows, format, total := x.page((*buf)[:0])
	*buf = rows

	p.setJSON()
	p.code = new(int)
	p.body = append(p.body, `{"code":`...)
	p.body = appendInt(p.body, 0, format.StringCode)
	p.body = append(p.body, `,"message":"","codeDesc":"Success"`...)
	count := appendInt([]byte(`"totalCount":`), total, format.StringTotal)
	inData := ""
	if x.habits.has(TotalInData) {
		inData = string(count) + ","
	} else {
		p.body = append(append(p.body, ','), count...)
	}
	switch {
	case format.Data != nil:
		p.body = appendField(p.body, `,"data":`, *format.Data)
	case format.TaskSet != nil:
		p.body = append(p.body, `,"data":{`...)
		p.body = appendField(p.body, `"redisTaskSet":`, *format.TaskSet)
		p.body = append(p.body, '}')
	default:
		p.body = append(p.body, `,"data":{`+inData+`"redisTaskSet":[`...)
		p.body = append(p.body, rows...)
		p.body = append(p.body, `]}`...)
	}
	p.body = append(p.body, '}')
}

// appendField appends name and value, or nothing if value is empty.
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
