package mirror_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// epoch is about when the lists of these tests begin.
const epoch = 1_700_000_000

// node is a listed task. Nodes are never changed: a task that changes gets a new
// one.
type node struct {
	crsapi.Task
	start int64
	bad   uint64 // hash of a row that cannot be read, or 0
}

func newNode(redisID, taskName string, start int64, status crsapi.Status) *node {
	return &node{
		Task: crsapi.Task{
			RedisID: redisID, RedisName: "n", ProjectID: "0", TaskName: taskName,
			StartTime: time.Unix(start, 0).UTC(), Status: status,
		},
		start: start,
	}
}

// habits are what a server does otherwise than the document says.
type habits struct {
	shuffle   bool   // tasks of a second come in another order for each request
	cap       int    // rows of a page
	ignore    string // begin, end or status
	exclusive string // begin or end
	unsorted  bool
	faults    float64 // probability that a request fails
}

// server is a list that may change before each request.
type server struct {
	api     crsapi.API
	habits  habits
	luck    *rand.Rand                           // for the habits
	before  func(s *server, q crsapi.Query)      // called before each request, if not nil
	after   func(q crsapi.Query, p *crsapi.Page) // may change the answer
	latency time.Duration

	mu       sync.Mutex
	clock    int64   // of the Date header
	nodes    []*node // newest first
	requests int
	versions [][]*node // what the requests of this poll saw
	heads    []head
	offsets  bool // a request of this poll read the list by offset
	log      []string
}

// head is a request for the newest page of the list.
type head struct {
	version int
	begin   time.Time
}

func (s *server) API() crsapi.API { return s.api }

type verifying struct{}

var errFault = &crsapi.Error{Reason: crsapi.ReasonServer, Message: "a fault"}

func (s *server) Page(ctx context.Context, q crsapi.Query) (*crsapi.Page, error) {
	if s.latency > 0 {
		time.Sleep(s.latency)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, status := range q.Statuses {
		if !slices.Contains(s.api.StatusFilters(), status) {
			panic("a filter that the API does not have")
		}
	}
	if q.Limit < 1 || q.Limit > s.api.MaxPageSize() {
		panic(fmt.Sprint("limit ", q.Limit))
	}
	if !q.BeginTime.IsZero() && !q.EndTime.IsZero() && q.EndTime.Before(q.BeginTime) {
		panic("an empty time")
	}
	s.requests++
	if s.before != nil {
		s.before(s, q)
	}
	if s.habits.faults > 0 && s.luck.Float64() < s.habits.faults {
		s.log = append(s.log, "fault")
		return nil, errFault
	}
	nodes, total := s.selected(q)
	limit := q.Limit
	if s.habits.cap > 0 {
		limit = min(limit, s.habits.cap)
	}
	from := min(q.Offset, len(nodes))
	p := &crsapi.Page{TotalCount: total, Date: time.Unix(s.clock, 0).UTC()}
	for i, n := range nodes[from:min(from+limit, len(nodes))] {
		if n.bad != 0 {
			p.Rejected = append(p.Rejected, crsapi.RejectedRow{Index: i, StartTime: n.StartTime, Hash: n.bad})
			continue
		}
		p.Tasks = append(p.Tasks, n.Task)
	}
	if s.after != nil {
		s.after(q, p)
	}
	s.note(ctx, q, p)
	return p, nil
}

// selected returns what a query matches, newest first.
func (s *server) selected(q crsapi.Query) (nodes []*node, total int) {
	nodes = s.nodes
	lo, hi := int64(-1<<62), int64(1<<62)
	if !q.BeginTime.IsZero() && s.habits.ignore != "begin" {
		lo = q.BeginTime.Unix()
		if s.habits.exclusive == "begin" {
			lo++
		}
	}
	if !q.EndTime.IsZero() && s.habits.ignore != "end" {
		hi = q.EndTime.Unix()
		if s.habits.exclusive == "end" {
			hi--
		}
	}
	older := func(n *node, at int64) int { return cmp.Compare(at, n.start) }
	i, _ := slices.BinarySearchFunc(nodes, hi, older)
	j, _ := slices.BinarySearchFunc(nodes, lo-1, older)
	nodes = nodes[i:max(i, j)]
	if q.RedisID != "" || len(q.Statuses) > 0 && s.habits.ignore != "status" {
		var matching []*node
		for _, n := range nodes {
			if n.bad != 0 || (q.RedisID == "" || n.RedisID == q.RedisID) &&
				(len(q.Statuses) == 0 || s.habits.ignore == "status" || slices.Contains(q.Statuses, n.Status)) {
				matching = append(matching, n)
			}
		}
		nodes = matching
	}
	if s.habits.shuffle {
		nodes = slices.Clone(nodes)
		for rest := nodes; len(rest) > 0; {
			n := 1
			for n < len(rest) && rest[n].start == rest[0].start {
				n++
			}
			s.luck.Shuffle(n, func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
			rest = rest[n:]
		}
	}
	if s.habits.unsorted {
		nodes = slices.Clone(nodes)
		slices.SortStableFunc(nodes, func(a, b *node) int { return cmp.Compare(a.start%7, b.start%7) })
	}
	return nodes, len(nodes)
}

func (s *server) note(ctx context.Context, q crsapi.Query, p *crsapi.Page) {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprint(t.Unix() - epoch)
	}
	who := "request"
	if ctx.Value(verifying{}) != nil {
		who = "verify"
	}
	s.log = append(s.log, fmt.Sprintf("%s %s..%s %s status %v limit %d offset %d: %d of %d",
		who, at(q.BeginTime), at(q.EndTime), q.RedisID, q.Statuses, q.Limit, q.Offset, len(p.Tasks)+len(p.Rejected), p.TotalCount))
	if who == "verify" {
		return
	}
	s.versions = append(s.versions, s.nodes)
	if q.EndTime.IsZero() && len(q.Statuses) == 0 {
		if q.Offset == 0 {
			s.heads = append(s.heads, head{len(s.versions) - 1, q.BeginTime})
		} else if q.BeginTime.IsZero() {
			s.offsets = true
		}
	}
}

// add lists a task at its place.
func (s *server) add(n *node) {
	i, _ := slices.BinarySearchFunc(s.nodes, n.start, func(n *node, at int64) int { return cmp.Compare(at, n.start) })
	nodes := make([]*node, 0, len(s.nodes)+1)
	nodes = append(nodes, s.nodes[:i]...)
	s.nodes = append(append(nodes, n), s.nodes[i:]...)
}

// change replaces a listed task.
func (s *server) change(i int, change func(*node)) {
	n := *s.nodes[i]
	change(&n)
	s.nodes = slices.Clone(s.nodes)
	s.nodes[i] = &n
}

// remove takes tasks off the list.
func (s *server) remove(gone func(*node) bool) {
	s.nodes = slices.DeleteFunc(slices.Clone(s.nodes), gone)
}

// reset begins a new poll.
func (s *server) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions, s.heads, s.offsets, s.requests = nil, nil, false, 0
}

// plain returns a server with n tasks, one each interval seconds, all succeeded,
// of so many instances.
func plain(api crsapi.API, n, interval, instances int) *server {
	s := &server{api: api, luck: rand.New(rand.NewPCG(1, 1)), clock: epoch + int64(n*interval) + 200}
	s.nodes = make([]*node, n)
	for i := range n {
		s.nodes[n-1-i] = newNode(fmt.Sprintf("crs-%d", i%instances), "backupInstance", epoch+int64(i*interval), crsapi.StatusSucceeded)
		if api != crsapi.API20 {
			s.nodes[n-1-i].TaskID = int64(i + 1)
		}
	}
	return s
}
