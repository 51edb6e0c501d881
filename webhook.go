package postrider

import (
	"fmt"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// SigningMethod is how a receiver can tell that a request came from here.
type SigningMethod string

// The signing methods; package signing says what each adds to a request.
const (
	SigningHMACSHA256 SigningMethod = "hmac_sha256"
	SigningHMACSHA1   SigningMethod = "hmac_sha1"
	SigningBearer     SigningMethod = "bearer"
	SigningBasicAuth  SigningMethod = "basic_auth"
	SigningNone       SigningMethod = "none"
)

// SigningMethods returns every signing method.
func SigningMethods() []SigningMethod {
	return []SigningMethod{SigningHMACSHA256, SigningHMACSHA1, SigningBearer, SigningBasicAuth, SigningNone}
}

// ScopeType says which events of the workspace a webhook gets.
type ScopeType string

// The scope types.
const (
	ScopeGlobal  ScopeType = "global"  // every event it subscribes to
	ScopePersona ScopeType = "persona" // only those of one persona
)

// WebhookStatus says whether deliveries to a webhook are made.
type WebhookStatus string

// The statuses. Events for a webhook that is not active are parked, not dropped.
const (
	WebhookActive   WebhookStatus = "active"
	WebhookPaused   WebhookStatus = "paused"   // by an operator
	WebhookDisabled WebhookStatus = "disabled" // by the engine; DisabledReason says why
)

// DisabledGone is the DisabledReason of a webhook whose receiver answered 410.
const DisabledGone = "gone"

// Limits and defaults of a webhook's settings.
const (
	MaxURLLength     = 2083
	MaxNameLength    = 255
	MaxTextLength    = 1024 // description, persona_id
	MaxSecretLength  = 1024
	MaxEventPatterns = 100
	MaxHeaders       = 32
	MaxHeaderLength  = 4096

	MinTimeoutMS, MaxTimeoutMS, DefaultTimeoutMS    = 1000, 30000, 5000
	MinMaxRetries, MaxMaxRetries, DefaultMaxRetries = 0, 10, 3
	MinBackoffMS, MaxBackoffMS, DefaultBackoffMS    = 100, 3600000, 1000
	MinMaxInFlight, MaxMaxInFlight                  = 1, 1000
	DefaultMaxInFlight                              = 32
	MinRateLimit, MaxRateLimit                      = 1, 10000
)

// Webhook is a subscription: where events go, which, and how.
type Webhook struct {
	ID             string
	WorkspaceID    string
	URL            string
	Events         []string // patterns, as given: exact types, "call.*" or "*"
	Name           *string
	Description    *string
	SigningMethod  SigningMethod
	SecretID       *string // nil: no secret is kept
	ScopeType      ScopeType
	PersonaID      *string // set exactly when ScopeType is persona
	Policy         Policy
	Headers        map[string]string // added to every request
	RateLimit      *int              // requests a second; nil: no limit
	MaxInFlight    int               // requests at once
	Status         WebhookStatus
	DisabledReason *string
	Stats          WebhookStats
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// WebhookFilter narrows a list of webhooks; a zero field does not.
type WebhookFilter struct {
	Event     string // an event type: webhooks that subscribe to it; or a pattern, as stored
	Status    WebhookStatus
	PersonaID string
}

// WebhookEdit is a webhook about to be stored with other settings.
type WebhookEdit struct {
	Webhook *Webhook
	// Secret is the current secret, "" when there is none.
	Secret string
	// NewSecret replaces the current secret at once when it is not "".
	NewSecret string
}

// WebhookStats sums up a webhook's finished deliveries.
type WebhookStats struct {
	TotalDeliveries  int64      // that finished, cancelled ones not counted
	FailedDeliveries int64      // that finished without a 2xx
	LastDeliveryAt   *time.Time // when the latest finished
	LastError        *string    // why the latest failed attempt failed; kept after a success
}

// SuccessRate returns the share of finished deliveries that succeeded, from 0 to
// 1, and 1 when none has finished.
func (s WebhookStats) SuccessRate() float64 {
	if s.TotalDeliveries == 0 {
		return 1
	}
	return float64(s.TotalDeliveries-s.FailedDeliveries) / float64(s.TotalDeliveries)
}

// Validate returns the rules that the webhook's settings break, in the order of
// the fields; none means it may be stored. Whether its address may be delivered
// to is egress's to say, and whether its secret fits its method [CheckSecret]'s.
func (w *Webhook) Validate() []FieldError {
	var broken []FieldError
	add := func(field, message string, value any) {
		broken = append(broken, FieldError{Field: field, Message: message, Value: value})
	}
	between := func(field string, value, low, high int) {
		if value < low || value > high {
			add(field, fmt.Sprintf("must be from %d to %d", low, high), value)
		}
	}
	longest := func(field string, value *string, most int) {
		if value != nil && len(*value) > most {
			add(field, fmt.Sprintf("must have at most %d bytes", most), *value)
		}
	}
	if message := checkURL(w.URL); message != "" {
		add("url", message, w.URL)
	}
	broken = append(broken, checkPatterns(w.Events)...)
	longest("name", w.Name, MaxNameLength)
	longest("description", w.Description, MaxTextLength)
	if !slices.Contains(SigningMethods(), w.SigningMethod) {
		add("signing_method", "must be one of hmac_sha256, hmac_sha1, bearer, basic_auth, none", w.SigningMethod)
	}
	switch {
	case w.ScopeType != ScopeGlobal && w.ScopeType != ScopePersona:
		add("scope_type", "must be global or persona", w.ScopeType)
	case w.ScopeType == ScopePersona && (w.PersonaID == nil || *w.PersonaID == ""):
		add("persona_id", "is required when scope_type is persona", nil)
	case w.ScopeType == ScopeGlobal && w.PersonaID != nil:
		add("persona_id", "goes with scope_type persona only", *w.PersonaID)
	}
	longest("persona_id", w.PersonaID, MaxTextLength)
	between("timeout_ms", w.Policy.TimeoutMS, MinTimeoutMS, MaxTimeoutMS)
	between("max_retries", w.Policy.MaxRetries, MinMaxRetries, MaxMaxRetries)
	between("backoff_ms", w.Policy.BackoffMS, MinBackoffMS, MaxBackoffMS)
	broken = append(broken, checkHeaders(w.Headers)...)
	if w.RateLimit != nil {
		between("rate_limit", *w.RateLimit, MinRateLimit, MaxRateLimit)
	}
	between("max_in_flight", w.MaxInFlight, MinMaxInFlight, MaxMaxInFlight)
	return broken
}

// CheckSecret returns the rule that a secret breaks for a signing method, or "".
// The empty secret stands for none.
func CheckSecret(method SigningMethod, secret string) string {
	switch {
	case len(secret) > MaxSecretLength:
		return fmt.Sprintf("must have at most %d bytes", MaxSecretLength)
	case method == SigningBearer && secret == "":
		return "is required when signing_method is bearer"
	case method == SigningBasicAuth && secret == "":
		return "is required when signing_method is basic_auth"
	case method == SigningBasicAuth && !strings.Contains(secret, ":"):
		return "must be user:password when signing_method is basic_auth"
	case (method == SigningBearer || method == SigningBasicAuth) && !printable(secret):
		return "must have printable ASCII characters only: it is sent in a header"
	}
	return ""
}

var (
	eventTypeRule    = regexp.MustCompile(`^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$`)
	eventPatternRule = regexp.MustCompile(`^(\*|[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*(\.\*)?)$`)
	headerNameRule   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// MaxEventTypeLength is the longest event type, in bytes.
const MaxEventTypeLength = 128

// ValidEventType reports whether s can be an event's type: words of letters,
// digits and underscores, joined by dots, at most 128 characters.
func ValidEventType(s string) bool {
	return len(s) <= MaxEventTypeLength && eventTypeRule.MatchString(s)
}

// PatternsFor returns every subscription pattern that matches an event type: for
// "call.leg.ended" these are "*", "call.*", "call.leg.*" and the type itself.
func PatternsFor(eventType string) []string {
	patterns := []string{"*"}
	for i, c := range eventType {
		if c == '.' {
			patterns = append(patterns, eventType[:i]+".*")
		}
	}
	return append(patterns, eventType)
}

func checkPatterns(patterns []string) []FieldError {
	if len(patterns) < 1 || len(patterns) > MaxEventPatterns {
		return []FieldError{{Field: "events", Message: fmt.Sprintf("must have 1 to %d entries", MaxEventPatterns), Value: patterns}}
	}
	var broken []FieldError
	for i, p := range patterns {
		if len(p) > MaxEventTypeLength || !eventPatternRule.MatchString(p) {
			broken = append(broken, FieldError{
				Field:   fmt.Sprintf("events[%d]", i),
				Message: `must be an event type such as "call.ended", a trailing wildcard such as "call.*", or "*", of at most 128 characters`,
				Value:   p,
			})
		}
	}
	return broken
}

func checkURL(raw string) string {
	if len(raw) < 1 || len(raw) > MaxURLLength {
		return fmt.Sprintf("must have 1 to %d characters", MaxURLLength)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "must be a valid URI"
	case u.Scheme != "http" && u.Scheme != "https":
		return "must start with http:// or https://"
	case u.Hostname() == "":
		return "must name a host"
	case u.User != nil:
		return "must not carry a user name or password; use signing_method basic_auth"
	}
	return ""
}

func checkHeaders(headers map[string]string) []FieldError {
	if len(headers) > MaxHeaders {
		return []FieldError{{Field: "headers", Message: fmt.Sprintf("must have at most %d entries", MaxHeaders), Value: len(headers)}}
	}
	var broken []FieldError
	seen := map[string]bool{}
	for _, name := range sortedKeys(headers) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		message := ""
		switch {
		case !headerNameRule.MatchString(name) || len(name) > MaxNameLength:
			message = "is not a valid header name (RFC 9110)"
		case ReservedHeader(name):
			message = "is a reserved header name"
		case seen[canonical]:
			message = "is given twice, in different cases"
		case len(headers[name]) > MaxHeaderLength || !printable(headers[name]):
			message = fmt.Sprintf("must have a value of at most %d printable ASCII characters", MaxHeaderLength)
		}
		seen[canonical] = true
		if message != "" {
			// The value is not repeated: people put tokens into custom headers.
			broken = append(broken, FieldError{Field: "headers." + name, Message: message})
		}
	}
	return broken
}

// ReservedHeader reports whether a request header is Postrider's own, the HTTP
// client's or a hop-by-hop one (RFC 9110 section 7.6.1), so that a webhook's
// custom headers may not set it.
func ReservedHeader(name string) bool {
	name = strings.ToLower(name)
	if strings.HasPrefix(name, "webhook-") || strings.HasPrefix(name, "postrider-") ||
		strings.HasPrefix(name, "x-hub-signature") || strings.HasPrefix(name, "proxy-") {
		return true
	}
	switch name {
	case "authorization", "connection", "content-encoding", "content-length", "content-type", "date", "expect",
		"host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "accept-encoding",
		"traceparent", "tracestate":
		return true
	}
	return false
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
