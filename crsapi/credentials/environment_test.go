package credentials

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEnvironmentCredentials(t *testing.T) {
	for name, test := range map[string]struct {
		env  map[string]string
		want Credentials
		err  string
	}{
		"pair":      {map[string]string{EnvSecretID: "i", EnvSecretKey: "k"}, Credentials{"i", "k", ""}, ""},
		"temporary": {map[string]string{EnvSecretID: "i", EnvSecretKey: "k", EnvToken: "t"}, Credentials{"i", "k", "t"}, ""},
		"none":      {nil, Credentials{}, "no credentials"},
		"id only":   {map[string]string{EnvSecretID: "i"}, Credentials{}, "TENCENTCLOUD_SECRET_KEY is not"},
		"key only":  {map[string]string{EnvSecretKey: "k"}, Credentials{}, "TENCENTCLOUD_SECRET_ID is not"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := EnvironmentCredentials(func(name string) string { return test.env[name] })
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("got %#v, %v", got, err)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("got %v, want %q", err, test.err)
			}
			if (name == "none") != errors.Is(err, ErrNoCredentials) {
				t.Errorf("ErrNoCredentials of %v", err)
			}
		})
	}
}

func TestReadCredentialsFile(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want Credentials
		err  string
	}{
		"pair":            {"[default]\nsecret_id = i\nsecret_key = k\n", Credentials{"i", "k", ""}, ""},
		"token":           {"[default]\nsecret_id=i\nsecret_key=k\ntoken=t", Credentials{"i", "k", "t"}, ""},
		"windows":         {"\ufeff[default]\r\nsecret_id = i\r\nsecret_key = k\r\n", Credentials{"i", "k", ""}, ""},
		"hash in the key": {"[default]\nsecret_id = i\nsecret_key = k#;%(x)\n", Credentials{"i", "k#;%(x)", ""}, ""},
		"empty":           {"", Credentials{}, "no section"},
		"other section":   {"[prod]\nsecret_id = i\nsecret_key = canary\n", Credentials{}, "no section"},
		"no id":           {"[default]\nsecret_key = canary\n", Credentials{}, "no secret_id"},
		"no key":          {"[default]\nsecret_id = canary\n", Credentials{}, "no secret_key"},
		"no INI":          {"[default]\ncanary\n", Credentials{}, "not in INI form"},
		"huge":            {strings.Repeat("# canary\n", 10_000), Credentials{}, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "credentials")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadCredentialsFile(path)
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("got %q %q %q, %v", got.SecretID, string(got.SecretKey), string(got.Token), err)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary")) {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
	if _, err := ReadCredentialsFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("a missing file gives %v", err)
	}
	if _, err := ReadCredentialsFile(t.TempDir()); err == nil || errors.Is(err, ErrNoCredentials) {
		t.Errorf("a directory gives %v", err)
	}
}

func FuzzParseCredentials(f *testing.F) {
	f.Add([]byte("[default]\nsecret_id = i\nsecret_key = k\n"))
	f.Add([]byte("[default]\nsecret_id = `i\nsecret_key = \"\"\"k"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCredentials(text)
		if err == nil && c.Validate() != nil {
			t.Fatalf("accepted %+v", c)
		}
	})
}
