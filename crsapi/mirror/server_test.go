package mirror_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
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
	split bool   // the server knows a fraction of its second, and shows none
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
	shuffle    bool    // tasks of a second come in another order for each request
	cap        int     // rows of a page
	end        string  // of endTime: ignored, excluded, refused, fractions or endOfTask
	begin      string  // of beginTime: ignored or excluded
	order      string  // oldest (first) or mixed
	most       int     // a higher limit is refused
	strict     bool    // an offset at the end of the list is refused
	offsets    string  // rounded (to a multiple of the limit) or ignored
	pageTotals bool    // totalCount is that of the page
	faults     float64 // probability that a request fails
}

// byOffset reports whether the server cannot be read by bounds.
func (h habits) byOffset() bool {
	return h.end != "" || h.begin == "ignored" || h.order != "" || h.pageTotals
}

// server is a list that may change before each request.
type server struct {
	api     crsapi.API
	habits  habits
	luck    *rand.Rand                           // for the habits
	before  func(s *server, q crsapi.Query)      // called before each request, if not nil
	after   func(q crsapi.Query, p *crsapi.Page) // may change the answer
	latency time.Duration
	unknown error // for an instance without tasks, if not nil

	mu       sync.Mutex
	clock    int64   // of the Date header
	nodes    []*node // newest first
	requests int
	versions [][]*node // what the requests of this poll saw
	head     head
	log      []string
	lastID   int64
}

// head is the last request for the newest page of the list.
type head struct {
	nodes []*node // that it saw
	begin time.Time
}

func (s *server) API() crsapi.API { return s.api }

var errRefused = &crsapi.Error{Reason: crsapi.ReasonAPI, Code: 4000, Message: "invalid parameter"}

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
	if s.habits.most > 0 && q.Limit > s.habits.most || s.habits.end == "refused" && !q.EndTime.IsZero() {
		s.log = append(s.log, fmt.Sprint("refused: limit ", q.Limit))
		return nil, errRefused
	}
	nodes := s.selected(q)
	if s.unknown != nil && q.RedisID != "" && len(nodes) == 0 {
		return nil, s.unknown
	}
	switch s.habits.offsets {
	case "rounded":
		q.Offset = q.Offset / q.Limit * q.Limit
	case "ignored":
		q.Offset = 0
	}
	if s.habits.strict && q.Offset > 0 && q.Offset >= len(nodes) {
		return nil, errRefused
	}
	limit := q.Limit
	if s.habits.cap > 0 {
		limit = min(limit, s.habits.cap)
	}
	from := min(q.Offset, len(nodes))
	p := &crsapi.Page{TotalCount: len(nodes), Date: time.Unix(s.clock, 0).UTC()}
	nodes = nodes[from:min(from+limit, len(nodes))]
	if s.habits.pageTotals {
		p.TotalCount = len(nodes)
	}
	for _, n := range nodes {
		task := n.Task
		if n.bad != 0 {
			task = crsapi.Task{StartTime: n.StartTime, TaskID: int64(n.bad)}
		}
		p.Tasks = append(p.Tasks, task)
	}
	if s.after != nil {
		s.after(q, p)
	}
	s.log = append(s.log, fmt.Sprintf("%d..%d %s limit %d offset %d: %d of %d",
		q.BeginTime.Unix()-epoch, q.EndTime.Unix()-epoch, q.RedisID, q.Limit, q.Offset, len(p.Tasks), p.TotalCount))
	s.versions = append(s.versions, s.nodes)
	if q.EndTime.IsZero() && q.Limit > 1 && q.Offset == 0 {
		s.head = head{s.nodes, q.BeginTime}
	}
	return p, nil
}

// selected returns what a query matches, in the server's order.
func (s *server) selected(q crsapi.Query) []*node {
	nodes := s.nodes
	if !q.BeginTime.IsZero() && s.habits.begin != "ignored" {
		lo := q.BeginTime.Unix()
		if s.habits.begin == "excluded" {
			lo++
		}
		nodes = nodes[:newerThan(nodes, lo-1)]
	}
	if hi := q.EndTime.Unix(); !q.EndTime.IsZero() {
		switch s.habits.end {
		case "ignored":
		case "excluded":
			nodes = nodes[newerThan(nodes, hi-1):]
		case "fractions":
			nodes = without(nodes[newerThan(nodes, hi):], func(n *node) bool { return n.start == hi && n.split })
		case "endOfTask": // of which an unfinished one has none
			nodes = without(nodes, func(n *node) bool { return n.Status < crsapi.StatusSucceeded || n.start+90 > hi })
		default:
			nodes = nodes[newerThan(nodes, hi):]
		}
	}
	if q.RedisID != "" {
		nodes = without(nodes, func(n *node) bool { return n.bad == 0 && n.RedisID != q.RedisID })
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
	switch s.habits.order {
	case "oldest":
		nodes = slices.Clone(nodes)
		slices.Reverse(nodes)
	case "mixed":
		nodes = slices.Clone(nodes)
		slices.SortStableFunc(nodes, func(a, b *node) int { return cmp.Compare(a.start%7, b.start%7) })
	}
	return nodes
}

// newerThan returns how many nodes are newer than a second.
func newerThan(nodes []*node, second int64) int {
	return sort.Search(len(nodes), func(i int) bool { return nodes[i].start <= second })
}

func without(nodes []*node, gone func(*node) bool) []*node {
	return slices.DeleteFunc(slices.Clone(nodes), gone)
}

// add lists a task at its place.
func (s *server) add(n *node) {
	i := newerThan(s.nodes, n.start)
	s.nodes = slices.Concat(s.nodes[:i], []*node{n}, s.nodes[i:])
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
	s.nodes = without(s.nodes, gone)
}

// reset begins a new poll.
func (s *server) reset() { s.versions, s.head, s.requests = nil, head{}, 0 }

// plain returns a server with n tasks, one each interval seconds, all succeeded,
// of so many instances.
func plain(api crsapi.API, n, interval, instances int) *server {
	s := &server{api: api, luck: rand.New(rand.NewPCG(1, 1)), clock: epoch + int64(n*interval) + 200, lastID: int64(n)}
	s.nodes = make([]*node, n)
	for i := range n {
		s.nodes[n-1-i] = newNode(fmt.Sprintf("crs-%d", i%instances), "backupInstance", epoch+int64(i*interval), crsapi.StatusSucceeded)
		s.nodes[n-1-i].split = i%10 > 0
		if api != crsapi.API20 {
			s.nodes[n-1-i].TaskID = int64(i + 1)
		}
	}
	return s
}
