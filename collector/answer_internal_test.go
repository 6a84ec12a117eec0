package collector

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
)

var (
	plainText = form{expfmt.NewFormat(expfmt.TypeTextPlain), false}
	gzipText  = form{expfmt.NewFormat(expfmt.TypeTextPlain), true}
	protobuf  = form{expfmt.NewFormat(expfmt.TypeProtoDelim), false}
)

// resultsOf returns the Results of a region whose polls found the outcomes.
func resultsOf(outcomes ...*outcome) *Results {
	results := &Results{}
	for _, o := range outcomes {
		results.regions = append(results.regions, regionResult{outcome: o})
	}
	return results
}

func newOutcome(region string) *outcome { return &outcome{RegionStatus: RegionStatus{Region: region}} }

func take(t *testing.T, as *answers, results *Results, f form, names ...string) *answer {
	t.Helper()
	a, err := as.take(results, f, names)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func text(t *testing.T, a *answer) string {
	t.Helper()
	var b bytes.Buffer
	if err := a.writeTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAnswersAreShared(t *testing.T) {
	var as answers
	gz, sh := newOutcome("gz"), newOutcome("sh")
	first := take(t, &as, resultsOf(gz, sh), plainText)
	if take(t, &as, resultsOf(gz, sh), plainText) != first {
		t.Error("not shared by equal results")
	}
	for what, other := range map[string]*answer{
		"another form":            take(t, &as, resultsOf(gz, sh), gzipText),
		"an outcome of its own":   take(t, &as, resultsOf(gz, newOutcome("sh")), plainText),
		"names":                   take(t, &as, resultsOf(gz, sh), plainText, "crs_up"),
		"progress of its reading": take(t, &as, &Results{regions: []regionResult{{outcome: gz, read: 1, due: 2}, {outcome: sh}}}, plainText),
	} {
		if other == first {
			t.Errorf("shared although one has %s", what)
		}
	}
	if a, b := take(t, &as, resultsOf(gz), plainText, "crs_up"), take(t, &as, resultsOf(gz), plainText, "crs_up"); a == b {
		t.Error("two answers with names share")
	}
}

func TestFourthAnswerCutsTheOldest(t *testing.T) {
	var as answers
	var all []*answer
	for i := range 3 {
		all = append(all, take(t, &as, resultsOf(newOutcome(fmt.Sprint(i))), plainText))
	}
	for i, a := range all {
		if want := fmt.Sprintf(`crs_up{region="%d"} 0`, i); !strings.Contains(text(t, a), want) {
			t.Errorf("answer %d has no %s", i, want)
		}
	}
	shared := take(t, &as, all[1].results, plainText)
	all = append(all, take(t, &as, resultsOf(newOutcome("3")), plainText, "crs_up"))
	for i, cut := range []bool{true, false, false, false} {
		if err := all[i].writeTo(io.Discard); errors.Is(err, errCut) != cut {
			t.Errorf("answer %d: %v", i, err)
		}
	}
	if all[0].chunks != nil || all[0].results != nil {
		t.Error("what was cut stays in memory")
	}
	as.release(all[0])
	as.release(all[1])
	if len(as.live) != 3 {
		t.Errorf("%d answers live while all have a reader", len(as.live))
	}
	as.release(shared)
	as.release(all[2])
	as.release(all[3])
	if len(as.live) != 0 {
		t.Errorf("%d answers live without readers", len(as.live))
	}
}

// With MinInterval, later scrapes have the same results.
func TestAnswersAreKeptForLaterScrapes(t *testing.T) {
	as := answers{keep: true}
	results := resultsOf(newOutcome("gz"))
	first, other := take(t, &as, results, plainText), take(t, &as, results, protobuf)
	as.release(first)
	as.release(other)
	if take(t, &as, results, plainText) != first {
		t.Error("encoded again")
	}
	as.release(first)
	take(t, &as, resultsOf(newOutcome("gz")), plainText)
	if len(as.live) != 1 {
		t.Errorf("%d answers live, want only that of the new outcome", len(as.live))
	}
}

// Answers that wait to be encoded take no room.
func TestOnlyEncodedAnswersAreCut(t *testing.T) {
	var as answers
	var waiting []*Results
	for i := range 5 {
		waiting = append(waiting, resultsOf(newOutcome(fmt.Sprint(i))))
		as.join(waiting[i], plainText, nil)
	}
	for _, results := range waiting {
		take(t, &as, results, plainText)
	}
	if len(as.live) != 3 || as.live[0].results != waiting[2] {
		t.Errorf("%d answers live", len(as.live))
	}
}

func TestGzipIsOneStream(t *testing.T) {
	var cs compressors
	for _, size := range []int{0, 1, chunkSize - 1, chunkSize, 5*chunkSize + 7} {
		want := strings.Repeat("crs_tasks 1\n", size/12+1)[:size]
		for _, own := range []string{"", "# EOF\n", strings.Repeat("go_goroutines 8\n", 5000)} {
			first, err := cs.first(func(w io.Writer) error {
				_, err := io.WriteString(w, want)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the first part is shared
				var body bytes.Buffer
				for _, p := range []part{first, cs.last(first.sum, []byte(own))} {
					for _, chunk := range p.chunks {
						body.Write(chunk)
					}
				}
				r, err := gzip.NewReader(&body)
				if err != nil {
					t.Fatal(err)
				}
				r.Multistream(false)
				got, err := io.ReadAll(r)
				if err != nil || string(got) != want+own || body.Len() > 0 {
					t.Errorf("%d and %d bytes: got %d bytes, %v, %d bytes follow", size, len(own), len(got), err, body.Len())
				}
			}
		}
	}
}

func TestAcceptsGzip(t *testing.T) {
	tests := map[string]bool{
		"":                           false,
		"gzip":                       true,
		"GZIP":                       true,
		"identity":                   false,
		"deflate, gzip;q=1.0, *;q=0": true,
		"br;q=1.0, gzip ; q=0.8":     true,
		"gzip;q=0":                   false,
		"gzip; q=0.000, *":           false,
		"*":                          true,
		"*;q=0":                      false,
		"gzip;q=much":                false,
		"x-gzip":                     false,
		" , ,gzip":                   true,
	}
	for header, want := range tests {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {header}}); got != want {
			t.Errorf("%q: %t, want %t", header, got, want)
		}
	}
	if !acceptsGzip(http.Header{"Accept-Encoding": {"br", "gzip"}}) {
		t.Error("the second line of the header is ignored")
	}
}
