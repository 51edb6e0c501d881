package signing

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"postrider.dev/postrider"
)

// Names of the request headers, in net/http's spelling. Their case does not matter in HTTP.
const (
	HeaderID         = "Webhook-Id"            // the event's public id: the receiver's idempotency key
	HeaderTimestamp  = "Webhook-Timestamp"     // Unix seconds of the attempt
	HeaderSignature  = "Webhook-Signature"     // Standard Webhooks 1.0
	HeaderHubSHA256  = "X-Hub-Signature-256"   // GitHub
	HeaderHubSHA1    = "X-Hub-Signature"       // GitHub, legacy
	HeaderDeliveryID = "Postrider-Delivery-Id" // the delivery's id
	HeaderAttempt    = "Postrider-Attempt"     // the attempt's number, from 1
	headerAuthorize  = "Authorization"
)

// Errors of [Sign] and [Verify].
var (
	// ErrNoSecret means that the signing method needs a secret, and the secrets are missing or
	// one of them is empty.
	ErrNoSecret = errors.New("signing: no secret")
	// ErrUnknownMethod means that the table has no such signing method.
	ErrUnknownMethod = errors.New("signing: unknown signing method")
)

// Message is the content that is signed.
type Message struct {
	ID        string    // sent as webhook-id; must hold no full stop, see [postrider.ValidEventID]
	Timestamp time.Time // of the attempt; sent in whole seconds
	Body      []byte    // exactly the bytes that are sent
}

// Sign returns the headers webhook-id and webhook-timestamp, and the headers of the signing
// method. The caller may change the result. secrets are the live ones, the current one first;
// the method none ignores them. Sign returns [ErrNoSecret] or [ErrUnknownMethod].
func Sign(method postrider.SigningMethod, secrets []string, m Message) (http.Header, error) {
	s, err := find(method, secrets)
	if err != nil {
		return nil, err
	}
	timestamp := strconv.FormatInt(m.Timestamp.Unix(), 10)
	header := http.Header{HeaderID: {m.ID}, HeaderTimestamp: {timestamp}}
	s.sign(header, secrets, signed{id: m.ID, timestamp: timestamp, body: m.Body})
	return header, nil
}

// find returns the method's scheme. It refuses empty secrets, because anybody could make the
// signatures of an empty key.
func find(method postrider.SigningMethod, secrets []string) (scheme, error) {
	s, known := byMethod[method]
	switch {
	case !known:
		return s, fmt.Errorf("%w: %q", ErrUnknownMethod, method)
	case !s.unsigned && (len(secrets) == 0 || slices.Contains(secrets, "")):
		return s, ErrNoSecret
	}
	return s, nil
}
