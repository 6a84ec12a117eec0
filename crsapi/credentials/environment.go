package credentials

import (
	"fmt"
)

// Environment variables with the key, as Tencent's SDKs name them.
const (
	EnvSecretID  = "TENCENTCLOUD_SECRET_ID"
	EnvSecretKey = "TENCENTCLOUD_SECRET_KEY"
	EnvToken     = "TENCENTCLOUD_TOKEN"
)

// fromEnvironment returns an error that wraps ErrNotFound if no key is set.
func fromEnvironment(getenv func(string) string) (Key, error) {
	key := Key{
		SecretID:  getenv(EnvSecretID),
		SecretKey: Secret(getenv(EnvSecretKey)),
		Token:     Secret(getenv(EnvToken)),
	}
	switch {
	case key.SecretID == "" && key.SecretKey == "":
		return Key{}, fmt.Errorf("%w: neither %s nor %s is set", ErrNotFound, EnvSecretID, EnvSecretKey)
	case key.SecretID == "":
		return Key{}, fmt.Errorf("%s is set, but %s is not", EnvSecretKey, EnvSecretID)
	case key.SecretKey == "":
		return Key{}, fmt.Errorf("%s is set, but %s is not", EnvSecretID, EnvSecretKey)
	}
	return key, nil
}
