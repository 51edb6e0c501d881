package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
)

// actionStore lets operators act on deliveries under way.
type actionStore interface {
	// Act makes an action on deliveries, and returns what it came to for each, in the order asked.
	// The results' errors are of [postrider.CodeNotFound] and [postrider.CodeConflict].
	Act(ctx context.Context, request postrider.ActionRequest) ([]postrider.ActionResult, error)
	// Actions returns what operators did to a delivery, in the order in which it happened.
	Actions(ctx context.Context, deliveryID string) ([]postrider.Action, error)
}

// actionRoute is a route that makes an action on one delivery.
type actionRoute struct {
	kind                 postrider.ActionKind
	summary, description string
}

func actionRoutes() []actionRoute {
	return []actionRoute{
		{postrider.ActionRetry, "Retry Delivery", "Makes the next attempt now, within the webhook's limits. " +
			"While an attempt is under way, that one is it, and many calls are one attempt. " +
			"Of a finished delivery it sends the event again, under the webhook's settings as they are now: " +
			"the answer is the new delivery, with `replay_of`; further calls answer with that one until it is finished. " +
			"What a retry has made succeed in the last ten seconds is the answer, too. " +
			"Of one that blocks an ordering it takes the place. " +
			"Refused while the delivery is paused, waits behind another, or its webhook is not active."},
		{postrider.ActionCancel, "Cancel Delivery", "No more attempts are made. " +
			"One that is under way ends as it ends, and is kept. A failed delivery that blocks an ordering stays failed, and blocks no more. " +
			"May be repeated."},
		{postrider.ActionPause, "Pause Delivery", "Parks the delivery until it is resumed, whatever its webhook does. " +
			"An attempt that is under way ends as it ends. Kept for the webhook's `park_seconds`. May be repeated."},
		{postrider.ActionResume, "Resume Delivery", "Ends a pause: the next attempt is made now, " +
			"or when the webhook is active. May be repeated."},
		{postrider.ActionSkip, "Skip Delivery", "Lets the next delivery of an ordering go: the one whose turn it is fails, " +
			"and one that has failed and blocks the others blocks no more. An attempt that is under way ends before the next one goes. " +
			"Refused for a delivery without an order, for one that waits behind another, and for a finished one that blocks nothing."},
	}
}

func (s *server) routeDeliveryActions() {
	for _, r := range actionRoutes() {
		rest.Handle(s.rest, rest.Route{
			Method: http.MethodPost, Path: "/api/v1/deliveries/{id}/" + string(r.kind), ID: string(r.kind) + "-delivery",
			Tag: tagDeliveries, Scope: postrider.ScopeManage, Status: http.StatusAccepted,
			Summary: r.summary, Description: r.description, Errors: []int{http.StatusNotFound, http.StatusConflict},
		}, func(ctx context.Context, in *deliveryInput) (*rest.Output[deliveryWithAttempts], error) {
			return s.actOnOne(ctx, in.ID, postrider.ActionRequest{Kind: r.kind})
		})
	}
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPatch, Path: "/api/v1/deliveries/{id}", ID: "update-delivery",
		Tag: tagDeliveries, Scope: postrider.ScopeManage, Status: http.StatusAccepted,
		Summary: "Update Delivery", Errors: []int{http.StatusNotFound, http.StatusConflict},
		Description: "Changes how, and until when, a delivery that is not finished is tried, from its next attempt on. " +
			"An attempt that is under way is judged by the new values. " +
			"A delivery that has used up its new `max_retries` fails at once.",
	}, rest.PatchBody[updateDelivery](s.rest), s.updateDelivery)
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/deliveries/actions", ID: "act-on-deliveries",
		Tag: tagDeliveries, Scope: postrider.ScopeManage, Status: http.StatusAccepted, Summary: "Act on Deliveries",
		Description: "Retries or cancels up to 500 deliveries, each as the route of its own would. " +
			"The answer says what each came to, in the order asked: one that is refused keeps no other from it. May be repeated.",
	}, rest.JSONBody[actOnDeliveries](s.rest, nil), s.actOnMany)
}

// updateDelivery is the body of a PATCH of a delivery; every field is optional.
type updateDelivery struct {
	postrider.Policy

	ExpiresAt *string `json:"expires_at" nullable:"true" format:"date-time" doc:"No request is made from then on (RFC 3339): in the future, at most 30 days ahead. Null for never."`
}

// TransformSchema implements huma.SchemaTransformer.
func (updateDelivery) TransformSchema(_ huma.Registry, s *huma.Schema) *huma.Schema {
	s.Required = nil
	delete(s.Properties, "retry_schedule_ms") // an edit changes the two fields instead
	return s
}

func (s *server) updateDelivery(
	ctx context.Context, in *deliveryInput, patch rest.Patch[updateDelivery],
) (*rest.Output[deliveryWithAttempts], error) {
	expires, err := expiresAt(patch, s.Now())
	if err != nil {
		return nil, err
	}
	sent := func(field string, value *int) *int {
		if patch.Has(field) {
			return value
		}
		return nil
	}
	return s.actOnOne(ctx, in.ID, postrider.ActionRequest{Kind: postrider.ActionEdit, Edit: postrider.TermsEdit{
		TimeoutMS:  sent("timeout_ms", &patch.Values.TimeoutMS),
		MaxRetries: sent("max_retries", &patch.Values.MaxRetries),
		BackoffMS:  sent("backoff_ms", &patch.Values.BackoffMS),
		ExpiresAt:  expires,
	}})
}

// expiresAt returns when the patch lets a delivery expire, as a [postrider.TermsEdit] says it.
func expiresAt(patch rest.Patch[updateDelivery], now time.Time) (*time.Time, error) {
	const location = "body.expires_at"
	switch {
	case !patch.Has("expires_at"):
		return nil, nil
	case patch.IsNull("expires_at"):
		return &time.Time{}, nil
	}
	text := *patch.Values.ExpiresAt
	at, err := rest.ParseTime(location, text)
	switch {
	case err != nil:
		return nil, err
	case !at.After(now):
		return nil, rest.BrokenField(location, "must be in the future", text)
	case at.After(now.Add(postrider.MaxTTLSeconds * time.Second)):
		return nil, rest.BrokenField(location, "must be at most 30 days ahead", text)
	}
	return &at, nil
}

// act makes the caller's action on deliveries.
func (s *server) act(ctx context.Context, request postrider.ActionRequest) ([]postrider.ActionResult, error) {
	request.WorkspaceID, request.Actor = rest.Workspace(ctx), rest.Caller(ctx)
	return s.Store.Act(ctx, request)
}

func (s *server) actOnOne(ctx context.Context, id string, request postrider.ActionRequest) (*rest.Output[deliveryWithAttempts], error) {
	request.DeliveryIDs = []string{id}
	results, err := s.act(ctx, request)
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return nil, err
	}
	return s.getDelivery(ctx, &deliveryInput{ID: results[0].Delivery.ID})
}

// actOnDeliveries is the body of an action on many deliveries.
type actOnDeliveries struct {
	Action postrider.ActionKind `json:"action" enum:"retry,cancel"`
	IDs    []string             `json:"ids" minItems:"1" maxItems:"500" nullable:"false" doc:"Ids of deliveries."`
}

// actedOn is what an action on one delivery of many came to.
type actedOn struct {
	ID     string  `json:"id" doc:"As it was asked for."`
	Status int     `json:"status" enum:"202,404,409" doc:"What the route of its own would have answered."`
	Detail *string `json:"detail" doc:"Why it was refused; null when it was not."`
	// DeliveryID is another than ID where a retry sends the event again.
	DeliveryID *string                  `json:"delivery_id" doc:"The delivery, or the new one that sends its event again; null for an unknown id."`
	State      *postrider.DeliveryState `json:"state" enum:"pending,delivering,retrying,parked,succeeded,failed,cancelled" doc:"Of that delivery, after the action."`
}

// actedOnMany is the answer to an action on many deliveries.
type actedOnMany struct {
	Data []actedOn `json:"data" nullable:"false"`
}

func (s *server) actOnMany(ctx context.Context, _ *struct{}, body actOnDeliveries) (*rest.Output[actedOnMany], error) {
	results, err := s.act(ctx, postrider.ActionRequest{Kind: body.Action, DeliveryIDs: body.IDs})
	if err != nil {
		return nil, err
	}
	answer := actedOnMany{Data: make([]actedOn, len(results))}
	for i, r := range results {
		answer.Data[i] = showActedOn(r)
	}
	return &rest.Output[actedOnMany]{Body: answer}, nil
}

func showActedOn(r postrider.ActionResult) actedOn {
	shown := actedOn{ID: r.DeliveryID, Status: http.StatusAccepted}
	var refused *postrider.Error
	if errors.As(r.Err, &refused) {
		shown.Status, shown.Detail = http.StatusConflict, &refused.Message
	}
	if postrider.CodeOf(r.Err) == postrider.CodeNotFound {
		shown.Status = http.StatusNotFound
		return shown
	}
	shown.DeliveryID, shown.State = &r.Delivery.ID, &r.Delivery.State
	return shown
}
