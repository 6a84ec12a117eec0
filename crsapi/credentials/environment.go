package credentials

import (
	"errors"
	"fmt"
)

// Names of the environment that the vendor's SDKs read, too.
const (
	EnvSecretID  = "TENCENTCLOUD_SECRET_ID"
	EnvSecretKey = "TENCENTCLOUD_SECRET_KEY"
	EnvToken     = "TENCENTCLOUD_TOKEN"
)

// ErrNoCredentials is wrapped by the error of a source that has none, as
// opposed to some that cannot be used.
var ErrNoCredentials = errors.New("no credentials")

// EnvironmentCredentials reads the environment through getenv.
func EnvironmentCredentials(getenv func(string) string) (Credentials, error) {
	c := Credentials{
		SecretID:  getenv(EnvSecretID),
		SecretKey: Secret(getenv(EnvSecretKey)),
		Token:     Secret(getenv(EnvToken)),
	}
	switch {
	case c.SecretID == "" && c.SecretKey == "":
		return c, fmt.Errorf("%w: neither %s nor %s is set", ErrNoCredentials, EnvSecretID, EnvSecretKey)
	case c.SecretID == "":
		return c, fmt.Errorf("%s is set, but %s is not", EnvSecretKey, EnvSecretID)
	case c.SecretKey == "":
		return c, fmt.Errorf("%s is set, but %s is not", EnvSecretID, EnvSecretKey)
	}
	return c, nil
}
