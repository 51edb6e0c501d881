package api_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/api"
)

// awayStore is the real store until its database is away. It still finds API keys then, as
// the API does that has cached them.
type awayStore struct {
	api.Store
	away atomic.Bool
}

// err returns the error that every method of a store has while its database is away.
func (s *awayStore) err() error {
	if !s.away.Load() {
		return nil
	}
	return &postrider.Error{Code: postrider.CodeUnavailable, Message: "internals", Err: errors.New("connection refused")}
}

// unless calls the real store's method unless the database is away.
func unless[T any](s *awayStore, method func() (T, error)) (T, error) {
	if err := s.err(); err != nil {
		var none T
		return none, err
	}
	return method()
}

func (s *awayStore) CreateWebhook(ctx context.Context, w postrider.Webhook, secret string) (postrider.Webhook, error) {
	return unless(s, func() (postrider.Webhook, error) { return s.Store.CreateWebhook(ctx, w, secret) })
}

func (s *awayStore) Webhook(ctx context.Context, workspaceID, id string) (postrider.Webhook, error) {
	return unless(s, func() (postrider.Webhook, error) { return s.Store.Webhook(ctx, workspaceID, id) })
}

func (s *awayStore) Webhooks(context.Context, string, postrider.WebhookFilter, postrider.Page) (postrider.List[postrider.Webhook], error) {
	return postrider.List[postrider.Webhook]{}, s.err()
}

func (s *awayStore) UpdateWebhook(context.Context, string, string, func(*postrider.WebhookEdit) error) (postrider.Webhook, error) {
	return postrider.Webhook{}, s.err()
}

func (s *awayStore) PauseWebhook(context.Context, string, string) (postrider.Webhook, error) {
	return postrider.Webhook{}, s.err()
}

func (s *awayStore) ResumeWebhook(context.Context, string, string) (postrider.Webhook, error) {
	return postrider.Webhook{}, s.err()
}

func (s *awayStore) Blockers(ctx context.Context, webhookID string) ([]postrider.Blocker, error) {
	return unless(s, func() ([]postrider.Blocker, error) { return s.Store.Blockers(ctx, webhookID) })
}

func (s *awayStore) DeleteWebhook(context.Context, string, string) error { return s.err() }

func (s *awayStore) Secret(context.Context, string, string) (postrider.Secret, error) {
	return postrider.Secret{}, s.err()
}

func (s *awayStore) Publish(ctx context.Context, p postrider.Publication) ([]postrider.Receipt, error) {
	return unless(s, func() ([]postrider.Receipt, error) { return s.Store.Publish(ctx, p) })
}

func (s *awayStore) Event(context.Context, string, string) (postrider.Event, error) {
	return postrider.Event{}, s.err()
}

func (s *awayStore) CancelEvent(context.Context, string, string) (int, error) { return 0, s.err() }

func (s *awayStore) Events(context.Context, string, postrider.EventFilter, postrider.Page) (postrider.List[postrider.Event], error) {
	return postrider.List[postrider.Event]{}, s.err()
}

func (s *awayStore) Deliveries(
	ctx context.Context, workspaceID string, f postrider.DeliveryFilter, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	return unless(s, func() (postrider.List[postrider.Delivery], error) { return s.Store.Deliveries(ctx, workspaceID, f, p) })
}

func (s *awayStore) Delivery(context.Context, string, string) (postrider.Delivery, error) {
	return postrider.Delivery{}, s.err()
}

func (s *awayStore) SearchDeliveries(
	context.Context, string, postrider.DeliverySearch, postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	return postrider.List[postrider.Delivery]{}, s.err()
}

func (s *awayStore) Act(context.Context, postrider.ActionRequest) ([]postrider.ActionResult, error) {
	return nil, s.err()
}

func (s *awayStore) CreateEventType(context.Context, postrider.EventType) (postrider.EventType, error) {
	return postrider.EventType{}, s.err()
}

func (s *awayStore) EventType(context.Context, string, string) (postrider.EventType, error) {
	return postrider.EventType{}, s.err()
}

func (s *awayStore) EventTypes(context.Context, string, postrider.Page) (postrider.List[postrider.EventType], error) {
	return postrider.List[postrider.EventType]{}, s.err()
}

func (s *awayStore) DeleteEventType(context.Context, string, string) error { return s.err() }
func (s *awayStore) CreateReplay(ctx context.Context, spec postrider.ReplaySpec) (postrider.Replay, error) {
	return unless(s, func() (postrider.Replay, error) { return s.Store.CreateReplay(ctx, spec) })
}

func (s *awayStore) CountReplay(context.Context, postrider.ReplaySpec) (int, error) {
	return 0, s.err()
}

func (s *awayStore) Replay(context.Context, string, string) (postrider.Replay, error) {
	return postrider.Replay{}, s.err()
}

func (s *awayStore) Replays(
	context.Context, string, postrider.ReplayFilter, postrider.Page,
) (postrider.List[postrider.Replay], error) {
	return postrider.List[postrider.Replay]{}, s.err()
}

func (s *awayStore) PauseReplay(context.Context, string, string) (postrider.Replay, error) {
	return postrider.Replay{}, s.err()
}

func (s *awayStore) ResumeReplay(context.Context, string, string) (postrider.Replay, error) {
	return postrider.Replay{}, s.err()
}

func (s *awayStore) CancelReplay(context.Context, string, string) (postrider.Replay, error) {
	return postrider.Replay{}, s.err()
}

func (s *awayStore) CreateWorkspace(context.Context, postrider.Workspace) error { return s.err() }

func (s *awayStore) Workspace(context.Context, string) (postrider.Workspace, error) {
	return postrider.Workspace{}, s.err()
}

func (s *awayStore) Workspaces(context.Context, postrider.Page) (postrider.List[postrider.Workspace], error) {
	return postrider.List[postrider.Workspace]{}, s.err()
}

func (s *awayStore) RevokeAPIKey(context.Context, string) error { return s.err() }

func (s *awayStore) Stats(context.Context, string, postrider.StatsQuery) ([]postrider.StatsPoint, error) {
	return nil, s.err()
}

func (s *awayStore) Audit(
	context.Context, string, postrider.AuditFilter, postrider.Page,
) (postrider.List[postrider.AuditEntry], error) {
	return postrider.List[postrider.AuditEntry]{}, s.err()
}

// Guards the answer while the database is away: it asks the caller to try again and does not
// say why. The log says why.
func TestEveryRouteAnswers503WhenTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	for _, o := range setup(t).contract().operations(t) {
		if o.OperationID == "test-expression" { // asks for nothing but the key
			continue
		}
		t.Run(o.OperationID, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, o.Responses, "503")
			database := new(awayStore)
			w := newWorld(t, func(c *api.Config) { database.Store, c.Store = c.Store, database })
			database.away.Store(true)
			got := w.call(o, "")
			require.NotContains(t, got.problem(http.StatusServiceUnavailable).Detail, "internals")
			require.NotEmpty(t, got.Header.Get("Retry-After"))
			require.Contains(t, w.logs.String(), "connection refused")
		})
	}
}

// keyFaults is a store whose keys cannot be looked up, or whose record of their use fails.
type keyFaults struct {
	api.Store
	lookUp, use error
}

func (s *keyFaults) APIKeyByHash(ctx context.Context, hash string) (postrider.APIKey, error) {
	if s.lookUp != nil {
		return postrider.APIKey{}, s.lookUp
	}
	return s.Store.APIKeyByHash(ctx, hash)
}

func (s *keyFaults) UsedAPIKey(ctx context.Context, id string, at time.Time) error {
	if s.use != nil {
		return s.use
	}
	return s.Store.UsedAPIKey(ctx, id, at)
}

// Guards against a database that is away being told to callers as a bad key, on which they
// would give up.
func TestKeyThatCannotBeLookedUpIsNotABadKey(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) {
		c.Store = &keyFaults{Store: c.Store, lookUp: &postrider.Error{Code: postrider.CodeUnavailable, Err: errors.New("internals")}}
	})
	got := b.do(http.MethodGet, webhooksPath, "")
	require.NotContains(t, got.problem(http.StatusServiceUnavailable).Detail, "internals")
	require.NotEmpty(t, got.Header.Get("Retry-After"))
	require.Empty(t, got.Header.Get("WWW-Authenticate"))
}

// Guards requests against a failure of what only informs operators.
func TestKeyWorksThoughItsUseIsNotRecorded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *api.Config) { c.Store = &keyFaults{Store: c.Store, use: errors.New("disk full")} })
	b.do(http.MethodGet, webhooksPath, "").object(http.StatusOK)
	require.Contains(t, b.logs.String(), "could not record the use of an API key")
	require.Contains(t, b.logs.String(), "disk full")
	require.NotContains(t, b.logs.String(), b.key)
}
