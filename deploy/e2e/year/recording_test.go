package year

import (
	"compress/gzip"
	"encoding/gob"
	"errors"
	"io"
	"strconv"
	"strings"
)

// frame is what happens at one step.
type frame struct {
	At    int64  // seconds
	Views []view // of each Prometheus
}

// view is what a Prometheus scrapes, or what happens to it.
type view struct {
	Does    promDoes
	Targets []scrape
}

// scrape is what one target answers, as the difference to its last scrape.
type scrape struct {
	Target int
	Moves  int // to other addresses, up to now
	State  scrapeState
	New    []string // series that were never seen before; their ids go on from the last
	Set    []sample
	Gone   []int // series that are there no more
}

type scrapeState int

const (
	answered   scrapeState = iota
	unanswered             // up is 0
	noTarget               // service discovery does not have it
)

type sample struct {
	ID    int
	Value float64
}

// header says what a recording is of.
type header struct{ Options options }

// recorder writes a recording.
type recorder struct {
	zip *gzip.Writer
	gob *gob.Encoder

	views []memories // of each Prometheus
}

// memories is what a Prometheus knows of its targets.
type memories []*memory

// memory is what a scraper knows of a target.
type memory struct {
	ids    map[string]int // of all series that were ever seen
	values map[int]float64
}

func record(to io.Writer, h header, prometheuses, targets int) (*recorder, error) {
	zip, err := gzip.NewWriterLevel(to, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	r := &recorder{zip: zip, gob: gob.NewEncoder(zip)}
	r.views = make([]memories, prometheuses)
	for n := range r.views {
		for range targets {
			r.views[n] = append(r.views[n], &memory{ids: map[string]int{}, values: map[int]float64{}})
		}
	}
	return r, r.gob.Encode(h)
}

func (r *recorder) close() error { return r.zip.Close() }

// forget drops what a Prometheus knows, as Prometheus does when it ends. A series that
// ends meanwhile gets no stale marker.
func (all memories) forget() {
	for _, m := range all {
		clear(m.values)
	}
}

// difference returns what a text of series changes.
func (m *memory) difference(text string) (s scrape, err error) {
	seen := make(map[int]bool, len(m.values))
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "crs_") || strings.HasPrefix(line, "crs_api_request_duration_seconds") {
			continue // comments, the Go runtime, and what no rule reads
		}
		cut := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return scrape{}, err
		}
		id, known := m.ids[line[:cut]]
		if !known {
			id = len(m.ids)
			m.ids[strings.Clone(line[:cut])] = id
			s.New = append(s.New, line[:cut])
		}
		seen[id] = true
		if old, there := m.values[id]; !there || old != value {
			s.Set = append(s.Set, sample{id, value})
			m.values[id] = value
		}
	}
	for id := range m.values {
		if !seen[id] {
			s.Gone = append(s.Gone, id)
			delete(m.values, id)
		}
	}
	return s, nil
}

// play calls use for each frame of a recording.
func play(from io.Reader, use func(frame) error) (h header, err error) {
	zip, err := gzip.NewReader(from)
	if err != nil {
		return h, err
	}
	dec := gob.NewDecoder(zip)
	if err := dec.Decode(&h); err != nil {
		return h, err
	}
	for {
		var next frame
		switch err := dec.Decode(&next); {
		case errors.Is(err, io.EOF):
			return h, nil
		case err != nil:
			return h, err
		}
		if err := use(next); err != nil {
			return h, err
		}
	}
}
