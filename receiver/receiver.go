package receiver

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// maxBody is the largest request body taken, in bytes: a larger one is answered
// 413. Postrider's own are smaller.
const maxBody = 1 << 20

// Options say how a [Receiver] behaves. Only Now is required.
type Options struct {
	// Method is the webhook's signing method; "" is the same as none.
	Method postrider.SigningMethod
	// Secrets are the ones by which a request may be signed; see [Receiver.SetSecrets].
	Secrets []string
	// Tolerance is how far webhook-timestamp may be off; 0 means
	// [signing.DefaultTolerance].
	Tolerance time.Duration
	// Status answers what is accepted; 0 means 204.
	Status int
	// Fail is how many of the first requests with a right signature are refused.
	Fail int
	// FailStatus answers what is refused; 0 means 500.
	FailStatus int
	// RetryAfter, when not 0, goes along with FailStatus as a Retry-After header, in
	// whole seconds, rounded up.
	RetryAfter time.Duration
	// Delay is how long an answer is held back, unless the client leaves before.
	Delay time.Duration
	// Now is the clock.
	Now func() time.Time
	// OnReceived is told every request. It may be called concurrently.
	OnReceived func(Received)
}

// Received is one request that arrived.
type Received struct {
	At     time.Time
	Method string // HTTP method
	Path   string
	Header http.Header // holds credentials: not for logs
	Body   []byte

	ID         string    // webhook-id
	Type       string    // of the event, from the body; "" when there is none
	DeliveryID string    // postrider-delivery-id
	Attempt    int       // postrider-attempt; 0 when it is absent or no number
	Timestamp  time.Time // webhook-timestamp; zero when it is absent or no number

	// Verified is true when a signature was checked and is right. When it is not, and
	// VerifyError is "", the receiver's signing method is none.
	Verified       bool
	VerifyError    string
	StatusAnswered int
}

// Receiver is the handler. It is safe for concurrent use.
type Receiver struct {
	options Options
	secrets atomic.Pointer[[]string]
	failed  atomic.Int64 // requests counted against Options.Fail
}

// New returns a receiver.
func New(options Options) *Receiver {
	if options.Method == "" {
		options.Method = postrider.SigningNone
	}
	if options.Tolerance == 0 {
		options.Tolerance = signing.DefaultTolerance
	}
	if options.Status == 0 {
		options.Status = http.StatusNoContent
	}
	if options.FailStatus == 0 {
		options.FailStatus = http.StatusInternalServerError
	}
	if options.OnReceived == nil {
		options.OnReceived = func(Received) {}
	}
	r := &Receiver{options: options}
	r.SetSecrets(options.Secrets...)
	return r
}

// SetSecrets replaces the secrets by which requests may be signed. A secret that
// Postrider makes is known only after the receiver's URL is, and secrets rotate.
func (r *Receiver) SetSecrets(secrets ...string) { r.secrets.Store(&secrets) }

// ServeHTTP takes a POST on any path, and answers a GET with a short text.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	switch request.Method {
	case http.MethodPost:
		r.receive(w, request)
	case http.MethodGet, http.MethodHead:
		_, _ = io.WriteString(w, "Postrider's webhook receiver. Send webhooks here by POST.\n")
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	}
}

func (r *Receiver) receive(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxBody))
	if err != nil {
		// Too large, or the client left in the middle and reads no answer.
		http.Error(w, http.StatusText(http.StatusRequestEntityTooLarge), http.StatusRequestEntityTooLarge)
		return
	}
	received := r.examine(request, body)
	r.options.OnReceived(received)
	hold(request.Context(), r.options.Delay)
	if received.StatusAnswered == r.options.FailStatus && r.options.RetryAfter > 0 {
		seconds := (r.options.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	w.WriteHeader(received.StatusAnswered)
	if received.StatusAnswered >= http.StatusBadRequest {
		_, _ = io.WriteString(w, http.StatusText(received.StatusAnswered)+"\n")
	}
}

// examine reads what the request says, checks its signature and decides the answer.
func (r *Receiver) examine(request *http.Request, body []byte) Received {
	header, now := request.Header, r.options.Now()
	received := Received{
		At:             now,
		Method:         request.Method,
		Path:           request.URL.Path,
		Header:         header,
		Body:           body,
		ID:             header.Get(signing.HeaderID),
		DeliveryID:     header.Get(signing.HeaderDeliveryID),
		StatusAnswered: r.options.Status,
	}
	received.Attempt, _ = strconv.Atoi(header.Get(signing.HeaderAttempt))
	if seconds, err := strconv.ParseInt(header.Get(signing.HeaderTimestamp), 10, 64); err == nil {
		received.Timestamp = time.Unix(seconds, 0).UTC()
	}
	var event struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(body, &event) == nil {
		received.Type = event.Type
	}
	err := signing.Verify(r.options.Method, *r.secrets.Load(), header, body, now, r.options.Tolerance)
	switch {
	case err != nil:
		received.VerifyError = err.Error()
		received.StatusAnswered = http.StatusUnauthorized
	case r.failed.Add(1) <= int64(r.options.Fail):
		received.StatusAnswered = r.options.FailStatus
	}
	received.Verified = err == nil && r.options.Method != postrider.SigningNone
	return received
}

// hold waits for the delay, or until the client has left.
func hold(ctx context.Context, delay time.Duration) {
	if delay > 0 {
		ctx, cancel := context.WithTimeout(ctx, delay)
		defer cancel()
		<-ctx.Done()
	}
}
