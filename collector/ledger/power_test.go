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

// sector is what a disk writes at once.
const sector = 64

// powerDisk has a state file, and knows what the disk may have of it after the power has
// failed: of a file that was not synced, any sectors, and of renames that were not synced,
// any first ones.
type powerDisk struct {
	t      *rapid.T
	path   string
	synced map[string]bool // contents of files that were synced
	// contents are those that the state file may have, the newest last. It is "" where
	// there may be no file.
	contents []string
	left     int   // syncs until the power fails; negative for never
	err      error // what syncs fail with by chance; nil for none
}

func (d *powerDisk) sync(f *os.File) error {
	if d.left == 0 {
		return errors.New("the power is off")
	}
	d.left--
	fails, effect := false, true
	if d.err != nil && rapid.Bool().Draw(d.t, "fails") {
		fails, effect = true, rapid.Bool().Draw(d.t, "takes effect")
	}
	if d.look(); effect {
		if f.Name() == filepath.Dir(d.path) {
			d.contents = d.contents[len(d.contents)-1:]
		} else {
			d.synced[d.read(f.Name())] = true
		}
	}
	if fails {
		return d.err
	}
	return nil
}

// look notices a rename.
func (d *powerDisk) look() {
	if now := d.read(d.path); now != d.contents[len(d.contents)-1] {
		d.contents = append(d.contents, now)
	}
}

func (d *powerDisk) read(name string) string {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	return string(data)
}

// fail leaves what the disk may have, and of the temporary file anything.
func (d *powerDisk) fail() {
	d.look()
	content := rapid.SampledFrom(d.contents).Draw(d.t, "the last rename on the disk")
	if content != "" && !d.synced[content] {
		content = d.sectors(content)
	}
	d.contents = []string{content}
	err := os.WriteFile(d.path+".tmp", []byte(d.sectors(content)), 0o600)
	if content == "" {
		err = errors.Join(err, os.RemoveAll(d.path))
	} else {
		err = errors.Join(err, os.WriteFile(d.path, []byte(content), 0o600))
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// sectors returns what is left of a file that was not synced.
func (d *powerDisk) sectors(content string) string {
	left := make([]byte, rapid.IntRange(0, len(content)).Draw(d.t, "size"))
	for at := 0; at < len(left); at += sector {
		if rapid.Bool().Draw(d.t, "sector") {
			copy(left[at:min(at+sector, len(left))], content[at:])
		}
	}
	return string(left)
}

// Whenever the power fails or the process is killed, whatever is on the disk then, and
// whatever has failed before: the file has no fault, no counter that was shown decreases,
// and each end of a task counts once.
func TestPowerFailures(t *testing.T) {
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		path := filepath.Join(dir, fmt.Sprint(runs))
		disk := &powerDisk{t: t, path: path, synced: map[string]bool{}, contents: []string{""}, left: -1}
		w := newWorld(t)
		var store *ledger.Store
		open := func() {
			disk.contents = disk.contents[len(disk.contents)-1:] // what a process reads, is on the disk soon
			var err error
			if store, err = ledger.Open(path, log.NewNopLogger()); err != nil {
				t.Fatal(err)
			}
			if reset := store.Status().LastReset; !reset.IsZero() {
				t.Fatal("the file has a fault")
			}
			store.SetSync(disk.sync)
			w.ledger = store.Ledgers([]string{region})[0]
			w.counters = [][]ledger.Counters{w.ledger.Counters()}
		}
		poll := func() bool { // as the collector does: it shows what is saved
			w.apply()
			saved := store.Save()
			if disk.look(); saved {
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
				disk.left = rapid.IntRange(0, 5).Draw(t, "syncs")
				for range 3 {
					w.add(w.now.Unix(), pending)
					poll()
					w.scrape()
				}
				disk.left = 0
				store.Close()
				if rapid.Bool().Draw(t, "power") { // else it is killed, which loses nothing
					disk.fail()
				}
				disk.left, disk.err = -1, nil
				open()
			},
			"close": func(t *rapid.T) {
				store.Close()
				open()
			},
		})
		disk.err = nil
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

// wantEnds wants each end of a task to count, those of twins too.
func wantEnds(t *rapid.T, got map[ledger.Series][ledger.Statuses]uint64, tasks []*worldTask) {
	t.Helper()
	want := map[ledger.Series][ledger.Statuses]uint64{}
	for _, task := range tasks {
		n := want[task.Series]
		n[task.status]++
		want[task.Series] = n
	}
	for series, n := range want {
		for _, status := range []int{succeeded, failed, errored} {
			if got[series][status] != n[status] {
				t.Fatalf("%v %d: got %d, want %d", series, status, got[series][status], n[status])
			}
		}
	}
}
