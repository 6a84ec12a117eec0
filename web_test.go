package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"html"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/crs-exporter/crs_exporter/crsapi"
	"github.com/crs-exporter/crs_exporter/crsapi/crsapitest"
	"golang.org/x/crypto/bcrypt"
)

// authority signs certificates for 127.0.0.1, of servers and clients.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key, a.cert = a.issue(nil, "authority")
	return a
}

// issue creates a key and a certificate and writes them to files of that name.
func (a *authority) issue(by *authority, name string) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: by == nil,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	a.write(name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return key, cert
}

func (a *authority) write(name, text string) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func (a *authority) client(name string) *http.Client {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cfg := &tls.Config{RootCAs: pool}
	if name != "" {
		cert, err := tls.LoadX509KeyPair(filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"))
		if err != nil {
			a.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
}

func TestWebConfig(t *testing.T) {
	ca := newAuthority(t)
	ca.issue(ca, "server")
	ca.issue(ca, "prometheus")
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	const server = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
	mutual := ca.write("mutual.yml", server+"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n")
	basic := ca.write("basic.yml", server+"basic_auth_users:\n  prometheus: "+string(hash)+"\n")
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})

	get := func(t *testing.T, client *http.Client, url, password string) (int, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("prometheus", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err
		}
		return resp.StatusCode, resp.Body.Close()
	}
	t.Run("client certificates", func(t *testing.T) {
		exporter := start(t, append(args, "--web.config.file="+mutual)...)
		url := strings.Replace(exporter.url, "http:", "https:", 1) + "/metrics"
		if status, err := get(t, ca.client("prometheus"), url, ""); err != nil || status != http.StatusOK {
			t.Errorf("with a certificate: %d, %v", status, err)
		}
		if status, err := get(t, ca.client(""), url, ""); err == nil {
			t.Errorf("without a certificate: %d", status)
		}
		if status, err := get(t, ca.client("prometheus"), exporter.url+"/metrics", ""); err == nil && status != http.StatusBadRequest {
			t.Errorf("in plain HTTP: %d", status)
		}
		address := strings.TrimPrefix(exporter.url, "http://")
		if err := checkHealth(t.Context(), "", address); err != nil {
			t.Errorf("healthcheck: %v", err)
		}
	})
	t.Run("basic auth", func(t *testing.T) {
		exporter := start(t, append(args, "--web.config.file="+basic)...)
		url := strings.Replace(exporter.url, "http:", "https:", 1)
		for _, path := range []string{"/metrics", "/", "/tasks", "/backups", readyPath} {
			for password, want := range map[string]int{"sesame": 200, "": 401, "wrong": 401} {
				if status, err := get(t, ca.client(""), url+path, password); err != nil || status != want {
					t.Errorf("%s with password %q: %d, %v, want %d", path, password, status, err, want)
				}
			}
		}
		if text := exporter.log.String(); strings.Contains(text, "sesame") {
			t.Errorf("the log contains the password: %s", text)
		}
	})
}

func TestNoOtherPaths(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	exporter := start(t, args...)
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/-/reload", "/-/quit"} {
		if status, _ := exporter.get(path); status != http.StatusNotFound {
			t.Errorf("%s returns %d", path, status)
		}
	}
	if _, body := exporter.get("/"); strings.Contains(body, "debug/pprof") {
		t.Error("the status page offers pprof")
	}
}

// linkIn finds what a page links, and loads.
var linkIn = regexp.MustCompile(`(?i)(?:href|src|action)\s*=\s*["']?([^"'\s>]+)|url\(["']?([^"')]+)`)

// TestLinksBehindAProxy opens each page as a proxy serves it under /crs/, and follows
// its links and redirects.
func TestLinksBehindAProxy(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: nil})
	exporter := start(t, append(args, "--web.telemetry-path=/a/b")...)
	exporter.get("/a/b") // from then on it is ready
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	const prefix = "http://proxy/crs"
	for path, n := range map[string]int{
		"/": 9, "/tasks": 14, "/backups": 7, "/a/b": 0, healthyPath: 0, readyPath: 0,
		"/nowhere": 0, "//": 0, "//a/b": 0, "/a/./b": 0, "/x/../a/b": 0, "/a/b/": 0, "/a": 0, "/-": 0, "/-/": 0,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, exporter.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		links := resp.Header.Values("Location")
		for _, match := range linkIn.FindAllStringSubmatch(string(body), -1) {
			links = append(links, match[1]+match[2])
		}
		if len(links) != n {
			t.Errorf("%s: status %d with the links %q, want %d", path, resp.StatusCode, links, n)
		}
		base, err := url.Parse(prefix + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			to, err := base.Parse(html.UnescapeString(link))
			if err != nil {
				t.Fatal(err)
			}
			to.Fragment = ""
			served, ok := strings.CutPrefix(to.String(), prefix+"/")
			if !ok {
				t.Errorf("%s: %s leads to %s", path, link, to)
				continue
			}
			if status, _ := exporter.get("/" + served); status != http.StatusOK {
				t.Errorf("%s: %s has status %d", path, link, status)
			}
		}
	}
}

// TestPrefix serves all paths below a prefix.
func TestPrefix(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	tests := map[string]func(*testing.T){}
	for name, test := range map[string]struct {
		flags       []string
		prefix, url string
	}{
		"none":                    {nil, "", ""},
		"external URL":            {[]string{"--web.external-url=https://example.com"}, "", "https://example.com"},
		"path of external URL":    {[]string{"--web.external-url=https://example.com/ops/crs/"}, "/ops/crs", "https://example.com/ops/crs"},
		"proxy that strips":       {[]string{"--web.external-url=https://example.com/crs", "--web.route-prefix=/"}, "", "https://example.com/crs"},
		"route prefix":            {[]string{"--web.route-prefix=crs/"}, "/crs", ""},
		"other path of the proxy": {[]string{"--web.external-url=http://example.com:8080/x", "--web.route-prefix=/y"}, "/y", "http://example.com:8080/x"},
	} {
		tests[name] = func(t *testing.T) {
			exporter := start(t, append(args, test.flags...)...)
			exporter.get(test.prefix + "/metrics")
			for _, path := range []string{"/", "/metrics", "/tasks", "/backups", healthyPath, readyPath} {
				if status, _ := exporter.get(test.prefix + path); status != http.StatusOK {
					t.Errorf("%s below the prefix: status %d", path, status)
				}
				if test.prefix != "" && path != "/" {
					if status, _ := exporter.get(path); status != http.StatusNotFound {
						t.Errorf("%s: status %d", path, status)
					}
				}
			}
			if test.prefix != "" {
				for _, path := range []string{"/", test.prefix} {
					if _, body := exporter.get(path); !strings.Contains(body, "<h1>Status</h1>") {
						t.Errorf("%s does not lead to the status page", path)
					}
				}
			}
			_, metrics := exporter.get(test.prefix + "/metrics")
			series := `crs_pages_info{region="ap-guangzhou",url="` + test.url + `"} 1`
			if got := strings.Contains(metrics, "crs_pages_info{"); got != (test.url != "") || got && !strings.Contains(metrics, series) {
				t.Errorf("want %s", series)
			}
			address := strings.TrimPrefix(exporter.url, "http://")
			if err := run(t.Context(), append(test.flags, "--healthcheck", "--web.listen-address="+address), io.Discard, io.Discard); err != nil {
				t.Errorf("healthcheck: %v", err)
			}
		}
	}
	atOnce(t, tests)
}

// TestHostileScrapers keeps connections open that send half a request or read
// nothing, while another client scrapes.
func TestHostileScrapers(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.Generate(1000, 100, 1)})
	exporter := start(t, args...)
	address := strings.TrimPrefix(exporter.url, "http://")
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	dial := func(text string) net.Conn {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		if _, err := fmt.Fprint(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range 30 {
		dial("GET /metrics HTT")
		dial("GET /metrics HTTP/1.1\r\nHost: x\r\nX-Prometheus-Scrape-Timeout-Seconds: 1e9\r\n\r\n")
	}
	want(t, exporter.scrape(), map[string]string{`crs_up{region="ap-guangzhou"}`: "1"})

	huge := dial("GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxRequestHeader))
	_ = huge.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(huge).ReadString('\n')
	if !strings.Contains(line, "431") && err == nil {
		t.Errorf("a header that is too large returns %q", line)
	}
}

// TestSlowReaderIsCutOff checks the deadline for writing a scrape.
func TestSlowReaderIsCutOff(t *testing.T) {
	_, args := simulate(t, map[string][]crsapi.Task{guangzhou: crsapitest.DocumentExample()})
	s, err := parseFlags(args, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.findCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	exporter, err := s.newExporter(s.dialer())
	if err != nil {
		t.Fatal(err)
	}
	defer exporter.Close()
	w := &deadlineWriter{ResponseRecorder: httptest.NewRecorder()}
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "3")
	exporter.Handler().ServeHTTP(w, r)
	if left := time.Until(w.deadline); left <= 0 || left > 10*time.Second {
		t.Errorf("the response may be written for %v", left)
	}
}

type deadlineWriter struct {
	*httptest.ResponseRecorder
	deadline time.Time
}

func (w *deadlineWriter) SetWriteDeadline(at time.Time) error {
	w.deadline = at
	return nil
}
