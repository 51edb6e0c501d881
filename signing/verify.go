package signing

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"postrider.dev/postrider"
)

// DefaultTolerance is the largest difference between a message's timestamp and the receiver's
// clock. The libraries of Standard Webhooks use the same.
const DefaultTolerance = 5 * time.Minute

// maxHeader is the longest value of a header that [Verify] looks at, in bytes. It has room for 340
// signatures. Node.js accepts no more of all headers together.
const maxHeader = 16 << 10

// Errors of [Verify].
var (
	// ErrMissingHeader means that the request lacks a header of the method.
	ErrMissingHeader = errors.New("signing: missing header")
	// ErrTimestamp means that webhook-timestamp is not a number, too old or too new.
	ErrTimestamp = errors.New("signing: timestamp outside the tolerance")
	// ErrMismatch means that no secret makes this signature, or that the credential is wrong, or
	// that a header has more than 16 KiB.
	ErrMismatch = errors.New("signing: signature does not match")
)

// Verify returns an error unless the sender of a request with this header and body has one of
// the secrets.
//
// For hmac_sha256 it verifies webhook-signature, which covers webhook-id, webhook-timestamp and
// the body. One entry that one of the secrets makes is enough. The timestamp must be within
// tolerance of now, so that a recorded request cannot be sent again later. X-Hub-Signature-256
// is ignored: it covers the body alone, and during a rotation it fails for a receiver that only
// knows the old secret. The other methods sign no timestamp. The method none verifies nothing.
//
// Verify returns [ErrNoSecret], [ErrUnknownMethod], [ErrMissingHeader], [ErrTimestamp]
// or [ErrMismatch].
func Verify(
	method postrider.SigningMethod, secrets []string, header http.Header, body []byte, now time.Time, tolerance time.Duration,
) error {
	s, err := find(method, secrets)
	if err != nil {
		return err
	}
	return s.verify(secrets, received{header: header, body: body, now: now, tolerance: tolerance})
}

// verifyHeader returns nil when the header's value matches one of the secrets.
func verifyHeader(r received, name string, secrets []string, match func(given, secret string) bool) error {
	given, err := r.value(name)
	if err != nil {
		return err
	}
	for _, secret := range secrets {
		if match(given, secret) {
			return nil
		}
	}
	return ErrMismatch
}

// value returns a header's value. The work of a verification is bounded by its length.
func (r received) value(name string) (string, error) {
	value := r.header.Get(name)
	switch {
	case value == "":
		return "", missing(name)
	case len(value) > maxHeader:
		return "", ErrMismatch
	}
	return value, nil
}

// missing returns [ErrMissingHeader] with the header's name.
func missing(name string) error {
	return fmt.Errorf("%w: %s", ErrMissingHeader, strings.ToLower(name))
}

// equal compares in constant time. It compares hashes, so that the time does not depend on the
// length of a secret either.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
