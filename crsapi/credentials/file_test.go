package credentials_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

func fileOf(id string) string {
	key := keyOf(id)
	return "[default]\nsecret_id = " + id + "\nsecret_key = " + string(key.SecretKey) + "\ntoken = " + string(key.Token) + "\n"
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

func TestFileReload(t *testing.T) {
	type fixture struct {
		*testing.T
		path string
		r    *credentials.Renewer
	}
	// loaded expects id after the next check, and no earlier.
	loaded := func(f fixture, old, id string) {
		f.Helper()
		expect(f.T, f.r, old)
		time.Sleep(filePause - 1)
		expect(f.T, f.r, old)
		time.Sleep(time.Nanosecond)
		expect(f.T, f.r, id)
	}
	// damaged expects a, and an error in the status while the file is damaged.
	damaged := func(f fixture, want string) {
		f.Helper()
		time.Sleep(time.Hour)
		expect(f.T, f.r, "a")
		wantError(f.T, f.r.Status().Err, want)
		for _, id := range []string{"a", "b"} {
			_ = os.Remove(f.path)
			write(f.T, f.path, fileOf(id), time.Now().Add(-time.Minute))
			loaded(f, "a", id)
			if err := f.r.Status().Err; err != nil {
				f.Errorf("status error %v", err)
			}
		}
	}
	for name, test := range map[string]func(f fixture){
		"rewritten, same size and time": func(f fixture) {
			write(f.T, f.path, fileOf("b"), time.Now().Add(-time.Hour))
			loaded(f, "a", "b")
		},
		"written in parts": func(f fixture) {
			whole := fileOf("b")
			short, _, _ := strings.Cut(whole, "-of-b")
			for _, part := range []string{"", "[default]\nsecret_id = b\n", short} {
				time.Sleep(filePause)
				write(f.T, f.path, part, time.Now())
				expect(f.T, f.r, "a")
				if err := f.r.Status().Err; err != nil {
					f.Errorf("status error %v", err)
				}
			}
			time.Sleep(filePause)
			write(f.T, f.path, whole, time.Now())
			loaded(f, "a", "b")
		},
		"written by a clock that is ahead": func(f fixture) {
			short, _, _ := strings.Cut(fileOf("b"), "-of-b")
			write(f.T, f.path, short, time.Now().Add(time.Hour))
			time.Sleep(filePause)
			expect(f.T, f.r, "a")
			write(f.T, f.path, fileOf("b"), time.Now().Add(time.Hour))
			time.Sleep(filePause)
			loaded(f, "a", "b")
		},
		"broken": func(f fixture) {
			write(f.T, f.path, "[default]\nsecret_id = canary", time.Now())
			damaged(f, "file: credentials file "+f.path+": no secret_key in section [default]")
		},
		"missing": func(f fixture) {
			if err := os.Remove(f.path); err != nil {
				f.Fatal(err)
			}
			damaged(f, "file: credentials file: stat "+f.path+": ")
		},
		"refused": func(f fixture) {
			time.Sleep(filePause)
			write(f.T, f.path, fileOf("b"), time.Now())
			f.r.Refused(keyOf("a"))
			loaded(f, "a", "b") // still checked for a complete file, once a second
		},
		"status": func(f fixture) {
			begin := time.Now()
			time.Sleep(time.Hour)
			expect(f.T, f.r, "a")
			if got := f.r.Status(); got != (credentials.Status{Source: "file", LastLoad: begin}) {
				f.Errorf("unchanged file: %+v", got)
			}
			write(f.T, f.path, fileOf("b"), time.Now())
			time.Sleep(time.Hour)
			expect(f.T, f.r, "b")
			if got := f.r.Status(); got != (credentials.Status{Source: "file", LastLoad: time.Now()}) {
				f.Errorf("rewritten file: %+v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			synctest.Test(t, func(t *testing.T) {
				write(t, path, fileOf("a"), time.Now().Add(-time.Hour))
				r := findFile(t, path)
				expect(t, r, "a")
				test(fixture{t, path, r})
			})
		})
	}
}

// findFile returns a Renewer of a credentials file.
func findFile(t testing.TB, path string) *credentials.Renewer {
	t.Helper()
	cfg := (&cloud{}).config(nil)
	cfg.File = path
	return find(t, cfg)
}

// TestFileWhileItIsWritten reads a file at the moment when it is written, and checks that no
// key has parts of two.
func TestFileWhileItIsWritten(t *testing.T) {
	long := strings.Repeat("x", 20<<10)
	path := filepath.Join(t.TempDir(), "credentials")
	synctest.Test(t, func(t *testing.T) {
		old := time.Now().Add(-24 * time.Hour) // so each file is read at the first check
		write(t, path, fileOf("0"+long), old)
		r := findFile(t, path)
		for n := range 200 {
			var reader sync.WaitGroup
			reader.Go(func() {
				time.Sleep(filePause)
				if key, err := r.Key(t.Context()); err != nil || key != keyOf(key.SecretID) {
					t.Errorf("read %.5s..., %v", key.SecretID, err)
				}
			})
			time.Sleep(filePause)
			write(t, path, fileOf(strconv.Itoa(n)+long), old.Add(time.Duration(n+1)*time.Second))
			reader.Wait()
		}
	})
}

// TestPipe loads a key from a file that can be read only once.
func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		if _, err := out.WriteString(fileOf("a")); err != nil {
			t.Fatal(err)
		}
		out.Close()
		path := "/dev/fd/" + strconv.Itoa(int(in.Fd()))
		if _, err := os.Stat(path); err != nil {
			t.Skip("pipes have no path here")
		}
		r := findFile(t, path)
		for range 3 {
			expect(t, r, "a")
			r.Refused(keyOf("a"))
			time.Sleep(time.Second)
		}
		if err := r.Status().Err; err != nil {
			t.Errorf("status error %v", err)
		}
	})
}

func TestFileFormat(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want credentials.Key
		err  string
	}{
		"temporary":       {"[default]\nsecret_id=i\nsecret_key=k\ntoken=t", credentials.Key{SecretID: "i", SecretKey: "k", Token: "t"}, ""},
		"Windows":         {"\ufeff[default]\r\nsecret_id = i\r\nsecret_key = k\r\n", credentials.Key{SecretID: "i", SecretKey: "k"}, ""},
		"hash in the key": {"[default]\nsecret_id = i\nsecret_key = k#;%(x)\n", credentials.Key{SecretID: "i", SecretKey: "k#;%(x)"}, ""},
		"quotes":          {"[default]\nsecret_id = \"i\"\nsecret_key = 'k'\ntoken = `t`\n", credentials.Key{SecretID: "i", SecretKey: "k", Token: "t"}, ""},
		"blank in the id": {"[default]\nsecret_id = canary canary\nsecret_key = canary\n", credentials.Key{}, "secret_id contains an invalid character"},
		"no ASCII":        {"[default]\nsecret_id = i\nsecret_key = canary\ntoken = canary\u00e9\n", credentials.Key{}, "token contains an invalid character"},
		"only quotes":     {"[default]\nsecret_id = ''\nsecret_key = canary\n", credentials.Key{}, "no secret_id"},
		"another section": {"[prod]\nsecret_id = i\nsecret_key = canary\n", credentials.Key{}, "no section"},
		"only secret_id":  {"[default]\nsecret_id = canary\n", credentials.Key{}, "no secret_key"},
		"not INI":         {"[default]\ncanary\n", credentials.Key{}, "not in INI format"},
		"too large":       {strings.Repeat("# canary\n", 10_000), credentials.Key{}, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := (&cloud{}).config(nil)
			cfg.File = filepath.Join(t.TempDir(), "credentials")
			write(t, cfg.File, test.text, time.Now())
			if test.err != "" {
				_, err := credentials.Find(t.Context(), cfg)
				wantError(t, err, test.err)
				wantError(t, err, cfg.File)
				return
			}
			if got, err := find(t, cfg).Key(t.Context()); err != nil || got != test.want {
				t.Errorf("got %q %q %q, %v", got.SecretID, string(got.SecretKey), string(got.Token), err)
			}
		})
	}
	cfg := (&cloud{}).config(nil)
	cfg.File = t.TempDir()
	_, err := credentials.Find(t.Context(), cfg)
	wantError(t, err, "credentials file: ")
	if errors.Is(err, credentials.ErrNotFound) {
		t.Errorf("%v wraps ErrNotFound", err)
	}
}

// FuzzFile checks that every file that is accepted has a complete key, and that
// errors do not quote the file.
func FuzzFile(f *testing.F) {
	f.Add([]byte("[default]\nsecret_id = i\nsecret_key = k\n"))
	f.Add([]byte("[default]\nsecret_id = `i\nsecret_key = \"\"\"k"))
	path := filepath.Join(f.TempDir(), "credentials")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := (&cloud{}).config(nil)
		cfg.File = path
		r, err := credentials.Find(t.Context(), cfg)
		if err != nil {
			for _, end := range []string{"not in INI format", "[default]", ": larger than 64 KiB", "without blanks and quotes)"} {
				if strings.HasSuffix(err.Error(), end) {
					return
				}
			}
			t.Fatalf("unexpected error %v", err)
		}
		key, err := r.Key(t.Context())
		if err != nil || key.Validate() != nil {
			t.Fatalf("accepted %+v, %v", key, err)
		}
		for _, part := range []string{key.SecretID, string(key.SecretKey), string(key.Token)} {
			if part != credentials.Trim(part) || strings.ContainsAny(part, " \"'`\n\x00") {
				t.Fatalf("accepted %q", part)
			}
		}
	})
}
