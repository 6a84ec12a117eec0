package crsapitest

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// APIError answers code with what the documents say of it.
func APIError(code int) Effect {
	return answers(renderRefusal(refuse(code, "")))
}

// APIErrorText answers code with the given words.
func APIErrorText(code int, codeDesc, message string) Effect {
	return answers(renderRefusal(&refusal{code, codeDesc, message}))
}

// Envelope answers an error as API 3.0 writes it, code being a word such as
// AuthFailure.SignatureFailure.
func Envelope(code, message string) Effect {
	return answers(func(x *exchange, a *answer) {
		a.json()
		a.body = append(a.body, `{"Response":{"Error":{"Code":`...)
		a.body = appendString(a.body, code)
		a.body = append(a.body, `,"Message":`...)
		a.body = appendString(a.body, message+x.secrets())
		a.body = append(a.body, `},"RequestId":"3c140219-cfe9-470e-b241-907877d6fb03"}}`...)
	})
}

// HTTPStatus answers with a gateway's HTML page of that status, from 200 on.
func HTTPStatus(status int) Effect {
	if status < http.StatusOK || status > 599 {
		panic("crsapitest: HTTPStatus: not from 200 to 599")
	}
	return answers(renderHTML(status))
}

// Redirect answers 307, which keeps method and body, to another URL.
func Redirect(url string) Effect {
	page := renderHTML(http.StatusTemporaryRedirect)
	return answers(func(x *exchange, a *answer) {
		page(x, a)
		to := url
		if x.echo {
			to += "?" + x.raw
		}
		a.header.Set("Location", to)
	})
}

// Body answers 200 with a body that need not be JSON.
func Body(body string) Effect {
	return answers(func(_ *exchange, a *answer) {
		a.json()
		a.body = append(a.body, body...)
	})
}

// Respond leaves the whole answer to h. Its Date and added headers are set
// already.
func Respond(h http.Handler) Effect {
	return delivers(func(_ *exchange, w http.ResponseWriter, r *http.Request, a *answer) {
		a.header.Del("Content-Length")
		a.header.Del("Content-Type")
		copyHeader(w, a)
		h.ServeHTTP(w, r)
	})
}

func answers(render render) Effect { return func(x *exchange) { x.render = render } }

// Latency holds the answer back. The list is read after it.
func Latency(d time.Duration) Effect { return func(x *exchange) { x.delay = d } }

// Hang never answers: it ends when the client leaves or the server closes.
func Hang() Effect { return func(x *exchange) { x.hang = true } }

// RateLimit answers 4400 to what exceeds perSecond requests a second in a
// region: a bucket that holds perSecond requests and fills at that rate. What is
// refused does not count against it.
func RateLimit(perSecond int) Effect {
	if perSecond <= 0 {
		panic("crsapitest: RateLimit: not positive")
	}
	type bucket struct {
		left float64
		at   time.Time
	}
	var mu sync.Mutex
	buckets := make(map[string]*bucket)
	exceeded := APIError(4400)
	return func(x *exchange) {
		mu.Lock()
		defer mu.Unlock()
		now, full := time.Now(), float64(perSecond)
		b := buckets[x.regionName]
		if b == nil {
			b = &bucket{left: full, at: now}
			buckets[x.regionName] = b
		}
		b.left = min(full, b.left+now.Sub(b.at).Seconds()*full)
		b.at = now
		if b.left < 1 {
			exceeded(x)
			return
		}
		b.left--
	}
}

// PageCap gives at most so many rows a page, whatever the limit. Of several
// caps, successive requests get one each, round and round.
func PageCap(caps ...int) Effect {
	if len(caps) == 0 {
		panic("crsapitest: PageCap: no cap")
	}
	for _, n := range caps {
		if n <= 0 {
			panic("crsapitest: PageCap: not positive")
		}
	}
	var turn atomic.Uint64
	return func(x *exchange) {
		x.cap = caps[(turn.Add(1)-1)%uint64(len(caps))]
	}
}

// RoundOffsets rounds offset down to a multiple of the limit, or of the cap
// where that is less.
func RoundOffsets() Effect { return func(x *exchange) { x.roundOffset = true } }

// IgnoreOffset gives the first page whatever is asked.
func IgnoreOffset() Effect { return func(x *exchange) { x.ignoreOffset = true } }

// Total answers n as totalCount.
func Total(n int) Effect {
	return func(x *exchange) { x.total = func(int) int { return n } }
}

// TotalDelta adds n, which may be negative, to totalCount.
func TotalDelta(n int) Effect {
	return func(x *exchange) { x.total = func(total int) int { return total + n } }
}

// TotalJitter moves totalCount at random by up to n either way.
func TotalJitter(n int) Effect {
	if n < 0 {
		panic("crsapitest: TotalJitter: negative")
	}
	return func(x *exchange) {
		x.total = func(total int) int { return total - n + x.sim.intn(2*n+1) }
	}
}

// StringCode writes code as a string.
func StringCode() Effect { return func(x *exchange) { x.stringCode = true } }

// StringTotal writes totalCount as a string.
func StringTotal() Effect { return func(x *exchange) { x.stringTotal = true } }

// FloatProgress writes progress with a fraction: 1.0.
func FloatProgress() Effect { return func(x *exchange) { x.floats = true } }

// Data writes raw, such as null or [], as data; an empty raw leaves data out.
func Data(raw string) Effect { return func(x *exchange) { x.data = &raw } }

// TaskSet writes raw, such as null or {}, as redisTaskSet; an empty raw leaves
// it out.
func TaskSet(raw string) Effect { return func(x *exchange) { x.taskSet = &raw } }

// WhenEmpty has effects on how a page is written (Data, TaskSet, the string
// and total ones) befall only pages without rows.
func WhenEmpty(effects ...Effect) Effect {
	return func(x *exchange) { x.whenEmpty = append(x.whenEmpty, effects...) }
}

// Header sets a header of the answer.
func Header(name, value string) Effect {
	return func(x *exchange) {
		if x.header == nil {
			x.header = make(http.Header)
		}
		x.header.Set(name, value)
	}
}

// DateSkew puts the Date header ahead of the simulator's clock by d.
func DateSkew(d time.Duration) Effect { return func(x *exchange) { x.date = d } }

// NoDate leaves the Date header out.
func NoDate() Effect { return func(x *exchange) { x.noDate = true } }
