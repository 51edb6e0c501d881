package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// deliveryStore reads deliveries.
type deliveryStore interface {
	Deliveries(
		ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page,
	) (postrider.List[postrider.Delivery], error)
	// SearchDeliveries lists deliveries of the whole workspace. A page may have fewer items than
	// asked for, and yet be followed by another.
	SearchDeliveries(
		ctx context.Context, workspaceID string, f postrider.DeliverySearch, p postrider.Page,
	) (postrider.List[postrider.Delivery], error)
	// Delivery returns a delivery, or [postrider.CodeNotFound] if the id is unknown.
	Delivery(ctx context.Context, workspaceID, id string) (postrider.Delivery, error)
	// Attempts returns a delivery's attempts in the order of their numbers.
	Attempts(ctx context.Context, deliveryID string) ([]postrider.Attempt, error)
}

const tagDeliveries = "Deliveries"

func (s *server) routeDeliveries() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/webhooks/{id}/deliveries", ID: "list-webhook-deliveries",
		Tag: tagDeliveries, Scope: postrider.ScopeRead,
		Summary: "List Deliveries of a Webhook", Errors: []int{http.StatusNotFound},
		Description: "The deliveries of a deleted webhook can still be listed.",
	}, s.listWebhookDeliveries)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/events/{id}/deliveries", ID: "list-event-deliveries",
		Tag: tagDeliveries, Scope: postrider.ScopeRead,
		Summary: "List Deliveries of an Event", Errors: []int{http.StatusNotFound},
	}, s.listEventDeliveries)
	s.routeDeliveryReads()
}

func (s *server) routeDeliveryReads() {
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/deliveries", ID: "list-deliveries", Tag: tagDeliveries, Scope: postrider.ScopeRead,
		Summary: "List Deliveries",
		Description: "All of the workspace. Where filters match few of many deliveries, a page may have fewer items than `limit`, " +
			"or none, and yet a `next_cursor`: go on until that is null.",
	}, s.searchDeliveries)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/deliveries/{id}", ID: "get-delivery", Tag: tagDeliveries, Scope: postrider.ScopeRead,
		Summary: "Get Delivery", Errors: []int{http.StatusNotFound}, Description: "With its attempts, from the database.",
	}, s.getDelivery)
	rest.Handle(s.rest, rest.Route{
		Method: http.MethodGet, Path: "/api/v1/deliveries/{id}/history", ID: "get-delivery-history",
		Tag: tagDeliveries, Scope: postrider.ScopeRead,
		Summary: "Get Delivery History", Errors: []int{http.StatusNotFound},
		Description: "The delivery's life, asked of its Temporal workflow. " +
			"A delivery that has no workflow yet, or whose workflow is past Temporal's retention " +
			"or does not answer within two seconds, is answered from the database; `source` says which.",
	}, s.getHistory)
}

// Delivery is a delivery in a list.
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
	ExpiresAt     *time.Time              `json:"expires_at" doc:"No request is made from then on; null for never."`
	FinishedAt    *time.Time              `json:"finished_at"`
	WorkflowID    *string                 `json:"workflow_id" doc:"Of its Temporal workflow; null while none was started."`
	ReplayOf      *string                 `json:"replay_of" doc:"The delivery that this one repeats."`
}

// deliveryWithAttempts is the answer about one delivery.
type deliveryWithAttempts struct {
	Delivery
	BlockedBy *string             `json:"blocked_by" doc:"The delivery that this one waits for, where its webhook has an ordering; null for none."`
	Attempts  []postrider.Attempt `json:"attempts" nullable:"false"`
}

func showDelivery(d postrider.Delivery) Delivery {
	shown := Delivery{
		ID: d.ID, WebhookID: d.WebhookID, EventID: d.EventID, EventType: d.EventType,
		State: d.State, AttemptCount: d.AttemptCount, NextAttemptAt: d.NextAttemptAt, LastError: d.LastError,
		CreatedAt: d.CreatedAt, ExpiresAt: d.ExpiresAt, FinishedAt: d.FinishedAt, ReplayOf: d.ReplayOf,
	}
	if d.WorkflowID != "" {
		shown.WorkflowID = &d.WorkflowID
	}
	return shown
}

// DeliveriesQuery are the query parameters of every list of deliveries.
type DeliveriesQuery struct {
	rest.PageQuery
	rest.PeriodQuery
	State     postrider.DeliveryState `query:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled"`
	EventType string                  `query:"event_type" doc:"Only those of events of exactly this type." example:"call.ended"`
}

// find lists the deliveries that the query and the filter select.
func (q DeliveriesQuery) find(
	ctx context.Context, store deliveryStore, filter postrider.DeliveryFilter,
) (*rest.Output[rest.List[Delivery]], error) {
	page, err := q.Page(postrider.PrefixDelivery)
	if err != nil {
		return nil, err
	}
	if filter.Since, filter.Until, err = q.Period(); err != nil {
		return nil, err
	}
	if q.EventType != "" && !postrider.ValidEventType(q.EventType) {
		return nil, rest.BrokenField("query.event_type", "must be an event type", q.EventType)
	}
	filter.State, filter.EventType = q.State, q.EventType
	found, err := store.Deliveries(ctx, rest.Workspace(ctx), filter, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showDelivery), nil
}

// knowsNothing reports whether the list may be that of something which does not exist.
func (q DeliveriesQuery) knowsNothing(found *rest.Output[rest.List[Delivery]]) bool {
	return q.Cursor == "" && len(found.Body.Data) == 0 && found.Body.NextCursor == nil
}

type searchDeliveriesInput struct {
	rest.PageQuery
	rest.PeriodQuery
	State      []postrider.DeliveryState `query:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled" doc:"One or several, separated by commas." example:"failed,retrying"`
	WebhookID  string                    `query:"webhook_id" doc:"Only those to this webhook."`
	EventType  string                    `query:"event_type" doc:"Only those of events of exactly this type." example:"call.ended"`
	Result     postrider.Result          `query:"result" enum:"success,redirect,client_error,server_error,timeout,dns,connect,tls,blocked,protocol,cancelled,transform" doc:"Of the latest attempt."`
	StatusCode int                       `query:"status_code" minimum:"100" maximum:"599" doc:"Of the latest attempt's answer."`
}

func (s *server) searchDeliveries(ctx context.Context, in *searchDeliveriesInput) (*rest.Output[rest.List[Delivery]], error) {
	page, err := in.Page(postrider.PrefixDelivery)
	if err != nil {
		return nil, err
	}
	if in.EventType != "" && !postrider.ValidEventType(in.EventType) {
		return nil, rest.BrokenField("query.event_type", "must be an event type", in.EventType)
	}
	slices.Sort(in.State)
	search := postrider.DeliverySearch{
		WebhookID: in.WebhookID, States: slices.Compact(in.State), EventType: in.EventType, Result: in.Result, StatusCode: in.StatusCode,
	}
	if search.Since, search.Until, err = in.Period(); err != nil {
		return nil, err
	}
	found, err := s.Store.SearchDeliveries(ctx, rest.Workspace(ctx), search, page)
	if err != nil {
		return nil, err
	}
	return rest.ListOf(found, showDelivery), nil
}

type webhookDeliveriesInput struct {
	WebhookPath
	DeliveriesQuery
}

func (s *server) listWebhookDeliveries(ctx context.Context, in *webhookDeliveriesInput) (*rest.Output[rest.List[Delivery]], error) {
	found, err := in.find(ctx, s.Store, postrider.DeliveryFilter{WebhookID: in.ID})
	if err == nil && in.knowsNothing(found) {
		// A deleted webhook is unknown and its deliveries are not, so they are looked for first.
		_, err = s.Store.Webhook(ctx, rest.Workspace(ctx), in.ID)
	}
	return found, err
}

type eventDeliveriesInput struct {
	EventPath
	DeliveriesQuery
}

func (s *server) listEventDeliveries(ctx context.Context, in *eventDeliveriesInput) (*rest.Output[rest.List[Delivery]], error) {
	found, err := in.find(ctx, s.Store, postrider.DeliveryFilter{EventID: in.ID})
	if err == nil && in.knowsNothing(found) {
		_, err = s.Store.Event(ctx, rest.Workspace(ctx), in.ID)
	}
	return found, err
}

type deliveryInput struct {
	ID string `path:"id" doc:"Id of the delivery."`
}

func (s *server) getDelivery(ctx context.Context, in *deliveryInput) (*rest.Output[deliveryWithAttempts], error) {
	d, attempts, err := s.deliveryAndAttempts(ctx, in.ID)
	shown := deliveryWithAttempts{Delivery: showDelivery(d), Attempts: attempts}
	if d.BlockedBy != "" {
		shown.BlockedBy = &d.BlockedBy
	}
	return &rest.Output[deliveryWithAttempts]{Body: shown}, err
}

// deliveryAndAttempts reads both from the database. The attempts are never nil.
func (s *server) deliveryAndAttempts(ctx context.Context, id string) (d postrider.Delivery, attempts []postrider.Attempt, err error) {
	if d, err = s.Store.Delivery(ctx, rest.Workspace(ctx), id); err == nil {
		attempts, err = s.Store.Attempts(ctx, d.ID)
	}
	if attempts == nil {
		attempts = []postrider.Attempt{}
	}
	return d, attempts, err
}
