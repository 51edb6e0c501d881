package api

import (
	"context"
	"io"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// Store is the part of the database that the API uses. Every method returns
// [postrider.CodeUnavailable] while the database is away.
type Store interface {
	keyStore
	webhookStore
	secretStore
	eventStore
	catalogueStore
	deliveryStore
	actionStore
	replayStore
	adminStore
	auditStore
	statsStore
}

// HistoryReader asks the workflow that carries a delivery for its history. Returns an error
// if the workflow is unknown, past Temporal's retention, or does not answer in time.
type HistoryReader interface {
	History(ctx context.Context, workflowID, deliveryID string) (postrider.History, error)
}

// Config is what [New] needs. Fields are required unless they say otherwise.
type Config struct {
	Store Store
	// Histories is optional: without it every history comes from the database.
	Histories HistoryReader
	// CheckURL returns an error if the URL must not be delivered to. The caller sees the
	// error's text.
	CheckURL func(url string) error
	Now      func() time.Time
	IDs      *postrider.IDs
	Entropy  io.Reader // for secrets; crypto/rand.Reader outside tests
	Logger   *slog.Logger
	// Checks must all pass for /readyz to answer 200.
	Checks []Check
	// Version is Postrider's own, shown in the OpenAPI document.
	Version string
	// TemporalUIURL is the address of Temporal's web UI for people, such as
	// "http://127.0.0.1:8233". With "" answers have no links to it.
	TemporalUIURL     string
	TemporalNamespace string // used in those links
	// RequestsPerSecond is how many requests a second each API key may make of this process; 0 sets no limit.
	RequestsPerSecond int
	// ReadTimeout is how long a GET may take; what takes longer is a 503. Optional: 5 s.
	ReadTimeout time.Duration
	// OnAccepted is called after the commit of a publish with the number of new events and
	// of their deliveries. Optional.
	OnAccepted func(events, deliveries int)
	// OnSchemaBroken is called after the commit of a publish with the number of new events that break the schema
	// of their type, which only warns. Optional.
	OnSchemaBroken func(events int)
	// OnAuthenticated is called with the context of every request whose key is valid, before its body is read.
	// Optional.
	OnAuthenticated func(ctx context.Context)
	// Stopping reports whether the process is about to end: /readyz is a 503 then, and connections are closed
	// after their answers. Optional.
	Stopping func() bool
	// OnRequest is called about every request when it is over. Optional.
	OnRequest func(RequestSummary)
	// Tracer makes spans of requests. Optional: without it requests are not traced.
	Tracer trace.Tracer
}

// RequestSummary is a finished request.
type RequestSummary = rest.RequestSummary
