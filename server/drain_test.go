package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// publisher publishes without a pause until it is told that its connection ends, as a client behind a load
// balancer would that then takes another process.
func publisher(ctx context.Context, p *process) (published int, err error) {
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.apiURL()+"/api/v1/events", strings.NewReader(`{"type":"a","data":1}`))
		if err != nil {
			return published, err
		}
		request.Header.Set("X-API-Key", p.key)
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return published, err
		}
		_, err = io.Copy(io.Discard, response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil || response.StatusCode != http.StatusAccepted {
			return published, errors.Join(err, errors.New(response.Status))
		}
		published++
		if response.Close {
			return published, nil
		}
	}
}

// TestNoPublishIsCutOffByAStop guards against idle connections that are closed while a request is on its way in
// them. Every publisher is told by an answer.
func TestNoPublishIsCutOffByAStop(t *testing.T) {
	t.Parallel()
	p := run(t, t.TempDir(), func(_ *Settings, r *Role) { r.API.DrainDelay = 2 * time.Second })
	const publishers = 4
	var publishing sync.WaitGroup
	begun := make(chan struct{})
	errs := make([]error, publishers)
	for i := range publishers {
		publishing.Go(func() {
			<-begun
			_, errs[i] = publisher(context.WithoutCancel(t.Context()), p)
		})
	}
	close(begun)
	require.Eventually(t, func() bool {
		_, metrics := p.call(t, http.MethodGet, p.metricsURL()+"/metrics", "")
		return !strings.Contains(metrics, "postrider_events_accepted_total 0\n")
	}, patience, tick)
	p.stop()
	publishing.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.NoError(t, p.end())
}

// TestAStopIsAnnounced guards the order of a stop: readiness goes first, on both listeners, and while load
// balancers come to know, publishes are taken.
func TestAStopIsAnnounced(t *testing.T) {
	t.Parallel()
	f := newFrontend()
	address := f.serve(t, "127.0.0.1:0")
	p := run(t, t.TempDir(), func(_ *Settings, r *Role) { r.API.DrainDelay, r.Temporal.Address = 3*time.Second, address })
	require.Eventually(t, func() bool {
		status, _ := p.call(t, http.MethodGet, p.apiURL()+"/readyz", "")
		return status == http.StatusOK
	}, patience, tick)
	p.stop()
	for _, base := range []string{p.apiURL(), p.metricsURL()} {
		var body string
		require.Eventually(t, func() bool {
			var status int
			status, body = p.call(t, http.MethodGet, base+"/readyz?exclude=process&exclude=temporal", "")
			return status == http.StatusServiceUnavailable
		}, time.Second, tick)
		var answer struct{ Checks map[string]string }
		require.NoError(t, json.Unmarshal([]byte(body), &answer))
		require.Equal(t, "unavailable", answer.Checks["process"])
		require.Equal(t, "ok", answer.Checks["database"])
		status, _ := p.call(t, http.MethodGet, base+"/healthz", "")
		require.Equal(t, http.StatusOK, status)
	}
	p.publish(t)
	require.NoError(t, p.end())
}
