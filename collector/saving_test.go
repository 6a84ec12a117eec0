package collector_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/collector"
)

// How long a scrape waits for writes that end after some time, or never if that
// is 0.
func TestWaitForTheWrite(t *testing.T) {
	for _, test := range []struct {
		left   time.Duration // until the scrape's deadline; 0 for none
		writes []time.Duration
		want   time.Duration
	}{
		{10 * time.Second, []time.Duration{0}, time.Second},
		{10 * time.Second, []time.Duration{0, 0, 0}, time.Second},
		{10 * time.Second, []time.Duration{0, 300 * time.Millisecond, 0}, time.Second},
		{10 * time.Second, []time.Duration{200 * time.Millisecond, 300 * time.Millisecond}, 300 * time.Millisecond},
		{0, []time.Duration{0}, time.Second},
		{2 * time.Second, []time.Duration{0}, time.Second},
		{time.Second, []time.Duration{0}, 500 * time.Millisecond},
		{100 * time.Millisecond, []time.Duration{0, 0}, 50 * time.Millisecond},
		{-time.Second, []time.Duration{0}, 0},
		{time.Second, nil, 0},
	} {
		t.Run(fmt.Sprintf("%s left, writes %v", test.left, test.writes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.left != 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				var writes []<-chan struct{}
				for _, after := range test.writes {
					write := make(chan struct{})
					if after > 0 {
						time.AfterFunc(after, func() { close(write) })
					}
					writes = append(writes, write)
				}
				begin := time.Now()
				if err := collector.WaitSaved(ctx, writes...); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begin); took != test.want {
					t.Errorf("waited %s, want %s", took, test.want)
				}
			})
		})
	}
}

// A poll without a state file has nothing to wait for.
func TestNoWaitWithoutAStateFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{list: list(running)}
		e := watch(t, source)
		begin := time.Now()
		poll(t, e, time.Minute)
		source.set(list(failed), nil)
		poll(t, e, time.Minute)
		if took := time.Since(begin); took != 0 {
			t.Errorf("took %s", took)
		}
	})
}
