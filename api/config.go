package api

import (
	"context"
	"io"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
)

// Store is what the API needs of the database. Every method returns
// [postrider.CodeUnavailable] when the database is away.
type Store interface {
	keyStore
	webhookStore
	secretStore
	eventStore
	deliveryStore
	adminStore
}

// HistoryReader asks the workflow that carries a delivery for its history. Returns an
// error when there is no such workflow, or no more, or it does not answer in time.
type HistoryReader interface {
	History(ctx context.Context, workflowID, deliveryID string) (postrider.History, error)
}

// Config is what [New] needs. Fields are required unless they say otherwise.
type Config struct {
	Store Store
	// Histories is optional: without it every history comes from the database.
	Histories HistoryReader
	// CheckURL says why a URL may not be delivered to; nil means it may. The
	// error's text is shown to the caller.
	CheckURL func(url string) error
	Now      func() time.Time
	IDs      *postrider.IDs
	Entropy  io.Reader // for secrets; crypto/rand.Reader outside tests
	Logger   *slog.Logger
	// Checks must all pass for /readyz to answer 200.
	Checks []Check
	// Version is Postrider's own, shown in the OpenAPI document.
	Version string
	// TemporalUIURL is the address of Temporal's web UI as people reach it, as
	// "http://127.0.0.1:8233"; "" leaves the links out.
	TemporalUIURL     string
	TemporalNamespace string // used in those links
	// OnAccepted is told how many new events a publish had accepted and how many
	// deliveries came of them, after the commit. Optional.
	OnAccepted func(events, deliveries int)
	// OnRequest is told about every request when it is over. Optional.
	OnRequest func(RequestSummary)
	// Tracer makes spans of requests. Optional: without it nothing is traced.
	Tracer trace.Tracer
}

// RequestSummary is a finished request, in words that are few enough to label
// metrics with.
type RequestSummary struct {
	Method   string
	Route    string // as "/api/v1/webhooks/{id}"; "" when none matched
	Status   int
	Duration time.Duration
}
