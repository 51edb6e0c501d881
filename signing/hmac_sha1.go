package signing

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // receivers that verify GitHub's older signature need it
	"encoding/hex"
	"hash"
	"net/http"

	"postrider.dev/postrider"
)

// HMACSHA1 is GitHub's older signature.
const HMACSHA1 postrider.SigningMethod = "hmac_sha1"

func hmacSHA1() scheme {
	signature := func(secret string, body []byte) string { return "sha1=" + hubMAC(sha1.New, secret, body) }
	return scheme{
		method: HMACSHA1, newSecret: newStandardSecret, headers: []Header{{Name: HeaderHubSHA1}},
		sign: func(header http.Header, secrets []string, m signed) {
			header[HeaderHubSHA1] = []string{signature(secrets[0], m.body)}
		},
		verify: func(secrets []string, r received) error {
			return verifyHeader(r, HeaderHubSHA1, secrets, func(given, secret string) bool {
				return equal(given, signature(secret, r.body))
			})
		},
	}
}

// hubMAC signs the body as GitHub does: the key is the secret's text, and a prefix whsec_ has no
// special meaning.
func hubMAC(newHash func() hash.Hash, secret string, body []byte) string {
	mac := hmac.New(newHash, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
