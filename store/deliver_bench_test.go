package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/storetest"
)

// BenchmarkDeliver measures the database's part of a delivery after it was published: claimed
// and recorded by itself, and with others.
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
	b.ReportAllocs()
	b.ResetTimer()
	for done := 0; done < b.N; {
		done += carry(b, bundle, together)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// carry claims deliveries up to the given number, records that they succeeded, and returns how
// many there were.
func carry(b *testing.B, bundle *storetest.Bundle, together int) int {
	b.Helper()
	claimed, err := bundle.Claim(b.Context(), postrider.ClaimRequest{Limit: together, Lease: time.Minute, WorkflowID: "batch/bench"})
	require.NoError(b, err)
	deliveries := make([]postrider.Delivery, len(claimed))
	for i, d := range claimed {
		deliveries[i] = d.Delivery
	}
	_, err = bundle.TargetsOf(b.Context(), deliveries)
	require.NoError(b, err)
	status, text := 200, "ok"
	outcomes := make([]postrider.Outcome, len(claimed))
	for i, d := range claimed {
		outcomes[i] = postrider.Outcome{
			DeliveryID: d.ID, WorkspaceID: d.WorkspaceID, WebhookID: d.WebhookID, State: postrider.StateSucceeded, WorkflowID: d.WorkflowID,
			Attempt: postrider.Attempt{
				Number: 1, StartedAt: bundle.Clock.Now(), DurationMS: 12, StatusCode: &status, Result: postrider.ResultSuccess,
				ResponseExcerpt: &text,
			},
		}
	}
	require.NoError(b, bundle.Record(b.Context(), outcomes))
	return len(claimed)
}

// BenchmarkWaiting measures the database's part of 200 deliveries, published to one of 100
// webhooks, while a few thousand and while a million wait for all of them.
func BenchmarkWaiting(b *testing.B) {
	const webhooks, together = 100, 200
	for _, waiting := range []int{5_000, 1_000_000} {
		b.Run(strconv.Itoa(waiting), func(b *testing.B) {
			bundle := storetest.NewBundle(b, postgres.NewDatabase(b))
			var hooks []postrider.Webhook
			for range webhooks {
				hooks = append(hooks, bundle.NewWebhook(b))
				bundle.PublishTo(b, hooks[len(hooks)-1].ID, waiting/webhooks)
			}
			_, err := bundle.Raw(b).ExecContext(b.Context(), "VACUUM ANALYZE")
			require.NoError(b, err)
			b.ResetTimer()
			for n := 0; b.Loop(); n++ {
				bundle.PublishTo(b, hooks[n%webhooks].ID, together)
				require.Equal(b, together, carry(b, bundle, together))
			}
		})
	}
}
