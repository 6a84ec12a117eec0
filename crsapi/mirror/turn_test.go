package mirror_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/mirror"
)

// slow answers after a second.
type slow struct{ *server }

func (l slow) Page(ctx context.Context, q crsapi.Query) (*crsapi.Page, error) {
	time.Sleep(time.Second)
	return l.server.Page(ctx, q)
}

// TestVerifyWaitsForAPoll begins to verify while a Poll waits for an answer. The clock
// of the bubble must go on, or each test with both of them can hang.
func TestVerifyWaitsForAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mirror.New(mirror.Config{Lister: slow{plain(crsapi.API30, 1000, 10, 5)}, PageSize: 100, Concurrency: 1})
		polled := make(chan error)
		go func() {
			_, err := m.Poll(t.Context(), true)
			polled <- err
		}()
		synctest.Wait()
		if err := m.Verify(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := <-polled; err != nil {
			t.Error(err)
		}
	})
}
