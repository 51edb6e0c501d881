package signing

import (
	"crypto/sha1" //nolint:gosec // see sign.go
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"postrider.dev/postrider"
)

// DefaultTolerance is how far a message's timestamp may lie from the receiver's
// clock: what the libraries of Standard Webhooks use.
const DefaultTolerance = 5 * time.Minute

// Errors of [Verify].
var (
	// ErrMissingHeader means that a header which the method sends is not there.
	ErrMissingHeader = errors.New("signing: missing header")
	// ErrTimestamp means that webhook-timestamp is no number, too old or too new.
	ErrTimestamp = errors.New("signing: timestamp outside the tolerance")
	// ErrMismatch means that no secret makes the signature, or that it is not the
	// credential expected.
	ErrMismatch = errors.New("signing: signature does not match")
)

// Verify reports, as an error, why a request with this header and body was not
// made by somebody who has one of the secrets.
//
// For hmac_sha256 it checks webhook-signature, which covers webhook-id,
// webhook-timestamp and the body: one entry that one of the secrets makes is
// enough, and the timestamp must be within tolerance of now, so that a recorded
// request cannot be sent again later. X-Hub-Signature-256 is not looked at: it says
// less, and a receiver that knows the old secret only could not check it during a
// rotation. The other methods sign no timestamp, and for none there is nothing to
// check.
//
// It returns [ErrNoSecret], [ErrUnknownMethod], [ErrMissingHeader], [ErrTimestamp]
// or [ErrMismatch].
func Verify(method postrider.SigningMethod, secrets []string, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	if err := checkSecrets(method, secrets); err != nil {
		return err
	}
	switch method {
	case postrider.SigningHMACSHA256:
		return verifyStandard(secrets, header, body, now, tolerance)
	case postrider.SigningHMACSHA1:
		return verifyHeader(header, HeaderHubSHA1, secrets, func(given, secret string) bool {
			return equal(given, hubSHA1+hubMAC(sha1.New, secret, body))
		})
	case postrider.SigningBearer:
		return verifyHeader(header, headerAuthorize, secrets, func(given, secret string) bool {
			return equal(credentials(given, bearer), secret)
		})
	case postrider.SigningBasicAuth:
		return verifyHeader(header, headerAuthorize, secrets, func(given, secret string) bool {
			return equal(credentials(given, basic), base64.StdEncoding.EncodeToString([]byte(secret)))
		})
	case postrider.SigningNone:
	}
	return nil
}

func verifyStandard(secrets []string, header http.Header, body []byte, now time.Time, tolerance time.Duration) error {
	for _, name := range []string{HeaderID, HeaderTimestamp, HeaderSignature} {
		if header.Get(name) == "" {
			return missing(name)
		}
	}
	id, timestamp, given := header.Get(HeaderID), header.Get(HeaderTimestamp), header.Get(HeaderSignature)
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > tolerance {
		return ErrTimestamp
	}
	for _, secret := range secrets {
		expected := standardSignatures([]string{secret}, id, timestamp, body)
		for entry := range strings.FieldsSeq(given) {
			if equal(entry, expected) {
				return nil
			}
		}
	}
	return ErrMismatch
}

// verifyHeader looks for a secret that the header's value matches.
func verifyHeader(header http.Header, name string, secrets []string, match func(given, secret string) bool) error {
	given := header.Get(name)
	if given == "" {
		return missing(name)
	}
	for _, secret := range secrets {
		if match(given, secret) {
			return nil
		}
	}
	return ErrMismatch
}

func missing(name string) error {
	return fmt.Errorf("%w: %s", ErrMissingHeader, strings.ToLower(name))
}

// credentials returns what follows the authentication scheme, "" when it is
// another scheme. Its name has no case (RFC 9110 section 11.1).
func credentials(authorization, scheme string) string {
	if len(authorization) < len(scheme) || !strings.EqualFold(authorization[:len(scheme)], scheme) {
		return ""
	}
	return authorization[len(scheme):]
}

// equal compares in constant time. It compares hashes, so that not even the
// length of a secret can be measured.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
