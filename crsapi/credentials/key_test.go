package credentials_test

import (
	"encoding/json"
	"fmt"
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
