package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/signing"
	"postrider.dev/postrider/standalone/instance"
)

// testRotation rotates a secret some seconds ahead. By the time that each request states, the header
// with one value has the secret that was agreed for it; the other has both all along.
func testRotation(t *testing.T, i *instance.Instance) {
	t.Helper()
	const before, after = "before", "after"
	var mu sync.Mutex
	seen := map[string]int{} // requests that verified, by the secret that was to be expected
	var effective time.Time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		expected := before
		if seconds, err := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64); err != nil || seconds >= effective.Unix() {
			expected = after
		}
		body, err := io.ReadAll(r.Body)
		verified := err == nil && r.Header.Get("X-Hub-Signature-256") == "sha256="+hubMAC(expected, body)
		for _, secret := range []string{before, after} {
			verified = verified && signing.Verify(signing.HMACSHA256, []string{secret}, r.Header, body, time.Now(), time.Minute) == nil
		}
		if !verified {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		seen[expected]++
	}))
	t.Cleanup(server.Close)
	w := webhook(t, i, server.URL, map[string]any{"events": []string{topic(t)}, "secret": before, "max_retries": 0})

	mu.Lock()
	effective = time.Now().Truncate(time.Second).Add(3 * time.Second)
	rotation := map[string]any{"secret": after, "effective_at": effective.Format(time.RFC3339)}
	mu.Unlock()
	require.NoError(t, i.Call(t.Context(), http.MethodPost, "/api/v1/webhooks/"+w.ID+"/secret/rotate", rotation, nil))
	current, err := i.Secret(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, before, current)
	published := 0
	require.Eventually(t, func() bool {
		publish(t, i, topic(t), nil)
		published++
		mu.Lock()
		defer mu.Unlock()
		return seen[before] > 5 && seen[after] > 5
	}, patience, 10*tick)
	allInState(t, i, w.ID, "succeeded", published)
	current, err = i.Secret(t.Context(), w.ID)
	require.NoError(t, err)
	require.Equal(t, after, current)
}

// hubMAC signs a body as GitHub does.
func hubMAC(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
