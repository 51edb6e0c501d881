package signing

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
	"unicode/utf8"

	"postrider.dev/postrider"
)

// scheme is a signing method: how it signs and verifies a request, and the rules for its secret.
// Nothing else in the project depends on the method.
type scheme struct {
	method postrider.SigningMethod
	// unsigned says that requests are not signed, so that the method needs no secret.
	unsigned bool
	// revealing says that each request has the secret itself, so that the receiver learns it.
	revealing bool
	// headers are the headers that sign adds.
	headers []Header
	// newSecret makes a secret for a webhook that is created without one. It is nil when
	// people must choose the secret.
	newSecret func(entropy io.Reader) (string, error)
	// checkSecret returns the rule that a secret breaks, or "". It is nil when every text is
	// allowed, and is not called for an empty secret.
	checkSecret func(secret string) string
	// sign adds headers. secrets are the live ones, the current one first; no secret is empty.
	sign func(header http.Header, secrets []string, m signed)
	// verify verifies headers, see [Verify].
	verify func(secrets []string, r received) error
}

// signed is a [Message] in the form that schemes sign.
type signed struct {
	id, timestamp string // as in the headers
	body          []byte
}

// received is the arguments of [Verify].
type received struct {
	header    http.Header
	body      []byte
	now       time.Time
	tolerance time.Duration
}

// schemes is the table of signing methods, in the order in which people see them. A new method
// is a file and a line here.
func schemes() []scheme {
	return []scheme{
		hmacSHA256(),
		hmacSHA1(),
		bearer(),
		basicAuth(),
		none(),
	}
}

// byMethod is the table by method.
var byMethod = func() map[postrider.SigningMethod]scheme { //nolint:gochecknoglobals // it is never changed
	table := map[postrider.SigningMethod]scheme{}
	for _, s := range schemes() {
		table[s.method] = s
	}
	return table
}()

// Methods returns every signing method, the default one first.
func Methods() []postrider.SigningMethod {
	table := schemes()
	methods := make([]postrider.SigningMethod, len(table))
	for i, s := range table {
		methods[i] = s.method
	}
	return methods
}

// NeedsSecret reports whether requests of the method are signed.
func NeedsSecret(method postrider.SigningMethod) bool {
	s, known := byMethod[method]
	return known && !s.unsigned
}

// RevealsSecret reports whether each request of the method has the secret itself. A secret that was
// made for another method must not be used with it, and no new receiver should get it unasked.
func RevealsSecret(method postrider.SigningMethod) bool { return byMethod[method].revealing }

// Header is a request header that a signing method adds.
type Header struct {
	Name string
	// Overlaps says that during a rotation the header has a signature by each live secret. Any other
	// header has room for one value, and the current secret alone makes it.
	Overlaps bool
}

// Headers returns the headers by which receivers verify requests of the method; none for a method
// that does not sign.
func Headers(method postrider.SigningMethod) []Header { return slices.Clone(byMethod[method].headers) }

// CheckSecret returns the rule that a new secret breaks for a signing method, or "". The rules keep
// out what no receiver can match. An empty secret means that none was given; it breaks a rule only
// when [NewSecret] cannot make one. [Sign] and [Verify] know no rules: a secret that is in use signs,
// whatever they are by now.
func CheckSecret(method postrider.SigningMethod, secret string) string {
	s := byMethod[method]
	switch {
	case utf8.RuneCountInString(secret) > postrider.MaxSecretLength:
		return fmt.Sprintf("must have at most %d characters", postrider.MaxSecretLength)
	case secret == "" && NeedsSecret(method) && s.newSecret == nil:
		return "is required when signing_method is " + string(method)
	case secret == "" || s.checkSecret == nil:
		return ""
	}
	return s.checkSecret(secret)
}

// NewSecret makes a secret for the method from entropy (crypto/rand.Reader outside tests). It
// returns "" for a method whose secrets people choose, and the error of entropy.
func NewSecret(method postrider.SigningMethod, entropy io.Reader) (string, error) {
	s := byMethod[method]
	if s.newSecret == nil {
		return "", nil
	}
	return s.newSecret(entropy)
}
