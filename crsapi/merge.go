package crsapi

import (
	"cmp"
	"math"
	"slices"
)

// union is what several readings of a moving list saw, by identity.
//
// While a list moves, a task can show on two pages of one reading, or on
// none. So of each identity the union keeps the most that one page showed,
// which is never too many, and the most that one reading showed on all its
// pages, which is never too few where that reading saw them. Which of the two
// is right, totalCount tells.
type union struct {
	groups   map[identity]*group
	readings int
}

// group is the tasks of one identity: one, but for twins.
type group struct {
	onPage      []row // the most that one page showed, the latest of equals
	inReading   []row // the most that one reading showed, the latest of equals
	lastReading int   // that saw any of them
}

// add takes in a reading: its pages, and the page that was asked for again
// after them.
func (u *union) add(pages [][]row, again []row) {
	if u.groups == nil {
		u.groups = make(map[identity]*group)
	}
	u.readings++
	reading := make(map[identity][]row)
	for _, page := range pages {
		for id, rows := range u.addPage(page) {
			reading[id] = append(reading[id], rows...)
		}
	}
	for id, rows := range reading {
		if g := u.groups[id]; len(rows) >= len(g.inReading) {
			g.inReading = rows
		}
	}
	u.addPage(again)
}

func (u *union) addPage(page []row) map[identity][]row {
	byIdentity := make(map[identity][]row, len(page))
	for _, r := range page {
		byIdentity[r.identity] = append(byIdentity[r.identity], r)
	}
	for id, rows := range byIdentity {
		g := u.groups[id]
		if g == nil {
			g = &group{}
			u.groups[id] = g
		}
		if len(rows) >= len(g.onPage) {
			g.onPage = rows
		}
		g.lastReading = u.readings
	}
	return byIdentity
}

// settle returns the list as it stood when the last reading ended with total
// tasks, or nil where what was seen does not add up to that. Tail is the page
// where old tasks drop off, asked for after that.
func (u *union) settle(total int, tail []row) []row {
	inTail := u.addPage(tail)
	newestOfTail := int64(math.MinInt64)
	for _, r := range tail {
		if r.readable() {
			newestOfTail = max(newestOfTail, r.start)
		}
	}
	gone := func(id identity, g *group) bool {
		_, listed := inTail[id]
		return g.lastReading < u.readings ||
			!listed && id.redisID != rejected && id.start < newestOfTail
	}
	onPage := func(g *group) []row { return g.onPage }
	inReading := func(g *group) []row {
		if len(g.inReading) > len(g.onPage) {
			return g.inReading
		}
		return g.onPage
	}
	for _, rowsOf := range []func(*group) []row{onPage, inReading} {
		if rows, ok := u.trimmed(total, rowsOf, gone); ok {
			return rows
		}
	}
	return nil
}

// trimmed returns the rows of all groups, less the oldest of those that have
// gone, if that makes total of them.
func (u *union) trimmed(total int, rowsOf func(*group) []row, gone func(identity, *group) bool) ([]row, bool) {
	rows := make([]row, 0, total)
	var leavers []row
	for id, g := range u.groups {
		if gone(id, g) {
			leavers = append(leavers, rowsOf(g)...)
		} else {
			rows = append(rows, rowsOf(g)...)
		}
	}
	// Some of those that have gone by now had not when total was told.
	stayed := total - len(rows)
	if stayed < 0 || stayed > len(leavers) {
		return nil, false
	}
	slices.SortFunc(leavers, newerFirst)
	rows = append(rows, leavers[:stayed]...)
	slices.SortFunc(rows, newerFirst)
	return rows, true
}

func newerFirst(a, b row) int {
	return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(a.redisID, b.redisID), cmp.Compare(a.taskName, b.taskName))
}
