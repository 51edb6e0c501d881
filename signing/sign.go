package signing

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // what the oldest receivers check; offered by name
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"time"

	"postrider.dev/postrider"
)

// Names of the request headers, in net/http's spelling. HTTP does not tell upper
// from lower case.
const (
	HeaderID           = "Webhook-Id"            // the event's public id: the receiver's idempotency key
	HeaderTimestamp    = "Webhook-Timestamp"     // Unix seconds of the attempt
	HeaderSignature    = "Webhook-Signature"     // Standard Webhooks 1.0
	HeaderHubSHA256    = "X-Hub-Signature-256"   // GitHub
	HeaderHubSHA1      = "X-Hub-Signature"       // GitHub, legacy
	HeaderDeliveryID   = "Postrider-Delivery-Id" // the delivery's id
	HeaderAttempt      = "Postrider-Attempt"     // the attempt's number, from 1
	headerAuthorize    = "Authorization"
	versionHMAC        = "v1," // Standard Webhooks' mark of a symmetric signature
	hubSHA256, hubSHA1 = "sha256=", "sha1="
	bearer, basic      = "Bearer ", "Basic "
)

// Errors of [Sign] and [Verify].
var (
	// ErrNoSecret means that the signing method needs a secret and there is none,
	// or an empty one.
	ErrNoSecret = errors.New("signing: no secret")
	// ErrUnknownMethod means that the signing method is none of postrider's.
	ErrUnknownMethod = errors.New("signing: unknown signing method")
)

// Message is what gets signed.
type Message struct {
	ID        string    // sent as webhook-id; must hold no full stop, see [postrider.ValidEventID]
	Timestamp time.Time // of the attempt; sent in whole seconds
	Body      []byte    // exactly as sent
}

// Sign returns the headers that identify the message, webhook-id and
// webhook-timestamp, and those by which the method proves where it comes from. The
// header belongs to the caller. Secrets are the live ones, current first; the
// method none needs none. It returns [ErrNoSecret] or [ErrUnknownMethod].
func Sign(method postrider.SigningMethod, secrets []string, m Message) (http.Header, error) {
	if err := checkSecrets(method, secrets); err != nil {
		return nil, err
	}
	timestamp := strconv.FormatInt(m.Timestamp.Unix(), 10)
	header := http.Header{HeaderID: {m.ID}, HeaderTimestamp: {timestamp}}
	switch method {
	case postrider.SigningHMACSHA256:
		header[HeaderSignature] = []string{standardSignatures(secrets, m.ID, timestamp, m.Body)}
		header[HeaderHubSHA256] = []string{hubSHA256 + hubMAC(sha256.New, secrets[0], m.Body)}
	case postrider.SigningHMACSHA1:
		header[HeaderHubSHA1] = []string{hubSHA1 + hubMAC(sha1.New, secrets[0], m.Body)}
	case postrider.SigningBearer:
		header[headerAuthorize] = []string{bearer + secrets[0]}
	case postrider.SigningBasicAuth:
		header[headerAuthorize] = []string{basic + base64.StdEncoding.EncodeToString([]byte(secrets[0]))}
	case postrider.SigningNone:
	}
	return header, nil
}

// checkSecrets keeps an empty key from signing: anybody could make its signatures.
func checkSecrets(method postrider.SigningMethod, secrets []string) error {
	switch {
	case !slices.Contains(postrider.SigningMethods(), method):
		return fmt.Errorf("%w: %q", ErrUnknownMethod, method)
	case method == postrider.SigningNone:
		return nil
	case len(secrets) == 0 || slices.Contains(secrets, ""):
		return ErrNoSecret
	}
	return nil
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

// hubMAC signs the body alone, keyed by the secret's characters as given, the way
// GitHub does: a whsec_ prefix is nothing special there.
func hubMAC(newHash func() hash.Hash, secret string, body []byte) string {
	mac := hmac.New(newHash, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
