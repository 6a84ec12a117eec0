package credentials

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// Environment variables that TKE sets in pods whose service account has a role.
// A role needs all four.
const (
	envTKERegion     = "TKE_REGION"
	envTKEProviderID = "TKE_PROVIDER_ID"
	envTKETokenFile  = "TKE_WEB_IDENTITY_TOKEN_FILE" //nolint:gosec // the name of a variable
	envTKERoleARN    = "TKE_ROLE_ARN"
)

// tkeRole gets the key of the role of a TKE pod from STS, in exchange for the
// token of the pod, which Kubernetes replaces from time to time.
type tkeRole struct {
	sts                            sts
	providerID, tokenFile, roleARN string
}

// findTKERole returns an error that wraps ErrNotFound if the pod has no role.
func findTKERole(getenv func(string) string, sts sts) (tkeRole, error) {
	values, missing := map[string]string{}, ""
	for _, name := range []string{envTKERegion, envTKEProviderID, envTKETokenFile, envTKERoleARN} {
		if value := Trim(getenv(name)); value != "" {
			values[name] = value
		} else {
			missing = name
		}
	}
	// TKE_REGION alone does not mean that there is a role.
	role := values[envTKEProviderID] + values[envTKETokenFile] + values[envTKERoleARN]
	switch {
	case role == "":
		return tkeRole{}, fmt.Errorf("%w: %s is not set", ErrNotFound, envTKERoleARN)
	case missing != "":
		return tkeRole{}, fmt.Errorf("a TKE role needs %s, which is not set", missing)
	}
	sts.region = values[envTKERegion]
	return tkeRole{sts, values[envTKEProviderID], values[envTKETokenFile], values[envTKERoleARN]}, nil
}

func (s tkeRole) load(ctx context.Context, _ bool) (lease, error) {
	token, err := readToken(s.tokenFile)
	if err != nil {
		return lease{}, err
	}
	return s.sts.assume(ctx, "AssumeRoleWithWebIdentity", struct {
		ProviderID       string `json:"ProviderId"`
		WebIdentityToken string
		RoleARN          string `json:"RoleArn"`
		RoleSessionName  string
		DurationSeconds  int64
	}{s.providerID, token, s.roleARN, roleSession, int64(roleDuration / time.Second)}, nil, Key{Token: Secret(token)})
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("pod token: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxRoleBody+1))
	token := bytes.TrimSpace(text)
	switch {
	case err != nil:
		return "", fmt.Errorf("pod token: %w", err)
	case len(token) == 0:
		return "", fmt.Errorf("pod token: %s is empty", path)
	case len(text) > maxRoleBody:
		return "", fmt.Errorf("pod token: %s is larger than %d KiB", path, maxRoleBody>>10)
	}
	return string(token), nil
}
