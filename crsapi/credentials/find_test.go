package credentials_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// TestFind has the source of the key, or the error. A source that has a key hides those after
// it, and a broken one does too.
func TestFind(t *testing.T) {
	const (
		id, secret, token        = credentials.EnvSecretID, credentials.EnvSecretKey, credentials.EnvToken
		privateID, privateSecret = credentials.EnvPrivateSecretID, credentials.EnvPrivateSecretKey
	)
	type environment = map[string]string
	permanent := credentials.Key{SecretID: "i", SecretKey: "k"}
	temporary := credentials.Key{SecretID: "A-i_1", SecretKey: "k+/=", Token: "t.~:%&@#;"}
	expiry := time.Now().Add(time.Hour)
	pod := podEnv(t)
	with := func(more ...string) environment {
		env := maps.Clone(pod)
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	machine := map[string]string{"": "watcher\n", "watcher": metadataBody("machine", expiry)}
	service := map[string]string{"AssumeRoleWithWebIdentity": stsBody("pod", expiry)}
	const noRole = "no credentials: the machine has no role"
	for name, test := range map[string]struct {
		env      environment
		home     string // content of ~/.tencentcloud/credentials
		homeless bool   // there is no ~: the file is in the working directory
		file     string // content of Config.File; "none" if it is missing
		pipe     bool   // Config.File can be read only once
		cloud    map[string]string
		public   bool // not the private cloud
		want     credentials.Key
		source   string
		requests int // to find and load the key
		err      string
	}{
		"environment":             {env: with(id, "i", secret, "k"), home: fileOf("x"), file: fileOf("x"), cloud: machine, want: permanent, source: "environment"},
		"blanks and quotes":       {env: environment{id: "\ufeff A-i_1", secret: "\t'k+/=' \r\n", token: "\u00a0\"t.~:%&@#;`\u3000"}, want: temporary, source: "environment"},
		"incomplete environment":  {env: with(id, "canary"), home: fileOf("x"), cloud: machine, err: "TENCENTCLOUD_SECRET_ID is set, but TENCENTCLOUD_SECRET_KEY is not"},
		"blank SecretKey":         {env: environment{id: "canary", secret: "\n"}, err: "TENCENTCLOUD_SECRET_ID is set, but TENCENTCLOUD_SECRET_KEY is not"},
		"no SecretId":             {env: environment{secret: "canary"}, err: "TENCENTCLOUD_SECRET_ID is not"},
		"a blank within":          {env: environment{id: "canary canary", secret: "k"}, err: "TENCENTCLOUD_SECRET_ID contains an invalid character (printable ASCII only"},
		"a quote within":          {env: environment{id: `canary"canary`, secret: "k"}, err: "TENCENTCLOUD_SECRET_ID contains an invalid character"},
		"private":                 {env: environment{privateID: "\ufeffi\r\n", privateSecret: " 'k'"}, want: permanent, source: "environment"},
		"private after public":    {env: environment{privateID: "p", privateSecret: "p", id: "i", secret: "k"}, want: permanent, source: "environment"},
		"incomplete private":      {env: environment{privateID: "canary"}, err: "TCECLOUD_SECRET_KEY is not"},
		"private of public cloud": {env: environment{privateID: "p", privateSecret: "k"}, public: true, err: noRole},

		"file":            {env: pod, home: fileOf("x"), file: fileOf("file"), cloud: machine, want: keyOf("file"), source: "file"},
		"pipe":            {file: fileOf("file"), pipe: true, want: keyOf("file"), source: "file"},
		"missing file":    {env: pod, home: fileOf("x"), file: "none", cloud: machine, err: "no credentials: there is no file /"},
		"home":            {env: pod, home: fileOf("file"), cloud: machine, want: keyOf("file"), source: "file"},
		"broken home":     {env: pod, home: "[default]\nsecret_id = canary", cloud: machine, err: "no secret_key in section [default]"},
		"no home":         {homeless: true, home: fileOf("x"), err: noRole},
		"Windows":         {file: "\ufeff[default]\r\nsecret_id = i\r\nsecret_key = k\r\n", want: permanent, source: "file"},
		"hash in the key": {file: "[default]\nsecret_id = i\nsecret_key = k#;%(x)\n", want: credentials.Key{SecretID: "i", SecretKey: "k#;%(x)"}, source: "file"},
		"quotes":          {file: "[default]\nsecret_id = \"i\"\nsecret_key = 'k'\ntoken = `t`\n", want: credentials.Key{SecretID: "i", SecretKey: "k", Token: "t"}, source: "file"},
		"no ASCII":        {file: "[default]\nsecret_id = i\nsecret_key = canary\ntoken = canary\u00e9\n", err: "token contains an invalid character"},
		"only quotes":     {file: "[default]\nsecret_id = ''\nsecret_key = ''\n", err: "no secret_id"},
		"another section": {file: "[prod]\nsecret_id = i\nsecret_key = canary\n", err: "no section"},
		"not INI":         {file: "[default]\ncanary\n", err: "not in INI format"},
		"too large":       {file: strings.Repeat("# canary\n", 10_000), err: "larger than"},

		"machine":                 {env: pod, cloud: machine, want: keyOf("machine"), source: "cvm-role", requests: 3},
		"pod":                     {env: pod, cloud: service, want: keyOf("pod"), source: "tke-oidc", requests: 2},
		"pod, no metadata":        {env: pod, cloud: map[string]string{"": "503", "AssumeRoleWithWebIdentity": stsBody("pod", expiry)}, want: keyOf("pod"), source: "tke-oidc", requests: 2},
		"pod, line ends":          {env: with("TKE_REGION", "ap-beijing\n", "TKE_PROVIDER_ID", "cls-1\r\n", "TKE_WEB_IDENTITY_TOKEN_FILE", pod["TKE_WEB_IDENTITY_TOKEN_FILE"]+"\n"), cloud: service, want: keyOf("pod"), source: "tke-oidc", requests: 2},
		"incomplete pod":          {env: with("TKE_PROVIDER_ID", ""), err: "a TKE role needs TKE_PROVIDER_ID, which is not set"},
		"only the pod region":     {env: environment{"TKE_REGION": "ap-beijing"}, err: noRole},
		"no source":               {err: noRole},
		"login page of a network": {cloud: map[string]string{"": "<html>log in"}, err: "no credentials: metadata service: the response is not a role name"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			t.Chdir(home)
			t.Setenv("HOME", home)
			if test.homeless {
				t.Setenv("HOME", "")
			}
			c, env := &cloud{bodies: test.cloud}, maps.Clone(test.env)
			cfg := c.config(env)
			cfg.PrivateCloud = !test.public
			if test.file != "" {
				cfg.File = filepath.Join(home, "named")
			}
			_ = os.Mkdir(filepath.Join(home, ".tencentcloud"), 0o700)
			for path, text := range map[string]string{filepath.Join(home, ".tencentcloud", "credentials"): test.home, cfg.File: test.file} {
				if text != "" && text != "none" {
					write(t, path, text, time.Now())
				}
			}
			if test.pipe {
				in, out, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				_, _ = out.WriteString(test.file)
				_ = out.Close()
				cfg.File = fmt.Sprint("/dev/fd/", in.Fd())
			}
			r, err := credentials.Find(t.Context(), cfg)
			if test.err != "" {
				wantError(t, err, test.err)
				if strings.HasPrefix(test.err, "no credentials") != errors.Is(err, credentials.ErrNotFound) || r != nil {
					t.Errorf("%v wraps ErrNotFound: %t, with %v", err, errors.Is(err, credentials.ErrNotFound), r)
				}
				if test.file != "" && test.file != "none" {
					wantError(t, err, "credentials file")
					wantError(t, err, cfg.File+": ")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			clear(env) // what was found is kept, even if the API refuses it
			r.Refused(test.want)
			if got, err := r.Key(t.Context()); err != nil || got != test.want {
				t.Errorf("got %q %q %q, %v", got.SecretID, string(got.SecretKey), string(got.Token), err)
			}
			if s := r.Status(); s.Source != test.source || s.LastLoad.IsZero() || s.Expiry.IsZero() != (test.requests == 0) || s.Err != nil {
				t.Errorf("status %+v", s)
			}
			if len(c.requests) != test.requests {
				t.Errorf("requests %q", c.requests)
			}
		})
	}
	t.Setenv(id, "i")
	t.Setenv(secret, "k")
	if got, err := find(t, credentials.Config{}).Key(t.Context()); err != nil || got != permanent {
		t.Errorf("in the environment of the process: %q, %v", got.SecretID, err)
	}
}

// TestProbeTimeout searches on a machine where no metadata service responds.
func TestProbeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{bodies: map[string]string{"": hanging}}
		begin := time.Now()
		_, err := credentials.Find(t.Context(), c.config(nil))
		if took := time.Since(begin); took != time.Second || !errors.Is(err, credentials.ErrNotFound) {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("signal received"))
		_, err = credentials.Find(ctx, c.config(nil))
		wantError(t, err, "find credentials: signal received")
		if errors.Is(err, credentials.ErrNotFound) {
			t.Errorf("%v wraps ErrNotFound", err)
		}
	})
}

// TestSTSRequest checks the requests to STS, and that Kubernetes can replace the
// token of a pod.
func TestSTSRequest(t *testing.T) {
	const kind, payload = "application/json; charset=utf-8", `{"DurationSeconds":7200,%s"RoleArn":%q,"RoleSessionName":"crs_exporter"%s}`
	pod, base := podEnv(t), keyOf("base")
	for action, test := range map[string]struct {
		env                    map[string]string
		arn                    string
		region, payload, token string
	}{
		"AssumeRoleWithWebIdentity": {
			pod, "", "ap-beijing", fmt.Sprintf(payload, `"ProviderId":"cls-1",`, podARN, `,"WebIdentityToken":"next"`), "",
		},
		"AssumeRole": {baseEnv, machineARN, "ap-guangzhou", fmt.Sprintf(payload, "", machineARN, ""), string(base.Token)},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &cloud{}
			cfg := c.config(test.env)
			cfg.RoleARN = test.arn
			r := find(t, cfg)
			write(t, pod["TKE_WEB_IDENTITY_TOKEN_FILE"], "next\n", time.Now())
			c.serve(action, stsBody("a", time.Now().Add(2*time.Hour)))
			expect(t, r, "a")

			authorization := "SKIP"
			if test.token != "" {
				authorization, _ = tc3.Sign(tc3.Request{
					Service: "sts", Host: "sts.example.com", ContentType: kind, Payload: []byte(c.payload), Time: time.Now(),
				}, base.SecretID, string(base.SecretKey))
			}
			for name, want := range map[string]string{
				"Authorization": authorization, "Content-Type": kind, "X-TC-Version": "2018-08-13", "X-TC-Region": test.region,
				"X-TC-Token": test.token, "X-TC-Timestamp": strconv.FormatInt(time.Now().Unix(), 10),
			} {
				if got := c.last.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if c.payload != test.payload {
				t.Errorf("sent %s, want %s", c.payload, test.payload)
			}
		})
	}
}

// TestRoleFailures has invalid responses for each role, and token files. The
// secrets in them are canaries.
func TestRoleFailures(t *testing.T) {
	for _, role := range roles() {
		good := role.body("canary", time.Now().Add(time.Hour))
		without := func(field string) string { return strings.Replace(good, `"`+field+`"`, `"Other"`, 1) }
		for want, body := range map[string]string{
			"HTTP status 500":            "500",
			"not the documented JSON":    "<canary>",
			"larger than 64 KiB":         strings.Repeat("canary", 20_000),
			"the SecretId is empty":      without("TmpSecretId"),
			"the SecretKey is empty":     without("TmpSecretKey"),
			"the Token is empty":         without("Token"),
			"the ExpiredTime is missing": without("ExpiredTime"),
		} {
			c := &cloud{}
			r := find(t, role.config(t, c))
			c.serve(role.name, body)
			expectError(t, r, role.source+": "+role.service+": ")
			expectError(t, r, want)
		}
	}
	machine, pod, assumed := roles()[0], roles()[1], roles()[2]
	for want, test := range map[string]struct {
		role
		response string
	}{
		`code "Failed  "`: {machine, `{"Code":"Failed\n\u001b"}`},
		"AuthFailure: the token [redacted] has  expired": {pod, stsError("AuthFailure", "the token "+podToken+` has\u0007 expired`)},
		"c: " + strings.Repeat("x", 256):                 {assumed, stsError("c", strings.Repeat("x", 1000))},
	} {
		c := &cloud{}
		r := find(t, test.config(t, c))
		c.serve(test.name, test.response)
		expectError(t, r, want)
		if !strings.HasSuffix(r.Status().Err.Error(), want) {
			t.Errorf("got %v, want nothing after %s", r.Status().Err, want)
		}
	}
	for path, want := range map[string]string{"/none/token": "tke-oidc: pod token: open /none/token", os.DevNull: "is empty"} {
		env := podEnv(t)
		env["TKE_WEB_IDENTITY_TOKEN_FILE"] = path
		expectError(t, find(t, (&cloud{}).config(env)), want)
	}

	c := &cloud{bodies: map[string]string{"": "watcher", "watcher": "500"}}
	cfg := c.config(nil)
	cfg.RoleARN = machineARN
	expectError(t, find(t, cfg), "cvm-role+assume-role: cvm-role: metadata service: credentials of role watcher: HTTP status 500")
}

func TestSecretIsNotPrinted(t *testing.T) {
	key := keyOf("id")
	r := find(t, (&cloud{}).config(baseEnv))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb+verb, key, r); strings.Contains(text, "-of-") || strings.Contains(text, "2d6f662d") {
			t.Errorf("%s prints a secret: %s", verb, text)
		}
	}
	if text, err := json.Marshal(key); err != nil || strings.Contains(string(text), "-of-") {
		t.Errorf("JSON: %s, %v", text, err)
	}
}
