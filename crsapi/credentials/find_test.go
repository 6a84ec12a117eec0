package credentials_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// cloud is a metadata service and an STS.
type cloud struct {
	mu     sync.Mutex
	asked  []string          // paths of the metadata service, actions of STS
	bodies map[string]string // responses by path or action; an integer is an HTTP status
	last   *http.Request     // of STS
	sent   map[string]any    // its JSON
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.TrimPrefix(r.URL.Path, "/role/")
	if action := r.Header.Get("X-TC-Action"); action != "" {
		key = action
		c.last, c.sent = r, map[string]any{}
		_ = json.NewDecoder(r.Body).Decode(&c.sent)
	}
	c.asked = append(c.asked, key)
	body, ok := c.bodies[key]
	if !ok {
		http.NotFound(w, r)
		return
	}
	if status, err := strconv.Atoi(body); err == nil {
		w.Header().Set("Location", "/role/elsewhere")
		w.WriteHeader(status)
		return
	}
	_, _ = io.WriteString(w, body)
}

func (c *cloud) set(bodies map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = nil
	c.bodies = maps.Clone(bodies)
}

func (c *cloud) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.asked)
}

// RoundTrip lets a cloud respond without a network.
func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result(), nil
}

func (c *cloud) config(env map[string]string) credentials.Config {
	return credentials.Config{
		Getenv:      func(name string) string { return env[name] },
		MetadataURL: "http://metadata/role/",
		STSURL:      "https://sts.example.com/",
		Transport:   c,
	}
}

func roleOf(id string, expiry time.Time) string {
	key := keyOf(id)
	return fmt.Sprintf(`{"TmpSecretId":%q,"TmpSecretKey":%q,"Token":%q,"ExpiredTime":%d,"Expiration":"x","Code":"Success"}`,
		id, string(key.SecretKey), string(key.Token), expiry.Unix())
}

func assumed(id string, expiry time.Time) string {
	key := keyOf(id)
	return fmt.Sprintf(`{"Response":{"Credentials":{"TmpSecretId":%q,"TmpSecretKey":%q,"Token":%q},"ExpiredTime":%d,"Expiration":"x","RequestId":"r"}}`,
		id, string(key.SecretKey), string(key.Token), expiry.Unix())
}

// roleDuration is the lifetime that is requested from STS.
const roleDuration = 2 * time.Hour

const podToken = "canary.pod/token+=="

// podEnv returns the environment of a TKE pod.
func podEnv(t *testing.T) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(podToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"TKE_REGION": "ap-beijing", "TKE_PROVIDER_ID": "cls-1", "TKE_WEB_IDENTITY_TOKEN_FILE": path, "TKE_ROLE_ARN": "qcs::cam::uin/1:roleName/pod",
	}
}

func TestFind(t *testing.T) {
	expiry := time.Now().Add(time.Hour)
	pod := podEnv(t)
	with := func(env map[string]string, more ...string) map[string]string {
		env = maps.Clone(env)
		if env == nil {
			env = map[string]string{}
		}
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	machine := map[string]string{"": "watcher\n", "watcher": roleOf("machine", expiry)}
	for name, test := range map[string]struct {
		env    map[string]string
		home   string // content of ~/.tencentcloud/credentials
		file   string // content of Config.File; "none" if it is missing
		cloud  map[string]string
		source string
		id     string
		asked  int // requests to find and load it
		err    string
	}{
		"environment":             {env: with(pod, credentials.EnvSecretID, "env", credentials.EnvSecretKey, "k"), home: fileOf("home"), file: fileOf("file"), cloud: machine, source: "environment", id: "env"},
		"incomplete environment":  {env: with(pod, credentials.EnvSecretID, "env"), home: fileOf("home"), cloud: machine, err: "TENCENTCLOUD_SECRET_KEY is not"},
		"file":                    {env: pod, home: fileOf("home"), file: fileOf("file"), cloud: machine, source: "file", id: "file"},
		"named but missing":       {env: pod, home: fileOf("home"), file: "none", cloud: machine, err: "there is no file"},
		"home":                    {env: pod, home: fileOf("home"), cloud: machine, source: "file", id: "home"},
		"broken home":             {env: pod, home: "[default]\nsecret_id = canary", cloud: machine, err: "no secret_key"},
		"machine":                 {env: pod, cloud: machine, source: "cvm-role", id: "machine", asked: 3},
		"pod":                     {env: pod, cloud: map[string]string{"AssumeRoleWithWebIdentity": assumed("pod", expiry)}, source: "tke-oidc", id: "pod", asked: 2},
		"pod, no metadata":        {env: pod, cloud: map[string]string{"": "503", "AssumeRoleWithWebIdentity": assumed("pod", expiry)}, source: "tke-oidc", id: "pod", asked: 2},
		"pod, line ends":          {env: with(pod, "TKE_REGION", "ap-beijing\n", "TKE_PROVIDER_ID", "cls-1\r\n", "TKE_WEB_IDENTITY_TOKEN_FILE", pod["TKE_WEB_IDENTITY_TOKEN_FILE"]+"\n"), cloud: map[string]string{"AssumeRoleWithWebIdentity": assumed("pod", expiry)}, source: "tke-oidc", id: "pod", asked: 2},
		"incomplete pod":          {env: with(pod, "TKE_PROVIDER_ID", ""), err: "a TKE role needs TKE_PROVIDER_ID"},
		"only the pod region":     {env: map[string]string{"TKE_REGION": "ap-beijing"}, err: "no credentials: the machine has no role"},
		"no source":               {err: "no credentials: the machine has no role"},
		"login page of a network": {cloud: map[string]string{"": "<html>log in"}, err: "no credentials: metadata service: the response is not a role name"},
		"redirect":                {cloud: map[string]string{"": "302", "elsewhere": "role"}, err: "no credentials: metadata service: HTTP status 302"},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			t.Setenv("HOME", home)
			if test.home != "" {
				if err := os.Mkdir(filepath.Join(home, ".tencentcloud"), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(home, ".tencentcloud", "credentials"), []byte(test.home), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := &cloud{bodies: test.cloud}
			cfg := c.config(test.env)
			if test.file != "" {
				cfg.File = filepath.Join(home, "named")
			}
			if test.file != "" && test.file != "none" {
				if err := os.WriteFile(cfg.File, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := credentials.Find(t.Context(), cfg)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v, want %q", err, test.err)
				}
				if strings.HasPrefix(test.err, "no credentials") != errors.Is(err, credentials.ErrNotFound) && test.file == "" {
					t.Errorf("ErrNotFound of %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Key(t.Context())
			if err != nil || got.SecretID != test.id || r.Status().Source != test.source {
				t.Errorf("got %q of %s, %v", got.SecretID, r.Status().Source, err)
			}
			if c.count() != test.asked {
				t.Errorf("asked %q", c.asked)
			}
		})
	}
}

// TestProbeTimeout searches on a machine where no metadata service responds.
func TestProbeTimeout(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		cfg := (&cloud{}).config(nil)
		cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		_, err := credentials.Find(t.Context(), cfg)
		if took := time.Since(begin); took != time.Second || !errors.Is(err, credentials.ErrNotFound) {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := credentials.Find(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestInvalidURLs(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	cfg := (&cloud{}).config(nil)
	cfg.STSURL = "https://u:canary@sts:x/"
	if _, err := credentials.Find(t.Context(), cfg); err == nil || err.Error() != "invalid STS URL" {
		t.Errorf("got %v", err)
	}
	cfg = (&cloud{}).config(nil)
	cfg.MetadataURL = "http://u:canary@metadata:x/"
	if _, err := credentials.Find(t.Context(), cfg); err == nil || err.Error() != "no credentials: metadata service: invalid URL" {
		t.Errorf("got %v", err)
	}
}

// TestProcessEnvironment checks that Find uses the environment of the process.
func TestProcessEnvironment(t *testing.T) {
	t.Setenv(credentials.EnvSecretID, "i")
	t.Setenv(credentials.EnvSecretKey, "k")
	r, err := credentials.Find(t.Context(), credentials.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if key, err := r.Key(t.Context()); err != nil || key.SecretID != "i" {
		t.Errorf("got %q, %v", key.SecretID, err)
	}
}

// TestRoleWithoutBase checks that a failure of the base key is reported.
func TestRoleWithoutBase(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := &cloud{bodies: map[string]string{"": "r", "r": "500"}}
	cfg := c.config(nil)
	cfg.RoleARN = "qcs::cam::uin/2:roleName/watcher"
	r, err := credentials.Find(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	expectError(t, r, "cvm-role+assume-role: cvm-role: metadata service: credentials of role r: HTTP status 500")
}

func TestPodRole(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	env := podEnv(t)
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{bodies: map[string]string{"AssumeRoleWithWebIdentity": assumed("a", time.Now().Add(roleDuration))}}
		r, err := credentials.Find(t.Context(), c.config(env))
		if err != nil {
			t.Fatal(err)
		}
		expect(t, r, "a")
		for name, want := range map[string]string{
			"Authorization": "SKIP", "X-Tc-Version": "2018-08-13", "X-Tc-Region": "ap-beijing",
			"X-Tc-Timestamp": strconv.FormatInt(time.Now().Unix(), 10), "X-Tc-Token": "",
		} {
			if got := c.last.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		want := map[string]any{
			"ProviderId": "cls-1", "WebIdentityToken": podToken, "RoleArn": "qcs::cam::uin/1:roleName/pod",
			"RoleSessionName": "crs_exporter", "DurationSeconds": 7200.0,
		}
		if !maps.Equal(c.sent, want) {
			t.Errorf("sent %v", c.sent)
		}
		// Kubernetes has replaced the token before the renewal.
		if err := os.WriteFile(env["TKE_WEB_IDENTITY_TOKEN_FILE"], []byte("next"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.set(map[string]string{"AssumeRoleWithWebIdentity": assumed("b", time.Now().Add(2*roleDuration))})
		time.Sleep(roleDuration - renewBefore)
		expect(t, r, "b")
		if c.sent["WebIdentityToken"] != "next" || c.count() != 1 {
			t.Errorf("sent %v after %q", c.sent["WebIdentityToken"], c.asked)
		}
	})
}

func TestAssumedRole(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	const arn = "qcs::cam::uin/2:roleName/watcher"
	synctest.Test(t, func(t *testing.T) {
		hour := time.Now().Add(24 * time.Hour)
		bodies := map[string]string{
			"": "machine", "machine": roleOf("base", hour), "AssumeRole": assumed("a", time.Now().Add(roleDuration)),
		}
		c := &cloud{bodies: bodies}
		cfg := c.config(nil)
		cfg.RoleARN = arn
		r, err := credentials.Find(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, r, "a")
		if got := r.Status().Source; got != "cvm-role+assume-role" {
			t.Errorf("source %q", got)
		}
		if want := (map[string]any{"RoleArn": arn, "RoleSessionName": "crs_exporter", "DurationSeconds": 7200.0}); !maps.Equal(c.sent, want) {
			t.Errorf("sent %v", c.sent)
		}
		payload := fmt.Sprintf(`{"RoleArn":%q,"RoleSessionName":"crs_exporter","DurationSeconds":7200}`, arn)
		base := keyOf("base")
		signed, _ := tc3.Sign(tc3.Request{
			Service: "sts", Host: "sts.example.com", ContentType: "application/json; charset=utf-8",
			Payload: []byte(payload), Time: time.Now(),
		}, base.SecretID, string(base.SecretKey))
		for name, want := range map[string]string{
			"Authorization": signed, "X-Tc-Token": string(base.Token), "X-Tc-Region": "ap-guangzhou",
		} {
			if got := c.last.Header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}

		// The base key is revoked: STS refuses it, and it is loaded again.
		bodies["AssumeRole"] = `{"Response":{"Error":{"Code":"AuthFailure.SecretIdNotFound","Message":"base not found"},"RequestId":"r"}}`
		c.set(bodies)
		r.Refused(keyOf("a"))
		expect(t, r, "a")
		if err := r.Status().Err; err == nil || !strings.Contains(err.Error(), "STS AssumeRole: AuthFailure.SecretIdNotFound: [redacted] not found") {
			t.Errorf("status %v", err)
		}
		bodies["machine"], bodies["AssumeRole"] = roleOf("base2", hour), assumed("b", time.Now().Add(roleDuration))
		c.set(bodies)
		time.Sleep(rolePause)
		expect(t, r, "b")
		if got := c.last.Header.Get("Authorization"); !strings.Contains(got, "Credential=base2/") {
			t.Errorf("signed by %s", got)
		}
	})
}

// TestRefusedBase checks which errors of STS make the base key load again.
func TestRefusedBase(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for code, reload := range map[string]bool{
		"AuthFailure":                       true,
		"AuthFailure.InvalidSecretId":       true,
		"AuthFailure.SignatureFailure":      true,
		"AuthFailure.TokenFailure":          true,
		"AuthFailure.SignatureExpire":       false,
		"AuthFailure.UnauthorizedOperation": false,
		"UnauthorizedOperation":             false,
		"InternalError":                     false,
	} {
		t.Run(code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cloud{bodies: map[string]string{
					"": "r", "r": roleOf("base", time.Now().Add(24*time.Hour)),
					"AssumeRole": `{"Response":{"Error":{"Code":"` + code + `","Message":"m"},"RequestId":"r"}}`,
				}}
				cfg := c.config(nil)
				cfg.RoleARN = "qcs::cam::uin/2:roleName/watcher"
				r, err := credentials.Find(t.Context(), cfg)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					expectError(t, r, "STS AssumeRole: "+code)
					time.Sleep(rolePause)
				}
				loads := 0
				for _, key := range c.asked {
					if key == "r" {
						loads++
					}
				}
				if want := map[bool]int{false: 1, true: 2}[reload]; loads != want {
					t.Errorf("base key loaded %d times, want %d", loads, want)
				}
			})
		})
	}
}

// TestRoleFailures checks errors for invalid responses, each with a canary as
// the secret.
func TestRoleFailures(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	pod := podEnv(t)
	big := strings.Repeat("canary", 20_000)
	whole := roleOf("canary", time.Now().Add(time.Hour))
	sts := assumed("canary", time.Now().Add(time.Hour))
	without := func(text, field string) string { return strings.Replace(text, `"`+field+`"`, `"Other"`, 1) }
	for name, test := range map[string]struct{ machine, pod, want string }{
		"machine: status":       {machine: "500", want: "cvm-role: metadata service: credentials of role r: HTTP status 500"},
		"machine: redirect":     {machine: "302", want: "HTTP status 302"},
		"machine: no JSON":      {machine: "canary", want: "not the documented JSON"},
		"machine: cut":          {machine: whole[:len(whole)-3], want: "not the documented JSON"},
		"machine: wrong type":   {machine: `{"TmpSecretKey":"canary","ExpiredTime":"canary"}`, want: "not the documented JSON"},
		"machine: code":         {machine: strings.Replace(whole, "Success", "Failed\\n\\u001b", 1), want: `code "Failed  "`},
		"machine: null":         {machine: "null", want: `code ""`},
		"machine: huge":         {machine: big, want: "larger than 64 KiB"},
		"machine: no id":        {machine: without(whole, "TmpSecretId"), want: "the SecretId is empty"},
		"machine: no key":       {machine: without(whole, "TmpSecretKey"), want: "the SecretKey is empty"},
		"machine: no token":     {machine: without(whole, "Token"), want: "the Token is empty"},
		"machine: no expiry":    {machine: without(whole, "ExpiredTime"), want: "the ExpiredTime is missing"},
		"machine: role removed": {machine: "404", want: "HTTP status 404"},
		"pod: status":           {pod: "502", want: "tke-oidc: STS AssumeRoleWithWebIdentity: HTTP status 502"},
		"pod: redirect":         {pod: "307", want: "HTTP status 307"},
		"pod: no JSON":          {pod: "<canary>", want: "not the documented JSON"},
		"pod: null":             {pod: "null", want: "not the documented JSON"},
		"pod: empty":            {pod: `{"Response":{}}`, want: "the SecretId is empty"},
		"pod: no token":         {pod: without(sts, "Token"), want: "the Token is empty"},
		"pod: huge":             {pod: big, want: "larger than 64 KiB"},
		"pod: refused": {
			pod:  `{"Response":{"Error":{"Code":"AuthFailure","Message":"the token ` + podToken + ` has\u0007 expired"},"RequestId":"r"}}`,
			want: "STS AssumeRoleWithWebIdentity: AuthFailure: the token [redacted] has  expired",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, env := &cloud{bodies: map[string]string{"": "r", "r": test.machine}}, map[string]string{}
			if test.pod != "" {
				c, env = &cloud{bodies: map[string]string{"AssumeRoleWithWebIdentity": test.pod}}, pod
			}
			r, err := credentials.Find(t.Context(), c.config(env))
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Key(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := fmt.Sprintf("%v %+v %#v %v", err, r, r.Status(), r.Status().Err); strings.Contains(text, "canary") {
				t.Errorf("a secret in: %.300s", text)
			}
		})
	}
	for name, test := range map[string]struct {
		damage func(path string) error
		want   string
	}{
		"no token file":    {os.Remove, "pod token: open"},
		"empty token file": {func(p string) error { return os.WriteFile(p, []byte("\n"), 0o600) }, "is empty"},
		"huge token file":  {func(p string) error { return os.WriteFile(p, []byte(big), 0o600) }, "is larger than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			env := podEnv(t)
			if err := test.damage(env["TKE_WEB_IDENTITY_TOKEN_FILE"]); err != nil {
				t.Fatal(err)
			}
			c := &cloud{}
			r, err := credentials.Find(t.Context(), c.config(env))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Key(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestRolesOverTheNetwork uses a real server and the default transports.
func TestRolesOverTheNetwork(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := &cloud{bodies: map[string]string{"": "r", "r": roleOf("a", time.Now().Add(time.Hour))}}
	server := httptest.NewServer(c)
	defer server.Close()
	cfg := c.config(nil)
	cfg.Transport, cfg.MetadataURL, cfg.STSURL = nil, server.URL+"/role/", server.URL+"/"
	cfg.RoleARN = "qcs::cam::uin/2:roleName/watcher"
	c.bodies["AssumeRole"] = assumed("b", time.Now().Add(time.Hour))
	r, err := credentials.Find(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, "b")
	if !c.last.Close {
		t.Error("the connection stays open, though the next request is an hour away")
	}

	server.CloseClientConnections()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, bytes.NewReader([]byte("half")))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, err := credentials.Find(t.Context(), cfg); !errors.Is(err, credentials.ErrNotFound) || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}
