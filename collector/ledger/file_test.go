package ledger_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

// aFile returns a file with a bit of everything.
func aFile(t testing.TB) []byte {
	s, empty := newSteps(t), newSteps(t)
	s.poll(in(backupA, noon, executing, pending), in(backupA, noon-5, failed), in(backupB, noon-9, unknown), in(cleanA, -7, succeeded))
	s.show()
	s.poll(in(backupA, noon, failed, failed), in(cleanA, noon+2, failed, unknown))
	empty.poll()
	return ledger.Encode(map[string]*ledger.Ledger{"ap-guangzhou": s.ledger, "ap-beijing": empty.ledger, "ap-tokyo": ledger.New()})
}

// mustDecode returns the counters of a file by region.
func mustDecode(t testing.TB, file []byte) map[string][]ledger.Counters {
	t.Helper()
	ledgers, err := ledger.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]ledger.Counters{}
	for region, l := range ledgers {
		all[region] = l.Counters()
	}
	return all
}

func sameCounters(a, b map[string][]ledger.Counters) bool {
	return maps.EqualFunc(a, b, slices.Equal)
}

// A file with a fault is not used at all. Only bits without a meaning may differ.
func TestDamageIsFound(t *testing.T) {
	good := aFile(t)
	want := mustDecode(t, good)
	if regions := slices.Sorted(maps.Keys(want)); !slices.Equal(regions, []string{"ap-beijing", "ap-guangzhou"}) {
		t.Errorf("the file has %q", regions)
	}
	for i := range good {
		if _, err := ledger.Decode(good[:i]); err == nil {
			t.Errorf("%d bytes of %d are used", i, len(good))
		}
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if ledgers, err := ledger.Decode(bad); err == nil && !sameCounters(mustDecode(t, ledger.Encode(ledgers)), want) {
			t.Errorf("byte %d changed: the file is used", i)
		}
	}
	if _, err := ledger.Decode(append(slices.Clone(good), 0)); err == nil {
		t.Error("one byte too many is used")
	}
}

// A file that decompresses to more than any state is read up to the limit only.
func TestGzipBomb(t *testing.T) {
	if raceDetector {
		t.Skip("takes long")
	}
	part := ledger.Pack(make([]byte, 16<<20))
	members := part[len("CRSSTATE3\n"):]
	bomb := append(slices.Clone(part), bytes.Repeat(members, ledger.MaxContent>>24)...)
	if _, err := ledger.Decode(bomb); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("got %v", err)
	}
}

// Nothing makes the decoder panic. What it accepts can be used, and means the same when
// it is encoded again.
func FuzzDecode(f *testing.F) {
	z, err := gzip.NewReader(bytes.NewReader(aFile(f)[len("CRSSTATE3\n"):]))
	if err != nil {
		f.Fatal(err)
	}
	content, err := io.ReadAll(z)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content)
	for i := 1; i < len(content); i += 97 {
		f.Add(content[:i])
		bad := slices.Clone(content)
		bad[i] ^= 1 << (i % 8)
		f.Add(bad)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		_, _ = ledger.Decode(content)
		ledgers, err := ledger.Decode(ledger.Pack(content))
		if err != nil {
			return
		}
		for _, l := range ledgers {
			s := newSteps(t)
			s.ledger, s.source, s.counters = l, "2.0", l.Counters()
			s.poll(in(backupA, noon, failed, unknown))
			s.settle()
			s.poll()
			s.watch(31 * day)
		}
		mustDecode(t, ledger.Encode(ledgers))
	})
}

func TestFileSetAside(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	s.store.Close()
	good := s.read()
	flipped := slices.Clone(good)
	flipped[len(good)-6] ^= 1
	for i, test := range []struct{ name, data, why string }{
		{"a bit changed", string(flipped), "invalid checksum"},
		{"truncated", string(good[:len(good)-5]), "unexpected EOF"},
		{"empty", "", "not a state file"},
		{"another file", "[Unit]\nDescription=Prometheus exporter\n", "not a state file"},
		{"the first version", "CRSSTATE\x00\x00\x00\x01" + strings.Repeat("\x00", 8192), "written by another version"},
		{"a later version", "CRSSTATE4\n and anything", "written by another version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.t = t
			s.write([]byte(test.data))
			if err := os.Chtimes(s.path, time.Unix(noon, 0), time.Unix(noon, 0)); err != nil {
				t.Fatal(err)
			}
			begin := time.Now().Truncate(time.Second)
			s.open()
			defer func() { s.store.Close() }()
			if len(s.counters) != 0 || s.ledger.Source() != "" {
				t.Errorf("restored %v", s.counters)
			}
			bad := s.path + ".bad" + []string{"", ".1", ".2", ".3", ".4", ".5"}[i]
			if data, err := os.ReadFile(bad); err != nil || string(data) != test.data {
				t.Errorf("set aside: %q, %v", data, err)
			}
			status := s.store.Status()
			if status.LastReset.Before(begin) || status.Size != 0 || status.Err != nil {
				t.Errorf("got %+v", status)
			}
			s.wantLog("error", "counters restart at zero", test.why, "set_aside_as="+bad+"\n")
			s.mustSave()
			s.reopen()
			if again := s.store.Status(); again.LastReset.Sub(status.LastReset).Abs() > time.Second || again.Size == 0 {
				t.Errorf("got %+v after another restart, want the reset at %s", again, status.LastReset)
			}
		})
	}
}

// A file that cannot be set aside stays where it is. The refusal releases the lock.
func TestCannotSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 250)) // .bad.1 makes the name too long
	if err := errors.Join(os.WriteFile(path, []byte("fault"), 0o600), os.WriteFile(path+".bad", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if store, err := ledger.Open(path, log.NewNopLogger()); err == nil {
		store.Close()
		t.Fatal("it was opened")
	}
	wantRefused(t, path, "not a state file; cannot set it aside: ")
	if data, err := os.ReadFile(path); err != nil || string(data) != "fault" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

// wantRefused opens a file. It must fail with the text, and change nothing in the folder.
func wantRefused(t testing.TB, path, text string) {
	t.Helper()
	before := listing(t, path)
	store, err := ledger.Open(path, log.NewNopLogger())
	if err == nil {
		store.Close()
		t.Fatal("it was opened")
	}
	if !strings.HasPrefix(err.Error(), "state file "+path+": ") || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %q, want %q", err, text)
	}
	if after := listing(t, path); !slices.Equal(after, before) {
		t.Errorf("the folder had %q, now it has %q", before, after)
	}
}

// listing returns names and types of what is beside a path, and in it.
func listing(t testing.TB, path string) (names []string) {
	for _, folder := range []string{filepath.Dir(path), path} {
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			names = append(names, fmt.Sprint(e.Type(), e.Name()))
		}
	}
	return names
}

func TestWrongPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, filepath.Join(dir, "missing", "state"), "no such file")
	wantRefused(t, filepath.Join(file, "state"), "not a directory")
	for _, suffix := range []string{"", ".lock", ".tmp"} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.Mkdir(path+suffix, 0o700); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, path, path+suffix+" (drwx------) is not a regular file: set --state.file to another path")
	}
}

func wantInUse(t testing.TB, path string) {
	t.Helper()
	store, err := ledger.Open(path, log.NewNopLogger())
	if err == nil {
		store.Close()
		t.Fatal("a second process opened the file")
	}
	if want := "state file " + path + ": in use by another process"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestLock(t *testing.T) {
	s := newFileSteps(t)
	wantInUse(t, s.path)
	s.failOnce()
	wantInUse(t, s.path)
	link, folder := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "folder")
	if err := errors.Join(os.Symlink(s.path, link), os.Symlink(filepath.Dir(s.path), folder)); err != nil {
		t.Skip(err)
	}
	wantInUse(t, link)
	wantInUse(t, filepath.Join(folder, "state"))
	s.store.Close()
	s.path = link
	s.open()
	s.want("through a symlink", oneFailed)
	s.change(in(backupA, noon+1, failed))
	s.reopen()
	s.want("written through a symlink", "crs-a backup failed 2")
	if target, err := os.Readlink(link); err != nil {
		t.Errorf("the symlink was replaced: %s, %v", target, err)
	}
}
