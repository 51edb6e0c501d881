package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedCodeIsCurrent guards against a route or a field that has no method, type or command yet.
func TestGeneratedCodeIsCurrent(t *testing.T) {
	t.Parallel()
	files, err := generate("../..")
	require.NoError(t, err)
	require.Len(t, files, 3)
	for path, want := range files {
		have, err := os.ReadFile(filepath.Join("../..", path))
		require.NoError(t, err)
		require.Equal(t, string(want), string(have), "%s: run `make generate`", path)
	}
}

func TestNamesReadNaturally(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]struct{ path, command string }{
		"create-webhook":          {"/api/v1/webhooks", "webhook create"},
		"rotate-webhook-secret":   {"/api/v1/webhooks/{id}/secret/rotate", "webhook rotate-secret"},
		"replay-webhook":          {"/api/v1/webhooks/{id}/replay", "webhook replay"},
		"list-webhook-deliveries": {"/api/v1/webhooks/{id}/deliveries", "webhook list-deliveries"},
		"act-on-deliveries":       {"/api/v1/deliveries/actions", "delivery act"},
		"list-replays":            {"/api/v1/replays", "replay list"},
		"create-event-type":       {"/api/v1/event-types", "event-type create"},
		"get-stats":               {"/api/v1/stats", "stats get"},
		"create-portal-token":     {"/api/v1/portal/tokens", "portal create-token"},
		"readyz":                  {"/readyz", "service readyz"},
	} {
		o := &operation{ID: id, path: want.path}
		require.Equal(t, want.command, noun(o)+" "+verb(o))
	}
	require.Equal(t, "APIKey", goName("ApiKey"))
	require.Equal(t, "TemporalUIURL", goName("temporal_ui_url"))
	require.Equal(t, "IDs", goName("ids"))
	require.Equal(t, "Identity", goName("identity"))
	require.Equal(t, "typeName", goArgument("type"))
	require.Equal(t, "eventType", goArgument("event_type"))
}

func TestCommandsHaveWordsOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := document{operations: []*operation{
		{ID: "publish-event", path: "/api/v1/events"}, {ID: "publish-events", path: "/api/v1/events/batch"},
	}}
	commands, err := d.commands()
	require.NoError(t, err)
	require.Equal(t, "publish", commands[0].verb)
	require.Equal(t, "publish-batch", commands[1].verb)

	d.operations = append(d.operations, &operation{ID: "publish-event", path: "/api/v1/events/batch"})
	_, err = d.commands()
	require.ErrorContains(t, err, "publish-event")
}

func TestRulesAreToldInWords(t *testing.T) {
	t.Parallel()
	low, high := 1, 64
	require.Equal(t, "1 to 64 characters", (&schema{MinLength: &low, MaxLength: &high}).rules())
	require.Equal(t, "one of a, b; default a", (&schema{Enum: []any{"a", "b"}, Default: []byte(`"a"`)}).rules())
	require.Equal(t, "Why. Up to 64 items.", (&schema{Description: "Why", MaxItems: &high}).text())
}

func TestAnUnreadableDocumentIsTold(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	require.ErrorContains(t, run(folder), documentFile)
	require.NoError(t, os.MkdirAll(filepath.Join(folder, "api/testdata"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(folder, documentFile), []byte(`{`), 0o600))
	require.ErrorContains(t, run(folder), documentFile)
}
