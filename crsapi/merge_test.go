package crsapi

import (
	"strings"
	"testing"
)

// FuzzSettle has a union make a list of whatever readings: it must have the
// length that is told, and no row more often than one reading showed it.
func FuzzSettle(f *testing.F) {
	f.Add([]byte("abc|cde|"), []byte("bcd|eff|"), []byte("f"), uint8(6), uint8(1))
	f.Add([]byte("aab|b|"), []byte("ab|b|"), []byte(""), uint8(3), uint8(0))
	f.Fuzz(func(t *testing.T, first, second, oldest []byte, total, lost uint8) {
		var u union
		most := map[row]int{}
		for _, reading := range [][]byte{first, second} {
			u.add(pagesOf(reading))
			shown := map[row]int{}
			for _, page := range pagesOf(reading) {
				for _, r := range page {
					shown[r]++
					most[r] = max(most[r], shown[r])
				}
			}
		}
		u.addAgain(pagesOf(oldest))
		for _, page := range pagesOf(oldest) {
			shown := map[row]int{}
			for _, r := range page {
				shown[r]++
				most[r] = max(most[r], shown[r])
			}
		}
		rows := u.settle(moment{total: int(total), oldest: pagesOf(oldest), lost: int(lost)})
		if rows == nil {
			return
		}
		if len(rows) != int(total) {
			t.Fatalf("%d rows, want %d", len(rows), total)
		}
		for _, r := range rows {
			if most[r]--; most[r] < 0 {
				t.Fatalf("row %v more often than it was shown", r)
			}
		}
	})
}

// pagesOf reads a row out of each byte, and a page's end out of each bar.
func pagesOf(text []byte) (pages [][]row) {
	for part := range strings.SplitSeq(string(text), "|") {
		var page []row
		for _, b := range []byte(part) {
			page = append(page, row{identity: identity{start: -int64(b), redisID: symbol(b % 7), taskName: 1}})
		}
		pages = append(pages, page)
	}
	return pages
}
