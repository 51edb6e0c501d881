package signing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postrider.dev/postrider"
)

// HMACSHA256 is Standard Webhooks 1.0, with GitHub's signature beside it.
const HMACSHA256 postrider.SigningMethod = "hmac_sha256"

// versionHMAC is the prefix of a symmetric signature in Standard Webhooks.
const versionHMAC = "v1,"

func hmacSHA256() scheme {
	return scheme{
		method: HMACSHA256, newSecret: newStandardSecret, checkSecret: checkStandardSecret,
		headers: []Header{{Name: HeaderSignature, Overlaps: true}, {Name: HeaderHubSHA256}},
		sign: func(header http.Header, secrets []string, m signed) {
			header[HeaderSignature] = []string{standardSignatures(secrets, m.id, m.timestamp, m.body)}
			header[HeaderHubSHA256] = []string{"sha256=" + hubMAC(sha256.New, secrets[0], m.body)}
		},
		verify: verifyStandard,
	}
}

// standardSignatures returns the value of webhook-signature.
func standardSignatures(secrets []string, id, timestamp string, body []byte) string {
	var signatures []byte
	for i, secret := range secrets {
		if i > 0 {
			signatures = append(signatures, ' ')
		}
		signatures = append(signatures, versionHMAC...)
		signatures = base64.StdEncoding.AppendEncode(signatures, standardMAC(secret, id, timestamp, body))
	}
	return string(signatures)
}

// standardMAC signs id, timestamp and body, joined by full stops.
func standardMAC(secret, id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, standardKey(secret))
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// verifyStandard verifies webhook-signature. It ignores X-Hub-Signature-256, which covers the
// body alone.
func verifyStandard(secrets []string, r received) error {
	var values [3]string
	for i, name := range []string{HeaderID, HeaderTimestamp, HeaderSignature} {
		var err error
		if values[i], err = r.value(name); err != nil {
			return err
		}
	}
	id, timestamp, given := values[0], values[1], values[2]
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || r.now.Sub(time.Unix(seconds, 0)).Abs() > r.tolerance {
		return ErrTimestamp
	}
	for _, secret := range secrets {
		expected := standardSignatures([]string{secret}, id, timestamp, r.body)
		for entry := range strings.FieldsSeq(given) {
			if len(entry) == len(expected) && equal(entry, expected) { // what has another length costs no hash
				return nil
			}
		}
	}
	return ErrMismatch
}
