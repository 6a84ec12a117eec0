package credentials_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

func TestEnvironment(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	const id, secret, token = credentials.EnvSecretID, credentials.EnvSecretKey, credentials.EnvToken
	temporary := credentials.Key{SecretID: "i", SecretKey: "k", Token: "t"}
	for name, test := range map[string]struct {
		env  map[string]string
		want credentials.Key
		err  string
	}{
		"permanent": {map[string]string{id: "i", secret: "k"}, credentials.Key{SecretID: "i", SecretKey: "k"}, ""},
		"temporary": {map[string]string{id: "i", secret: "k", token: "t"}, temporary, ""},
		"none":      {nil, credentials.Key{}, "no credentials"},
		"newlines":  {map[string]string{id: "i\n", secret: "k\r\n", token: "t\n\n"}, temporary, ""},
		"blanks":    {map[string]string{id: " i", secret: "\tk ", token: "\u00a0t\u3000"}, temporary, ""},
		"quotes":    {map[string]string{id: `"i"`, secret: "'k'", token: "`t"}, temporary, ""},
		"marks":     {map[string]string{id: "\ufeffi", secret: "\ufeff\"k\"\n", token: "t\ufeff"}, temporary, ""},
		"signs":     {map[string]string{id: "A-i_1", secret: "k+/=", token: "t.~:%&@#;"}, credentials.Key{SecretID: "A-i_1", SecretKey: "k+/=", Token: "t.~:%&@#;"}, ""},
		"no token":  {map[string]string{id: "i", secret: "k", token: " \n"}, credentials.Key{SecretID: "i", SecretKey: "k"}, ""},
		"blank key": {map[string]string{id: "i", secret: "\n"}, credentials.Key{}, "TENCENTCLOUD_SECRET_KEY is not"},
		"bad id":    {map[string]string{id: "canary canary", secret: "k"}, credentials.Key{}, "TENCENTCLOUD_SECRET_ID has a character that no key has"},
		"bad key":   {map[string]string{id: "i", secret: "canary\ncanary"}, credentials.Key{}, "TENCENTCLOUD_SECRET_KEY has a character that no key has"},
		"bad token": {map[string]string{id: "i", secret: "k", token: "canary\u200bcanary"}, credentials.Key{}, "TENCENTCLOUD_TOKEN has a character that no key has"},
		"quote in":  {map[string]string{id: `canary"canary`, secret: "k"}, credentials.Key{}, "TENCENTCLOUD_SECRET_ID has a character that no key has"},
		"control":   {map[string]string{id: "i", secret: "canary\x7f"}, credentials.Key{}, "TENCENTCLOUD_SECRET_KEY has a character that no key has"},
		"no UTF-8":  {map[string]string{id: "i", secret: "canary\xff"}, credentials.Key{}, "TENCENTCLOUD_SECRET_KEY has a character that no key has"},
		"id only":   {map[string]string{id: "i"}, credentials.Key{}, "TENCENTCLOUD_SECRET_KEY is not"},
		"key only":  {map[string]string{secret: "k"}, credentials.Key{}, "TENCENTCLOUD_SECRET_ID is not"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := credentials.Find(t.Context(), (&cloud{}).config(test.env))
			if (name == "none") != errors.Is(err, credentials.ErrNotFound) {
				t.Errorf("%v wraps ErrNotFound: %t", err, errors.Is(err, credentials.ErrNotFound))
			}
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := r.Key(t.Context()); err != nil || got != test.want {
				t.Errorf("got %#v, %v", got, err)
			}
		})
	}
}

func TestEnvironmentOfAPrivateCloud(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	const (
		id, secret               = credentials.EnvSecretID, credentials.EnvSecretKey
		privateID, privateSecret = credentials.EnvPrivateSecretID, credentials.EnvPrivateSecretKey
	)
	for name, test := range map[string]struct {
		private bool
		env     map[string]string
		want    string // SecretID
		err     string
	}{
		"its own":              {true, map[string]string{privateID: "p", privateSecret: "k"}, "p", ""},
		"the others are first": {true, map[string]string{privateID: "p", privateSecret: "k", id: "i", secret: "k"}, "i", ""},
		"trimmed":              {true, map[string]string{privateID: "\ufeffp\r\n", privateSecret: " 'k'"}, "p", ""},
		"bad id":               {true, map[string]string{privateID: "p p", privateSecret: "k"}, "", "TCECLOUD_SECRET_ID has a character that no key has"},
		"bad key":              {true, map[string]string{privateID: "p", privateSecret: "k\u00e9"}, "", "TCECLOUD_SECRET_KEY has a character that no key has"},
		"half of the others":   {true, map[string]string{privateID: "p", privateSecret: "k", id: "i"}, "", "TENCENTCLOUD_SECRET_KEY is not"},
		"half of its own":      {true, map[string]string{privateID: "p"}, "", "TCECLOUD_SECRET_KEY is not"},
		"public cloud":         {false, map[string]string{privateID: "p", privateSecret: "k"}, "", "no credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := (&cloud{}).config(test.env)
			cfg.PrivateCloud = test.private
			r, err := credentials.Find(t.Context(), cfg)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if key, err := r.Key(t.Context()); err != nil || key != (credentials.Key{SecretID: test.want, SecretKey: "k"}) {
				t.Errorf("got %#v, %v", key, err)
			}
		})
	}
}

func TestEnvironmentNeverChanges(t *testing.T) {
	env := map[string]string{credentials.EnvSecretID: "a", credentials.EnvSecretKey: "k"}
	r, err := credentials.Find(t.Context(), (&cloud{}).config(env))
	if err != nil {
		t.Fatal(err)
	}
	env[credentials.EnvSecretID] = "b"
	r.Refused(credentials.Key{SecretID: "a", SecretKey: "k"})
	if key, err := r.Key(t.Context()); err != nil || key.SecretID != "a" {
		t.Errorf("got %q, %v", key.SecretID, err)
	}
	if s := r.Status(); s.Source != "environment" || s.LastLoad.IsZero() || !s.Expiry.IsZero() || s.Err != nil {
		t.Errorf("status %+v", s)
	}
}
