package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider"
	"postrider/store/storetest"
)

// BenchmarkDeliver is what the database's part of a delivery costs after it was
// published: claimed and recorded by itself, and with others.
func BenchmarkDeliver(b *testing.B) {
	for name, together := range map[string]int{"one": 1, "of200": 200} {
		b.Run(name, func(b *testing.B) { benchmarkDeliver(b, together) })
	}
}

func benchmarkDeliver(b *testing.B, together int) {
	b.Helper()
	bundle := storetest.NewBundle(b, postgres.NewDatabase(b))
	w := bundle.NewWebhook(b, func(w *postrider.Webhook) { w.MaxInFlight = postrider.MaxMaxInFlight })
	bundle.PublishTo(b, w.ID, b.N)
	status, text := 200, "ok"
	request := postrider.ClaimRequest{Limit: together, Lease: time.Minute, BatchID: "batch/bench", BatchMin: 1}
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		claimed, err := bundle.Claim(b.Context(), request)
		require.NoError(b, err)
		outcomes := make([]postrider.Outcome, len(claimed))
		for i, d := range claimed {
			outcomes[i] = postrider.Outcome{
				DeliveryID: d.DeliveryID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: d.WorkflowID,
				Attempt: postrider.Attempt{Number: 1, StartedAt: bundle.Clock.Now(), DurationMS: 12, StatusCode: &status, Result: postrider.ResultSuccess, ResponseExcerpt: &text},
			}
		}
		require.NoError(b, bundle.Record(b.Context(), outcomes))
		done += len(claimed)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}
