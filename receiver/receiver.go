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

// maxBody is the largest accepted request body, in bytes. The answer to a larger one is 413.
// Postrider's bodies are smaller.
const maxBody = 1 << 20

// Options say how a [Receiver] behaves. Only Now is required.
type Options struct {
	// Method is the webhook's signing method; "" means none.
	Method postrider.SigningMethod
	// Secrets are the secrets that may sign a request; see [Receiver.SetSecrets].
	Secrets []string
	// Tolerance is the largest difference between webhook-timestamp and the clock; 0 means
	// [signing.DefaultTolerance].
	Tolerance time.Duration
	// Status is the answer to accepted requests; 0 means 204.
	Status int
	// Fail is how many of the first verified requests are refused.
	Fail int
	// FailStatus is the answer to refused requests; 0 means 500.
	FailStatus int
	// RetryAfter, when not 0, is sent with FailStatus as a Retry-After header, in seconds,
	// rounded up.
	RetryAfter time.Duration
	// Delay is the time before every answer. It ends when the client leaves.
	Delay time.Duration
	// Now is the clock.
	Now func() time.Time
	// OnReceived is called with every request. Calls can be concurrent.
	OnReceived func(Received)
}

// Received is one request.
type Received struct {
	At     time.Time
	Method string // HTTP method
	Path   string
	Header http.Header // holds credentials: not for logs
	Body   []byte

	ID         string    // webhook-id
	Type       string    // the event's type, from the body; "" without one
	DeliveryID string    // postrider-delivery-id
	Attempt    int       // postrider-attempt; 0 when it is absent or not a number
	Timestamp  time.Time // webhook-timestamp; zero when it is absent or not a number

	// Verified is true when the signature was verified. When it is false and VerifyError is
	// "", the receiver's signing method is none.
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
		options.Method = signing.None
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

// SetSecrets replaces the secrets that may sign requests. Postrider makes a secret after it knows
// the receiver's URL, so a receiver often starts without one. Secrets also rotate.
func (r *Receiver) SetSecrets(secrets ...string) { r.secrets.Store(&secrets) }

// ServeHTTP receives a POST on any path, and answers a GET with a short text.
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

// receive reads, reports and answers a POST.
func (r *Receiver) receive(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxBody))
	if err != nil {
		// The body is too large. A client that left in the middle reads no answer.
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

// examine reads the headers and the body, verifies the signature and decides the answer.
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
	received.Verified = err == nil && r.options.Method != signing.None
	return received
}

// hold waits for the delay, or until ctx is done, which means that the client has left.
func hold(ctx context.Context, delay time.Duration) {
	if delay > 0 {
		ctx, cancel := context.WithTimeout(ctx, delay)
		defer cancel()
		<-ctx.Done()
	}
}
