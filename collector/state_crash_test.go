package collector

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
	"pgregory.net/rapid"
)

var errPower = errors.New("the power is off")

const sector = 512

// diskFS is a disk whose power may fail. Of what was not synced by then, any
// sectors may have reached it, and any first part of the changes of names.
type diskFS struct {
	t     *rapid.T
	names map[string]*diskFile
	old   []map[string]*diskFile // names before each change that is not synced

	left int   // operations until the power fails; negative for never
	err  error // what operations fail with; nil for none
}

type diskFile struct {
	data   []byte
	synced []byte
}

func (d *diskFS) operation() error {
	if d.left == 0 {
		return errPower
	}
	d.left--
	if d.err != nil && rapid.Bool().Draw(d.t, "fault") {
		return d.err
	}
	return nil
}

func (d *diskFS) change(f func(names map[string]*diskFile)) {
	d.old = append(d.old, maps.Clone(d.names))
	f(d.names)
}

func (d *diskFS) read(name string, _ int64) ([]byte, error) {
	f, ok := d.names[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(f.data), nil
}

func (d *diskFS) create(name string) (stateHandle, error) {
	if err := d.operation(); err != nil {
		return nil, err
	}
	f := &diskFile{}
	d.change(func(names map[string]*diskFile) { names[name] = f })
	return diskHandle{d, f}, nil
}

func (d *diskFS) rename(from, to string) error {
	if err := d.operation(); err != nil {
		return err
	}
	f, ok := d.names[from]
	if !ok {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*diskFile) { names[to] = f; delete(names, from) })
	return nil
}

func (d *diskFS) remove(name string) error {
	if err := d.operation(); err != nil {
		return err
	}
	d.change(func(names map[string]*diskFile) { delete(names, name) })
	return nil
}

func (d *diskFS) glob(pattern string) ([]string, error) {
	var found []string
	for name := range d.names {
		if ok, err := filepath.Match(pattern, name); err != nil {
			return nil, err
		} else if ok {
			found = append(found, name)
		}
	}
	return found, nil
}

func (d *diskFS) sync(string) error {
	if err := d.operation(); err != nil {
		return err
	}
	d.old = nil
	return nil
}

type diskHandle struct {
	disk *diskFS
	file *diskFile
}

func (h diskHandle) WriteAt(p []byte, offset int64) (int, error) {
	err := h.disk.operation()
	if err == errPower {
		p = p[:rapid.IntRange(0, len(p)).Draw(h.disk.t, "written")]
	} else if err != nil {
		p = p[:len(p)/2]
	}
	if more := int(offset) + len(p) - len(h.file.data); more > 0 {
		h.file.data = append(h.file.data, make([]byte, more)...)
	}
	return copy(h.file.data[offset:], p), err
}

func (h diskHandle) Sync() error {
	err := h.disk.operation()
	if err == nil {
		h.file.synced = slices.Clone(h.file.data)
	} else {
		h.file.synced = h.disk.settle(h.file)
	}
	return err
}

func (h diskHandle) Close() error { return nil }

// settle leaves of what was not synced the sectors that reached the disk.
func (d *diskFS) settle(f *diskFile) []byte {
	after := slices.Clone(f.synced)
	for at := 0; at < len(f.data); at += sector {
		end := min(at+sector, len(f.data))
		if at < len(after) && bytes.Equal(after[at:min(end, len(after))], f.data[at:end]) || !rapid.Bool().Draw(d.t, "sector written") {
			continue
		}
		if end > len(after) {
			after = append(after, make([]byte, end-len(after))...)
		}
		copy(after[at:end], f.data[at:end])
	}
	return after
}

// reboot leaves what reached the disk. A killed process leaves all it wrote.
func (d *diskFS) reboot(killed bool) {
	if !killed {
		if n := rapid.IntRange(0, len(d.old)).Draw(d.t, "names changed"); n < len(d.old) {
			d.names = d.old[n]
		}
		for _, name := range slices.Sorted(maps.Keys(d.names)) {
			d.names[name].data = d.settle(d.names[name])
		}
	}
	for _, f := range d.names {
		f.synced = slices.Clone(f.data)
	}
	d.old, d.left, d.err = nil, -1, nil
}

// TestStateSurvivesPowerFailures: whenever the power fails, whatever reached
// the disk, whatever failed before, no counter that was exposed goes back, and
// in the end each end of a task has counted once.
func TestStateSurvivesPowerFailures(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := &diskFS{t: t, names: map[string]*diskFile{}, left: -1}
		w := newWorld(t)
		var r *region
		start := func() {
			s, err := loadState(disk, "/state", log.NewNopLogger(), w.now)
			if err != nil {
				t.Fatal(err)
			}
			s.minLog = 300
			if s.bad || len(s.aside()) > 0 {
				t.Fatal("the file is bad")
			}
			l := s.ledger(guangzhou, 0, 0)
			r = &region{name: guangzhou, state: s, ledger: l, durable: l.current}
			w.ledger, w.tally = l, l.current
		}
		poll := func() {
			tasks := w.list()
			snap, runs := takeSnapshot([]asked{{list: list(tasks...)}}, 0)
			w.tally = r.keep(w.ledger.update(snap, runs, w.now), w.now)
			w.tally = &tally{seq: w.tally.seq, counters: slices.DeleteFunc(slices.Clone(w.tally.counters), func(c counters) bool { return c.hidden })}
		}
		start()
		poll()
		next := map[crsapi.Status][]crsapi.Status{0: {1, 2, 3, -1}, 1: {2, 3, -1}}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.now = w.now.Add(time.Second)
				w.add(w.now.Unix()-rapid.Int64Range(0, 1).Draw(t, "age"), 0)
			},
			"move": func(t *rapid.T) {
				if m := w.pick(); next[m.status] != nil {
					m.status = rapid.SampledFrom(next[m.status]).Draw(t, "status")
				}
			},
			"list":   func(t *rapid.T) { m := w.pick(); m.listed = !m.listed },
			"poll":   func(*rapid.T) { poll() },
			"scrape": func(*rapid.T) { w.scrape() },
			"wait":   func(*rapid.T) { w.now = w.now.Add(25 * time.Minute) },
			"full": func(t *rapid.T) {
				disk.err = rapid.SampledFrom([]error{nil, syscall.ENOSPC, syscall.EIO}).Draw(t, "error")
			},
			"lose power": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "polling") {
					if rapid.Bool().Draw(t, "appending") {
						disk.err = nil
						w.add(w.now.Unix(), 0)
						poll()
					}
					w.add(w.now.Unix(), 0)
					if rapid.Bool().Draw(t, "again") {
						disk.err = syscall.EIO
						poll()
						w.add(w.now.Unix(), 0)
					}
					disk.left = rapid.IntRange(0, 8).Draw(t, "operations")
					poll()
					w.scrape()
				}
				disk.reboot(rapid.Bool().Draw(t, "killed only"))
				start()
			},
			"end in peace": func(*rapid.T) {
				disk.err = nil
				r.state.close(w.now)
				start()
			},
		})
		disk.err, disk.left = nil, -1
		for _, m := range w.tasks {
			m.listed = true
		}
		for range 3 {
			poll()
			w.scrape()
		}
		want := map[seriesKey][statuses]uint64{}
		for _, m := range w.tasks {
			n := want[m.key]
			n[statusOf(m.status)]++
			want[m.key] = n
		}
		for _, c := range w.tally.counters {
			for _, st := range []status{succeeded, failed, errored} {
				if n := want[c.seriesKey][st]; c.entered[st] != n {
					t.Fatalf("%v %s: got %d, want %d", c.seriesKey, statusNames[st], c.entered[st], n)
				}
			}
			delete(want, c.seriesKey)
		}
		if len(want) > 0 {
			t.Fatalf("no counters of %v", want)
		}
		for name := range disk.names {
			if strings.Contains(name, ".bad-") {
				t.Fatal("a good file was set aside")
			}
		}
	})
}

// FuzzStateDecode: nothing makes the decoder panic, and what it takes for a
// record means the same once it is written again.
func FuzzStateDecode(f *testing.F) {
	l := newLedger()
	l.keep(1, 2)
	for i, tasks := range [][]crsapi.Task{
		{task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusExecuting), task("crs-b", clean, "2017-02-10 01:00:00", 9)},
		{
			task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed), task("crs-a", backup, "2017-02-10 01:00:00", crsapi.StatusFailed),
			task("crs-c", odd, "2017-02-10 01:00:00", crsapi.StatusPending),
		},
	} {
		snap, runs := takeSnapshot([]asked{{list: list(tasks...)}}, 0)
		l.markShown(l.update(snap, runs, beijing("2017-02-11 00:00:00").Add(time.Duration(i)*time.Minute)))
		changes, _ := l.changes(guangzhou)
		l.saved()
		whole, _ := l.whole(guangzhou)
		f.Add(changes)
		f.Add(whole)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, record []byte) {
		ledgers := map[string]*ledger{}
		if err := decodeRecord(ledgers, record); err != nil {
			return
		}
		for region, l := range ledgers {
			l.restored()
			again, _ := l.whole(region)
			copies := map[string]*ledger{}
			if err := decodeRecord(copies, again); err != nil {
				t.Fatalf("%x was written as %x: %v", record, again, err)
			}
			copies[region].restored()
			if twice, _ := copies[region].whole(region); !bytes.Equal(again, twice) {
				t.Fatalf("%x was written as %x, then as %x", record, again, twice)
			}
		}
		data := appendRecord(make([]byte, recordsOffset), record)
		_, _, _ = decodeState(data)
		_, _, _ = decodeState(record)
	})
}
