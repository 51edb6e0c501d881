package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api/rest"
	"postrider.dev/postrider/tracing"
)

func (s *server) routeWebhookTest() {
	body := rest.JSONBody[webhookTest](s.rest, nil)
	body.Optional = true
	rest.HandleBody(s.rest, rest.Route{
		Method: http.MethodPost, Path: "/api/v1/webhooks/{id}/test", ID: "test-webhook", Tag: tagWebhooks, Scope: postrider.ScopeManage,
		Summary: "Test Webhook", Status: http.StatusAccepted, Errors: []int{http.StatusNotFound},
		Description: "Sends an event to this webhook alone, whatever it subscribes to: a `webhook.test`, " +
			"or with `event_type` one of that type, whose data is the example in the catalogue.",
	}, body, s.testWebhook)
}

// webhookTest is the body of a request to test a webhook.
type webhookTest struct {
	EventType *string `json:"event_type,omitempty" nullable:"true" maxLength:"128" pattern:"^[A-Za-z0-9_]+(\\.[A-Za-z0-9_]+)*$" patternDescription:"an event type" doc:"A type of the catalogue that has an example; webhook.test when it is left out or null." example:"call.ended"`
}

// testReceipt is the answer about a test event.
type testReceipt struct {
	Receipt
	DeliveryID string `json:"delivery_id" doc:"Read it to see how the test went." example:"dlv_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"`
}

func (s *server) testWebhook(ctx context.Context, in *WebhookPath, test webhookTest) (*rest.Output[testReceipt], error) {
	request, err := s.testRequest(ctx, in.ID, test)
	if err != nil {
		return nil, err
	}
	event, err := s.newEvent(request, rest.Workspace(ctx), postrider.Timestamp(s.Now()))
	if err != nil {
		return nil, err
	}
	accepted, err := s.Store.Publish(ctx, postrider.Publication{
		WorkspaceID: event.WorkspaceID, Events: []postrider.PublishedEvent{{Event: event}}, TraceContext: tracing.Text(ctx),
		Audit: &postrider.AuditEntry{WorkspaceID: event.WorkspaceID, Action: postrider.ActionTestWebhook, ResourceID: in.ID},
	})
	var refused *postrider.EventError
	var broken *postrider.Error
	if errors.As(err, &refused) && errors.As(refused.Err, &broken) && len(broken.Fields) == 1 && broken.Fields[0].Field == "webhook_id" {
		return nil, postrider.NotFound("webhook")
	}
	if err != nil {
		return nil, err
	}
	s.countAccepted(accepted)
	return &rest.Output[testReceipt]{Body: testReceipt{
		Receipt: showReceipt(accepted[0]), DeliveryID: strings.Join(accepted[0].DeliveryIDs, ""),
	}}, nil
}

// testRequest returns what is published to test a webhook.
func (s *server) testRequest(ctx context.Context, webhookID string, test webhookTest) (publishEvent, error) {
	request := publishEvent{
		Type: postrider.EventTypeTest, WebhookID: &webhookID,
		Data: json.RawMessage(`{"message":"This is a test event. If you can read it, the webhook works."}`),
	}
	if test.EventType == nil {
		return request, nil
	}
	if _, err := s.Store.Webhook(ctx, rest.Workspace(ctx), webhookID); err != nil {
		return request, err // before what is wrong with the type
	}
	e, err := s.Store.EventType(ctx, rest.Workspace(ctx), *test.EventType)
	switch {
	case postrider.CodeOf(err) == postrider.CodeNotFound:
		return request, rest.BrokenField("body.event_type", "must be a type of the catalogue", *test.EventType)
	case err != nil:
		return request, err
	case e.Example == nil:
		return request, rest.BrokenField("body.event_type", "must be a type that has an example", *test.EventType)
	}
	request.Type, request.Data = e.Type, e.Example
	return request, nil
}
