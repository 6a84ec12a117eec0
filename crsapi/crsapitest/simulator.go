package crsapitest

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

const (
	// Path is the only path of API 2.0. It is part of the signed text.
	Path = "/v2/index.php"

	path3 = "/"

	// window is the largest accepted difference between a Timestamp and the clock, the
	// shortest one in the vendor's documents.
	window = 5 * 60 // seconds

	defaultUTCOffset = 8 * time.Hour

	timeLayout = "2006-01-02 15:04:05"
)

// The APIs, as Fault.API and Request.API name them.
const (
	api2   = "2.0"
	api3   = "3.0"
	apiTCE = "tce"
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
	messages map[messageKey]string
	faults   []*injected
	random   *rand.Rand // for the Rate of faults
	hook     func(Request)
	zone     *time.Location
	echo     bool
	requests map[string]int // by region; of all with ""
}

var _ http.Handler = (*Simulator)(nil)

// New returns a Simulator without regions. It has one account, [SecretID] and
// [SecretKey], without a token. A Timestamp may differ from its clock by 5
// minutes, and its times are in UTC+8. Its random choices are the same each
// time.
func New() *Simulator {
	s := &Simulator{
		accounts: make(map[string]Account),
		regions:  make(map[string]*taskList),
		messages: make(map[messageKey]string),
		requests: make(map[string]int),
		nonces:   nonces{used: make(map[nonce]int64)},
		random:   rand.New(rand.NewPCG(1, 1)),
	}
	s.SetUTCOffset(defaultUTCOffset)
	s.SetAccount(Account{SecretID: SecretID, SecretKey: SecretKey})
	return s
}

// SetUTCOffset sets the time zone of all times in requests and responses.
// Positive offsets are east of Greenwich.
func (s *Simulator) SetUTCOffset(offset time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zone = time.FixedZone("", int(offset/time.Second))
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
	return cmp.Or(s.messages[messageKey{region, taskID}], s.messages[messageKey{region, 0}], "the flow failed")
}

// Requests returns the number of requests of all APIs that named an existing
// region, refused ones included. With "", it returns the number of all requests.
func (s *Simulator) Requests(region string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[region]
}

// Request is a verified request, as a hook gets it.
type Request struct {
	API    string // "2.0", "3.0" or "tce", the private cloud's GetRedisTaskList
	Action string
	Region string
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

// ServeHTTP handles one request.
func (s *Simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.newExchange()
	var refused render
	switch {
	case r.URL.Path == path3:
		refused = s.verify3(x, r)
	case r.URL.Path != Path:
		refused = htmlPage(http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		refused = htmlPage(http.StatusMethodNotAllowed)
	default:
		refused = s.verify(x, r)
	}
	if refused != nil {
		x.render = refused
	} else {
		s.accept(x)
	}
	x.respond(w, r)
}

// newExchange counts a request and returns its exchange.
func (s *Simulator) newExchange() *exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[""]++
	return &exchange{sim: s, now: time.Now(), zone: s.zone, echo: s.echo, send: sendAll}
}

// setRegion sets the region of an exchange if it exists.
func (s *Simulator) setRegion(x *exchange, region string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if x.list = s.regions[region]; x.list != nil {
		x.request.Region = region
		s.requests[region]++
	}
}

// accept calls the hook and applies the faults to a verified request.
func (s *Simulator) accept(x *exchange) {
	switch x.request.Action {
	case actionInfo:
		x.render = (*exchange).taskInfo
	case actionInstances:
		x.render = (*exchange).instancePage
	default:
		x.render = (*exchange).page
	}
	s.mu.Lock()
	hook := s.hook
	s.mu.Unlock()
	if hook != nil {
		hook(x.request)
	}
	for _, effect := range s.effects(x) {
		effect.apply(x)
	}
}
