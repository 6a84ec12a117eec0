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
