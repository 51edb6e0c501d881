package workflows_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/workflows"
)

// secretURL has what must not leave the database.
const secretURL = "https://user:hunter2@hooks.example.com:8443/in/s3cret?token=hunter2"

func dispatch(id, eventType string) postrider.Dispatch {
	return postrider.Dispatch{URL: secretURL, Delivery: postrider.Delivery{
		ID: id, WorkspaceID: "ws_1", WebhookID: "wh_1", EventID: "evt_1", EventType: eventType,
		Policy: postrider.Policy{TimeoutMS: 5000, MaxRetries: 5},
	}}
}

// What a person reads of a workflow in Temporal's web interface.
func TestSummaries(t *testing.T) {
	t.Parallel()
	temporal := &connection{}
	c := workflows.NewClient(temporal, "postrider")
	said := func() (string, string) {
		require.NotContains(t, temporal.options.StaticSummary+temporal.options.StaticDetails, "hunter2")
		require.NotContains(t, temporal.options.StaticSummary+temporal.options.StaticDetails, "s3cret")
		return temporal.options.StaticSummary, temporal.options.StaticDetails
	}

	require.NoError(t, c.StartOwn(t.Context(), dispatch("dlv_1", "call.ended")))
	summary, details := said()
	require.Equal(t, "call.ended → hooks.example.com:8443", summary)
	require.Equal(t, "Delivery `dlv_1` of event `evt_1` (call.ended) to webhook `wh_1` in workspace `ws_1`\n\nUp to 6 attempts.", details)

	var known []postrider.Dispatch
	for i, eventType := range []string{"a", "a", "b", "c", "d"} {
		known = append(known, dispatch("dlv_"+strconv.Itoa(i), eventType))
	}
	require.NoError(t, c.StartBatch(t.Context(), "batch/bat_1", known, time.Minute))
	summary, details = said()
	require.Equal(t, "First attempts: 2 × a → hooks.example.com:8443; 1 × b → hooks.example.com:8443; "+
		"1 × c → hooks.example.com:8443; and 1 more", summary)
	require.Contains(t, details, "Began with 5 deliveries")
	require.NoError(t, c.StartBatch(t.Context(), "batch/bat_1", nil, time.Minute))
	summary, _ = said()
	require.Equal(t, "First attempts of what is claimed within a second", summary)

	reason := "answered 503 Service Unavailable"
	h := postrider.Handover{WorkflowID: "retry/bat_1", URL: secretURL}
	for _, d := range known {
		d.AttemptCount, d.LastError = 1, &reason
		h.Deliveries = append(h.Deliveries, d.Delivery)
	}
	require.NoError(t, c.StartRetries(t.Context(), h))
	summary, details = said()
	require.Equal(t, "Retry 2 × a, 1 × b, 1 × c, … → hooks.example.com:8443, attempt 2 of 6: "+reason, summary)
	require.Equal(t, 5, strings.Count(details, "Delivery `dlv_"))
}

// Guards against a start that Temporal refuses for ever, because its summary or details are too long.
func TestSummariesAreShortened(t *testing.T) {
	t.Parallel()
	temporal := &connection{}
	c := workflows.NewClient(temporal, "postrider")
	reason := strings.Repeat("\"<é>\n", 200)
	var h postrider.Handover
	for range postrider.MaxRetryMembers {
		d := dispatch(strings.Repeat("d", 40), strings.Repeat("e", 128)).Delivery
		d.EventID, d.LastError = strings.Repeat("i", 255), &reason
		h.Deliveries = append(h.Deliveries, d)
	}
	require.NoError(t, c.StartRetries(t.Context(), h))
	for text, most := range map[string]int{temporal.options.StaticSummary: 400, temporal.options.StaticDetails: 20_000} {
		encoded, err := json.Marshal(text)
		require.NoError(t, err)
		require.Less(t, len(encoded)+len("encoding")+len("json/plain")+10, most)
		require.NotContains(t, temporal.options.StaticSummary, "\n")
	}
}
