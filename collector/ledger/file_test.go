package ledger_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
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

// contentOf returns the counters of a file by region.
func contentOf(file []byte) (map[string][]ledger.Counters, error) {
	ledgers, err := ledger.Decode(file)
	all := map[string][]ledger.Counters{}
	for region, l := range ledgers {
		all[region] = l.Counters()
	}
	return all, err
}

// A file with a fault is not used at all. Only bits without a meaning may differ.
func TestDamageIsFound(t *testing.T) {
	good := aFile(t)
	want, err := contentOf(good)
	if err != nil || len(want) != 2 || len(want["ap-guangzhou"]) != 3 {
		t.Fatalf("the file has %v, %v", want, err)
	}
	for i := range good {
		if _, err := ledger.Decode(good[:i]); err == nil {
			t.Errorf("%d bytes of %d are used", i, len(good))
		}
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if got, err := contentOf(bad); err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("byte %d changed: the file is used", i)
		}
	}
	if _, err := ledger.Decode(append(good, 0)); err == nil {
		t.Error("one byte too many is used")
	}
}

// A file that decompresses to more than any state is read up to the limit only.
func TestGzipBomb(t *testing.T) {
	if raceDetector {
		t.Skip("takes long")
	}
	bomb := ledger.Pack(make([]byte, 16<<20))
	member := bomb[len("CRSSTATE3\n"):]
	bomb = append(bomb, bytes.Repeat(member, ledger.MaxContent>>24)...)
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
	for i := 0; i < len(content); i += 97 {
		bad := slices.Clone(content)
		bad[i] ^= 1 << (i % 8)
		f.Add(bad)
	}
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
		if _, err := ledger.Decode(ledger.Encode(ledgers)); err != nil {
			t.Fatal(err)
		}
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
			bad := s.path + ".bad" + []string{"", ".1", ".2", ".3", ".4"}[i]
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
