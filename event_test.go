package postrider_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"postrider.dev/postrider"
)

func TestRenderBodyKeepsTheDataAsItWasSpelled(t *testing.T) {
	t.Parallel()
	persona := "p1"
	event := postrider.Event{ID: "evt_1", Type: "call.ended", PersonaID: &persona, Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)}
	body, err := postrider.RenderBody(event, json.RawMessage(`{"z":1.10,"a":12345678901234567890,"html":"<b>&</b>"}`))
	require.NoError(t, err)
	require.Equal(t, `{"id":"evt_1","type":"call.ended","timestamp":"2026-01-02T03:04:05.000006Z","persona_id":"p1",`+
		`"data":{"z":1.10,"a":12345678901234567890,"html":"<b>&</b>"}}`, string(body))

	event.PersonaID = nil
	body, err = postrider.RenderBody(event, json.RawMessage(`null`))
	require.NoError(t, err)
	require.True(t, bytes.HasSuffix(body, []byte(`"persona_id":null,"data":null}`)))

	event.Timestamp = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	_, err = postrider.RenderBody(event, json.RawMessage(`null`))
	require.Error(t, err)
}

// TestRenderBodyIsWhatJSONWouldSay guards the bytes that receivers get: they were
// encoding/json's once.
func TestRenderBodyIsWhatJSONWouldSay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event := postrider.Event{
			ID: rapid.String().Draw(t, "id"), Type: rapid.StringMatching(`[ -~]*`).Draw(t, "type"),
			Timestamp: postrider.Timestamp(time.UnixMicro(rapid.Int64Range(-62135596800e6, 253402300799e6).Draw(t, "timestamp"))),
			PersonaID: rapid.Ptr(rapid.String(), true).Draw(t, "persona"),
		}
		body, err := postrider.RenderBody(event, json.RawMessage(`{"a":[1]}`))
		require.NoError(t, err)
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		require.NoError(t, encoder.Encode(struct {
			ID        string          `json:"id"`
			Type      string          `json:"type"`
			Timestamp time.Time       `json:"timestamp"`
			PersonaID *string         `json:"persona_id"`
			Data      json.RawMessage `json:"data"`
		}{event.ID, event.Type, event.Timestamp, event.PersonaID, json.RawMessage(`{"a":[1]}`)}))
		require.Equal(t, want.String(), string(body)+"\n")
	})
}

func TestEventTypesAndIDs(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"call", "call.ended", "A_1.b_2.C", strings.Repeat("a", 128)} {
		require.True(t, postrider.ValidEventType(good), good)
	}
	for _, bad := range []string{
		"", ".", "call.", ".call", "call..ended", "call-ended", "call.*", "*", "call ended", "call\n", strings.Repeat("a", 129),
	} {
		require.False(t, postrider.ValidEventType(bad), bad)
	}
	for _, good := range []string{"evt_1", "order:42-a", strings.Repeat("a", 128)} {
		require.True(t, postrider.ValidEventID(good), good)
	}
	for _, bad := range []string{"", "a.b", "a b", "é", strings.Repeat("a", 129)} {
		require.False(t, postrider.ValidEventID(bad), bad)
	}
}

func TestMergeAttempts(t *testing.T) {
	t.Parallel()
	numbers := func(attempts []postrider.Attempt) []int {
		var numbers []int
		for _, a := range attempts {
			numbers = append(numbers, a.Number)
		}
		return numbers
	}
	one, two, three := postrider.Attempt{Number: 1}, postrider.Attempt{Number: 2}, postrider.Attempt{Number: 3}
	known := []postrider.Attempt{one, three}
	require.Equal(t, []int{1, 2, 3}, numbers(postrider.MergeAttempts(known, three, two, one)))
	require.Equal(t, []int{1, 3}, numbers(known), "what was given stays as it was")
	require.Equal(t, []int{1}, numbers(postrider.MergeAttempts(nil, one, one)))
}
