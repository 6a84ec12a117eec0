package crsapitest

import (
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// Effect changes how one request is answered. Only this package implements it.
// Several effects on one request work together. Where two contradict each
// other, the one injected last wins.
type Effect interface{ apply(x *exchange) }

// The named types in this file implement Effect too, so that a value of them
// needs no function around it.
type effectFunc func(x *exchange)

func (f effectFunc) apply(x *exchange) { f(x) }

// All combines effects into one.
func All(effects ...Effect) Effect { return all(slices.Clone(effects)) }

type all []Effect

func (a all) apply(x *exchange) {
	for _, effect := range a {
		effect.apply(x)
	}
}

func (a all) keep() (age time.Duration) {
	for _, effect := range a {
		age = max(age, keepOf(effect))
	}
	return age
}

// APIError answers with an error code, and with the text that the documents
// give for it. Two more arguments, codeDesc and message, replace that text.
// Under API 3.0 it answers with the message and with the code of API 3.0 that
// means the same, such as InternalError for 6000.
func APIError(code int, text ...string) Effect {
	switch len(text) {
	case 0:
		return replyWith(renderRefusal(refuse(code, "")))
	case 2:
		return replyWith(renderRefusal(&refusal{code, text[0], text[1]}))
	default:
		panic("crsapitest: APIError: text must be codeDesc and message, or absent")
	}
}

// Envelope answers with an error in the format of API 3.0, under API 2.0 too.
// The code is a word such as AuthFailure.SignatureFailure.
func Envelope(code, message string) Effect {
	return replyWith(renderRefusal3(refuse3(code, message)))
}

// RetiredEffect is an Effect of an API that the vendor has retired. To retire
// API 2.0 only, set API of the [Fault]; to retire it in one region, set Region
// too. Under API 3.0 each of them answers ActionOffline.
type RetiredEffect int

const (
	// RetiredForbidden answers 4300 RequestForbidden: only particular accounts
	// may call the API.
	RetiredForbidden RetiredEffect = iota
	// RetiredVersion answers 6100: the version does not have the API, or it is
	// obsolete.
	RetiredVersion
	// RetiredEnvelope answers ActionOffline in the format of API 3.0.
	RetiredEnvelope
)

func (e RetiredEffect) apply(x *exchange) {
	answer := Envelope("ActionOffline", "The API has been taken offline.")
	if x.api == api2 {
		switch e {
		case RetiredForbidden:
			answer = APIError(4300, "RequestForbidden", "请求被拒绝，该接口只允许特定账户调用。")
		case RetiredVersion:
			answer = APIError(6100, "", "本版本内不支持的接口或者接口已经被废弃")
		}
	}
	answer.apply(x)
}

// HTTPStatus answers with an HTML page, as a gateway does. The status must be
// from 200 to 599.
func HTTPStatus(status int) Effect {
	if status < http.StatusOK || status > 599 {
		panic("crsapitest: HTTPStatus: status must be from 200 to 599")
	}
	return replyWith(renderHTML(status))
}

// Redirect answers 307 with url as the Location. A client that follows a 307
// repeats method and body.
func Redirect(url string) Effect {
	page := renderHTML(http.StatusTemporaryRedirect)
	return replyWith(func(x *exchange, p *reply) {
		page(x, p)
		location := url
		if x.echo {
			location += "?" + x.raw
		}
		p.header.Set("Location", location)
	})
}

// Body answers 200 with this body. It does not have to be JSON.
func Body(body string) Effect {
	return replyWith(func(_ *exchange, p *reply) {
		p.setJSON()
		p.body = append(p.body, body...)
	})
}

// Respond lets h write the response. The Date header and those of [Header] are
// already set.
func Respond(h http.Handler) Effect {
	return deliverWith(func(_ *exchange, w http.ResponseWriter, r *http.Request, p *reply) {
		p.header.Del("Content-Length")
		p.header.Del("Content-Type")
		copyHeader(w, p)
		h.ServeHTTP(w, r)
	})
}

func replyWith(render render) Effect { return effectFunc(func(x *exchange) { x.render = render }) }

// Latency delays the response. The simulator reads the task list after the
// delay.
type Latency time.Duration

func (d Latency) apply(x *exchange) { x.delay = time.Duration(d) }

// PageCap limits the rows of a page, whatever limit the request has. With
// several caps, each request uses the next one, in a cycle.
func PageCap(caps ...int) Effect {
	if len(caps) == 0 {
		panic("crsapitest: PageCap: at least one cap is required")
	}
	for _, n := range caps {
		if n <= 0 {
			panic("crsapitest: PageCap: a cap must be positive")
		}
	}
	var turn atomic.Uint64
	return effectFunc(func(x *exchange) {
		x.cap = caps[(turn.Add(1)-1)%uint64(len(caps))]
	})
}

// Total replaces totalCount by what change returns for the true one. The
// simulator may call change from several goroutines at the same time.
func Total(change func(total int) int) Effect {
	if change == nil {
		panic("crsapitest: Total: change is nil")
	}
	return effectFunc(func(x *exchange) { x.total = change })
}

// Format is an Effect on the JSON of a page. StringCode also applies to errors,
// and Null also to DescribeTaskInfo. A field with the zero value changes
// nothing. StringCode and Data apply to API 2.0 only; EndTime, Response and Null
// apply to API 3.0 only.
type Format struct {
	StringCode    bool    // write code as a string
	StringTotal   bool    // write totalCount, TotalCount as a string
	FloatProgress bool    // write progress 1 as 1.0
	Data          *string // raw JSON to write as data; "" leaves the field out
	TaskSet       *string // raw JSON to write as redisTaskSet, Tasks, RedisTaskSets; "" leaves the field out
	EmptyOnly     bool    // apply only to pages without rows

	// Raw JSON to write as the EndTime of a task whose EndTime is zero; ""
	// leaves the field out. The documents do not say what the API does. The
	// default is "0000-00-00 00:00:00", as in DescribeInstanceEvents.
	EndTime  *string
	Response *string  // raw JSON to write as Response
	Null     []string // names of fields of Response and of its rows to write as null
}

func (f Format) apply(x *exchange) {
	if f.EmptyOnly {
		x.emptyFormat.add(f)
	} else {
		x.format.add(f)
	}
}

// add applies g on top of f.
func (f *Format) add(g Format) {
	f.StringCode = f.StringCode || g.StringCode
	f.StringTotal = f.StringTotal || g.StringTotal
	f.FloatProgress = f.FloatProgress || g.FloatProgress
	if g.Data != nil {
		f.Data = g.Data
	}
	if g.TaskSet != nil {
		f.TaskSet = g.TaskSet
	}
	if g.EndTime != nil {
		f.EndTime = g.EndTime
	}
	if g.Response != nil {
		f.Response = g.Response
	}
	f.Null = slices.Concat(f.Null, g.Null)
}

// Header sets a response header. An empty value removes the header, Date
// included.
func Header(name, value string) Effect {
	return effectFunc(func(x *exchange) {
		if x.header == nil {
			x.header = make(http.Header)
		}
		x.header.Set(name, value)
	})
}

// DateSkew sets the Date header ahead of the simulator's clock by this
// duration. The clock itself does not change; see [Simulator.SetClockSkew].
type DateSkew time.Duration

func (d DateSkew) apply(x *exchange) { x.dateSkew = time.Duration(d) }
