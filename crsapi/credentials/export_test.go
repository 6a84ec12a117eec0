package credentials

import (
	"context"
	"net/http"
	"net/url"
)

// ProxyTest sends a request through a proxy, as requests to STS are.
func ProxyTest(ctx context.Context, proxy, target string) error {
	via, err := url.Parse(proxy)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	_, _, err = exchange(newRoleTransport(http.ProxyURL(via)), req)
	return err
}
