package postrider

import (
	"fmt"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// SigningMethod is how a receiver verifies that a request came from this server. Package
// signing has the table of methods.
type SigningMethod string

// ScopeType says which events of the workspace a webhook gets.
type ScopeType string

// The scope types.
const (
	ScopeGlobal  ScopeType = "global"  // every event it subscribes to
	ScopePersona ScopeType = "persona" // only those of one persona
)

// WebhookStatus says whether a webhook's deliveries are made.
type WebhookStatus string

// The statuses. Events for a webhook that is not active are parked, not dropped.
const (
	WebhookActive   WebhookStatus = "active"
	WebhookPaused   WebhookStatus = "paused"   // by an operator
	WebhookDisabled WebhookStatus = "disabled" // by the engine; DisabledReason says why
)

// The DisabledReasons.
const (
	DisabledGone    = "gone"    // the receiver answered 410
	DisabledFailing = "failing" // every attempt has failed for disable_after_seconds
)

// MaskedHeader stands for the value of a custom header that the reader may not see.
const MaskedHeader = "***"

// Limits and defaults of a webhook's settings. Lengths are in characters (Unicode code points), as
// those of the API's document are, unless the name says bytes.
const (
	MaxURLLength     = 2083
	MaxNameLength    = 255
	MaxTextLength    = 1024 // description, persona_id
	MaxPersonaBytes  = 2048 // of persona_id: PostgreSQL's index has no room for more
	MaxSecretLength  = 1024
	MaxLiveSecrets   = 5 // values of a webhook's secret that sign at once
	MaxEventPatterns = 100
	MaxHeaders       = 32
	MaxHeaderLength  = 4096

	MinTimeoutMS, MaxTimeoutMS, DefaultTimeoutMS    = 1000, 30000, 5000
	MinMaxRetries, MaxMaxRetries, DefaultMaxRetries = 0, 10, 3
	MinBackoffMS, MaxBackoffMS, DefaultBackoffMS    = 100, 3600000, 1000
	MinMaxInFlight, MaxMaxInFlight                  = 1, 1000
	DefaultMaxInFlight                              = 32
	MinRateLimit, MaxRateLimit                      = 1, 10000

	MaxParkSeconds, DefaultParkSeconds = 30 * 24 * 3600, 7 * 24 * 3600

	MaxDisableAfterSeconds, DefaultDisableAfterSeconds = 30 * 24 * 3600, 5 * 24 * 3600

	MaxFilterLength    = 2048
	MaxTransformLength = 8192
)

// WebhookSettings are the fields of a webhook that its owner sets, beside its [Policy] and
// its secret. They are written here alone: the API's requests and answers embed them, with
// the rules and texts of their tags, and so does the store's row, by their db tags.
type WebhookSettings struct {
	URL           string            `json:"url" db:"url" minLength:"1" maxLength:"2083" format:"uri" doc:"Where events are sent: http or https, without a user name or password." example:"https://example.com/hooks"`
	Events        []string          `json:"events" db:"events" minItems:"1" maxItems:"100" nullable:"false" maxLength:"128" pattern:"^(\\*|[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*(\\.\\*)?)$" patternDescription:"an event type, a trailing wildcard as call.*, or *" doc:"Event types to subscribe to: exact ones, a trailing wildcard such as call.*, or * for all but the engine's own, which postrider.* asks for. An entry given twice counts once." example:"[\"call.ended\",\"contact.updated\"]"`
	Name          *string           `json:"name" db:"name" nullable:"true" maxLength:"255" doc:"Display name."`
	Description   *string           `json:"description" db:"description" nullable:"true" maxLength:"1024"`
	SigningMethod SigningMethod     `json:"signing_method" db:"signing_method" doc:"How the receiver can tell that a request came from here. The HMAC methods make a secret when none is given; bearer and basic_auth need one."`
	ScopeType     ScopeType         `json:"scope_type" db:"scope_type" enum:"global,persona" doc:"global: every event; persona: one persona's only."`
	PersonaID     *string           `json:"persona_id" db:"persona_id" nullable:"true" minLength:"1" maxLength:"1024" doc:"Required when scope_type is persona, and goes with it only. At most 2,048 bytes in UTF-8."`
	Headers       map[string]string `json:"headers" db:"headers" maxProperties:"32" doc:"Headers added to every request. Reserved names are refused: Postrider's own, the signature's, Authorization, and those of the HTTP connection. They are encrypted at rest. Answers show their values to keys with the scope manage; to others each value is ***, which is refused as a value."`
	TLS           *WebhookTLS       `json:"tls" db:"-" doc:"For https alone: a client certificate to show, authorities to trust, or both. Replaced as a whole. Null for neither."`
	RateLimit     *int              `json:"rate_limit" db:"rate_limit" nullable:"true" minimum:"1" maximum:"10000" doc:"Requests a second; null for no limit."`
	MaxInFlight   int               `json:"max_in_flight" db:"max_in_flight" minimum:"1" maximum:"1000" doc:"Requests at once."`
	Filter        *string           `json:"filter" db:"filter" nullable:"true" minLength:"1" maxLength:"2048" doc:"A CEL expression of type bool over event (id, type, persona_id, timestamp, data): only events for which it is true are sent. One that fails on an event, for example because a field is not there, does not match." example:"event.data.amount > 100"`
	Transform     *string           `json:"transform" db:"transform" nullable:"true" minLength:"1" maxLength:"8192" doc:"A CEL expression over event whose result is sent as the body, in JSON of at most 256 KiB. Where it fails on an event the delivery fails with the result transform, without a request. Not together with a format other than envelope."`
	Ordering      Ordering          `json:"ordering" db:"ordering" enum:"none,key,fifo" doc:"none: deliveries are made side by side. key: those of events with the same ordering_key one at a time, in the order in which the events were accepted; those without an ordering_key side by side. fifo: all one at a time. A delivery that is being retried, is paused or is due later holds up those after it. What was accepted before a change keeps its order."`
	OnExhausted   OnExhausted       `json:"on_exhausted" db:"on_exhausted" enum:"skip,block" doc:"With an ordering, after a delivery that failed: skip goes on with the next; block holds its key, or with fifo the webhook, until somebody retries, skips or cancels it. One that expired or was parked for too long never blocks."`
	Format        Format            `json:"format" db:"format" enum:"envelope,data,thin,cloudevents" doc:"The body: envelope: id, type, timestamp, persona_id and data; data: the event's data alone; thin: the envelope without data; cloudevents: CloudEvents 1.0 in structured mode. What was accepted before a change of format or transform keeps the old one."`
	ParkSeconds   int               `json:"park_seconds" db:"park_seconds" minimum:"0" maximum:"2592000" doc:"How long what waits for the webhook is kept while it is not active; then it fails. 0: as long as finished deliveries are kept."`

	CircuitBreaker      bool `json:"circuit_breaker" db:"circuit_breaker" doc:"When 20 attempts and more have failed in a row, for 10 seconds and longer, stop sending but for one probe at a time, at waits that grow from 5 seconds to 5 minutes. What waits meanwhile uses up none of its retries, and goes at a growing rate after a probe has succeeded. false: each delivery is attempted when its own retries are due, whatever becomes of the others."`
	DisableAfterSeconds int  `json:"disable_after_seconds" db:"disable_after_seconds" minimum:"0" maximum:"2592000" doc:"A webhook whose every attempt has failed for so long is disabled (disabled_reason failing), and its events are parked. After a tenth of it postrider.webhook.failing is published. 0: never."`
}

// Webhook is a subscription: where events go, which, and how.
type Webhook struct {
	ID          string
	WorkspaceID string
	WebhookSettings
	Policy

	SecretID       *string // nil: no secret is kept
	Status         WebhookStatus
	DisabledReason *string
	InactiveSince  *time.Time // nil while it is active
	Stats          WebhookStats
	Health         WebhookHealth
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// WebhookFilter selects webhooks for a list. A zero field selects all.
type WebhookFilter struct {
	Event     string // an event type: webhooks that subscribe to it; or a pattern, as stored
	Status    WebhookStatus
	PersonaID string
}

// WebhookEdit is a webhook that will be stored with changed settings.
type WebhookEdit struct {
	Webhook *Webhook
	// Secret is the current secret, or "" without one.
	Secret string
	// NextSecret is the one that is to take its place, or "".
	NextSecret string
	// NewSecret replaces both at once when it is not "".
	NewSecret string
}

// WebhookStats are the statistics of a webhook's finished deliveries.
type WebhookStats struct {
	TotalDeliveries  int64      // finished deliveries, without cancelled ones
	FailedDeliveries int64      // deliveries that finished without a 2xx
	LastDeliveryAt   *time.Time // when the latest delivery finished
	LastError        *string    // the latest failed attempt's error; a success does not clear it
}

// SuccessRate returns the share of finished deliveries that succeeded, from 0 to 1. Without
// finished deliveries it is 1.
func (s WebhookStats) SuccessRate() float64 {
	if s.TotalDeliveries == 0 {
		return 1
	}
	return float64(s.TotalDeliveries-s.FailedDeliveries) / float64(s.TotalDeliveries)
}

// Validate returns the rules that the webhook's settings break, in the order of the fields.
// methods are all signing methods. Validate does not check whether the address may be delivered
// to, which is egress's task, nor whether the secret fits the method, which is signing's.
func (w *Webhook) Validate(methods []SigningMethod) []FieldError {
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
		if value != nil && utf8.RuneCountInString(*value) > most {
			add(field, fmt.Sprintf("must have at most %d characters", most), *value)
		}
	}
	if message := checkURL(w.URL); message != "" {
		add("url", message, w.URL)
	}
	broken = append(broken, checkPatterns(w.Events)...)
	longest("name", w.Name, MaxNameLength)
	longest("description", w.Description, MaxTextLength)
	if !slices.Contains(methods, w.SigningMethod) {
		add("signing_method", "must be one of "+joined(methods), w.SigningMethod)
	}
	switch {
	case w.ScopeType != ScopeGlobal && w.ScopeType != ScopePersona:
		add("scope_type", "must be global or persona", w.ScopeType)
	case w.ScopeType == ScopePersona && (w.PersonaID == nil || *w.PersonaID == ""):
		add("persona_id", "is required when scope_type is persona", nil)
	case w.ScopeType == ScopeGlobal && w.PersonaID != nil:
		add("persona_id", "goes with scope_type persona only", *w.PersonaID)
	}
	if message := CheckPersonaID(w.PersonaID); message != "" {
		add("persona_id", message, *w.PersonaID)
	}
	between("timeout_ms", w.TimeoutMS, MinTimeoutMS, MaxTimeoutMS)
	if w.RetrySchedule == "" {
		between("max_retries", w.MaxRetries, MinMaxRetries, MaxMaxRetries)
		between("backoff_ms", w.BackoffMS, MinBackoffMS, MaxBackoffMS)
	}
	broken = append(broken, w.RetrySchedule.check()...)
	broken = append(broken, CheckHeaders(w.Headers)...)
	broken = append(broken, w.checkTLS()...)
	if w.RateLimit != nil {
		between("rate_limit", *w.RateLimit, MinRateLimit, MaxRateLimit)
	}
	between("max_in_flight", w.MaxInFlight, MinMaxInFlight, MaxMaxInFlight)
	broken = append(broken, w.checkShape()...)
	if !slices.Contains(Orderings(), w.Ordering) {
		add("ordering", "must be one of "+joined(Orderings()), w.Ordering)
	}
	if w.OnExhausted != ExhaustedSkip && w.OnExhausted != ExhaustedBlock {
		add("on_exhausted", "must be skip or block", w.OnExhausted)
	}
	between("park_seconds", w.ParkSeconds, 0, MaxParkSeconds)
	between("disable_after_seconds", w.DisableAfterSeconds, 0, MaxDisableAfterSeconds)
	return broken
}

// CheckPersonaID returns the rule that a persona's id breaks by its length, or "". No id breaks none.
func CheckPersonaID(id *string) string {
	switch {
	case id == nil:
	case utf8.RuneCountInString(*id) > MaxTextLength:
		return fmt.Sprintf("must have at most %d characters", MaxTextLength)
	case len(*id) > MaxPersonaBytes:
		return fmt.Sprintf("must have at most %d bytes in UTF-8", MaxPersonaBytes)
	}
	return ""
}

// joined lists words for an error text.
func joined[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = string(word)
	}
	return strings.Join(texts, ", ")
}

var (
	eventTypeRule    = regexp.MustCompile(`^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$`)
	eventPatternRule = regexp.MustCompile(`^(\*|[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*(\.\*)?)$`)
	headerNameRule   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
)

// MaxEventTypeLength is the longest event type, in characters, which are ASCII.
const MaxEventTypeLength = 128

// ValidEventType reports whether s is an event type: words of letters, digits and underscores,
// joined by dots, at most 128 characters.
func ValidEventType(s string) bool {
	return len(s) <= MaxEventTypeLength && eventTypeRule.MatchString(s)
}

// PatternsFor returns every subscription pattern that matches an event type. For
// "call.leg.ended" it returns "*", "call.*", "call.leg.*" and the type itself. Events about the
// engine itself do not match "*": who wants all of a platform's events has not asked for them.
func PatternsFor(eventType string) []string {
	patterns := []string{"*"}
	if Operational(eventType) {
		patterns = nil
	}
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
	if n := utf8.RuneCountInString(raw); n < 1 || n > MaxURLLength {
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

// CheckHeaders returns the rules that custom headers break: a webhook's or an event's.
func CheckHeaders(headers map[string]string) []FieldError {
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
		case headers[name] == MaskedHeader:
			message = "must have the value itself: *** stands for one that the reader may not see"
		case seen[canonical]:
			message = "is given twice, in different cases"
		case len(headers[name]) > MaxHeaderLength || !printable(headers[name]):
			message = fmt.Sprintf("must have a value of at most %d printable ASCII characters", MaxHeaderLength)
		}
		seen[canonical] = true
		if message != "" {
			// The value is left out, because custom headers often hold tokens.
			broken = append(broken, FieldError{Field: "headers." + name, Message: message})
		}
	}
	return broken
}

// ReservedHeader reports whether a webhook's custom headers must not set a request header: it is
// Postrider's own, the HTTP client's, or a hop-by-hop header (RFC 9110 section 7.6.1).
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

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
