package ledger_test

import (
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
)

// savedLedgers has a bit of everything that a file can hold.
func savedLedgers(t testing.TB) map[string]*ledger.Ledger {
	s := newSteps(t)
	s.poll(in(backupA, noon, executing, pending), in(backupA, noon-5, failed), in(backupB, noon-9, unknown), in(cleanA, -7, succeeded))
	s.show()
	s.poll(in(backupA, noon, failed, failed), in(cleanA, noon+1, pending))
	s.change(in(cleanA, noon+2, failed, unknown))
	s.watch(3 * day)
	empty := newSteps(t)
	empty.poll()
	return map[string]*ledger.Ledger{"ap-guangzhou": s.ledger, "ap-beijing": empty.ledger}
}

func TestFileRoundTrip(t *testing.T) {
	ledgers := savedLedgers(t)
	first, err := ledger.Encode(ledgers)
	if err != nil {
		t.Fatal(err)
	}
	restored, err := ledger.Decode(first)
	if err != nil {
		t.Fatal(err)
	}
	for region, l := range ledgers {
		if got, want := textOf(restored[region].Counters()), textOf(l.Counters()); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", region, got, want)
		}
	}
	wantSameFile(t, restored, first)
}

func wantSameFile(t *testing.T, ledgers map[string]*ledger.Ledger, file []byte) {
	t.Helper()
	again, err := ledger.Encode(ledgers)
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != string(file) {
		t.Errorf("%q was encoded as %q", file, again)
	}
}

func TestInconsistentContent(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(l *ledger.SavedLedger, s *ledger.SavedSeries)
		good   bool
	}{
		{"nothing wrong", func(*ledger.SavedLedger, *ledger.SavedSeries) {}, true},
		{"negative time watched", func(l *ledger.SavedLedger, _ *ledger.SavedSeries) { l.Watched = -1 }, false},
		{"too much time watched", func(l *ledger.SavedLedger, _ *ledger.SavedSeries) { l.Watched = 200 * 365 * day }, false},
		{"a series twice", func(l *ledger.SavedLedger, s *ledger.SavedSeries) { l.Series = append(l.Series, *s) }, false},
		{"an instance that is not UTF-8", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.RedisID = "crs-\xff" }, false},
		{"a task name that is not UTF-8", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.TaskName = "\xff" }, false},
		{"a time missing", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Left = s.Left[1:] }, false},
		{"a time too many", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Left = append(s.Left, 0) }, false},
		{"a number missing", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Most = s.Most[1:] }, false},
		{"a number too many", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Most = append(s.Most, 1) }, false},
		{"the same second twice", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Starts[1] = 0 }, false},
		{"seconds in another order", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Starts[1] = -5 }, false},
		{"left the list now", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Left[0] = 61 }, true},
		{"left the list in the future", func(_ *ledger.SavedLedger, s *ledger.SavedSeries) { s.Left[0] = 62 }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := ledger.SavedLedger{Region: region, Source: "2.0", Watched: time.Minute, Series: []ledger.SavedSeries{
				{Series: backupA, Starts: []int64{noon, 5}, Left: []uint32{0, 0}, Most: make([]uint16, 2*ledger.Statuses)},
			}}
			test.change(&l, &l.Series[0])
			file, err := ledger.EncodeState(ledger.SavedState{Ledgers: []ledger.SavedLedger{l}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ledger.Decode(file); (err == nil) != test.good || err != nil && !errors.Is(err, ledger.ErrDamaged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Zones in whose offset gob finds a fault are not in the file.
func TestTimeZones(t *testing.T) {
	s := newSteps(t)
	s.now = s.now.In(time.FixedZone("odd", -61))
	s.poll(in(backupA, noon, unknown))
	s.restart()
	if c := s.counters.All[0]; !c.Created.Equal(s.now) || !c.RareCreated.Equal(s.now) {
		t.Errorf("created %s and %s, want %s", c.Created, c.RareCreated, s.now)
	}
}

// Nothing makes the decoder panic. What it accepts can be used, and means the
// same when it is encoded again.
func FuzzDecode(f *testing.F) {
	ledgers := savedLedgers(f)
	for _, some := range []map[string]*ledger.Ledger{ledgers, {"": ledgers["ap-beijing"]}, {}} {
		data, err := ledger.Encode(some)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[ledger.HeaderSize:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, payload []byte) {
		ledgers, err := ledger.DecodePayload(payload)
		if err != nil {
			return
		}
		file, err := ledger.Encode(ledgers)
		if err != nil {
			t.Fatal(err)
		}
		restored, err := ledger.Decode(file)
		if err != nil {
			t.Fatal(err)
		}
		wantSameFile(t, restored, file)
		for _, l := range maps.All(restored) {
			s := newSteps(t)
			s.ledger, s.source, s.counters = l, l.Source(), l.Counters()
			s.poll(in(backupA, noon, failed, unknown))
			s.settle()
			s.poll()
			s.watch(2 * time.Hour)
		}
	})
}
