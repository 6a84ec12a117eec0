package credentials_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

func TestSecretIsNotPrinted(t *testing.T) {
	key := credentials.Key{SecretID: "id", SecretKey: "canary", Token: "canary"}
	r := find(t, (&cloud{}).config(map[string]string{credentials.EnvSecretID: "id", credentials.EnvSecretKey: "canary", credentials.EnvToken: "canary"}))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb+verb, key, r); strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
			t.Errorf("%s prints a secret: %s", verb, text)
		}
	}
	if text, err := json.Marshal(key); err != nil || strings.Contains(string(text), "canary") {
		t.Errorf("JSON: %s, %v", text, err)
	}
}

func TestRedactor(t *testing.T) {
	key := credentials.Key{SecretID: "id", SecretKey: "key id+/", Token: "t/o"}
	redact := credentials.NewRedactor(key, "sig=")
	for text, want := range map[string]string{
		"id, key id+/, t/o and sig=":                                   "[redacted], [redacted], [redacted] and [redacted]",
		url.QueryEscape("key id+/") + " " + url.PathEscape("key id+/"): "[redacted] [redacted]",
		"harmless": "harmless",
	} {
		if got := redact.Text(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
	if got := credentials.NewRedactor(credentials.Key{}, "").Text("harmless"); got != "harmless" {
		t.Errorf("without a key: %q", got)
	}
	if err := redact.Err(fmt.Errorf("read: %w", io.EOF)); !errors.Is(err, io.EOF) {
		t.Errorf("%v does not wrap io.EOF", err)
	}
	if err := redact.Err(fmt.Errorf("read t/o: %w", io.EOF)); err.Error() != "read [redacted]: EOF" || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\r\nb\x00c\x1b[1m":       "a  b c [1m",
		strings.Repeat("é", 300):   strings.Repeat("é", 256),
		"\u4e2d\u6587 \u00a0 text": "\u4e2d\u6587 \u00a0 text",
	} {
		if got := credentials.OneLine(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, key := range map[string]credentials.Key{
		"the SecretId is empty":  {SecretKey: "k"},
		"the SecretKey is empty": {SecretID: "i"},
	} {
		if err := key.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	key := credentials.Key{SecretID: "i", SecretKey: "k"}
	if err := key.Validate(); err != nil {
		t.Error(err)
	}
	if got, err := credentials.Static(key).Key(t.Context()); err != nil || got != key {
		t.Errorf("Static returns %v, %v", got, err)
	}
}
