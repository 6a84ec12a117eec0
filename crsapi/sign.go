package crsapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"maps"
	"slices"
	"strings"

	"github.com/crs-exporter/crs_exporter/crsapi/credentials"
)

const signatureMethod = "HmacSHA256"

// sign returns the Signature parameter of API 2.0: the HMAC of method, host,
// path and all other parameters under the secret key. Host has no port. The
// algorithm is the one that params name in SignatureMethod, HMAC-SHA1 where
// they name none.
//
// Source: "Signature" among the common parameters of Tencent Cloud API 2.0.
func sign(key credentials.Secret, method, host, path string, params map[string]string) string {
	algorithm := sha1.New
	if params["SignatureMethod"] == signatureMethod {
		algorithm = sha256.New
	}
	return digest(algorithm, key, signatureSource(method, host, path, params))
}

func digest(algorithm func() hash.Hash, key credentials.Secret, source string) string {
	mac := hmac.New(algorithm, []byte(key))
	mac.Write([]byte(source))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

func signatureSource(method, host, path string, params map[string]string) string {
	var b strings.Builder
	b.WriteString(method)
	b.WriteString(host)
	b.WriteString(path)
	separator := byte('?')
	for _, name := range slices.Sorted(maps.Keys(params)) {
		value := params[name]
		// The vendor's servers leave these out of a POST, to spare uploads.
		if method == "POST" && strings.HasPrefix(value, "@") {
			continue
		}
		b.WriteByte(separator)
		b.WriteString(strings.ReplaceAll(name, "_", "."))
		b.WriteByte('=')
		b.WriteString(value)
		separator = '&'
	}
	return b.String()
}
