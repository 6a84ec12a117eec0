package mirror

import (
	"context"
	"slices"
	"sort"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

// maxInstances limits the requests for instances whose tasks have left.
const maxInstances = 4

// takeOut takes tasks out of the copy that are no longer listed: n of those up to a
// second. Most leave at the old end; else an instance was deleted.
func (m *Mirror) takeOut(ctx context.Context, upTo int64, n int) error {
	if m.byOffset != "" {
		return m.takeOutOldest(ctx, len(m.rows)-n)
	}
	have := m.count(upTo)
	// If the oldest n have left, this much of the list fits in a page.
	oldest := m.rows[min(have, n+m.size/2)-1]
	if err := m.readWindows(ctx, []int64{second(&oldest)}, []bool{true}); err != nil {
		return err
	}
	if m.count(upTo) <= have-n {
		return nil
	}
	ids, err := m.findGone(ctx, upTo)
	if err != nil || m.cfg.RedisID != "" {
		return err
	}
	for _, id := range ids[:min(len(ids), maxInstances)] {
		a, err := m.ask(ctx, endless, crsapi.Query{RedisID: id})
		if err != nil && !crsapi.IsUnknownInstance(err) {
			return err
		}
		if !a.whole() {
			continue
		}
		rows := make([]row, 0, len(m.rows))
		for x, y := range pairs(m.rows, a.between(beginning, endless)) {
			if x != nil && (x.RedisID != id || y != nil) {
				rows = append(rows, *x)
			}
		}
		m.rows = rows
	}
	return nil
}

// findGone finds the first window of which tasks have left, reads it again, and
// returns the instances of these tasks.
func (m *Mirror) findGone(ctx context.Context, upTo int64) (ids []string, err error) {
	cuts := m.windows(upTo)
	i := sort.Search(len(cuts), func(i int) bool {
		if err != nil {
			return true
		}
		var a answer
		a, err = m.ask(ctx, cuts[i], crsapi.Query{Limit: 1})
		return a.total < m.count(cuts[i])
	})
	if err != nil || i == len(cuts) {
		return nil, err
	}
	before := m.rows
	due := make([]bool, i+1)
	due[i] = true
	if err := m.readWindows(ctx, cuts[:i+1], due); err != nil {
		return nil, err
	}
	for x, y := range pairs(before, m.rows) {
		if y == nil && !isRejected(*x) && !slices.Contains(ids, x.RedisID) {
			ids = append(ids, x.RedisID)
		}
	}
	return ids, nil
}
