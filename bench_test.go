package postrider_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"postrider.dev/postrider"
)

func BenchmarkRenderBody(b *testing.B) {
	persona := "persona-42"
	event := postrider.Event{
		ID: "evt_019a8f3c5b7e7c3a9d2e4f6081a2b3c4", Type: "call.ended", PersonaID: &persona,
		Timestamp: time.Date(2026, 8, 3, 12, 0, 0, 123456000, time.UTC),
	}
	data := json.RawMessage(`{"call":42,"summary":"` + strings.Repeat("It was a long call. ", 24) + `"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := postrider.RenderBody(event, data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewID(b *testing.B) {
	ids := postrider.NewIDs(time.Now, rand.Reader)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			ids.New(postrider.PrefixDelivery)
		}
	})
}
