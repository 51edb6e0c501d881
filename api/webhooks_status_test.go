package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
)

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.newWebhook("")
	act := func(action string) string {
		t.Helper()
		got := b.do(http.MethodPost, webhooksPath+"/"+id+"/"+action, "").object(http.StatusOK)
		require.Equal(t, id, got["id"])
		return got["status"].(string)
	}
	require.Equal(t, "paused", act("pause"))
	require.Equal(t, "paused", act("pause"), "it may be repeated")
	published := b.do(http.MethodPost, eventsPath, `{"type":"call.ended","data":1}`).object(http.StatusAccepted)
	require.InDelta(t, 1, published["deliveries"], 0)
	require.InDelta(t, 1, published["parked"], 0)
	tested := b.do(http.MethodPost, webhooksPath+"/"+id+"/test", "").object(http.StatusAccepted)
	require.InDelta(t, 1, tested["parked"], 0, "a test says that it waits")
	require.Equal(t, "active", act("resume"))
	require.Equal(t, "active", act("resume"))
	published = b.do(http.MethodPost, eventsPath, `{"type":"call.ended","data":1}`).object(http.StatusAccepted)
	require.InDelta(t, 0, published["parked"], 0)
	parked := b.do(http.MethodGet, webhooksPath+"/"+id+"/deliveries?state=parked", "").object(http.StatusOK)
	require.Empty(t, parked["data"])

	require.Equal(t, http.StatusNoContent, b.do(http.MethodDelete, webhooksPath+"/"+id, "").Status)
	for _, action := range []string{"pause", "resume"} {
		b.do(http.MethodPost, webhooksPath+"/"+id+"/"+action, "").problem(http.StatusNotFound)
	}
}

// Guards against a webhook that nobody can enable: a 410 disabled it.
func TestResumeEnablesADisabledWebhook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	workspace := b.newWorkspace()
	b = b.as(b.newKey(workspace, postrider.Scopes()...))
	id := b.newWebhook("")
	_, err := b.store.UpdateWebhook(t.Context(), workspace, id, func(e *postrider.WebhookEdit) error {
		reason := postrider.DisabledGone
		e.Webhook.Status, e.Webhook.DisabledReason = postrider.WebhookDisabled, &reason
		return nil
	})
	require.NoError(t, err)
	got := b.do(http.MethodPost, webhooksPath+"/"+id+"/pause", "").object(http.StatusOK)
	require.Equal(t, "disabled", got["status"])
	require.Equal(t, "gone", got["disabled_reason"])
	got = b.do(http.MethodPost, webhooksPath+"/"+id+"/resume", "").object(http.StatusOK)
	require.Equal(t, "active", got["status"])
	require.Nil(t, got["disabled_reason"])
}
