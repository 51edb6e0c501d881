package api

import (
	"context"
	"net/http"
	"time"

	"postrider.dev/postrider"
)

// deliveryStore reads deliveries.
type deliveryStore interface {
	Deliveries(ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page) (postrider.List[postrider.Delivery], error)
	// Delivery returns [postrider.CodeNotFound] if there is none.
	Delivery(ctx context.Context, workspaceID, id string) (postrider.Delivery, error)
	// Attempts returns a delivery's attempts by number.
	Attempts(ctx context.Context, deliveryID string) ([]postrider.Attempt, error)
}

const tagDeliveries = "Deliveries"

func (s *server) routeDeliveries() {
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/webhooks/{id}/deliveries", id: "list-webhook-deliveries", tag: tagDeliveries, scope: postrider.ScopeRead,
		summary: "List Deliveries of a Webhook", errors: []int{http.StatusNotFound},
		description: "The deliveries of a deleted webhook can still be listed.",
	}, s.listWebhookDeliveries)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/events/{id}/deliveries", id: "list-event-deliveries", tag: tagDeliveries, scope: postrider.ScopeRead,
		summary: "List Deliveries of an Event", errors: []int{http.StatusNotFound},
	}, s.listEventDeliveries)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/deliveries/{id}", id: "get-delivery", tag: tagDeliveries, scope: postrider.ScopeRead,
		summary: "Get Delivery", errors: []int{http.StatusNotFound}, description: "With its attempts, from the database.",
	}, s.getDelivery)
	handle(s, route{
		method: http.MethodGet, path: "/api/v1/deliveries/{id}/history", id: "get-delivery-history", tag: tagDeliveries, scope: postrider.ScopeRead,
		summary: "Get Delivery History", errors: []int{http.StatusNotFound},
		description: "The delivery's life, asked of its Temporal workflow. A delivery that has no workflow yet, or whose workflow is past Temporal's retention or does not answer within two seconds, is answered from the database; `source` says which.",
	}, s.getHistory)
}

// Delivery is a delivery as it is listed.
type Delivery struct {
	ID            string                  `json:"id" example:"dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
	WebhookID     string                  `json:"webhook_id"`
	EventID       string                  `json:"event_id"`
	EventType     string                  `json:"event_type"`
	State         postrider.DeliveryState `json:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled"`
	AttemptCount  int                     `json:"attempt_count"`
	NextAttemptAt *time.Time              `json:"next_attempt_at" doc:"Set while retrying."`
	LastError     *string                 `json:"last_error" doc:"Why the latest failed attempt failed."`
	CreatedAt     time.Time               `json:"created_at"`
	FinishedAt    *time.Time              `json:"finished_at"`
	WorkflowID    *string                 `json:"workflow_id" doc:"Of its Temporal workflow; null while none was started."`
	ReplayOf      *string                 `json:"replay_of" doc:"The delivery that this one repeats."`
}

// deliveryWithAttempts is a delivery as it is read singly.
type deliveryWithAttempts struct {
	Delivery
	Attempts []postrider.Attempt `json:"attempts" nullable:"false"`
}

func showDelivery(d postrider.Delivery) Delivery {
	shown := Delivery{
		ID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType,
		State: d.State, AttemptCount: d.AttemptCount, NextAttemptAt: d.NextAttemptAt, LastError: d.LastError,
		CreatedAt: d.CreatedAt, FinishedAt: d.FinishedAt, ReplayOf: d.ReplayOf,
	}
	if d.WorkflowID != "" {
		shown.WorkflowID = &d.WorkflowID
	}
	return shown
}

// DeliveriesQuery are the query parameters of every list of deliveries.
type DeliveriesQuery struct {
	PageQuery
	PeriodQuery
	State     postrider.DeliveryState `query:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled"`
	EventType string                  `query:"event_type" doc:"Only those of events of exactly this type." example:"call.ended"`
}

// find lists the deliveries asked for; of says whose.
func (q DeliveriesQuery) find(ctx context.Context, store deliveryStore, of postrider.DeliveryFilter) (*output[list[Delivery]], error) {
	page, err := q.page(postrider.PrefixDelivery)
	if err != nil {
		return nil, err
	}
	if of.Since, of.Until, err = q.period(); err != nil {
		return nil, err
	}
	if q.EventType != "" && !postrider.ValidEventType(q.EventType) {
		return nil, brokenField("query.event_type", "must be an event type", q.EventType)
	}
	of.State, of.EventType = q.State, q.EventType
	found, err := store.Deliveries(ctx, workspace(ctx), of, page)
	if err != nil {
		return nil, err
	}
	return listOf(found, showDelivery), nil
}

type webhookDeliveriesInput struct {
	WebhookPath
	DeliveriesQuery
}

func (s *server) listWebhookDeliveries(ctx context.Context, in *webhookDeliveriesInput) (*output[list[Delivery]], error) {
	found, err := in.find(ctx, s.Store, postrider.DeliveryFilter{WebhookID: in.ID})
	if err == nil && len(found.Body.Data) == 0 {
		// Asked only now: a deleted webhook is unknown, its deliveries are not.
		_, err = s.Store.Webhook(ctx, workspace(ctx), in.ID)
	}
	return found, err
}

type eventDeliveriesInput struct {
	EventPath
	DeliveriesQuery
}

func (s *server) listEventDeliveries(ctx context.Context, in *eventDeliveriesInput) (*output[list[Delivery]], error) {
	found, err := in.find(ctx, s.Store, postrider.DeliveryFilter{EventID: in.ID})
	if err == nil && len(found.Body.Data) == 0 {
		_, err = s.Store.Event(ctx, workspace(ctx), in.ID)
	}
	return found, err
}

type deliveryInput struct {
	ID string `path:"id" doc:"Id of the delivery."`
}

func (s *server) getDelivery(ctx context.Context, in *deliveryInput) (*output[deliveryWithAttempts], error) {
	d, attempts, err := s.deliveryAndAttempts(ctx, in.ID)
	return &output[deliveryWithAttempts]{Body: deliveryWithAttempts{Delivery: showDelivery(d), Attempts: attempts}}, err
}

// deliveryAndAttempts reads both from the database; attempts is not nil.
func (s *server) deliveryAndAttempts(ctx context.Context, id string) (d postrider.Delivery, attempts []postrider.Attempt, err error) {
	if d, err = s.Store.Delivery(ctx, workspace(ctx), id); err == nil {
		attempts, err = s.Store.Attempts(ctx, d.ID)
	}
	if attempts == nil {
		attempts = []postrider.Attempt{}
	}
	return d, attempts, err
}
