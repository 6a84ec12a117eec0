package crsapitest

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// Path is the only path that is served; it is part of what is signed.
	Path = "/v2/index.php"

	// DefaultWindow is how far a Timestamp may be from the simulator's clock:
	// the strictest that the vendor's documents name.
	DefaultWindow = 5 * time.Minute

	// DefaultUTCOffset is the zone of the API's times.
	DefaultUTCOffset = 8 * time.Hour

	timeLayout = "2006-01-02 15:04:05"
)

// Simulator is the API with all its state: accounts, regions and their tasks,
// faults, and counts of what was asked. All methods are safe for concurrent
// use, from within a hook too.
//
// It is an http.Handler. What cannot be answered (a hung request whose client
// left, a connection cut on purpose where it cannot be hijacked) ends with
// panic(http.ErrAbortHandler), as net/http's server expects; whoever calls
// ServeHTTP without that server must recover it.
type Simulator struct {
	mu       sync.Mutex
	accounts map[string]Account
	nonces   nonces
	regions  map[string]*region
	faults   []*injected
	random   *rand.Rand
	hook     func(Request)
	window   time.Duration
	skew     time.Duration
	zone     *time.Location
	echo     bool

	counts  counts
	buffers sync.Pool
}

var _ http.Handler = (*Simulator)(nil)

// New returns a Simulator without regions and with one account: [SecretID] and
// [SecretKey], no token. Its random choices are the same each time; see
// [Simulator.Seed].
func New() *Simulator {
	s := &Simulator{
		accounts: make(map[string]Account),
		regions:  make(map[string]*region),
		window:   DefaultWindow,
	}
	s.Seed(1)
	s.SetUTCOffset(DefaultUTCOffset)
	s.SetAccount(Account{SecretID: SecretID, SecretKey: SecretKey})
	return s
}

// Seed starts the source of random choices (a Fault's Rate, TotalJitter) anew.
func (s *Simulator) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.random = rand.New(rand.NewPCG(seed, seed))
}

// SetUTCOffset sets the zone, east of Greenwich, in which startTime is written
// and beginTime and endTime are read.
func (s *Simulator) SetUTCOffset(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = time.FixedZone("", int(offset/time.Second))
}

// SetWindow sets how far a Timestamp may be from the simulator's clock, either
// way. It must be a second or more; fractions of one are left out.
func (s *Simulator) SetWindow(window time.Duration) {
	if window < time.Second {
		panic("crsapitest: SetWindow: less than a second")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window = window
}

// SetClockSkew puts the simulator's clock ahead of time.Now by skew: the clock
// that Timestamp is held against, that error messages tell and that the Date
// header shows. For a Date header that is wrong alone, see [DateSkew].
func (s *Simulator) SetClockSkew(skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = skew
}

// EchoSecrets makes the simulator hand back what a server never should, as
// some do: message and codeDesc of every error, the body of every HTML page,
// the Location of every redirect and a header of every answer then hold the
// signed source (with SecretId and Token), the Signature, and both as they
// came over the wire. A client must let none of it through. Heal ends it.
func (s *Simulator) EchoSecrets(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo = on
}

// Request is a verified request, as a hook sees it.
type Request struct {
	Region        string
	Method        string // GET or POST
	Offset, Limit int    // as asked, before any fault
	Seq           int    // 1 for the first verified request of the region

	params params
}

// Param returns a parameter as it was sent, decoded, and "" for one that was
// not sent.
func (r Request) Param(name string) string {
	value, _ := r.params.get(name)
	return value
}

// OnRequest has hook called with each verified request, before its faults are
// chosen and its answer is built, and so also before any latency. The hook may
// call every method of the Simulator: to move the list between two pages, say.
// It runs on the request's own goroutine, several at once; blocking holds up
// no other request. A nil hook ends it.
func (s *Simulator) OnRequest(hook func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// ServeHTTP answers one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	x := &exchange{
		sim:  s,
		now:  time.Now().Add(s.skew),
		zone: s.zone,
		echo: s.echo,

		render:  renderPage,
		deliver: deliverWhole,
	}
	s.mu.Unlock()

	s.counts.arrive("")
	defer x.leave()

	switch {
	case r.URL.Path != Path:
		x.render = renderHTML(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		x.render = renderHTML(http.StatusMethodNotAllowed)
	default:
		s.handle(x, r)
	}
	x.answer(w, r)
}

// handle reads and verifies the request, and has the hook and the faults at
// the exchange of one that passes.
func (s *Simulator) handle(x *exchange, r *http.Request) {
	raw, status, refused := rawParams(r)
	x.raw = raw
	if status != 0 {
		x.render = renderHTML(status)
		return
	}
	var p params
	if refused == nil {
		p, refused = parseParams(raw)
	}
	if refused == nil {
		refused = s.verify(x, r, p)
	}
	if refused != nil {
		x.render = renderRefusal(refused)
		return
	}

	s.mu.Lock()
	hook := s.hook
	x.region.seq++
	seq := x.region.seq
	s.mu.Unlock()
	if hook != nil {
		hook(Request{
			Region: x.regionName,
			Method: r.Method,
			Offset: x.query.offset,
			Limit:  x.query.limit,
			Seq:    seq,
			params: p,
		})
	}
	for _, effect := range s.effects(x.regionName) {
		effect(x)
	}
}

// verify finds the region, checks the request, and notes what it asks for.
func (s *Simulator) verify(x *exchange, r *http.Request, p params) (refused *refusal) {
	x.source = source(r.Method, hostname(r.Host), Path, p)
	x.signature, _ = p.get("Signature")
	name, _ := p.get("Region")
	if x.region = s.region(name); x.region != nil {
		x.regionName = name
		s.counts.arrive(name)
	}
	if refused := s.authenticate(p, x.source, x.now); refused != nil {
		return refused
	}
	if x.region == nil {
		return invalidCommon("Region", "is not a region of this service")
	}
	x.query, refused = parseQuery(p, x.zone)
	return refused
}
