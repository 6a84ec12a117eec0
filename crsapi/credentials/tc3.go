package credentials

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

const tc3ContentType = "application/json; charset=utf-8"

// tc3Authorization returns the Authorization header of a POST of payload to
// the path / of an API 3.0 host, and the signature in it.
//
// Source: "Signature Method v3" among the common parameters of Tencent Cloud
// API 3.0.
func tc3Authorization(c Credentials, service, host string, payload []byte, at time.Time) (header, signature string) {
	const signed = "content-type;host"
	canonical := "POST\n/\n\ncontent-type:" + tc3ContentType + "\nhost:" + host + "\n\n" + signed + "\n" + hexSHA256(payload)
	date := at.UTC().Format(time.DateOnly)
	scope := date + "/" + service + "/tc3_request"
	source := "TC3-HMAC-SHA256\n" + strconv.FormatInt(at.Unix(), 10) + "\n" + scope + "\n" + hexSHA256([]byte(canonical))

	key := []byte("TC3" + string(c.SecretKey))
	for _, part := range []string{date, service, "tc3_request", source} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	signature = hex.EncodeToString(key)
	return fmt.Sprintf("TC3-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s", c.SecretID, scope, signed, signature), signature
}

func hexSHA256(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
