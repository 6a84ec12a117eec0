package collector

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"
	"unicode/utf8"
)

// journal is what of a ledger has changed since it was last saved. A nil
// journal notes nothing. The ledger's mu guards it.
type journal struct {
	filters, scope           uint64 // in force
	savedFilters, savedScope uint64
	restart                  bool // restored, and no update since

	begun   bool // something is to be saved, if only that there was a poll
	changed map[seriesKey]*seriesChange
}

// seriesChange says what of a series is to be saved beside its counters. A
// series that the ledger no longer has is to be dropped.
type seriesChange struct {
	whole  bool    // all groups, and none but them
	starts []int64 // else these
}

func (j *journal) polled() {
	if j == nil {
		return
	}
	if j.filters != j.savedFilters || j.scope != j.savedScope {
		j.begun = true
	}
	j.restart = false
}

func (j *journal) isNewScope() bool {
	return j != nil && j.restart && j.scope != j.savedScope
}

func (j *journal) areNewFilters() bool {
	return j != nil && j.restart && j.filters != j.savedFilters
}

func (j *journal) note(w *watched, starts []int64) {
	if j == nil {
		return
	}
	c, ok := j.changed[w.seriesKey]
	if !ok {
		c = &seriesChange{}
		j.changed[w.seriesKey] = c
	}
	if !c.whole {
		c.starts = append(c.starts, starts...)
	}
}

func (j *journal) noteWhole(w *watched) {
	if j != nil {
		j.changed[w.seriesKey] = &seriesChange{whole: true}
	}
}

// keep makes the ledger note what changes. If the filters or the scope
// are not those that it was saved with, the next update takes for history what
// the change brings to light.
func (l *ledger) keep(filters, scope uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.journal == nil {
		l.journal = &journal{savedFilters: filters, savedScope: scope, begun: true, changed: map[seriesKey]*seriesChange{}}
	}
	l.journal.filters, l.journal.scope = filters, scope
}

// changes returns the record of what is not saved yet, if there is anything.
func (l *ledger) changes(region string) (record []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil || !l.journal.begun && len(l.journal.changed) == 0 {
		return nil, false
	}
	return l.encode(region, l.journal.changed, false), true
}

// saved tells the ledger that its changes are durable.
func (l *ledger) saved() {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := l.journal
	j.savedFilters, j.savedScope, j.begun = j.filters, j.scope, false
	clear(j.changed)
}

// whole returns the record of the whole ledger, if there was an update ever.
func (l *ledger) whole(region string) (record []byte, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return nil, false
	}
	all := make(map[seriesKey]*seriesChange, len(l.series))
	for key := range l.series {
		all[key] = &seriesChange{whole: true}
	}
	return l.encode(region, all, true), true
}

// Flags of a series in a record.
const (
	seriesDropped byte = 1 << iota // nothing follows
	seriesWhole                    // forget the groups known so far
	seriesShown                    // a scrape has shown its first 0
	seriesUnknown                  // it has a counter of the sixth status
	seriesUnknownShown
	seriesFlags = 1<<iota - 1
)

// Flags of a record.
const (
	recordWhole byte = 1 << iota // forget what was known of the region
	recordFlags      = 1<<iota - 1
)

// severalEntered marks a group of which more than one task entered a status at
// once, which is rare. Its lower bits say which statuses any entered.
const severalEntered byte = 1 << 7

// encode returns a record of some series. Text is its length and its bytes;
// numbers are varints but for filters and scope. Every number is the whole, not a
// difference to an earlier record, so that to read a record twice does no harm.
//
//	region, flags, polled, horizon, filters, scope, number of series
//	of each series, in the order of their keys:
//	  redisId, taskName, flags
//	  polled less last listing of the instance, created and, if there is
//	  any, created of the sixth status in UNIX nanoseconds
//	  counted and held, of each status
//	  number of groups, and of each, oldest first:
//	    start less that of the group before, polled less seen
//	    which statuses were entered (one byte) and, if severalEntered, how often
func (l *ledger) encode(region string, some map[seriesKey]*seriesChange, whole bool) []byte {
	var flags byte
	if whole {
		flags = recordWhole
	}
	filters, scope := l.journal.filters, l.journal.scope
	if l.journal.restart {
		// Until a poll, the ledger is that of the filters it was saved with.
		filters, scope = l.journal.savedFilters, l.journal.savedScope
	}
	b := appendText(nil, region)
	b = append(b, flags)
	b = binary.AppendVarint(b, l.polled)
	b = binary.AppendVarint(b, l.horizon)
	b = binary.BigEndian.AppendUint64(b, filters)
	b = binary.BigEndian.AppendUint64(b, scope)
	b = binary.AppendUvarint(b, uint64(len(some)))
	keys := make([]seriesKey, 0, len(some))
	for key := range some {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, seriesKey.compare)
	for _, key := range keys {
		b = appendText(appendText(b, key.redisID), key.taskName)
		if w, ok := l.series[key]; ok {
			b = l.encodeSeries(b, w, some[key])
		} else {
			b = append(b, seriesDropped)
		}
	}
	return b
}

func (l *ledger) encodeSeries(b []byte, w *watched, c *seriesChange) []byte {
	var flags byte
	if c.whole {
		flags |= seriesWhole
	}
	if w.bornSeq <= l.shown {
		flags |= seriesShown
	}
	if !w.unknownCreated.IsZero() {
		flags |= seriesUnknown
		if w.unknownBornSeq <= l.shown {
			flags |= seriesUnknownShown
		}
	}
	b = append(b, flags)
	b = binary.AppendVarint(b, l.polled-l.instances[w.redisID].listed)
	b = binary.AppendVarint(b, w.created.UnixNano())
	if flags&seriesUnknown != 0 {
		b = binary.AppendVarint(b, w.unknownCreated.UnixNano())
	}
	for _, n := range w.counted {
		b = binary.AppendUvarint(b, n)
	}
	for _, n := range w.held {
		b = binary.AppendUvarint(b, n)
	}

	groups := w.groups
	if !c.whole {
		groups = w.only(c.starts)
	}
	b = binary.AppendUvarint(b, uint64(len(groups)))
	last := int64(0)
	for _, g := range groups {
		b = binary.AppendVarint(b, g.start-last)
		b = binary.AppendVarint(b, l.polled-int64(g.seen))
		b = appendEntered(b, g.entered)
		last = g.start
	}
	return b
}

// only returns the groups that start at one of starts.
func (w *watched) only(starts []int64) []group {
	slices.Sort(starts)
	groups := make([]group, 0, len(starts))
	for _, start := range slices.Compact(starts) {
		if i, ok := w.find(start); ok {
			groups = append(groups, w.groups[i])
		}
	}
	return groups
}

func (w *watched) find(start int64) (int, bool) {
	return slices.BinarySearchFunc(w.groups, start, func(g group, start int64) int { return cmp.Compare(g.start, start) })
}

func appendEntered(b []byte, entered [statuses]uint16) []byte {
	var which byte
	for st, n := range entered {
		if n > 0 {
			which |= 1 << st
		}
		if n > 1 {
			which |= severalEntered
		}
	}
	b = append(b, which)
	for _, n := range entered {
		if which&severalEntered != 0 && n > 0 {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	return b
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decodeRecord takes a record into the ledger of its region.
func decodeRecord(ledgers map[string]*ledger, payload []byte) error {
	d := decoder{rest: payload}
	region := d.text()
	flags := d.byte()
	if d.failed || flags > recordFlags {
		return errRecord
	}
	l, ok := ledgers[region]
	if !ok || flags&recordWhole != 0 {
		l = newLedger()
		l.journal = &journal{restart: true, changed: map[seriesKey]*seriesChange{}}
		ledgers[region] = l
	}
	l.polled, l.horizon = d.varint(), d.varint()
	l.journal.savedFilters, l.journal.savedScope = d.fixed(), d.fixed()
	l.journal.filters, l.journal.scope = l.journal.savedFilters, l.journal.savedScope
	for n := d.uvarint(); n > 0 && !d.failed; n-- {
		l.decodeSeries(&d)
	}
	if d.failed || len(d.rest) > 0 {
		return errRecord
	}
	return nil
}

var errRecord = errors.New("not a record")

func (l *ledger) decodeSeries(d *decoder) {
	key := seriesKey{d.text(), d.text()}
	flags := d.byte()
	if flags > seriesFlags || flags&seriesDropped != 0 && flags != seriesDropped {
		d.failed = true
	}
	if d.failed {
		return
	}
	w, ok := l.series[key]
	if flags == seriesDropped {
		if ok {
			l.drop(w)
		}
		return
	}
	if !ok {
		w = l.watch(key, 0, time.Time{})
	}
	l.instances[key.redisID].listed = l.polled - d.varint()
	w.created, w.unknownCreated = time.Unix(0, d.varint()), time.Time{}
	if flags&seriesUnknown != 0 {
		w.unknownCreated = time.Unix(0, d.varint())
	}
	// The ledger begins with a tally of sequence 1 of which nothing was shown.
	w.bornSeq, w.unknownBornSeq = 1, 1
	if flags&seriesShown != 0 {
		w.bornSeq = 0
	}
	if flags&seriesUnknownShown != 0 {
		w.unknownBornSeq = 0
	}
	for st := range w.counted {
		w.counted[st] = d.uvarint()
	}
	for st := range w.held {
		w.held[st] = d.uvarint()
	}
	if flags&seriesWhole != 0 {
		w.groups = nil
	}
	w.decodeGroups(d, l.polled)
}

func (w *watched) decodeGroups(d *decoder, polled int64) {
	n := d.uvarint()
	// A group takes three bytes at least.
	if d.failed || n > uint64(len(d.rest))/3 {
		d.failed = true
		return
	}
	fresh := make([]group, 0, n)
	last := int64(0)
	for i := range n {
		g := group{start: last + d.varint()}
		seen := polled - d.varint()
		g.entered = d.entered()
		if d.failed || i > 0 && g.start <= last || seen < 0 || seen > math.MaxUint32 {
			d.failed = true
			return
		}
		g.seen, last = uint32(seen), g.start
		if at, ok := w.find(g.start); ok {
			w.groups[at] = g
		} else {
			fresh = append(fresh, g)
		}
	}
	w.insert(fresh)
}

// drop forgets a series and, with its last, its instance.
func (l *ledger) drop(w *watched) {
	delete(l.series, w.seriesKey)
	in := l.instances[w.redisID]
	in.series = slices.DeleteFunc(in.series, func(other *watched) bool { return other == w })
	if len(in.series) == 0 {
		delete(l.instances, w.redisID)
	}
}

// restored makes good what no record tells.
func (l *ledger) restored() {
	for _, w := range l.series {
		w.stale = math.MaxInt64
		for _, g := range w.groups {
			w.stale = min(w.stale, int64(g.seen))
		}
		if w.isHolding() {
			l.holding = append(l.holding, w)
		}
	}
	l.current = l.tally(1)
}

// decoder reads a record. After what cannot be read it has failed, and all it
// returns is 0.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.rest) {
		d.failed = true
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) fixed() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 || d.take(size) == nil {
		d.failed = true
		return 0
	}
	return n
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || d.take(size) == nil {
		d.failed = true
		return 0
	}
	return n
}

func (d *decoder) text() string {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.failed = true
		return ""
	}
	text := string(d.take(int(n)))
	if !utf8.ValidString(text) {
		d.failed = true // it would break the exposition
		return ""
	}
	return text
}

func (d *decoder) entered() (entered [statuses]uint16) {
	which := d.byte()
	if which&^severalEntered >= 1<<statuses {
		d.failed = true
	}
	for st := range entered {
		if which&(1<<st) == 0 {
			continue
		}
		n := uint64(1)
		if which&severalEntered != 0 {
			n = d.uvarint()
		}
		if n == 0 || n > math.MaxUint16 {
			d.failed = true
		}
		entered[st] = uint16(n)
	}
	return entered
}
