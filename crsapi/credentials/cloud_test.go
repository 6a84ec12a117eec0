package credentials_test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
	"go.uber.org/goleak"
)

// Durations that the documentation promises.
const (
	renewBefore = 5 * time.Minute
	rolePause   = 30 * time.Second
	filePause   = time.Second
	loadTimeout = 5 * time.Second
)

// cloud is a metadata service and an STS. Its responses have names: the paths of
// the metadata service, and the actions of STS.
type cloud struct {
	delay time.Duration // of each response

	mu       sync.Mutex
	bodies   map[string]string // an integer is an HTTP status
	requests []string
	last     *http.Request // of STS
	payload  string        // of last
}

// Bodies of requests that have no response.
const failing, hanging = "fail", "hang"

// RoundTrip responds without a network.
func (c *cloud) RoundTrip(r *http.Request) (*http.Response, error) {
	name := cmp.Or(r.Header.Get("X-TC-Action"), strings.TrimPrefix(r.URL.Path, "/role/"))
	c.mu.Lock()
	body := cmp.Or(c.bodies[name], "404")
	c.mu.Unlock()
	switch time.Sleep(c.delay); body {
	case failing:
		return nil, errors.New("out of order")
	case hanging:
		httptrace.ContextClientTrace(r.Context()).DNSStart(httptrace.DNSStartInfo{Host: "example.com"})
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, name)
	if r.Method == http.MethodPost {
		payload, _ := io.ReadAll(r.Body)
		c.last, c.payload = r, string(payload)
	}
	status, err := strconv.Atoi(body)
	if err != nil {
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// serve sets the response with this name.
func (c *cloud) serve(name, body string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bodies == nil {
		c.bodies = map[string]string{}
	}
	c.bodies[name] = body
}

// count returns the number of requests with this name.
func (c *cloud) count(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(c.requests), func(request string) bool { return request != name }))
}

func (c *cloud) config(env map[string]string) credentials.Config {
	return credentials.Config{
		Getenv:      func(name string) string { return env[name] },
		MetadataURL: "http://metadata/role/",
		STSURL:      "https://sts.example.com/",
		Transport:   c,
	}
}

// role is a source of a temporary key, in the responses of a cloud.
type role struct {
	source  string
	config  func(t *testing.T, c *cloud) credentials.Config
	service string // as errors name it
	name    string // of the response with the key
	body    func(id string, expiry time.Time) string
}

const (
	machineARN = "qcs::cam::uin/2:roleName/watcher"
	podARN     = "qcs::cam::uin/1:roleName/pod"
	podToken   = "canary.pod/token+=="
)

// roles returns every source of a temporary key.
func roles() []role {
	machine := func(_ *testing.T, c *cloud) credentials.Config {
		c.serve("", "watcher\n")
		return c.config(nil)
	}
	pod := func(t *testing.T, c *cloud) credentials.Config { return c.config(podEnv(t)) }
	assumed := func(_ *testing.T, c *cloud) credentials.Config {
		cfg := c.config(baseEnv)
		cfg.RoleARN = machineARN
		return cfg
	}
	return []role{
		{"cvm-role", machine, "metadata service: credentials of role watcher", "watcher", metadataBody},
		{"tke-oidc", pod, "STS AssumeRoleWithWebIdentity", "AssumeRoleWithWebIdentity", stsBody},
		{"environment+assume-role", assumed, "STS AssumeRole", "AssumeRole", stsBody},
	}
}

func metadataBody(id string, expiry time.Time) string {
	return fmt.Sprintf(`{"TmpSecretId":%[1]q,"TmpSecretKey":"key-of-%[1]s","Token":"token-of-%[1]s","ExpiredTime":%d,"Expiration":"x","Code":"Success"}`,
		id, expiry.Unix())
}

func stsBody(id string, expiry time.Time) string {
	return fmt.Sprintf(`{"Response":{"Credentials":{"TmpSecretId":%[1]q,"TmpSecretKey":"key-of-%[1]s","Token":"token-of-%[1]s"},"ExpiredTime":%d,"RequestId":"r"}}`,
		id, expiry.Unix())
}

func stsError(code, message string) string {
	return `{"Response":{"Error":{"Code":"` + code + `","Message":"` + message + `"}}}`
}

// baseEnv is an environment with keyOf("base").
var baseEnv = map[string]string{
	credentials.EnvSecretID: "base", credentials.EnvSecretKey: "key-of-base", credentials.EnvToken: "token-of-base",
}

// podEnv returns the environment of a TKE pod.
func podEnv(t *testing.T) map[string]string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, podToken+"\n", time.Now())
	return map[string]string{
		"TKE_REGION": "ap-beijing", "TKE_PROVIDER_ID": "cls-1", "TKE_WEB_IDENTITY_TOKEN_FILE": path, "TKE_ROLE_ARN": podARN,
	}
}

// keyOf returns the key that belongs to a SecretId in these tests.
func keyOf(id string) credentials.Key {
	return credentials.Key{SecretID: id, SecretKey: credentials.Secret("key-of-" + id), Token: credentials.Secret("token-of-" + id)}
}

func find(t testing.TB, cfg credentials.Config) *credentials.Renewer {
	t.Helper()
	r, err := credentials.Find(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// expect checks which key r returns.
func expect(t *testing.T, r *credentials.Renewer, id string) {
	t.Helper()
	key, err := r.Key(t.Context())
	if err != nil || key != keyOf(id) {
		t.Errorf("got %q, %v, want %q", key.SecretID, err, id)
	}
}

// expectError checks an error of r for a text. It must not contain a secret.
func expectError(t *testing.T, r *credentials.Renewer, text string) {
	t.Helper()
	key, err := r.Key(t.Context())
	wantError(t, err, text)
	if key != (credentials.Key{}) {
		t.Errorf("got %q with an error", key.SecretID)
	}
	wantError(t, r.Status().Err, text)
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "canary") {
		t.Errorf("got %v, want %q", err, text)
	}
}

// TestMain sets a home directory without credentials. It also sets a proxy that requires
// credentials, before http.ProxyFromEnvironment reads it. It is not used for 127.0.0.1.
func TestMain(m *testing.M) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
	}))
	for name, value := range map[string]string{
		"HOME": "/none", "HTTP_PROXY": proxy.URL, "HTTPS_PROXY": proxy.URL, "NO_PROXY": "", "no_proxy": "",
	} {
		_ = os.Setenv(name, value)
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent())
}
