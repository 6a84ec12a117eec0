package redact_test

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/internal/redact"
)

func TestRedactor(t *testing.T) {
	r := redact.New("id", "key id+/", "t/o", "", "sig=")
	for text, want := range map[string]string{
		"id, key id+/, t/o and sig=":                                   "[redacted], [redacted], [redacted] and [redacted]",
		url.QueryEscape("key id+/") + " " + url.PathEscape("key id+/"): "[redacted] [redacted]",
		"harmless": "harmless",
	} {
		if got := r.Text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := r.Line("a\nt/o"); got != "a [redacted]" {
		t.Errorf("line %q", got)
	}
	if got := redact.New("").Text("harmless"); got != "harmless" {
		t.Errorf("without a secret: %q", got)
	}
	if err := r.Err(fmt.Errorf("read: %w", io.EOF)); !errors.Is(err, io.EOF) {
		t.Errorf("%v does not wrap io.EOF", err)
	}
	if err := r.Err(fmt.Errorf("read t/o: %w", io.EOF)); err.Error() != "read [redacted]: EOF" || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\r\nb\x00c\x1b[1m":       "a  b c [1m",
		strings.Repeat("é", 300):   strings.Repeat("é", 256),
		"\u4e2d\u6587 \u00a0 text": "\u4e2d\u6587 \u00a0 text",
	} {
		if got := redact.OneLine(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}
