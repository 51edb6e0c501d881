package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/tracing"
)

// eventStore keeps events.
type eventStore interface {
	// Publish accepts all events or refuses all, and returns receipts in their order. Returns
	// [postrider.CodeConflict] if an idempotency key or an event's id belongs to another
	// request, and a [postrider.EventError] for an event to a webhook that may not get it.
	Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error)
	// Event returns an event by its public id, or [postrider.CodeNotFound] if that is
	// unknown.
	Event(ctx context.Context, workspaceID, id string) (postrider.Event, error)
	// CancelEvent calls off the unfinished deliveries of an event, and returns how many; 0 when
	// none is left. Returns [postrider.CodeNotFound] if the id is unknown.
	CancelEvent(ctx context.Context, workspaceID, id string) (cancelled int, err error)
	Events(ctx context.Context, workspaceID string, f postrider.EventFilter, p postrider.Page) (postrider.List[postrider.Event], error)
}

const tagEvents = "Events"

func (s *server) routeEvents() {
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/events", ID: "publish-event", Tag: tagEvents, Scope: postrider.ScopePublish,
		Summary: "Publish Event", Status: http.StatusAccepted, Errors: []int{http.StatusConflict},
		Description: "Accepts an event and makes one delivery for each webhook that subscribes to it. The answer comes once both are stored. " +
			"With an `Idempotency-Key`, or an `id` of its own, the request can be repeated: " +
			"the answer is the same and nothing is sent twice; another body under the same key is a 409. " +
			"The body may have up to 256 KiB. " +
			"Where the catalogue enforces a schema of the type, data that breaks it is a 422 that names the place, as `body.data.amount`; " +
			"where it warns, the answer has `schema_errors`. Of a type that the catalogue calls deprecated it has `deprecated`.",
	}, eventBody(s.rest), s.publishEvent)
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/events/batch", ID: "publish-events", Tag: tagEvents, Scope: postrider.ScopePublish,
		Summary: "Publish Events", Status: http.StatusAccepted, Errors: []int{http.StatusConflict},
		Description: "Publishes up to 500 events, all or none, and answers in their order. " +
			"Each event may have up to 256 KiB, the body up to 8 MiB.",
	}, batchBody(s.rest), s.publishEvents)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/events", ID: "list-events", Tag: tagEvents, Scope: postrider.ScopeRead,
		Summary: "List Events", Description: "Events without their data; read one for it.",
	}, s.listEvents)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/events/{id}", ID: "get-event", Tag: tagEvents, Scope: postrider.ScopeRead,
		Summary: "Get Event", Errors: []int{http.StatusNotFound},
	}, s.getEvent)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodDelete, Path: "/api/v1/events/{id}", ID: "cancel-event", Tag: tagEvents, Scope: postrider.ScopePublish,
		Summary: "Cancel Event", Errors: []int{http.StatusNotFound},
		Description: "Calls off every delivery of the event that is not finished: scheduled, waiting, retrying, parked, or still to be made. " +
			"The event and its history stay. A request that is under way is not cut off: it is kept as an attempt, " +
			"and its delivery is cancelled all the same. It may be repeated: where nothing is left, `cancelled` is 0. " +
			"One call calls off about 100,000 deliveries at most; repeat it until it answers 0 where there may be more.",
	}, s.cancelEvent)
}

type publishInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" pattern:"^[ -~]+$" patternDescription:"printable ASCII" doc:"Makes the request repeatable: 1 to 255 printable characters."`
}

// Resolve implements huma.Resolver. It refuses an empty key, which huma takes for a missing
// one: a caller that sends the header relies on it.
func (*publishInput) Resolve(ctx huma.Context) []error {
	var broken []error
	ctx.EachHeader(func(name, value string) {
		if name == "Idempotency-Key" && value == "" {
			broken = append(broken, &huma.ErrorDetail{Location: "header.Idempotency-Key", Message: "must have 1 to 255 printable characters"})
		}
	})
	return broken
}

func (s *server) publishEvent(ctx context.Context, in *publishInput, request publishEvent) (*rest.Output[Receipt], error) {
	accepted, err := s.publish(ctx, in.IdempotencyKey, []publishEvent{request}, func(int) string { return "body" })
	if err != nil {
		return nil, err
	}
	return &rest.Output[Receipt]{Body: showReceipt(accepted[0])}, nil
}

func (s *server) publishEvents(ctx context.Context, in *publishInput, requests []publishEvent) (*rest.Output[receipts], error) {
	accepted, err := s.publish(ctx, in.IdempotencyKey, requests, batchLocation)
	if err != nil {
		return nil, err
	}
	answer := receipts{Data: make([]Receipt, len(accepted))}
	for i, r := range accepted {
		answer.Data[i] = showReceipt(r)
	}
	return &rest.Output[receipts]{Body: answer}, nil
}

// publish stores the events that the requests ask for; location returns where in the body a
// request stands.
func (s *server) publish(
	ctx context.Context, idempotencyKey string, requests []publishEvent, location func(i int) string,
) ([]postrider.Receipt, error) {
	publication := postrider.Publication{
		WorkspaceID: rest.Workspace(ctx), IdempotencyKey: idempotencyKey, TraceContext: tracing.Text(ctx),
		Events: make([]postrider.PublishedEvent, len(requests)),
	}
	now := postrider.Timestamp(s.Now())
	for i, request := range requests {
		e := &publication.Events[i]
		var err error
		if e.Event, err = s.newEvent(request, publication.WorkspaceID, now); err != nil {
			return nil, rest.Within(location(i), err)
		}
		if idempotencyKey != "" || request.ID != nil {
			e.RequestHash = request.hash()
		}
	}
	accepted, err := s.Store.Publish(ctx, publication)
	var broken *postrider.EventError
	if errors.As(err, &broken) {
		return nil, rest.Within(location(broken.Index), broken.Err)
	}
	if err == nil {
		s.countAccepted(accepted)
	}
	return accepted, err
}

// newEvent returns the event that the request asks for, with the bytes that receivers get.
// The request's data must be compact.
func (s *server) newEvent(request publishEvent, workspaceID string, now time.Time) (postrider.Event, error) {
	key := s.IDs.New(postrider.PrefixEvent)
	event := postrider.Event{
		Key: key, ID: key, WorkspaceID: workspaceID,
		Type: request.Type, PersonaID: request.PersonaID, Timestamp: now, CreatedAt: now,
		WebhookID: request.WebhookID, OrderingKey: request.OrderingKey, Headers: request.Headers,
	}
	if request.ID != nil {
		event.ID = *request.ID
	}
	if err := checkOwnType(request.Type); err != nil {
		return event, err
	}
	if message := postrider.CheckPersonaID(request.PersonaID); message != "" {
		return event, rest.BrokenField("persona_id", message, *request.PersonaID)
	}
	err := postrider.Invalid(postrider.CheckHeaders(request.Headers))
	if err != nil {
		return event, err
	}
	if err := setTimes(&event, request); err != nil {
		return event, err
	}
	event.Body, err = postrider.RenderBody(event, request.Data)
	return event, err
}

// setTimes sets the times of an event that is accepted at its CreatedAt.
func setTimes(event *postrider.Event, request publishEvent) (err error) {
	if request.Timestamp != nil {
		if event.Timestamp, err = rest.ParseTime("timestamp", *request.Timestamp); err != nil {
			return err
		}
	}
	if request.DeliverAt != nil {
		if event.DeliverAt, err = deliverAt(*request.DeliverAt, event.CreatedAt); err != nil {
			return err
		}
	}
	if request.TTLSeconds == nil {
		return nil
	}
	expires := event.CreatedAt.Add(time.Duration(*request.TTLSeconds) * time.Second)
	if event.ExpiresAt = &expires; event.DeliverAt != nil && !event.DeliverAt.Before(expires) {
		return rest.BrokenField("deliver_at", "must be earlier than ttl_seconds from now, when the event expires", *request.DeliverAt)
	}
	return nil
}

// deliverAt returns the time at which to deliver an event, nil for at once.
func deliverAt(text string, now time.Time) (*time.Time, error) {
	at, err := rest.ParseTime("deliver_at", text)
	switch {
	case err != nil:
		return nil, err
	case at.After(now.Add(postrider.MaxDeliverAhead)):
		return nil, rest.BrokenField("deliver_at", "must be at most 90 days ahead", text)
	case !at.After(now):
		return nil, nil
	}
	return &at, nil
}

// countAccepted reports the events that are new, and their deliveries.
func (s *server) countAccepted(accepted []postrider.Receipt) {
	events, deliveries, broken := 0, 0, 0
	for _, r := range accepted {
		if r.Duplicate {
			continue
		}
		events, deliveries = events+1, deliveries+r.Deliveries
		if r.SchemaErrors != nil {
			broken++
		}
	}
	s.OnAccepted(events, deliveries)
	if broken > 0 {
		s.OnSchemaBroken(broken)
	}
}

type listEventsInput struct {
	rest.PageQuery
	rest.PeriodQuery
	Type string `query:"type" doc:"Only events of exactly this type." example:"call.ended"`
}

func (s *server) listEvents(ctx context.Context, in *listEventsInput) (*rest.Output[rest.List[Event]], error) {
	page, err := in.Page(postrider.PrefixEvent)
	if err != nil {
		return nil, err
	}
	filter := postrider.EventFilter{Type: in.Type}
	if filter.Since, filter.Until, err = in.Period(); err != nil {
		return nil, err
	}
	if in.Type != "" && !postrider.ValidEventType(in.Type) {
		return nil, rest.BrokenField("query.type", "must be an event type", in.Type)
	}
	found, err := s.Store.Events(ctx, rest.Workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showEvent), nil
}

// EventPath is the path of a route on one event.
type EventPath struct {
	ID string `path:"id" doc:"Id of the event: the publisher's own where it gave one."`
}

func (s *server) getEvent(ctx context.Context, in *EventPath) (*rest.Output[eventWithData], error) {
	found, err := s.Store.Event(ctx, rest.Workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	shown, err := showEventWithData(ctx, found)
	return &rest.Output[eventWithData]{Body: shown}, err
}

// cancelled is the answer about deliveries that were called off.
type cancelled struct {
	Cancelled int `json:"cancelled" doc:"How many deliveries this call has called off, with those that had still to be made."`
}

func (s *server) cancelEvent(ctx context.Context, in *EventPath) (*rest.Output[cancelled], error) {
	n, err := s.Store.CancelEvent(ctx, rest.Workspace(ctx), in.ID)
	return &rest.Output[cancelled]{Body: cancelled{n}}, err
}
