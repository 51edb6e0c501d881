package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/google/go-github/v84/github"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// testReceiver is a webhook's receiver. It verifies signatures with the libraries of others, so
// that a mistake in package signing is found.
type testReceiver struct {
	testCase
	server *httptest.Server
	id     string // of its webhook

	mu       sync.Mutex
	secret   string
	seen     map[string]int // requests by webhook-id
	problems []string
}

func newTestReceiver(c testCase) *testReceiver {
	t := &testReceiver{testCase: c, seen: map[string]int{}}
	t.server = httptest.NewServer(http.HandlerFunc(t.receive))
	return t
}

// receive counts and verifies a request, and answers as the case says.
func (t *testReceiver) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	t.mu.Lock()
	t.seen[r.Header.Get("webhook-id")]++
	requests := t.requests()
	if err == nil {
		err = t.verify(r, body)
	}
	if err != nil {
		t.problems = append(t.problems, err.Error())
	}
	t.mu.Unlock()

	if t.receiver.delay > 0 {
		late, cancel := context.WithTimeout(r.Context(), t.receiver.delay)
		<-late.Done()
		cancel()
	}
	if t.receiver.fail < 0 || requests <= t.receiver.fail {
		w.WriteHeader(failureStatus)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// requests returns the number of requests. The caller holds the lock.
func (t *testReceiver) requests() int {
	n := 0
	for _, requests := range t.seen {
		n += requests
	}
	return n
}

// verify verifies the signature, and that webhook-id is the id of the event in the body.
func (t *testReceiver) verify(r *http.Request, body []byte) error {
	var event struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(body, &event); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	if event.ID != r.Header.Get("webhook-id") {
		return fmt.Errorf("webhook-id %q does not name the event in the body", r.Header.Get("webhook-id"))
	}
	switch t.method {
	case "hmac_sha256":
		return t.verifySHA256(r, body)
	case "hmac_sha1":
		return github.ValidateSignature(r.Header.Get("X-Hub-Signature"), body, []byte(t.secret))
	case "bearer":
		if r.Header.Get("Authorization") != "Bearer "+t.secret {
			return errors.New("the bearer token is wrong")
		}
	case "basic_auth":
		user, password, _ := r.BasicAuth()
		if user+":"+password != t.secret {
			return errors.New("the user or the password is wrong")
		}
	}
	return nil
}

// verifySHA256 verifies both signatures of hmac_sha256.
func (t *testReceiver) verifySHA256(r *http.Request, body []byte) error {
	webhook, err := standardwebhooks.NewWebhook(t.secret)
	if err != nil {
		return err
	}
	return errors.Join(
		webhook.Verify(body, r.Header),
		github.ValidateSignature(r.Header.Get("X-Hub-Signature-256"), body, []byte(t.secret)),
	)
}

// arrived returns the numbers of events and requests, and the problems of the requests.
func (t *testReceiver) arrived() (events, requests int, problems []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.seen), t.requests(), slices.Compact(slices.Sorted(slices.Values(t.problems)))
}
