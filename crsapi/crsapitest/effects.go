package crsapitest

import (
	"net/http"
	"slices"
	"time"
)

// Effect changes the response to one request. Only this package implements it.
// Several effects on one request work together. Where two contradict each
// other, the one injected last wins.
type Effect interface{ apply(x *exchange) }

type effectFunc func(x *exchange)

func (f effectFunc) apply(x *exchange) { f(x) }

func (f render) apply(x *exchange) { x.render = f }

func (s send) apply(x *exchange) { x.send = s }

// All combines effects into one.
func All(effects ...Effect) Effect {
	effects = slices.Clone(effects)
	return effectFunc(func(x *exchange) {
		for _, effect := range effects {
			effect.apply(x)
		}
	})
}

// APIError responds with an error code and its documented text. Under API 3.0 it
// responds with the code of API 3.0 that means the same, such as InternalError for
// 6000.
func APIError(code int) Effect { return refuse(code, "") }

// Envelope responds with an error in the format of API 3.0, under API 2.0 too.
// The code is a word such as AuthFailure.SignatureFailure.
func Envelope(code, message string) Effect { return envelope(code, message) }

// RetiredEffect is an Effect of an API that the vendor has retired. To retire
// API 2.0 only, set API of the [Fault]; to retire it in one region, set Region
// too. Under API 3.0 each of them responds with ActionOffline.
type RetiredEffect int

const (
	// RetiredForbidden responds with 4300 RequestForbidden: only particular accounts
	// may call the API.
	RetiredForbidden RetiredEffect = iota
	// RetiredVersion responds with 6100: the version does not have the API, or it is
	// obsolete.
	RetiredVersion
	// RetiredEnvelope responds with ActionOffline in the format of API 3.0.
	RetiredEnvelope
)

func (e RetiredEffect) apply(x *exchange) {
	switch {
	case e == RetiredForbidden && x.request.API == api2:
		x.render = apiError(4300, "RequestForbidden", "请求被拒绝，该接口只允许特定账户调用。")
	case e == RetiredVersion && x.request.API == api2:
		x.render = apiError(6100, "", "本版本内不支持的接口或者接口已经被废弃")
	default:
		x.render = envelope("ActionOffline", "The API has been taken offline.")
	}
}

// HTTPStatus responds with an HTML page, as a gateway does. The status must be one
// that has a body.
func HTTPStatus(status int) Effect { return htmlPage(status) }

// Redirect responds 307 with url as the Location. A client that follows a 307
// repeats method and body.
func Redirect(url string) Effect {
	return render(func(x *exchange) *response {
		p := htmlPage(http.StatusTemporaryRedirect)(x)
		location := url
		if x.echo {
			location += "?" + x.raw
		}
		p.header.Set("Location", location)
		return p
	})
}

// Body responds 200 with this body. It does not have to be JSON.
func Body(body string) Effect {
	return render(func(*exchange) *response { return rawJSON([]byte(body)) })
}

// Latency delays the response. The simulator reads the task list after the
// delay.
type Latency time.Duration

func (d Latency) apply(x *exchange) { x.delay = time.Duration(d) }

// PageCap limits the rows of a page, whatever limit the request has. It must be
// positive.
type PageCap int

func (n PageCap) apply(x *exchange) { x.pageCap = int(n) }

// Total replaces totalCount by what change returns for the true one. The
// simulator may call change from several goroutines at the same time.
func Total(change func(total int) int) Effect {
	return effectFunc(func(x *exchange) { x.total = change })
}

// DateSkew sets the Date header ahead of the simulator's clock by this
// duration. The clock itself does not change.
type DateSkew time.Duration

func (d DateSkew) apply(x *exchange) { x.dateSkew = time.Duration(d) }
