package receiver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"postrider.dev/postrider"
	"postrider.dev/postrider/receiver"
	"postrider.dev/postrider/signing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const body = `{"id":"evt_1","type":"call.ended","timestamp":"2026-08-01T12:00:00Z","persona_id":null,"data":{}}`

func now() time.Time { return time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC) }

// bundle is a running receiver, a client for it, and the requests that it reports.
type bundle struct {
	*receiver.Receiver
	url      string
	client   *http.Client
	received chan receiver.Received
}

func setup(t *testing.T, options receiver.Options) bundle {
	t.Helper()
	b := bundle{received: make(chan receiver.Received, 100)}
	options.Now = now
	options.OnReceived = func(r receiver.Received) { b.received <- r }
	b.Receiver = receiver.New(options)
	server := httptest.NewServer(b.Receiver)
	t.Cleanup(server.Close)
	b.url, b.client = server.URL, server.Client()
	return b
}

// answer is the receiver's answer.
type answer struct {
	status int
	header http.Header
	text   string
}

// send posts the body with the headers of Postrider.
func (b bundle) send(t *testing.T, method postrider.SigningMethod, secrets ...string) answer {
	t.Helper()
	header, err := signing.Sign(method, secrets, signing.Message{ID: "evt_1", Timestamp: now(), Body: []byte(body)})
	require.NoError(t, err)
	header.Set(signing.HeaderDeliveryID, "dlv_1")
	header.Set(signing.HeaderAttempt, "2")
	return b.do(t, http.MethodPost, header, body)
}

func (b bundle) do(t *testing.T, method string, header http.Header, text string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, b.url+"/hooks?key=1", strings.NewReader(text))
	require.NoError(t, err)
	if header != nil {
		request.Header = header
	}
	response, err := b.client.Do(request)
	require.NoError(t, err)
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return answer{status: response.StatusCode, header: response.Header, text: string(content)}
}

// secretFrom returns a secret that a method accepts, always the same for a seed.
func secretFrom(t *testing.T, method postrider.SigningMethod, seed string) string {
	t.Helper()
	secret, err := signing.NewSecret(method, strings.NewReader(strings.Repeat(seed, 256)))
	require.NoError(t, err)
	if secret == "" { // people choose it
		secret = "user:" + seed
	}
	return secret
}

func TestEveryMethodIsVerified(t *testing.T) {
	t.Parallel()
	for _, method := range signing.Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			current, old, stranger := secretFrom(t, method, "new"), secretFrom(t, method, "old"), secretFrom(t, method, "stranger")
			b := setup(t, receiver.Options{Method: method, Secrets: []string{current}})
			require.Equal(t, http.StatusNoContent, b.send(t, method, current, old).status)
			got := <-b.received
			require.Equal(t, method != signing.None, got.Verified)
			require.Empty(t, got.VerifyError)
			require.Equal(t, now(), got.At)
			require.Equal(t, now(), got.Timestamp)
			require.Equal(t, "POST /hooks", got.Method+" "+got.Path)
			require.Equal(t, "evt_1 call.ended dlv_1", got.ID+" "+got.Type+" "+got.DeliveryID)
			require.Equal(t, 2, got.Attempt)
			require.Equal(t, http.StatusNoContent, got.StatusAnswered)
			require.Equal(t, body, string(got.Body))
			require.Equal(t, "evt_1", got.Header.Get("webhook-id"))
			if method == signing.None {
				return
			}

			require.Equal(t, http.StatusUnauthorized, b.send(t, method, stranger).status)
			got = <-b.received
			require.False(t, got.Verified)
			require.Equal(t, "signing: signature does not match", got.VerifyError)
			require.Equal(t, http.StatusUnauthorized, got.StatusAnswered)

			b.SetSecrets(stranger, current)
			require.Equal(t, http.StatusNoContent, b.send(t, method, stranger).status)
			require.True(t, (<-b.received).Verified)
		})
	}
}

func TestFirstRequestsFail(t *testing.T) {
	t.Parallel()
	b := setup(t, receiver.Options{
		Method: signing.HMACSHA256, Secrets: []string{"s"}, Status: http.StatusOK,
		Fail: 2, FailStatus: http.StatusServiceUnavailable, RetryAfter: 1500 * time.Millisecond,
	})
	require.Equal(t, http.StatusUnauthorized, b.send(t, signing.HMACSHA256, "other").status, "does not count")
	for range 2 {
		response := b.send(t, signing.HMACSHA256, "s")
		require.Equal(t, http.StatusServiceUnavailable, response.status)
		require.Equal(t, "2", response.header.Get("Retry-After"))
	}
	response := b.send(t, signing.HMACSHA256, "s")
	require.Equal(t, http.StatusOK, response.status)
	require.Empty(t, response.header.Get("Retry-After"))
	for _, want := range []int{401, 503, 503, 200} {
		got := <-b.received
		require.Equal(t, want, got.StatusAnswered)
		require.Equal(t, want != 401, got.Verified, "a refused request can be verified")
	}
}

func TestFailsWith500ByDefault(t *testing.T) {
	t.Parallel()
	b := setup(t, receiver.Options{Fail: 1})
	response := b.send(t, signing.None)
	require.Equal(t, http.StatusInternalServerError, response.status)
	require.Empty(t, response.header.Get("Retry-After"))
	require.Equal(t, "Internal Server Error\n", response.text)
}

func TestDelayEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, receiver.Options{Delay: 20 * time.Millisecond})
	began := time.Now()
	b.send(t, signing.None)
	require.GreaterOrEqual(t, time.Since(began), 20*time.Millisecond)

	// The delay ends when the client leaves, so that the server can close at once.
	b = setup(t, receiver.Options{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, strings.NewReader(body))
		if err == nil {
			_, err = b.client.Do(request) //nolint:bodyclose // there is no answer
		}
		if err == nil {
			t.Error("answered before the delay")
		}
	}()
	require.Equal(t, "call.ended", (<-b.received).Type)
	cancel()
	<-left
}

func TestOtherRequests(t *testing.T) {
	t.Parallel()
	b := setup(t, receiver.Options{})
	response := b.do(t, http.MethodGet, nil, "")
	require.Equal(t, http.StatusOK, response.status)
	require.Contains(t, response.text, "POST")

	response = b.do(t, http.MethodDelete, nil, "")
	require.Equal(t, http.StatusMethodNotAllowed, response.status)
	require.Equal(t, "GET, HEAD, POST", response.header.Get("Allow"))

	require.Equal(t, http.StatusRequestEntityTooLarge, b.do(t, http.MethodPost, nil, strings.Repeat("x", 1<<20+1)).status)
	require.Empty(t, b.received)

	require.Equal(t, http.StatusNoContent, b.do(t, http.MethodPost, nil, strings.Repeat("x", 1<<20)).status)
	got := <-b.received
	require.Zero(t, got.Attempt)
	require.Zero(t, got.Timestamp)
	require.Empty(t, got.Type)
}

func TestWithoutAListener(t *testing.T) {
	t.Parallel()
	recorder := httptest.NewRecorder()
	receiver.New(receiver.Options{Now: now}).ServeHTTP(recorder, httptest.NewRequest(http.MethodPost, "/", nil))
	require.Equal(t, http.StatusNoContent, recorder.Code)
}

func TestLine(t *testing.T) {
	t.Parallel()
	base := receiver.Received{
		At: now(), ID: "evt_1", Type: "call.ended", Attempt: 1, StatusAnswered: 204, Verified: true,
		Header: http.Header{"Authorization": {"Bearer hunter2"}, "Webhook-Signature": {"v1,hunter2"}},
		Body:   []byte("{\n  \"id\": \"evt_1\"\n}"),
	}
	for name, c := range map[string]struct {
		change func(*receiver.Received)
		want   string
	}{
		"verified": {func(*receiver.Received) {}, `12:00:00.000 call.ended evt_1 attempt 1 ✓ verified → 204 {"id":"evt_1"}`},
		"refused": {func(r *receiver.Received) {
			r.Verified, r.VerifyError, r.StatusAnswered = false, signing.ErrMismatch.Error(), 401
		}, `12:00:00.000 call.ended evt_1 attempt 1 ✗ signature does not match → 401 {"id":"evt_1"}`},
		"unsigned": {
			func(r *receiver.Received) { r.Verified = false },
			`12:00:00.000 call.ended evt_1 attempt 1 not verified → 204 {"id":"evt_1"}`,
		},
		"bare": {
			func(r *receiver.Received) { *r = receiver.Received{At: now(), StatusAnswered: 204} },
			`12:00:00.000 - - attempt 0 not verified → 204`,
		},
		"no JSON": {
			func(r *receiver.Received) { r.Body = []byte("a=b\x1b[2J") },
			`12:00:00.000 call.ended evt_1 attempt 1 ✓ verified → 204 (7 bytes, not JSON)`,
		},
		"long": {
			func(r *receiver.Received) { r.Body = []byte(`"` + strings.Repeat("é", 2000) + `"`) },
			`12:00:00.000 call.ended evt_1 attempt 1 ✓ verified → 204 "` + strings.Repeat("é", 1023) + `… (4002 bytes)`,
		},
		"terminals": {
			func(r *receiver.Received) { r.ID, r.Body = "\x1b[31m", []byte("\"\u009b2J\u202e\u2028\"") },
			`12:00:00.000 call.ended \u001b[31m attempt 1 ✓ verified → 204 "\u009b2J\u202e\u2028"`,
		},
		"a type that lies": {
			func(r *receiver.Received) { r.Type = "a\n12:00:00.000 b evt_2 attempt 1 ✓ verified\x07\xff" },
			"12:00:00.000 a\\u000a12:00:00.000 b evt_2 attempt 1 ✓ verified\\u0007\uFFFD evt_1 attempt 1 ✓ verified → 204 " + `{"id":"evt_1"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := base
			c.change(&r)
			line := receiver.Line(r)
			require.Equal(t, c.want, line)
			require.NotContains(t, line, "hunter2")
		})
	}
}

// TestEscapedJSONIsTheSame guards programs that read what is shown.
func TestEscapedJSONIsTheSame(t *testing.T) {
	t.Parallel()
	name := "\x1b]0;title\x07\u009b\x7f\u202e\u2066 é"
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(name))
	shown := receiver.Escape(strings.TrimSpace(text.String()))
	var read string
	require.NoError(t, json.Unmarshal([]byte(shown), &read))
	require.Equal(t, name, read)
	require.Equal(t, `"\u001b]0;title\u0007\u009b\u007f\u202e\u2066 é"`, shown)
}
