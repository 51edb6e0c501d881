package api_test

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// cannedStore knows every key, one of each resource, and nothing that it is told. It is what databases are to the
// API, but quick: a text that PostgreSQL cannot take makes it panic, which is a 500.
type cannedStore struct {
	api.Store // has the methods of routes that are not fuzzed
	world     *world
	now       time.Time
}

// takes checks what a database would be given.
func takes(values ...any) {
	for _, value := range values {
		checkTexts(reflect.ValueOf(value))
	}
}

func checkTexts(value reflect.Value) {
	switch value.Kind() {
	case reflect.String:
		if text := value.String(); !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			panic(fmt.Sprintf("a database cannot store %q", text))
		}
	case reflect.Pointer, reflect.Interface:
		checkTexts(value.Elem())
	case reflect.Slice:
		for i := range value.Len() {
			checkTexts(value.Index(i))
		}
	case reflect.Map:
		for _, name := range value.MapKeys() {
			checkTexts(name)
			checkTexts(value.MapIndex(name))
		}
	case reflect.Struct:
		for i := range value.NumField() {
			checkTexts(value.Field(i))
		}
	default:
	}
}

// only returns the resource, unless another was asked for.
func only[T any](resource T, id, known string) (T, error) {
	takes(id)
	if id != known {
		var none T
		return none, postrider.NotFound("resource")
	}
	return resource, nil
}

// page returns two items, and where the next two begin.
func page[T any](p postrider.Page, prefix string, item T) postrider.List[T] {
	takes(p)
	return postrider.List[T]{Items: []T{item, item}, Next: prefix + "_019a8f3c5b7e7c3a9d2e4f6081a2b3c4"}
}

func (s *cannedStore) APIKeyByHash(_ context.Context, hash string) (postrider.APIKey, error) {
	takes(hash)
	return postrider.APIKey{ID: s.world.key, WorkspaceID: s.world.workspace, Hash: hash, Scopes: postrider.Scopes(), LastUsedAt: &s.now}, nil
}

func (s *cannedStore) Revocations() int64 { return 0 }

func (s *cannedStore) webhook() postrider.Webhook {
	return postrider.Webhook{
		ID: s.world.webhook, WorkspaceID: s.world.workspace, Status: postrider.WebhookActive,
		WebhookSettings: postrider.WebhookSettings{
			URL: "https://example.com/hook", Events: []string{"*"}, SigningMethod: "hmac_sha256", ScopeType: postrider.ScopeGlobal,
			MaxInFlight: postrider.DefaultMaxInFlight, Ordering: postrider.OrderingNone, OnExhausted: postrider.ExhaustedSkip,
			Headers: map[string]string{"X-A": "1"},
		},
		Policy: postrider.Policy{TimeoutMS: 5000, MaxRetries: 3, BackoffMS: 1000},
	}
}

func (s *cannedStore) CreateWebhook(_ context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error) {
	takes(w, secret)
	return w, nil
}

func (s *cannedStore) Webhook(_ context.Context, _, id string) (postrider.Webhook, error) {
	return only(s.webhook(), id, s.world.webhook)
}

func (s *cannedStore) Webhooks(
	_ context.Context, _ string, f postrider.WebhookFilter, p postrider.Page,
) (postrider.List[postrider.Webhook], error) {
	takes(f)
	return page(p, postrider.PrefixWebhook, s.webhook()), nil
}

func (s *cannedStore) UpdateWebhook(
	_ context.Context, _, id string, edit func(*postrider.WebhookEdit) error,
) (postrider.Webhook, error) {
	w := s.webhook()
	changed := &postrider.WebhookEdit{Webhook: &w, Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
	if err := edit(changed); err != nil {
		return w, err
	}
	takes(changed)
	return only(w, id, s.world.webhook)
}

func (s *cannedStore) Blockers(_ context.Context, webhookID string) ([]postrider.Blocker, error) {
	return []postrider.Blocker{{OrderingKey: &webhookID, DeliveryID: webhookID, State: postrider.StateFailed}}, nil
}

func (s *cannedStore) DeleteWebhook(_ context.Context, _, id string) error {
	_, err := only(0, id, s.world.webhook)
	return err
}

func (s *cannedStore) Secret(_ context.Context, _, id string) (postrider.Secret, error) {
	return only(postrider.Secret{ID: "sec_1", SecretVersion: postrider.SecretVersion{Value: "secret"}}, id, s.world.webhook)
}

func (s *cannedStore) RotateSecret(_ context.Context, _, id string, r postrider.Rotation) (postrider.Secret, error) {
	takes(r.Value)
	return only(postrider.Secret{ID: "sec_1", SecretVersion: postrider.SecretVersion{Value: r.Value}}, id, s.world.webhook)
}

func (s *cannedStore) Publish(_ context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	takes(p)
	receipts := make([]postrider.Receipt, len(p.Events))
	for i, e := range p.Events {
		if !utf8.Valid(e.Body) {
			panic("a body that is not UTF-8")
		}
		receipts[i] = postrider.Receipt{ID: e.ID, Type: e.Type, DeliveryIDs: []string{s.world.delivery}}
	}
	return receipts, nil
}

func (s *cannedStore) event() postrider.Event {
	return postrider.Event{ID: s.world.event, Type: "a", Body: []byte(`{"data":1}`)}
}

func (s *cannedStore) Event(_ context.Context, _, id string) (postrider.Event, error) {
	return only(s.event(), id, s.world.event)
}

func (s *cannedStore) CancelEvent(_ context.Context, _, id string) (int, error) {
	return only(1, id, s.world.event)
}

func (s *cannedStore) Events(
	_ context.Context, _ string, f postrider.EventFilter, p postrider.Page,
) (postrider.List[postrider.Event], error) {
	takes(f)
	return page(p, postrider.PrefixEvent, s.event()), nil
}

func (s *cannedStore) eventType() postrider.EventType {
	return postrider.EventType{Type: s.world.eventType, EventTypeSettings: postrider.EventTypeSettings{
		Schema: []byte(`{"type":"object"}`), Example: []byte(`{}`), Enforcement: postrider.EnforceAll,
	}}
}

func (s *cannedStore) CreateEventType(_ context.Context, e postrider.EventType) (postrider.EventType, error) {
	takes(e)
	return e, nil
}

func (s *cannedStore) EventType(_ context.Context, _, name string) (postrider.EventType, error) {
	return only(s.eventType(), name, s.world.eventType)
}

func (s *cannedStore) EventTypes(_ context.Context, _ string, p postrider.Page) (postrider.List[postrider.EventType], error) {
	return page(p, postrider.PrefixEventType, s.eventType()), nil
}

func (s *cannedStore) UpdateEventType(
	_ context.Context, _, name string, edit func(*postrider.EventType) error,
) (postrider.EventType, error) {
	e := s.eventType()
	if err := edit(&e); err != nil {
		return e, err
	}
	takes(e)
	return only(e, name, s.world.eventType)
}

func (s *cannedStore) DeleteEventType(_ context.Context, _, name string) error {
	_, err := only(0, name, s.world.eventType)
	return err
}

func (s *cannedStore) delivery() postrider.Delivery {
	return postrider.Delivery{ID: s.world.delivery, State: postrider.StateRetrying}
}

func (s *cannedStore) Deliveries(
	_ context.Context, _ string, f postrider.DeliveryFilter, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	takes(f)
	return page(p, postrider.PrefixDelivery, s.delivery()), nil
}

func (s *cannedStore) Delivery(_ context.Context, _, id string) (postrider.Delivery, error) {
	return only(s.delivery(), id, s.world.delivery)
}

func (s *cannedStore) SearchDeliveries(
	_ context.Context, _ string, f postrider.DeliverySearch, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	takes(f)
	return page(p, postrider.PrefixDelivery, s.delivery()), nil
}

func (s *cannedStore) Act(_ context.Context, request postrider.ActionRequest) ([]postrider.ActionResult, error) {
	takes(request)
	results := make([]postrider.ActionResult, len(request.DeliveryIDs))
	for i, id := range request.DeliveryIDs {
		d, err := only(s.delivery(), id, s.world.delivery)
		results[i] = postrider.ActionResult{DeliveryID: id, Delivery: d, Err: err}
	}
	return results, nil
}

func (s *cannedStore) replay() postrider.Replay {
	return postrider.Replay{ID: s.world.replay, State: postrider.ReplayRunning, ReplaySpec: postrider.ReplaySpec{
		States: []postrider.ReplayOf{postrider.ReplayOfFailed}, EventTypes: []string{},
	}}
}

func (s *cannedStore) CreateReplay(_ context.Context, spec postrider.ReplaySpec) (postrider.Replay, error) {
	takes(spec)
	return only(s.replay(), spec.WebhookID, s.world.webhook)
}

func (s *cannedStore) CountReplay(_ context.Context, spec postrider.ReplaySpec) (int, error) {
	takes(spec)
	return only(1, spec.WebhookID, s.world.webhook)
}

func (s *cannedStore) Replay(_ context.Context, _, id string) (postrider.Replay, error) {
	return only(s.replay(), id, s.world.replay)
}

func (s *cannedStore) Replays(
	_ context.Context, _ string, f postrider.ReplayFilter, p postrider.Page,
) (postrider.List[postrider.Replay], error) {
	takes(f)
	return page(p, postrider.PrefixReplay, s.replay()), nil
}

func (s *cannedStore) PauseReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	return s.Replay(ctx, workspaceID, id)
}

func (s *cannedStore) ResumeReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	return s.Replay(ctx, workspaceID, id)
}

func (s *cannedStore) CancelReplay(ctx context.Context, workspaceID, id string) (postrider.Replay, error) {
	return s.Replay(ctx, workspaceID, id)
}

func (s *cannedStore) Actions(context.Context, string) ([]postrider.Action, error) {
	return []postrider.Action{{Kind: postrider.ActionRetry, Actor: s.world.key}}, nil
}

func (s *cannedStore) Attempts(context.Context, string) ([]postrider.Attempt, error) {
	return []postrider.Attempt{{Number: 1, Result: "success"}}, nil
}

func (s *cannedStore) CreateWorkspace(_ context.Context, w postrider.Workspace) error {
	takes(w)
	return nil
}

func (s *cannedStore) Workspace(_ context.Context, id string) (postrider.Workspace, error) {
	return only(postrider.Workspace{ID: id}, id, s.world.workspace)
}

func (s *cannedStore) Workspaces(_ context.Context, p postrider.Page) (postrider.List[postrider.Workspace], error) {
	return page(p, postrider.PrefixWorkspace, postrider.Workspace{ID: s.world.workspace}), nil
}

func (s *cannedStore) CreateAPIKey(_ context.Context, k postrider.APIKey) error {
	takes(k)
	return nil
}

func (s *cannedStore) APIKeys(_ context.Context, id string, p postrider.Page) (postrider.List[postrider.APIKey], error) {
	takes(id)
	return page(p, postrider.PrefixAPIKey, postrider.APIKey{ID: s.world.key}), nil
}

func (s *cannedStore) RevokeAPIKey(_ context.Context, id string) error {
	_, err := only(0, id, s.world.key)
	return err
}

func (s *cannedStore) Audit(
	_ context.Context, id string, f postrider.AuditFilter, p postrider.Page,
) (postrider.List[postrider.AuditEntry], error) {
	takes(id, f)
	return page(p, postrider.PrefixAudit, postrider.AuditEntry{Action: postrider.ActionUpdateWebhook, Changes: []postrider.FieldChange{}}), nil
}

func (s *cannedStore) Stats(_ context.Context, id string, q postrider.StatsQuery) ([]postrider.StatsPoint, error) {
	takes(id, q.WebhookID, q.EventType)
	if q.Points() < 1 || q.Points() > postrider.MaxStatsPoints {
		panic("a series without bounds")
	}
	return []postrider.StatsPoint{{At: q.Since, Attempts: 1, ByResult: map[postrider.Result]int64{postrider.ResultSuccess: 1}}}, nil
}
