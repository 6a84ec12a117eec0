package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
)

// The paths of the handlers Healthy and Ready.
const (
	HealthyPath = "/-/healthy"
	ReadyPath   = "/-/ready"
)

// CheckHealth requests HealthyPath below a prefix, for images without a shell, at the
// first address that is not vsock://. An empty host is this machine. 401 and TLS errors
// count as healthy: with basic auth or TLS, this request gets no other response.
func CheckHealth(ctx context.Context, addresses []string, prefix string) error {
	i := slices.IndexFunc(addresses, func(address string) bool { return !strings.HasPrefix(address, "vsock://") })
	if i < 0 {
		return errors.New("healthcheck: no TCP address")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addresses[i]+prefix+HealthyPath, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}} // no proxy
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("healthcheck of %s: %s", addresses[i], resp.Status)
	}
	return nil
}

// WithPrefix returns a handler that serves the paths of mux below a prefix, which is
// empty or like /crs. Redirects to it are relative, like the links of pages: a proxy may
// serve them under another path. Paths like //metrics, which a ServeMux would redirect to
// an absolute path, have status 404.
func WithPrefix(prefix string, mux *http.ServeMux) http.Handler {
	routes := http.StripPrefix(prefix, mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requested := r.URL.Path; {
		case prefix != "" && (requested == "/" || requested == prefix):
			to := strings.TrimPrefix(prefix+"/", path.Dir(requested))
			w.Header().Set("Location", "./"+strings.TrimPrefix(to, "/"))
			w.WriteHeader(http.StatusFound)
		case !strings.HasPrefix(requested, prefix+"/"), path.Clean(requested) != requested && requested != prefix+"/":
			http.NotFound(w, r)
		default:
			routes.ServeHTTP(w, r)
		}
	})
}
