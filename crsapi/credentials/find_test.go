package credentials

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

	"github.com/crs-exporter/crs_exporter/crsapi/internal/tc3"
)

// cloud is a metadata service and an STS in one.
type cloud struct {
	mu     sync.Mutex
	asked  []string          // paths of the metadata service, actions of STS
	bodies map[string]string // answers by path or action; an integer is an HTTP status
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

// RoundTrip lets a cloud answer without a network.
func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return w.Result(), nil
}

func (c *cloud) config(env map[string]string) CredentialsConfig {
	return CredentialsConfig{
		Getenv:      func(name string) string { return env[name] },
		MetadataURL: "http://metadata/role/",
		STSURL:      "https://sts.example.com/",
		Transport:   c,
	}
}

func roleOf(id string, expiry time.Time) string {
	c := pair(id, expiry)
	return fmt.Sprintf(`{"TmpSecretId":%q,"TmpSecretKey":%q,"Token":%q,"ExpiredTime":%d,"Expiration":"x","Code":"Success"}`,
		id, string(c.SecretKey), string(c.Token), expiry.Unix())
}

func assumed(id string, expiry time.Time) string {
	c := pair(id, expiry)
	return fmt.Sprintf(`{"Response":{"Credentials":{"TmpSecretId":%q,"TmpSecretKey":%q,"Token":%q},"ExpiredTime":%d,"Expiration":"x","RequestId":"r"}}`,
		id, string(c.SecretKey), string(c.Token), expiry.Unix())
}

const podToken = "canary.pod/token+=="

// podEnv is the environment of a TKE pod.
func podEnv(t *testing.T) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(podToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		envTKERegion: "ap-beijing", envTKEProviderID: "cls-1", envTKETokenFile: path, envTKERoleARN: "qcs::cam::uin/1:roleName/pod",
	}
}

func TestFindCredentials(t *testing.T) {
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
		home   string // what ~/.tencentcloud/credentials says
		file   string // what the named file says; "none" for none
		cloud  map[string]string
		source string
		id     string
		asked  int // requests made to find it and to use it
		err    string
	}{
		"environment":         {env: with(pod, EnvSecretID, "env", EnvSecretKey, "k"), home: fileOf("home"), file: fileOf("file"), cloud: machine, source: SourceEnvironment, id: "env"},
		"half an environment": {env: with(pod, EnvSecretID, "env"), home: fileOf("home"), cloud: machine, err: "TENCENTCLOUD_SECRET_KEY is not"},
		"file":                {env: pod, home: fileOf("home"), file: fileOf("file"), cloud: machine, source: SourceFile, id: "file"},
		"named but missing":   {env: pod, home: fileOf("home"), file: "none", cloud: machine, err: "there is no file"},
		"home":                {env: pod, home: fileOf("home"), cloud: machine, source: SourceFile, id: "home"},
		"broken home":         {env: pod, home: "[default]\nsecret_id = canary", cloud: machine, err: "no secret_key"},
		"machine":             {env: pod, cloud: machine, source: SourceCVMRole, id: "machine", asked: 3},
		"pod":                 {env: pod, cloud: map[string]string{"AssumeRoleWithWebIdentity": assumed("pod", expiry)}, source: SourceTKEOIDC, id: "pod", asked: 2},
		"pod, no metadata":    {env: pod, cloud: map[string]string{"": "503", "AssumeRoleWithWebIdentity": assumed("pod", expiry)}, source: SourceTKEOIDC, id: "pod", asked: 2},
		"half a pod":          {env: with(pod, envTKEProviderID, ""), err: "a role of TKE needs TKE_PROVIDER_ID"},
		"pod's region alone":  {env: map[string]string{envTKERegion: "ap-beijing"}, err: "no credentials: the machine has no role"},
		"nothing":             {err: "no credentials: the machine has no role"},
		"a hotel's network":   {cloud: map[string]string{"": "<html>log in"}, err: "no credentials: metadata service: the answer is not the name of a role"},
		"a redirect":          {cloud: map[string]string{"": "302", "elsewhere": "role"}, err: "no credentials: metadata service: HTTP status 302"},
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
			r, err := FindCredentials(t.Context(), cfg)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "canary") {
					t.Errorf("got %v, want %q", err, test.err)
				}
				if strings.HasPrefix(test.err, "no credentials") != errors.Is(err, ErrNoCredentials) && test.file == "" {
					t.Errorf("ErrNoCredentials of %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Credentials(t.Context())
			if err != nil || got.SecretID != test.id || r.Status().Source != test.source {
				t.Errorf("got %q of %s, %v", got.SecretID, r.Status().Source, err)
			}
			if c.count() != test.asked {
				t.Errorf("asked %q", c.asked)
			}
		})
	}
}

// TestProbeIsShort looks for credentials where the metadata service's name
// leads nowhere.
func TestProbeIsShort(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		cfg := (&cloud{}).config(nil)
		cfg.Transport = transportFunc(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		begin := time.Now()
		_, err := FindCredentials(t.Context(), cfg)
		if took := time.Since(begin); took != probeTimeout || !errors.Is(err, ErrNoCredentials) {
			t.Errorf("after %s: %v", took, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := FindCredentials(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEnvironmentNeverChanges(t *testing.T) {
	env := map[string]string{EnvSecretID: "a", EnvSecretKey: "k"}
	r, err := FindCredentials(t.Context(), (&cloud{}).config(env))
	if err != nil {
		t.Fatal(err)
	}
	env[EnvSecretID] = "b"
	r.Refused(Credentials{SecretID: "a", SecretKey: "k"})
	if c, err := r.Credentials(t.Context()); err != nil || c.SecretID != "a" {
		t.Errorf("got %q, %v", c.SecretID, err)
	}
	if s := r.Status(); s.LastLoad.IsZero() || !s.Expiry.IsZero() || s.Err != nil {
		t.Errorf("status %+v", s)
	}
}

func TestPodRole(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	env := podEnv(t)
	synctest.Test(t, func(t *testing.T) {
		c := &cloud{bodies: map[string]string{"AssumeRoleWithWebIdentity": assumed("a", time.Now().Add(roleDuration))}}
		r, err := FindCredentials(t.Context(), c.config(env))
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
		// Kubernetes has written the token anew by the time of the renewal.
		if err := os.WriteFile(env[envTKETokenFile], []byte("next"), 0o600); err != nil {
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
		r, err := FindCredentials(t.Context(), cfg)
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
		base := pair("base", hour).Credentials
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

		// The base is revoked: STS says so, and the base is read anew.
		bodies["AssumeRole"] = `{"Response":{"Error":{"Code":"AuthFailure.SecretIdNotFound","Message":"base not found"},"RequestId":"r"}}`
		c.set(bodies)
		r.Refused(pair("a", time.Time{}).Credentials)
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

// TestRoleFailures has the services answer wrongly, canaries in every answer.
func TestRoleFailures(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	pod := podEnv(t)
	big := strings.Repeat("canary", 20_000)
	whole := roleOf("canary", time.Now().Add(time.Hour))
	sts := assumed("canary", time.Now().Add(time.Hour))
	without := func(text, field string) string { return strings.Replace(text, `"`+field+`"`, `"Other"`, 1) }
	for name, test := range map[string]struct{ machine, pod, want string }{
		"machine: status":        {machine: "500", want: "cvm-role: metadata service: credentials of role r: HTTP status 500"},
		"machine: redirect":      {machine: "302", want: "HTTP status 302"},
		"machine: no JSON":       {machine: "canary", want: "not the documented JSON"},
		"machine: cut":           {machine: whole[:len(whole)-3], want: "not the documented JSON"},
		"machine: wrong type":    {machine: `{"TmpSecretKey":"canary","ExpiredTime":"canary"}`, want: "not the documented JSON"},
		"machine: code":          {machine: strings.Replace(whole, "Success", "Failed\\n\\u001b", 1), want: `code "Failed  "`},
		"machine: null":          {machine: "null", want: `code ""`},
		"machine: huge":          {machine: big, want: "larger than 64 KiB"},
		"machine: no id":         {machine: without(whole, "TmpSecretId"), want: "the SecretId is empty"},
		"machine: no key":        {machine: without(whole, "TmpSecretKey"), want: "the SecretKey is empty"},
		"machine: no token":      {machine: without(whole, "Token"), want: "the Token is empty"},
		"machine: no expiry":     {machine: without(whole, "ExpiredTime"), want: "there is no ExpiredTime"},
		"machine: role is taken": {machine: "404", want: "HTTP status 404"},
		"pod: status":            {pod: "502", want: "tke-oidc: STS AssumeRoleWithWebIdentity: HTTP status 502"},
		"pod: redirect":          {pod: "307", want: "HTTP status 307"},
		"pod: no JSON":           {pod: "<canary>", want: "not the documented JSON"},
		"pod: null":              {pod: "null", want: "not the documented JSON"},
		"pod: empty":             {pod: `{"Response":{}}`, want: "the SecretId is empty"},
		"pod: no token":          {pod: without(sts, "Token"), want: "the Token is empty"},
		"pod: huge":              {pod: big, want: "larger than 64 KiB"},
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
			r, err := FindCredentials(t.Context(), c.config(env))
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Credentials(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if text := fmt.Sprintf("%v %+v %#v %v", err, r, r.Status(), r.Status().Err); strings.Contains(text, "canary") {
				t.Errorf("it tells a secret: %.300s", text)
			}
		})
	}
	for name, test := range map[string]struct {
		harm func(path string) error
		want string
	}{
		"no token file":    {os.Remove, "the pod's token: open"},
		"empty token file": {func(p string) error { return os.WriteFile(p, []byte("\n"), 0o600) }, "is empty"},
		"huge token file":  {func(p string) error { return os.WriteFile(p, []byte(big), 0o600) }, "is larger than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			env := podEnv(t)
			if err := test.harm(env[envTKETokenFile]); err != nil {
				t.Fatal(err)
			}
			c := &cloud{}
			r, err := FindCredentials(t.Context(), c.config(env))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestRolesOverTheNetwork asks real servers through the transports that
// FindCredentials makes for itself.
func TestRolesOverTheNetwork(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	c := &cloud{bodies: map[string]string{"": "r", "r": roleOf("a", time.Now().Add(time.Hour))}}
	server := httptest.NewServer(c)
	defer server.Close()
	cfg := c.config(nil)
	cfg.Transport, cfg.MetadataURL, cfg.STSURL = nil, server.URL+"/role/", server.URL+"/"
	cfg.RoleARN = "qcs::cam::uin/2:roleName/watcher"
	c.bodies["AssumeRole"] = assumed("b", time.Now().Add(time.Hour))
	r, err := FindCredentials(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, r, "b")
	if !c.last.Close {
		t.Error("the connection is kept, though the next request is an hour away")
	}

	server.CloseClientConnections()
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, bytes.NewReader([]byte("half")))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	if _, err := FindCredentials(t.Context(), cfg); !errors.Is(err, ErrNoCredentials) || strings.Contains(err.Error(), "http://") {
		t.Errorf("got %v", err)
	}
}
