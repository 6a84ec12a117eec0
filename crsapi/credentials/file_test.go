package credentials

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func fileOf(id string) string {
	c := pair(id, time.Time{}).Credentials
	return "[default]\nsecret_id = " + id + "\nsecret_key = " + string(c.SecretKey) + "\ntoken = " + string(c.Token) + "\n"
}

// write writes a file at a time of a test's own clock.
func write(t *testing.T, path, text string, at time.Time) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadAgain(t *testing.T) {
	type fixture struct {
		*testing.T
		path string
		r    *RenewingCredentials
	}
	for name, test := range map[string]func(f fixture){
		"rewritten long ago": func(f fixture) {
			write(f.T, f.path, fileOf("b"), time.Now().Add(time.Minute))
			time.Sleep(2 * time.Minute)
			expect(f.T, f.r, "b")
		},
		"replaced by one of the same size and time": func(f fixture) {
			info, err := os.Stat(f.path)
			if err != nil {
				f.Fatal(err)
			}
			write(f.T, f.path+".new", fileOf("b"), info.ModTime())
			if err := os.Rename(f.path+".new", f.path); err != nil {
				f.Fatal(err)
			}
			time.Sleep(time.Second)
			expect(f.T, f.r, "b")
		},
		"rewritten, with its time set back": func(f fixture) {
			info, err := os.Stat(f.path)
			if err != nil {
				f.Fatal(err)
			}
			write(f.T, f.path, fileOf("longer"), info.ModTime())
			time.Sleep(time.Second)
			expect(f.T, f.r, "longer")
		},
		"at most once a second": func(f fixture) {
			expect(f.T, f.r, "a")
			time.Sleep(time.Hour)
			expect(f.T, f.r, "a")
			write(f.T, f.path, fileOf("b"), time.Now().Add(-time.Minute))
			time.Sleep(time.Second - 1)
			expect(f.T, f.r, "a")
			time.Sleep(time.Nanosecond)
			expect(f.T, f.r, "b")
		},
		"torn": func(f fixture) {
			whole := fileOf("b")
			short, _, _ := strings.Cut(whole, " of b")
			for _, part := range []string{"", "[default]\nsecret_id = b\n", short} {
				time.Sleep(time.Second)
				write(f.T, f.path, part, time.Now())
				expect(f.T, f.r, "a")
			}
			time.Sleep(time.Second)
			write(f.T, f.path, whole, time.Now())
			expect(f.T, f.r, "a")
			time.Sleep(time.Second)
			expect(f.T, f.r, "b")
		},
		"written by a clock that is ahead": func(f fixture) {
			write(f.T, f.path, fileOf("b"), time.Now().Add(time.Hour))
			time.Sleep(time.Second)
			expect(f.T, f.r, "a")
			time.Sleep(time.Second)
			expect(f.T, f.r, "b")
		},
		"broken": func(f fixture) {
			write(f.T, f.path, "[default]\nsecret_id = canary", time.Now())
			time.Sleep(time.Minute)
			expect(f.T, f.r, "a")
			if err := f.r.Status().Err; err == nil || !strings.Contains(err.Error(), "no secret_key") || strings.Contains(err.Error(), "canary") {
				f.Errorf("the status tells %v", err)
			}
			write(f.T, f.path, fileOf("b"), time.Now())
			time.Sleep(time.Minute)
			expect(f.T, f.r, "b")
			if err := f.r.Status().Err; err != nil {
				f.Errorf("the status tells %v", err)
			}
		},
		"gone for a while": func(f fixture) {
			if err := os.Remove(f.path); err != nil {
				f.Fatal(err)
			}
			time.Sleep(time.Hour)
			expect(f.T, f.r, "a")
			if err := f.r.Status().Err; !errors.Is(err, fs.ErrNotExist) {
				f.Errorf("the status tells %v", err)
			}
			write(f.T, f.path, fileOf("b"), time.Now())
			time.Sleep(time.Minute)
			expect(f.T, f.r, "b")
		},
		"a directory for a while": func(f fixture) {
			if err := errors.Join(os.Remove(f.path), os.Mkdir(f.path, 0o700)); err != nil {
				f.Fatal(err)
			}
			time.Sleep(time.Hour)
			expect(f.T, f.r, "a")
			if err := f.r.Status().Err; err == nil || !strings.Contains(err.Error(), "no regular file") {
				f.Errorf("the status tells %v", err)
			}
		},
		"refused though the file looks the same": func(f fixture) {
			time.Sleep(time.Minute)
			info, err := os.Stat(f.path)
			if err != nil {
				f.Fatal(err)
			}
			write(f.T, f.path, fileOf("b"), info.ModTime())
			expect(f.T, f.r, "a")
			f.r.Refused(pair("a", time.Time{}).Credentials)
			time.Sleep(time.Second)
			expect(f.T, f.r, "b")
		},
		"last load": func(f fixture) {
			begin := time.Now()
			time.Sleep(time.Hour)
			expect(f.T, f.r, "a")
			if got := f.r.Status(); !got.LastLoad.Equal(begin) || !got.Expiry.IsZero() || got.Source != SourceFile {
				f.Errorf("of a file that nobody touched: %+v", got)
			}
			write(f.T, f.path, fileOf("b"), time.Now())
			time.Sleep(time.Hour)
			expect(f.T, f.r, "b")
			if got := f.r.Status(); time.Since(got.LastLoad) != 0 {
				f.Errorf("of a file that was rewritten: %+v", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			synctest.Test(t, func(t *testing.T) {
				write(t, path, fileOf("a"), time.Now().Add(-time.Hour))
				r, err := newFileCredentials(path)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, r, "a")
				test(fixture{t, path, r})
			})
		})
	}
}

// TestFileRotatesUnderLoad reads while a file is replaced again and again, and
// looks for a pair that is none.
func TestFileRotatesUnderLoad(t *testing.T) {
	const rounds = 200
	long := strings.Repeat("x", 8<<10)
	path := filepath.Join(t.TempDir(), "credentials")
	old := time.Now().Add(-time.Hour)
	write(t, path, fileOf("0"+long), old)
	r, err := newFileCredentials(path)
	if err != nil {
		t.Fatal(err)
	}
	r.pause = 0
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				c, err := r.Credentials(t.Context())
				if err != nil || c != pair(c.SecretID, time.Time{}).Credentials {
					t.Errorf("read %.5s..., %v", c.SecretID, err)
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for n := range rounds {
		at := old.Add(time.Duration(n) * time.Second)
		if n%2 == 0 {
			write(t, path, fileOf(strconv.Itoa(n+1)+long), at)
			continue
		}
		write(t, path+".new", fileOf(strconv.Itoa(n+1)+long), at)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
	expect(t, r, strconv.Itoa(rounds)+long)
}

// TestPipe reads credentials from what can be read but once.
func TestPipe(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := out.WriteString(fileOf("a")); err != nil {
		t.Fatal(err)
	}
	out.Close()
	r, err := newFileCredentials("/dev/fd/" + strconv.Itoa(int(in.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	r.pause = 0
	for range 3 {
		expect(t, r, "a")
		r.Refused(pair("a", time.Time{}).Credentials)
	}
	if err := r.Status().Err; err != nil {
		t.Errorf("the status tells %v", err)
	}
}
