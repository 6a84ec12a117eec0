package credentials

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestFileSystemHangs: a caller with a valid key does not wait for a check that
// never ends, and later callers do not wait at all.
func TestFileSystemHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		loaded := lease{key: Key{SecretID: "b"}}
		load := func(context.Context) (lease, error) {
			<-hang
			return loaded, nil
		}
		r := &Renewer{name: "file", load: load, pause: filePause, lease: lease{key: Key{SecretID: "a"}}}
		expect := func(id string, wait time.Duration) {
			t.Helper()
			begin := time.Now()
			key, err := r.Key(t.Context())
			if err != nil || key.SecretID != id || time.Since(begin) != wait {
				t.Errorf("got %q after %s, %v", key.SecretID, time.Since(begin), err)
			}
		}
		expect("a", checkWait)
		for range 10 {
			expect("a", 0)
			time.Sleep(time.Minute)
		}
		close(hang)
		synctest.Wait()
		expect("b", 0)
		time.Sleep(filePause)
		loaded.key.SecretID = "c"
		expect("c", 0) // a check that ends is waited for again
	})
}
