package store_test

import (
	"strings"
	"testing"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/storetest"
)

// publishers is how many publish at once, for each processor: 64 on two.
const publishers = 32

// load says what a benchmark publishes: how many events at once, with ids of their own or
// without, in a workspace with how many webhooks, and how many of these match.
type load struct {
	name                      string
	batch, webhooks, matching int
	ids                       bool
}

func (l load) run(b *testing.B) {
	bundle := storetest.NewBundle(b, postgres.NewDatabase(b))
	for n := range l.webhooks {
		bundle.NewWebhook(b, func(w *postrider.Webhook) {
			w.Events = []string{"call.*"}
			if n >= l.matching {
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
			for range l.batch {
				e := bundle.NewEvent("call.ended")
				e.Body = body
				if l.ids {
					e.ID = "order:" + e.Key
				}
				p.Events = append(p.Events, e)
			}
			receipts, err := bundle.Publish(b.Context(), p)
			if err != nil || len(receipts) != l.batch || len(receipts[0].DeliveryIDs) != l.matching {
				b.Errorf("published %d events: %v", len(receipts), err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N*l.batch)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkPublish measures a publish, in PostgreSQL and the process together, when many
// publish at once.
func BenchmarkPublish(b *testing.B) {
	for _, l := range []load{
		{"one webhook", 1, 1, 1, false},
		{"five webhooks", 1, 5, 5, false},
		{"one of 100 webhooks", 1, 100, 1, false},
		{"100 webhooks", 1, 100, 100, false},
		{"events with ids", 1, 1, 1, true},
		{"500 events a publish", postrider.MaxBatch, 1, 1, false},
		{"500 events with ids a publish", postrider.MaxBatch, 1, 1, true},
	} {
		b.Run(l.name, l.run)
	}
}
