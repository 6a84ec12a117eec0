package crsapi

import (
	"cmp"
	"slices"
)

// union is what several readings of a moving list saw, by identity.
//
// While a list moves, a task can show on two pages of one reading, or on
// none. So of each identity the union counts in two ways: the most that one
// page showed, which is never too many, and the most that all pages of one
// reading showed, which is never too few. Which is right, totalCount tells.
type union struct {
	groups   map[identity]*group
	readings int
}

// group is the tasks of one identity: one, but for twins.
type group struct {
	most   tally // of all readings
	latest tally // of the last reading
	in     int   // the reading that latest is of
}

// tally is the tasks of one identity in one reading.
type tally struct {
	onPage  []row // as many as one page showed
	inTotal []row // as many as all pages showed
}

func (t *tally) take(other tally) {
	if len(other.onPage) >= len(t.onPage) {
		t.onPage = other.onPage
	}
	if len(other.inTotal) >= len(t.inTotal) {
		t.inTotal = other.inTotal
	}
}

// add takes in a reading.
func (u *union) add(pages [][]row) {
	u.readings++
	reading := make(map[identity]tally)
	for _, page := range pages {
		for id, rows := range byIdentity(page) {
			t := reading[id]
			t.take(tally{onPage: rows})
			t.inTotal = append(t.inTotal, rows...)
			reading[id] = t
		}
	}
	for id, t := range reading {
		u.saw(id, t)
	}
}

// addAgain takes in pages of the last reading that were asked for once more.
func (u *union) addAgain(pages [][]row) {
	for _, page := range pages {
		for id, rows := range byIdentity(page) {
			u.saw(id, tally{rows, rows})
		}
	}
}

func (u *union) saw(id identity, t tally) {
	if u.groups == nil {
		u.groups = make(map[identity]*group)
	}
	g := u.groups[id]
	if g == nil {
		g = &group{}
		u.groups[id] = g
	}
	if g.in != u.readings {
		g.latest, g.in = tally{}, u.readings
	}
	g.latest.take(t)
	g.most.take(t)
}

func byIdentity(page []row) map[identity][]row {
	m := make(map[identity][]row, len(page))
	for _, r := range page {
		m[r.identity] = append(m[r.identity], r)
	}
	return m
}

// moment is what the ends of a moving list tell of how it stood at one moment.
type moment struct {
	total  int     // tasks listed at that moment
	oldest [][]row // the end where it loses, a little later
	lost   int     // at most so many dropped off in between
}

// settle returns the list as it stood at m, or nil where what was seen does
// not add up to that.
func (u *union) settle(m moment) []row {
	fewer, guessed := u.adding(m, func(t tally) []row { return t.onPage })
	if fewer != nil && !guessed {
		return fewer
	}
	more, _ := u.adding(m, func(t tally) []row { return t.inTotal })
	switch {
	case fewer == nil:
		return more
	case more == nil || slices.Equal(fewer, more):
		return fewer
	}
	return nil // a twin, or a task that dropped off: no telling
}

// adding returns the rows that make m.total of those counted, nil if none do,
// and tells whether it takes tasks among them that may have dropped off.
func (u *union) adding(m moment, count func(tally) []row) (rows []row, guessed bool) {
	listed, unsure, gone := u.sorted(m.oldest, count)
	slices.SortFunc(gone, newerFirst)
	// A task that the last reading did not show hid between two of its pages,
	// or was deleted out of the middle.
	for _, rows := range [][]row{slices.Concat(listed, unsure), listed} {
		back := m.total - len(rows)
		if back >= 0 && back <= min(m.lost, len(gone)) {
			rows = append(rows, gone[:back]...)
			slices.SortFunc(rows, newerFirst)
			return rows, back > 0
		}
	}
	return nil, false
}

// sorted tells what is listed for certain, what only an earlier reading showed,
// and what has dropped off: it ought to be among oldest, and is not.
func (u *union) sorted(oldest [][]row, count func(tally) []row) (listed, unsure, gone []row) {
	left := make(map[identity]int)
	var newest row
	for _, page := range oldest {
		for _, r := range page {
			left[r.identity]++
			if r.readable() && (!newest.readable() || r.start > newest.start) {
				newest = r
			}
		}
	}
	for id, g := range u.groups {
		most := count(g.most)
		if newest.readable() && id.redisID != rejected && id.start < newest.start {
			n := min(left[id], len(most))
			listed, gone = append(listed, most[:n]...), append(gone, most[n:]...)
			continue
		}
		var latest []row
		if g.in == u.readings {
			latest = count(g.latest)
		}
		listed, unsure = append(listed, latest...), append(unsure, most[len(latest):]...)
	}
	return listed, unsure, gone
}

func (u *union) has(r row) bool { return u.groups[r.identity] != nil }

func newerFirst(a, b row) int {
	return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(a.redisID, b.redisID), cmp.Compare(a.taskName, b.taskName))
}
