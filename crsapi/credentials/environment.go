package credentials

import (
	"errors"
	"fmt"
)

// Environment variables with the key, as Tencent's SDKs name them.
const (
	EnvSecretID  = "TENCENTCLOUD_SECRET_ID"
	EnvSecretKey = "TENCENTCLOUD_SECRET_KEY"
	EnvToken     = "TENCENTCLOUD_TOKEN"
)

// Environment variables with the key of a private cloud, as the SDK of the
// private cloud names them.
const (
	EnvPrivateSecretID  = "TCECLOUD_SECRET_ID"
	EnvPrivateSecretKey = "TCECLOUD_SECRET_KEY"
)

// fromEnvironment returns an error that wraps ErrNotFound if no key is set. The
// variables of a private cloud are read if the others are not set.
func fromEnvironment(getenv func(string) string, private bool) (Key, error) {
	key, err := fromVariables(getenv, EnvSecretID, EnvSecretKey, EnvToken)
	if private && errors.Is(err, ErrNotFound) {
		return fromVariables(getenv, EnvPrivateSecretID, EnvPrivateSecretKey, "")
	}
	return key, err
}

// fromVariables reads a key without a token if envToken is empty.
func fromVariables(getenv func(string) string, envID, envKey, envToken string) (Key, error) {
	token := ""
	if envToken != "" {
		token = getenv(envToken)
	}
	key, err := newKey([...]string{envID, envKey, envToken}, getenv(envID), getenv(envKey), token)
	switch {
	case err != nil:
		return Key{}, err
	case key.SecretID == "" && key.SecretKey == "":
		return Key{}, fmt.Errorf("%w: neither %s nor %s is set", ErrNotFound, envID, envKey)
	case key.SecretID == "":
		return Key{}, fmt.Errorf("%s is set, but %s is not", envKey, envID)
	case key.SecretKey == "":
		return Key{}, fmt.Errorf("%s is set, but %s is not", envID, envKey)
	}
	return key, nil
}
