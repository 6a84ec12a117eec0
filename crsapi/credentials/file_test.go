package credentials_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

func fileOf(id string) string {
	return fmt.Sprintf("[default]\nsecret_id = %[1]s\nsecret_key = key-of-%[1]s\ntoken = token-of-%[1]s\n", id)
}

// write writes a file with a modification time of the test clock.
func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestFileReload writes a file in parts, a second apart. The key is used once its file is
// complete and has not changed for a second.
func TestFileReload(t *testing.T) {
	half, _, _ := strings.Cut(fileOf("b"), "-of-b")
	for name, test := range map[string]struct {
		modified time.Duration // from now
		refused  bool          // the first key
		parts    []string
	}{
		"same size and time":   {-time.Hour, false, []string{fileOf("b")}},
		"in parts":             {0, false, []string{"", "[default]\nsecret_id = b\n", half, fileOf("b")}},
		"by a clock ahead":     {time.Hour, false, []string{fileOf("a"), half, fileOf("b")}},
		"after it was refused": {0, true, []string{fileOf("a"), fileOf("b")}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			synctest.Test(t, func(t *testing.T) {
				write(t, path, fileOf("a"), time.Now().Add(-time.Hour))
				r := findFile(t, path)
				expect(t, r, "a")
				for i, part := range test.parts {
					time.Sleep(filePause * time.Duration(min(i, 1)))
					write(t, path, part, time.Now().Add(test.modified))
					if test.refused {
						r.Refused(keyOf("a"))
					}
					expect(t, r, "a")
					if err := r.Status().Err; err != nil {
						t.Errorf("status error %v", err)
					}
				}
				time.Sleep(filePause - 1)
				expect(t, r, "a")
				time.Sleep(time.Nanosecond)
				expect(t, r, "b")
			})
		})
	}
}

// TestDamagedFile: the old key is used, until the file is good again.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials")
	for want, damage := range map[string]func(){
		"no secret_key in section [default]": func() { write(t, path, "[default]\nsecret_id = canary", time.Now()) },
		"stat " + path + ": ":                func() { _ = os.Remove(path) },
	} {
		synctest.Test(t, func(t *testing.T) {
			write(t, path, fileOf("a"), time.Now().Add(-time.Hour))
			r, loaded := findFile(t, path), time.Now()
			for _, next := range []string{"a", "b"} {
				damage()
				time.Sleep(time.Hour)
				expect(t, r, "a")
				wantError(t, r.Status().Err, "file: credentials file")
				wantError(t, r.Status().Err, want)
				write(t, path, fileOf(next), time.Now().Add(-time.Minute))
				expect(t, r, "a")
				time.Sleep(filePause)
				expect(t, r, next)
				if next == "b" {
					loaded = time.Now()
				}
				if got := r.Status(); got != (credentials.Status{Source: "file", LastLoad: loaded}) {
					t.Errorf("status %+v, want a load at %s", got, loaded)
				}
			}
		})
	}
}

func fileConfig(path string) credentials.Config {
	cfg := (&cloud{}).config(nil)
	cfg.File = path
	return cfg
}

func findFile(t *testing.T, path string) *credentials.Renewer {
	t.Helper()
	return find(t, fileConfig(path))
}

// FuzzFile checks that every file that is accepted has a complete key, and that
// errors do not quote the file.
func FuzzFile(f *testing.F) {
	f.Add([]byte("[default]\nsecret_id = i\nsecret_key = k\n"))
	f.Add([]byte("[default]\nsecret_id = `i\nsecret_key = \"\"\"k"))
	documented := regexp.MustCompile(`(not in INI format|\[default\]|: larger than 64 KiB|without blanks and quotes\))$`)
	bad := regexp.MustCompile("[^!-~]|[\"'`]")
	path := filepath.Join(f.TempDir(), "credentials")
	f.Fuzz(func(t *testing.T, text []byte) {
		write(t, path, string(text), time.Now())
		r, err := credentials.Find(t.Context(), fileConfig(path))
		if err != nil {
			if !documented.MatchString(err.Error()) {
				t.Errorf("unexpected error %v", err)
			}
			return
		}
		key, err := r.Key(t.Context())
		if text := key.SecretID + string(key.SecretKey+key.Token); err != nil || key.Validate() != nil || bad.MatchString(text) {
			t.Errorf("accepted %q, %v", text, err)
		}
	})
}
