package server

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSDKMetrics(t *testing.T) {
	t.Parallel()
	registry := newRegistry()
	handler := newSDKMetrics(registry)
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			tagged := handler.WithTags(map[string]string{"operation": "StartWorkflowExecution", "namespace": "left out"})
			tagged.Counter("temporal_request").Inc(2)
			tagged.WithTags(map[string]string{"operation": "PollActivityTaskQueue"}).Counter("temporal_request").Inc(1)
			tagged.Timer("temporal_request_latency").Record(3 * time.Millisecond)
			handler.Gauge("temporal_num_pollers").Update(7)
		})
	}
	users.Wait()
	scraped := httptest.NewRecorder()
	metricsHandler(registry, http.NotFoundHandler()).ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, scraped.Code)
	text := scraped.Body.String()
	require.Regexp(t, `temporal_request_total{.*operation="StartWorkflowExecution".*} 8\n`, text)
	require.Regexp(t, `temporal_request_total{.*operation="PollActivityTaskQueue".*} 4\n`, text)
	require.Regexp(t, `temporal_request_latency_seconds_bucket{.*le="0.005"} 4\n`, text)
	require.Regexp(t, `temporal_num_pollers{.*} 7\n`, text)
	require.NotContains(t, text, "left out")
}
