package collector

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/prometheus/common/expfmt"
)

// maxAnswers limits the encoded answers in memory: one may have many megabytes,
// and its readers may be slow.
const maxAnswers = 3

// errCut ends the readers of an answer that made room for a newer one.
var errCut = errors.New("newer answers need the memory")

// answers holds the metrics of the regions, encoded for scrapes. Scrapes that show
// the same in the same form share one answer. It is safe for concurrent use.
type answers struct {
	// keep keeps an answer without readers: a poll may answer later scrapes.
	keep bool

	compressors compressors

	// encoding lets one answer be encoded at a time. That takes more memory than
	// the encoded answer.
	encoding sync.Mutex

	mu   sync.Mutex
	live []*answer // oldest first
}

// form is how an answer is encoded.
type form struct {
	format expfmt.Format
	gzip   bool
}

// answer is the part of a response with the metrics of the regions.
type answer struct {
	form
	names   []string // of the only families; all if empty
	readers int      // guarded by answers.mu

	encode sync.Once
	sum    checksum

	mu      sync.Mutex
	results *Results // nil if the answer was cut
	chunks  [][]byte
	err     error
}

// take returns the answer of results for one more reader, who must release it. An
// answer with some families only is not shared.
func (as *answers) take(results *Results, f form, names []string) (*answer, error) {
	a := as.join(results, f, names)
	a.encode.Do(func() {
		as.encoding.Lock()
		defer as.encoding.Unlock()
		as.makeRoom(results)
		p, err := as.encode(results, f, names)
		a.sum = p.sum
		a.mu.Lock()
		defer a.mu.Unlock()
		a.chunks, a.err = p.chunks, err
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		defer as.release(a)
	}
	return a, a.err
}

func (as *answers) join(results *Results, f form, names []string) *answer {
	as.mu.Lock()
	defer as.mu.Unlock()
	i := slices.IndexFunc(as.live, func(a *answer) bool {
		return a.form == f && len(a.names)+len(names) == 0 && slices.Equal(a.results.regions, results.regions)
	})
	if i >= 0 {
		as.live[i].readers++
		return as.live[i]
	}
	a := &answer{form: f, names: names, readers: 1, results: results}
	as.live = append(as.live, a)
	return a
}

// makeRoom frees answers so that one more can be encoded. It cuts only encoded ones:
// the others take no memory yet.
func (as *answers) makeRoom(results *Results) {
	as.mu.Lock()
	defer as.mu.Unlock()
	as.live = slices.DeleteFunc(as.live, func(a *answer) bool {
		return a.readers == 0 && !slices.Equal(a.results.regions, results.regions)
	})
	encoded := 0
	for _, a := range as.live {
		if a.isEncoded() {
			encoded++
		}
	}
	as.live = slices.DeleteFunc(as.live, func(a *answer) bool {
		if encoded < maxAnswers || !a.isEncoded() {
			return false
		}
		encoded--
		a.cut()
		return true
	})
}

func (as *answers) release(a *answer) {
	as.mu.Lock()
	defer as.mu.Unlock()
	a.readers--
	if a.readers == 0 && !as.keep {
		as.live = slices.DeleteFunc(as.live, func(other *answer) bool { return other == a })
	}
}

// markShown tells the ledgers that a scraper has received the answer.
func (a *answer) markShown() {
	a.mu.Lock()
	results := a.results
	a.mu.Unlock()
	if results != nil {
		results.markShown()
	}
}

// encode returns the families of results, encoded.
func (as *answers) encode(results *Results, f form, names []string) (p part, err error) {
	write := func(w io.Writer) error {
		encoder := expfmt.NewEncoder(w, f.format, expfmt.WithCreatedLines())
		families := results.families()
		for i, family := range families {
			families[i] = nil // it can be freed before the others
			if len(names) > 0 && !slices.Contains(names, family.GetName()) {
				continue
			}
			if err := encoder.Encode(family); err != nil {
				return fmt.Errorf("encode %s: %w", family.GetName(), err)
			}
		}
		return nil
	}
	if f.gzip {
		return as.compressors.first(write)
	}
	err = write(&p)
	return p, err
}

func (a *answer) isEncoded() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.chunks != nil
}

// cut frees the memory of the answer. Readers get errCut.
func (a *answer) cut() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.results, a.chunks, a.err = nil, nil, errCut
}

// writeTo writes the answer, chunk by chunk: a reader that was cut holds no more
// than one.
func (a *answer) writeTo(w io.Writer) error {
	for i := 0; ; i++ {
		a.mu.Lock()
		err, chunks := a.err, a.chunks
		a.mu.Unlock()
		switch {
		case err != nil:
			return err
		case i == len(chunks):
			return nil
		}
		if _, err := w.Write(chunks[i]); err != nil {
			return err
		}
	}
}
