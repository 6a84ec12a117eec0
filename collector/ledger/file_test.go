package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/collector/ledger"
	"github.com/go-kit/log"
)

// A file with a fault is not used at all. Only bits without a meaning may differ.
func TestDamageIsFound(t *testing.T) {
	contentOf := func(file []byte) string { // empty if it is not used
		ledgers, err := ledger.Decode(file)
		if err != nil {
			return ""
		}
		return fmt.Sprint(len(ledgers), ledgers[region].Counters())
	}
	s := newSteps(t)
	s.poll(in(backupA, noon, executing, pending), in(backupB, noon-9, unknown), in(cleanA, -7, succeeded))
	s.show()
	s.poll(in(backupA, noon, failed, failed), in(cleanA, noon+2, failed, unknown))
	good := ledger.Encode(map[string]*ledger.Ledger{region: s.ledger, "never listed": ledger.New()})
	want := fmt.Sprint(1, s.counters)
	if got := contentOf(good); got != want {
		t.Fatalf("the file has %s, want %s", got, want)
	}
	for i := range good {
		if contentOf(good[:i]) != "" {
			t.Errorf("%d bytes of %d are used", i, len(good))
		}
		bad := slices.Clone(good)
		bad[i] ^= 1 << (i % 8)
		if got := contentOf(bad); got != "" && got != want {
			t.Errorf("byte %d changed: the file is used", i)
		}
	}
	for _, bad := range [][]byte{append(good, 0), ledger.Pack([]byte("not gob"))} {
		if contentOf(bad) != "" {
			t.Errorf("%q is used", bad)
		}
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

func TestFileSetAside(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	s.store.Close()
	good := s.read()
	for i, test := range []struct{ name, data, why string }{
		{"truncated", string(good[:len(good)-5]), "unexpected EOF"},
		{"another file", "[Unit]\nDescription=Prometheus exporter\n", "not a state file"},
		{"the first version", "CRSSTATE\x00\x00\x00\x01" + strings.Repeat("\x00", 8192), "written by another version"},
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
			bad := s.path + ".bad" + []string{"", ".1", ".2"}[i]
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

// listing returns the modes and names of what is beside a path.
func listing(t testing.TB, path string) (names []string) {
	t.Helper()
	entries, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprint(info.Mode(), " ", e.Name()))
	}
	return names
}

const inUse = "in use by another process"

func TestLock(t *testing.T) {
	s := newFileSteps(t)
	s.failOnce()
	wantRefused(t, s.path, inUse)
	link, folder := filepath.Join(t.TempDir(), "link"), filepath.Join(t.TempDir(), "folder")
	if err := errors.Join(os.Symlink(s.path, link), os.Symlink(filepath.Dir(s.path), folder)); err != nil {
		t.Skip(err)
	}
	wantRefused(t, link, inUse)
	wantRefused(t, filepath.Join(folder, "state"), inUse)
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
