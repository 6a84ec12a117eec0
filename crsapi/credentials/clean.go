package credentials

import (
	"fmt"
	"strings"
	"unicode"
)

const (
	quotes        = "\"'`"
	byteOrderMark = '\ufeff'
)

// Trim removes what shells, editors and env files leave around a value: blanks,
// line ends, quotes and byte order marks.
func Trim(value string) string {
	return strings.TrimFunc(value, func(r rune) bool {
		return unicode.IsSpace(r) || r == byteOrderMark || strings.ContainsRune(quotes, r)
	})
}

// keyPart returns a part of a key as somebody wrote it, trimmed. The error says
// what is wrong with the variable or setting called name, without its value.
func keyPart(name, value string) (string, error) {
	value = Trim(value)
	for _, r := range value {
		if r <= ' ' || r > '~' || strings.ContainsRune(quotes, r) {
			return "", fmt.Errorf("%s has a character that no key has: only letters, digits and signs of ASCII are valid, without blanks and quotes", name)
		}
	}
	return value, nil
}

// newKey returns a Key of parts that somebody wrote. names are those of their
// variables or settings.
func newKey(names [3]string, id, secret, token string) (key Key, err error) {
	if key.SecretID, err = keyPart(names[0], id); err != nil {
		return Key{}, err
	}
	if secret, err = keyPart(names[1], secret); err != nil {
		return Key{}, err
	}
	if token, err = keyPart(names[2], token); err != nil {
		return Key{}, err
	}
	key.SecretKey, key.Token = Secret(secret), Secret(token)
	return key, nil
}
