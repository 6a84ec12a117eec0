package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
	"pgregory.net/rapid"
)

var errPower = errors.New("the power is off")

// sector is what a disk writes at once.
const sector = 64

// powerDisk is a disk whose power may fail, in memory. Of a file that was not
// synced, any sectors may then be on it, and of renames that were not synced,
// any first ones.
type powerDisk struct {
	t     *rapid.T
	files map[string]*powerFile
	// names are the contents that the state file may have after the power has
	// failed, the newest last. It is nil where there may be none.
	names []*powerFile
	left  int   // operations until the power fails; negative for never
	err   error // what operations fail with by chance; nil for none
}

type powerFile struct{ data, synced []byte }

// begin begins an operation. It reports an error, and whether the operation
// takes effect anyway.
func (d *powerDisk) begin() (err error, effect bool) {
	if d.left == 0 {
		return errPower, false
	}
	d.left--
	if d.err != nil && rapid.Bool().Draw(d.t, "fails") {
		return d.err, rapid.Bool().Draw(d.t, "takes effect")
	}
	return nil, true
}

func (d *powerDisk) Write(name string, data []byte) error {
	off := d.left == 0
	err, effect := d.begin()
	f := &powerFile{data: data}
	if err != nil {
		f.data = data[:rapid.IntRange(0, len(data)).Draw(d.t, "bytes written")]
	} else if effect {
		f.synced = data
	}
	if !off || len(f.data) > 0 {
		d.files[name] = f
	}
	return err
}

func (d *powerDisk) Rename(from, _ string) error {
	err, effect := d.begin()
	if effect {
		d.names = append(d.names, d.files[from])
		delete(d.files, from)
	}
	return err
}

func (d *powerDisk) Sync(string) error {
	err, effect := d.begin()
	if effect {
		d.names = d.names[len(d.names)-1:]
	}
	return err
}

// after returns the files after a failure, or after a kill, which loses nothing.
func (d *powerDisk) after(killed bool) (state, temporary []byte) {
	n := len(d.names) - 1
	for _, f := range d.files {
		temporary = d.leftOf(f, killed)
	}
	d.files = map[string]*powerFile{}
	if !killed {
		n = rapid.IntRange(0, n).Draw(d.t, "renames that are on the disk")
	}
	if f := d.names[n]; f != nil {
		state = d.leftOf(f, killed)
		d.names = []*powerFile{{state, state}}
	} else {
		d.names = []*powerFile{nil}
	}
	d.left, d.err = -1, nil
	return state, temporary
}

// leftOf returns what is left of a file.
func (d *powerDisk) leftOf(f *powerFile, killed bool) []byte {
	if killed || len(f.synced) == len(f.data) {
		return f.data
	}
	left := make([]byte, rapid.IntRange(0, len(f.data)).Draw(d.t, "size"))
	for at := 0; at < len(left); at += sector {
		if rapid.Bool().Draw(d.t, "sector") {
			copy(left[at:min(at+sector, len(left))], f.data[at:])
		}
	}
	return left
}

// Whenever the power fails or the process is killed, whatever is on the disk then, and
// whatever has failed before: the file has no fault, no counter that was shown decreases,
// and each end of a task counts once.
func TestPowerFailures(t *testing.T) {
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs))
		disk := &powerDisk{t: t, files: map[string]*powerFile{}, names: []*powerFile{nil}, left: -1}
		w := newWorld(t)
		var store *ledger.Store
		open := func() {
			var err error
			if store, err = ledger.OpenOn(disk, path, log.NewNopLogger()); err != nil {
				t.Fatal(err)
			}
			if reset := store.Status().LastReset; !reset.IsZero() {
				t.Fatal("the file has a fault")
			}
			w.ledger = store.Ledgers([]string{region})[0]
			w.counters = [][]ledger.Counters{w.ledger.Counters()}
		}
		poll := func() bool { // as the collector does: it shows what is saved
			w.apply()
			saved := store.Save()
			if saved {
				w.counters = [][]ledger.Counters{w.ledger.Counters()}
			}
			return saved
		}
		open()
		defer func() { store.Close() }()
		if !poll() {
			t.Fatal(store.Status().Err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				w.now = w.now.Add(time.Second)
				w.add(w.now.Unix()-rapid.Int64Range(0, 1).Draw(t, "age"), pending)
			},
			"progress": func(*rapid.T) { w.progress() },
			"toggle":   func(*rapid.T) { w.toggle() },
			"poll":     func(*rapid.T) { poll() },
			"scrape":   func(*rapid.T) { w.scrape() },
			"let the disk fail": func(t *rapid.T) {
				disk.err = rapid.SampledFrom([]error{nil, syscall.ENOSPC, syscall.EIO}).Draw(t, "error")
			},
			"fail": func(t *rapid.T) {
				disk.left = rapid.IntRange(0, 5).Draw(t, "operations")
				for range 3 {
					w.add(w.now.Unix(), pending)
					poll()
					w.scrape()
				}
				disk.left = 0
				store.Close()
				state, temporary := disk.after(rapid.Bool().Draw(t, "killed"))
				var err error
				if state != nil {
					err = os.WriteFile(path, state, 0o600)
				} else {
					err = os.RemoveAll(path)
				}
				if err := errors.Join(err, os.WriteFile(path+".tmp", temporary, 0o600)); err != nil {
					t.Fatal(err)
				}
				open()
			},
			"close": func(t *rapid.T) {
				disk.err = nil
				store.Close()
				state, _ := disk.after(true)
				if err := os.WriteFile(path, state, 0o600); err != nil {
					t.Fatal(err)
				}
				open()
			},
		})
		disk.err, disk.left = nil, -1
		for _, task := range w.tasks {
			task.listed = true
		}
		for range 3 {
			if !poll() {
				t.Fatal(store.Status().Err)
			}
			w.scrape()
			w.scrape()
		}
		wantEnds(t, values(w.ledger), w.tasks)
	})
}
