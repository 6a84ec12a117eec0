package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// checkHealth asks the exporter that listens at address, for images that hold
// neither a shell nor curl. A refusal tells that it serves, too: with TLS or
// basic auth there is nothing else to get by this way.
func checkHealth(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+healthyPath, nil)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	if resp.StatusCode >= http.StatusInternalServerError {
		return errors.New("healthcheck: " + resp.Status)
	}
	return nil
}
