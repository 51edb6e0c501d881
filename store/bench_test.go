package store_test

import (
	"strings"
	"testing"

	"postrider"
	"postrider/store/storetest"
)

// publishers is how many publish at once, for each processor: 64 on two.
const publishers = 32

// benchmarkPublish publishes batches of so many events in a workspace with so many
// webhooks, of which so many match.
func benchmarkPublish(b *testing.B, batch, webhooks, matching int) {
	b.Helper()
	bundle := storetest.NewBundle(b, postgres.NewDatabase(b))
	for n := range webhooks {
		bundle.NewWebhook(b, func(w *postrider.Webhook) {
			w.Events = []string{"call.*"}
			if n >= matching {
				w.Events = []string{"contact.*"}
			}
		})
	}
	body := []byte(`{"data":"` + strings.Repeat("x", 512) + `"}`)
	b.SetParallelism(publishers)
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p := bundle.Publication()
			for range batch {
				e := bundle.NewEvent("call.ended")
				e.Body = body
				p.Events = append(p.Events, e)
			}
			receipts, err := bundle.Publish(b.Context(), p)
			if err != nil || len(receipts) != batch || len(receipts[0].DeliveryIDs) != matching {
				b.Errorf("published %d events: %v", len(receipts), err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkPublish is what a publish costs PostgreSQL and the process together,
// when many publish at once.
func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name                      string
		batch, webhooks, matching int
	}{
		{"one webhook", 1, 1, 1},
		{"five webhooks", 1, 5, 5},
		{"one of 100 webhooks", 1, 100, 1},
		{"100 webhooks", 1, 100, 100},
		{"500 events a publish", postrider.MaxBatch, 1, 1},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkPublish(b, c.batch, c.webhooks, c.matching) })
	}
}
