package crsapitest

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Path is the only path of API 2.0. It is part of the signed text.
	Path = "/v2/index.php"

	// defaultWindow is the shortest of the windows in the vendor's documents.
	defaultWindow = 5 * time.Minute

	defaultUTCOffset = 8 * time.Hour

	timeLayout = "2006-01-02 15:04:05"
)

// Simulator is the APIs with their state: accounts, regions with their tasks,
// faults, and counts of requests. API 2.0 is at [Path]. API 3.0 is at the path
// /, and so is the private cloud's GetRedisTaskList. They share all state. All
// methods are safe for concurrent use, also from a hook.
//
// It is an http.Handler. ServeHTTP panics with http.ErrAbortHandler when it
// cannot send a response: the client of a hanging request disconnected, or a
// fault breaks a connection that cannot be hijacked. The server of net/http
// recovers this panic. Callers without that server must recover it.
type Simulator struct {
	mu       sync.Mutex
	accounts map[string]Account
	nonces   nonces
	regions  map[string]*taskList
	faults   []*injected
	seed     uint64
	random   *rand.Rand
	hook     func(Request)
	holds    map[*exchange]time.Duration // ages of the versions that requests need
	window   time.Duration
	skew     time.Duration
	zone     *time.Location
	echo     bool

	messages     map[messageKey]string
	ids          taskIDs
	responseHook func(Request)

	conns   atomic.Int64 // accepted
	counts  requestCounts
	buffers sync.Pool
}

var _ http.Handler = (*Simulator)(nil)

// New returns a Simulator without regions. It has one account, [SecretID] and
// [SecretKey], without a token. A Timestamp may differ from its clock by 5
// minutes, and its times are in UTC+8. Its random choices are the same each
// time; see [Simulator.Seed]. API 3.0 lists tasks of any age, and cuts a Limit
// above 100.
func New() *Simulator {
	s := &Simulator{
		accounts: make(map[string]Account),
		regions:  make(map[string]*taskList),
		window:   defaultWindow,
		messages: make(map[messageKey]string),
		holds:    make(map[*exchange]time.Duration),
	}
	s.Seed(1)
	s.SetUTCOffset(defaultUTCOffset)
	s.SetAccount(Account{SecretID: SecretID, SecretKey: SecretKey})
	return s
}

// Seed restarts the random choices for the Rate of faults. [ShuffleTies] and
// [UnsortedRows] depend on it too.
func (s *Simulator) Seed(seed uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seed, s.random = seed, rand.New(rand.NewPCG(seed, seed))
}

// SetUTCOffset sets the time zone of all times in requests and responses.
// Positive offsets are east of Greenwich.
func (s *Simulator) SetUTCOffset(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = time.FixedZone("", int(offset/time.Second))
}

// SetWindow sets the largest accepted difference between a Timestamp and the
// simulator's clock. It must be at least a second. Fractions of a second are
// ignored.
func (s *Simulator) SetWindow(window time.Duration) {
	if window < time.Second {
		panic("crsapitest: SetWindow: window must be at least a second")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window = window
}

// SetClockSkew sets the simulator's clock ahead of time.Now by skew. This clock
// decides whether a Timestamp is valid, and it appears in error messages and in
// the Date header. [DateSkew] changes only the Date header.
func (s *Simulator) SetClockSkew(skew time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = skew
}

// EchoSecrets makes the simulator return secrets to the client, as some servers
// do by mistake: the signed text with SecretId and Token, the Signature, and the
// encoded parameters. They appear in message and codeDesc of every error, in
// every HTML page, in the Location of every redirect (only the parameters), and
// in a header of every response. A client must not log or pass on any of them.
// ClearFaults turns it off.
func (s *Simulator) EchoSecrets(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.echo = on
}

type messageKey struct {
	region string
	taskID int64
}

// SetTaskMessage sets the TaskMessage of DescribeTaskInfo for a task, or with
// taskID 0 for each task of the region without a message of its own. Only tasks
// that failed have a TaskMessage.
func (s *Simulator) SetTaskMessage(region string, taskID int64, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages[messageKey{region, taskID}] = message
}

func (s *Simulator) taskMessage(region string, taskID int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range []messageKey{{region, taskID}, {region, 0}} {
		if message, ok := s.messages[key]; ok {
			return message
		}
	}
	return "the flow failed"
}

// Request is a verified request, as a hook gets it.
type Request struct {
	API           string // "2.0", "3.0" or "tce", the private cloud's GetRedisTaskList
	Action        string
	Region        string
	Method        string // GET or POST
	Offset, Limit int    // as sent, or their defaults; 0 if the action has none
	Seq           int    // 1 for the first verified request of the region
	Version       int    // for OnResponse: Simulator.Version of the list that the response shows; else 0

	params params
}

// Param returns the decoded value of a parameter, or "" if the request does not
// have it. Under API 3.0 a value that is not a string is JSON, as sent.
func (r Request) Param(name string) string {
	value, _ := r.params.get(name)
	return value
}

// OnRequest sets a hook for verified requests. The hook runs before the faults
// of the request are chosen, before any latency, and before the task list is
// read. It may call all methods of the Simulator, for example to change the list
// between two pages. It runs on the goroutine of the request, so several calls
// may run at the same time, and a call that blocks delays no other request. A
// nil hook removes the current one.
func (s *Simulator) OnRequest(hook func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = hook
}

// OnResponse sets a hook for verified requests whose response shows the list. The
// hook runs after the list was read and before the response is written. Version
// of the Request tells which version of the list was read, also if [Replicas]
// showed an old one or if the list has changed since. Otherwise the hook is like
// that of OnRequest.
func (s *Simulator) OnResponse(hook func(Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responseHook = hook
}

// ServeHTTP handles one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	x := &exchange{
		sim:  s,
		now:  time.Now().Add(s.skew),
		zone: s.zone,
		echo: s.echo,

		deliver: deliverWhole,
	}
	s.mu.Unlock()
	x.conn, _ = r.Context().Value(connKey{}).(int64)

	s.counts.begin("")
	defer x.end()

	switch {
	case r.URL.Path == path3:
		s.handle3(x, r)
	case r.URL.Path != Path:
		x.render = renderHTML(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		x.render = renderHTML(http.StatusMethodNotAllowed)
	default:
		s.handle(x, r)
	}
	x.respond(w, r)
}

// handle reads and verifies a request of API 2.0.
func (s *Simulator) handle(x *exchange, r *http.Request) {
	x.api, x.action = api2, action
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
	x.render = renderPage
	s.accept(x, r.Method, p)
}

// handle3 reads and verifies a request of API 3.0.
func (s *Simulator) handle3(x *exchange, r *http.Request) {
	x.api = api3
	p, status, refused := s.verify3(x, r)
	switch {
	case status != 0:
		x.render = renderHTML(status)
	case refused != nil:
		x.render = renderRefusal3(refused)
	default:
		x.render = renderPage3
		if !x.dialect.list {
			x.render = renderInfo3
		}
		s.accept(x, r.Method, p)
	}
}

// accept calls the hook and applies the effects to the exchange.
func (s *Simulator) accept(x *exchange, method string, p params) {
	s.mu.Lock()
	hook := s.hook
	x.list.seq++
	seq := x.list.seq
	x.seed = s.seed
	s.mu.Unlock()
	x.request = Request{
		API:    x.api,
		Action: x.action,
		Region: x.regionName,
		Method: method,
		Offset: x.query.offset,
		Limit:  x.query.limit,
		Seq:    seq,
		params: p,
	}
	if hook != nil {
		hook(x.request)
	}
	for _, effect := range s.effects(x) {
		effect.apply(x)
	}
}

// verify verifies the request, and sets the region and query of the exchange.
func (s *Simulator) verify(x *exchange, r *http.Request, p params) (refused *refusal) {
	x.source = source(r.Method, hostname(r.Host), Path, p)
	x.signature, _ = p.get("Signature")
	name, _ := p.get("Region")
	if x.list = s.list(name); x.list != nil {
		x.regionName = name
		s.counts.begin(name)
	}
	if refused := s.authenticate(p, x.source, x.now); refused != nil {
		return refused
	}
	if x.list == nil {
		return invalidCommon("Region", "is not a region of this service")
	}
	x.query, refused = parseQuery(p, x.zone)
	return refused
}
