package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/tracing"
)

// eventStore keeps events.
type eventStore interface {
	// Publish accepts all events or none, and answers in their order. Returns
	// [postrider.CodeConflict] if an idempotency key or an event's id was used for
	// something else, and [postrider.CodeNotFound] if OnlyWebhookID is unknown.
	Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error)
	// Event returns an event by its public id. Returns [postrider.CodeNotFound] if
	// there is none.
	Event(ctx context.Context, workspaceID, id string) (postrider.Event, error)
	Events(ctx context.Context, workspaceID string, f postrider.EventFilter, p postrider.Page) (postrider.List[postrider.Event], error)
}

const tagEvents = "Events"

func (s *server) routeEvents() {
	single, batch := reads[publishEvent](s), reads[publishBatch](s)
	single.plain, batch.plain, batch.limit = plainEvents, plainBatch, maxBatchBody
	handle(s, route{
		method: http.MethodPost, path: "/api/v1/events", id: "publish-event", tag: tagEvents, scope: postrider.ScopePublish,
		summary: "Publish Event", status: http.StatusAccepted, errors: []int{http.StatusConflict}, body: single,
		description: "Accepts an event and makes one delivery for each webhook that subscribes to it. The answer comes once both are stored. " +
			"With an `Idempotency-Key`, or an `id` of its own, the request can be repeated: the answer is the same and nothing is sent twice; another body under the same key is a 409. " +
			"The body may have up to 256 KiB.",
	}, s.publishEvent)
	handle(s, route{
		method: http.MethodPost, path: "/api/v1/events/batch", id: "publish-events", tag: tagEvents, scope: postrider.ScopePublish,
		summary: "Publish Events", status: http.StatusAccepted, errors: []int{http.StatusConflict}, body: batch,
		description: "Publishes up to 500 events, all or none, and answers in their order. Each event may have up to 256 KiB, the body up to 8 MiB.",
	}, s.publishEvents)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/events", id: "list-events", tag: tagEvents, scope: postrider.ScopeRead,
		summary: "List Events", description: "Events without their data; read one for it.",
	}, s.listEvents)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/events/{id}", id: "get-event", tag: tagEvents, scope: postrider.ScopeRead,
		summary: "Get Event", errors: []int{http.StatusNotFound},
	}, s.getEvent)
	handle(s, route{
		method: http.MethodPost, path: "/api/v1/webhooks/{id}/test", id: "test-webhook", tag: tagWebhooks, scope: postrider.ScopeManage,
		summary: "Test Webhook", status: http.StatusAccepted, errors: []int{http.StatusNotFound},
		description: "Sends a `webhook.test` event to this webhook alone, whatever it subscribes to. Takes no body.",
	}, s.testWebhook)
}

type publishInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"255" pattern:"^[ -~]+$" patternDescription:"printable ASCII" doc:"Makes the request repeatable: 1 to 255 printable characters."`
}

// Resolve implements huma.Resolver: to huma an empty header is none, but who sends
// one believes to be protected.
func (*publishInput) Resolve(ctx huma.Context) []error {
	var broken []error
	ctx.EachHeader(func(name, value string) {
		if name == "Idempotency-Key" && value == "" {
			broken = append(broken, &huma.ErrorDetail{Location: "header.Idempotency-Key", Message: "must have 1 to 255 printable characters"})
		}
	})
	return broken
}

func (s *server) publishEvent(ctx context.Context, in *publishInput) (*output[Receipt], error) {
	body := current(ctx).body
	accepted, err := s.publish(ctx, in.IdempotencyKey, sentEvents{plain: body.events, raw: []json.RawMessage{body.raw}, alone: true})
	if err != nil {
		return nil, err
	}
	return &output[Receipt]{Body: showReceipt(accepted[0])}, nil
}

func (s *server) publishEvents(ctx context.Context, in *publishInput) (*output[receipts], error) {
	body := current(ctx).body
	sent := sentEvents{plain: body.events}
	if sent.plain == nil {
		if err := json.Unmarshal(body.fields["events"], &sent.raw); err != nil {
			return nil, err
		}
	}
	accepted, err := s.publish(ctx, in.IdempotencyKey, sent)
	if err != nil {
		return nil, err
	}
	answer := receipts{Data: make([]Receipt, len(accepted))}
	for i, r := range accepted {
		answer.Data[i] = showReceipt(r)
	}
	return &output[receipts]{Body: answer}, nil
}

// sentEvents are the events of a request, which keep to their schema: plain, or
// else raw.
type sentEvents struct {
	plain []publishEvent
	raw   []json.RawMessage
	alone bool // the body is the event
}

func (e sentEvents) count() int { return max(len(e.plain), len(e.raw)) }

// at returns an event, with its data compact.
func (e sentEvents) at(i int) (publishEvent, error) {
	if e.plain != nil {
		return e.plain[i], nil
	}
	if len(e.raw[i]) > maxBody {
		return publishEvent{}, errTooLarge(e.location(i), maxBody)
	}
	var event publishEvent
	if err := decode(e.raw[i], &event, e.location(i)); err != nil {
		return publishEvent{}, err
	}
	var data bytes.Buffer
	err := json.Compact(&data, event.Data)
	event.Data = data.Bytes()
	return event, err
}

// location says where an event stands in the request.
func (e sentEvents) location(i int) string {
	if e.alone {
		return "body"
	}
	return "body.events[" + strconv.Itoa(i) + "]"
}

// publish publishes events that keep to their schema.
func (s *server) publish(ctx context.Context, idempotencyKey string, events sentEvents) ([]postrider.Receipt, error) {
	publication := postrider.Publication{
		WorkspaceID: workspace(ctx), IdempotencyKey: idempotencyKey, TraceContext: tracing.Text(ctx),
		Events: make([]postrider.PublishedEvent, events.count()),
	}
	now := postrider.Timestamp(s.Now())
	for i := range publication.Events {
		request, err := events.at(i)
		if err != nil {
			return nil, err
		}
		e := &publication.Events[i]
		if e.Event, err = s.newEvent(request, publication.WorkspaceID, now, events.location(i)); err != nil {
			return nil, err
		}
		if idempotencyKey != "" || request.ID != nil {
			e.RequestHash = request.hash()
		}
	}
	accepted, err := s.Store.Publish(ctx, publication)
	if err == nil {
		s.countAccepted(accepted)
	}
	return accepted, err
}

// newEvent makes the event that was asked for, with the bytes that receivers get.
// The request's data is compact.
func (s *server) newEvent(request publishEvent, workspaceID string, now time.Time, location string) (postrider.Event, error) {
	key := s.IDs.New(postrider.PrefixEvent)
	event := postrider.Event{
		Key: key, ID: key, WorkspaceID: workspaceID,
		Type: request.Type, PersonaID: request.PersonaID, Timestamp: now, CreatedAt: now,
	}
	if request.ID != nil {
		event.ID = *request.ID
	}
	if p := request.PersonaID; p != nil && len(*p) > postrider.MaxTextLength {
		return event, brokenField(location+".persona_id", fmt.Sprintf("must have at most %d bytes", postrider.MaxTextLength), *p)
	}
	var err error
	if request.Timestamp != nil {
		if event.Timestamp, err = parseTime(location+".timestamp", *request.Timestamp); err != nil {
			return event, err
		}
	}
	if request.DeliverAt != nil {
		if event.DeliverAt, err = deliverAt(*request.DeliverAt, now, location+".deliver_at"); err != nil {
			return event, err
		}
	}
	event.Body, err = postrider.RenderBody(event, request.Data)
	return event, err
}

// deliverAt returns when an event is to be delivered, nil for at once.
func deliverAt(text string, now time.Time, location string) (*time.Time, error) {
	at, err := parseTime(location, text)
	switch {
	case err != nil:
		return nil, err
	case at.After(now.Add(postrider.MaxDeliverAhead)):
		return nil, brokenField(location, "must be at most 30 days ahead", text)
	case !at.After(now):
		return nil, nil
	}
	return &at, nil
}

// countAccepted reports the events that are new.
func (s *server) countAccepted(accepted []postrider.Receipt) {
	events, deliveries := 0, 0
	for _, r := range accepted {
		if !r.Duplicate {
			events, deliveries = events+1, deliveries+len(r.DeliveryIDs)
		}
	}
	s.OnAccepted(events, deliveries)
}

type listEventsInput struct {
	PageQuery
	PeriodQuery
	Type string `query:"type" doc:"Only events of exactly this type." example:"call.ended"`
}

func (s *server) listEvents(ctx context.Context, in *listEventsInput) (*output[list[Event]], error) {
	page, err := in.page(postrider.PrefixEvent)
	if err != nil {
		return nil, err
	}
	filter := postrider.EventFilter{Type: in.Type}
	if filter.Since, filter.Until, err = in.period(); err != nil {
		return nil, err
	}
	if in.Type != "" && !postrider.ValidEventType(in.Type) {
		return nil, brokenField("query.type", "must be an event type", in.Type)
	}
	found, err := s.Store.Events(ctx, workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return listOf(found, showEvent), nil
}

// EventPath is the path of a route on one event.
type EventPath struct {
	ID string `path:"id" doc:"Id of the event: the publisher's own where it gave one."`
}

func (s *server) getEvent(ctx context.Context, in *EventPath) (*output[eventWithData], error) {
	found, err := s.Store.Event(ctx, workspace(ctx), in.ID)
	if err != nil {
		return nil, err
	}
	shown, err := showEventWithData(found)
	return &output[eventWithData]{Body: shown}, err
}

// testReceipt says what became of a test.
type testReceipt struct {
	Receipt
	DeliveryID string `json:"delivery_id" doc:"Read it to see how the test went." example:"dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
}

func (s *server) testWebhook(ctx context.Context, in *WebhookPath) (*output[testReceipt], error) {
	request := publishEvent{
		Type: postrider.EventTypeTest,
		Data: json.RawMessage(`{"message":"This is a test event. If you can read it, the webhook works."}`),
	}
	event, err := s.newEvent(request, workspace(ctx), postrider.Timestamp(s.Now()), "body")
	if err != nil {
		return nil, err
	}
	accepted, err := s.Store.Publish(ctx, postrider.Publication{
		WorkspaceID: event.WorkspaceID, OnlyWebhookID: in.ID, Events: []postrider.PublishedEvent{{Event: event}}, TraceContext: tracing.Text(ctx),
	})
	if err != nil {
		return nil, err
	}
	s.countAccepted(accepted)
	return &output[testReceipt]{Body: testReceipt{
		Receipt: showReceipt(accepted[0]), DeliveryID: strings.Join(accepted[0].DeliveryIDs, ""),
	}}, nil
}
