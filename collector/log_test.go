package collector_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/collector"
	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/go-kit/log"
)

func logTo(w io.Writer) log.Logger { return log.NewLogfmtLogger(log.NewSyncWriter(w)) }

func TestLogOfChanges(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{}
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: source})
	apiError := func(reason crsapi.Reason) error {
		return &crsapi.Error{Reason: reason, Requested: true, Err: errors.New("details")}
	}
	polls := []struct {
		list swept
		err  error
		want string
	}{
		{list(someTask), nil, `level=info region=ap-guangzhou msg="first poll succeeded" api=2.0 tasks=1 instances=1`},
		{list(someTask), nil, ""},
		{nil, apiError(crsapi.ReasonNetwork), `level=error region=ap-guangzhou msg="poll failed" reason=network err=`},
		{nil, apiError(crsapi.ReasonNetwork), ""},
		{nil, apiError(crsapi.ReasonAuth), `level=error region=ap-guangzhou msg="poll failed" reason=auth err=`},
		{nil, apiError(crsapi.ReasonAuth), ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="poll recovered" tasks=1`},
		{&fakeList{rejected: 2}, nil, `level=warn region=ap-guangzhou msg="cannot read some rows of the list" rejected=2`},
		{&fakeList{rejected: 3}, nil, ""},
		{list(someTask), nil, `level=info region=ap-guangzhou msg="all rows of the list can be read again"`},
		{list(someTask), nil, ""},
	}
	for i, poll := range polls {
		logged.Reset()
		source.set(poll.list, poll.err)
		e.Poll(t.Context())
		got := logged.String()
		if !strings.HasPrefix(got, poll.want) || (poll.want == "") != (got == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("poll %d logged %q, want %q", i, got, poll.want)
		}
	}
}

func TestLogOfARegionThatIsDownFromTheStart(t *testing.T) {
	var logged bytes.Buffer
	source := &fakeSource{err: errors.New("strange")}
	e := newExporter(t, collector.Config{Logger: logTo(&logged)}, map[string]collector.Source{guangzhou: source})
	e.Poll(t.Context())
	e.Poll(t.Context())
	want := `level=error region=ap-guangzhou msg="poll failed" reason=decode err=strange` + "\n"
	if logged.String() != want {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
	logged.Reset()
	source.set(list(someTask), nil)
	e.Poll(t.Context())
	if want := `level=info region=ap-guangzhou msg="poll recovered" tasks=1` + "\n"; logged.String() != want {
		t.Errorf("logged %q, want %q", logged.String(), want)
	}
}
