package api

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func ref[T any](v T) *T { return &v }

// Guards stored idempotency keys: what an earlier version has stored a hash of has the same hash
// for ever. The hashes are the earlier version's.
func TestHashesOfEarlierVersionsStay(t *testing.T) {
	t.Parallel()
	bare := publishEvent{Type: "call.ended", Data: json.RawMessage(`{"a":1}`)}
	require.Equal(t, "9f17fe4b0a1447f9f5a8893a024cad58bd2a21cf8d8f30c76027e18f2c06596d", bare.hash())
	full := publishEvent{
		Type: "call.ended", Data: json.RawMessage(`null`), ID: ref("order-1"), PersonaID: ref("p1"),
		Timestamp: ref("2026-08-03T11:00:00Z"), DeliverAt: ref("2026-08-03T20:00:00Z"),
	}
	require.Equal(t, "fc7b9b9ce7b79e68df2ed0a8feebeff2e6aba13c08150208bf78e7361174e5b0", full.hash())
}

func TestEveryFieldOfAnEventIsHashed(t *testing.T) {
	t.Parallel()
	hashes := map[string]bool{}
	for _, change := range []func(*publishEvent){
		func(*publishEvent) {},
		func(p *publishEvent) { p.TTLSeconds = ref(60) },
		func(p *publishEvent) { p.TTLSeconds = ref(61) },
		func(p *publishEvent) { p.WebhookID = ref("60") },
		func(p *publishEvent) { p.Headers = map[string]string{"X-A": "1"} },
		func(p *publishEvent) { p.Headers = map[string]string{"X-A": "2"} },
		func(p *publishEvent) { p.Headers = map[string]string{"X-A": "1", "X-B": "1"} },
		func(p *publishEvent) { p.Headers = map[string]string{"X-A": "1X-B1"} },
	} {
		request := publishEvent{Type: "a", Data: json.RawMessage(`1`)}
		change(&request)
		require.False(t, hashes[request.hash()])
		hashes[request.hash()] = true
	}
	none := publishEvent{Type: "a", Data: json.RawMessage(`1`), Headers: map[string]string{}}
	require.True(t, hashes[none.hash()], "no headers are the same as headers left out")
}
