package crsapi_test

import (
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi"
)

func TestStatusString(t *testing.T) {
	for status, want := range map[crsapi.Status]string{
		crsapi.StatusPending: "pending", crsapi.StatusExecuting: "executing", crsapi.StatusSucceeded: "succeeded",
		crsapi.StatusFailed: "failed", crsapi.StatusError: "error", 4: "unknown", -2: "unknown",
	} {
		if got := status.String(); got != want {
			t.Errorf("status %d prints as %q, want %q", int(status), got, want)
		}
	}
}
