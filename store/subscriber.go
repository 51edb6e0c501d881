package store

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// subscriber is a webhook as far as publishing needs it. When one of these changes,
// the database's triggers give the workspace another generation.
type subscriber struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Status      postrider.WebhookStatus
	TimeoutMS   int `db:"timeout_ms"`
	MaxRetries  int `db:"max_retries"`
	BackoffMS   int `db:"backoff_ms"`
}

// audience is what all events that go to the same webhooks have in common. Persona
// is "" for events without one.
type audience struct {
	workspaceID, eventType, persona string
}

func audienceOf(workspaceID string, e postrider.Event) audience {
	a := audience{workspaceID: workspaceID, eventType: e.Type}
	if e.PersonaID != nil {
		a.persona = *e.PersonaID
	}
	return a
}

// subscription is what an event is matched by. Persona is "" for the webhooks that
// get every persona's events.
type subscription struct {
	WorkspaceID string `db:"workspace_id"`
	Pattern     string
	Persona     string `db:"persona_id"`
}

// subscriptions returns everything that the audience's events are matched by.
func (a audience) subscriptions() []subscription {
	var all []subscription
	for _, pattern := range postrider.PatternsFor(a.eventType) {
		all = append(all, subscription{a.workspaceID, pattern, ""})
		if a.persona != "" {
			all = append(all, subscription{a.workspaceID, pattern, a.persona})
		}
	}
	return all
}

// subscribers are the webhooks that a transaction's publications go to.
type subscribers struct {
	byID    map[string]subscriber
	matched map[audience][]subscriber
}

// subscribers finds the webhooks that the publications go to. It keeps their
// workspaces' generations, and with them their webhooks, from changing until the
// transaction ends: a delivery must not be made pending for a webhook that is being
// paused, nor be parked for one that is being resumed.
func (s *Store) subscribers(ctx context.Context, tx *sqlx.Tx, publications []postrider.Publication) (*subscribers, error) {
	found := &subscribers{byID: map[string]subscriber{}, matched: map[audience][]subscriber{}}
	var workspaces, named []string
	for _, p := range publications {
		workspaces = append(workspaces, p.WorkspaceID)
		if p.OnlyWebhookID != "" {
			named = append(named, p.OnlyWebhookID)
			continue
		}
		for _, e := range p.Events {
			found.matched[audienceOf(p.WorkspaceID, e.Event)] = nil
		}
	}
	slices.Sort(workspaces)
	generations, err := s.generations(ctx, tx, slices.Compact(workspaces))
	if err != nil {
		return nil, err
	}
	unknown := s.audiences.recall(found.matched, generations)
	if err := s.readMatched(ctx, tx, unknown, found.matched); err != nil {
		return nil, err
	}
	s.audiences.remember(unknown, found.matched, generations)
	return found, readNamed(ctx, tx, named, found)
}

// generations returns the workspaces' generations, which stay until the transaction
// ends.
func (s *Store) generations(ctx context.Context, tx *sqlx.Tx, workspaceIDs []string) (map[string]string, error) {
	var rows []struct {
		ID         string
		Generation string
	}
	err := sqlOf("SELECT id, generation FROM workspaces WHERE id IN").in(workspaceIDs).
		add(" ORDER BY id"+s.dialect.lock("FOR SHARE")).selectInto(ctx, tx, &rows)
	of := make(map[string]string, len(rows))
	for _, row := range rows {
		of[row.ID] = row.Generation
	}
	return of, err
}

const subscriberColumns = "w.id, w.workspace_id, w.status, w.timeout_ms, w.max_retries, w.backoff_ms"

// readMatched reads the webhooks of the audiences into matched, each once, in the
// order of ids.
func (s *Store) readMatched(ctx context.Context, tx *sqlx.Tx, audiences []audience, matched map[audience][]subscriber) error {
	of := map[subscription][]subscriber{}
	var wanted [][]any
	for _, a := range audiences {
		for _, sub := range a.subscriptions() {
			if _, asked := of[sub]; !asked {
				of[sub] = nil
				wanted = append(wanted, []any{sub.WorkspaceID, sub.Pattern, sub.Persona})
			}
		}
	}
	err := s.lookUp("SELECT "+subscriberColumns+`, e.pattern, e.persona_id FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id
		WHERE w.deleted_at IS NULL AND (e.workspace_id, e.pattern, e.persona_id) IN`, wanted, func(st *statement) error {
		var rows []struct {
			subscriber
			Pattern string
			Persona string `db:"persona_id"`
		}
		err := st.selectInto(ctx, tx, &rows)
		for _, row := range rows {
			sub := subscription{row.WorkspaceID, row.Pattern, row.Persona}
			of[sub] = append(of[sub], row.subscriber)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range audiences {
		var all []subscriber
		for _, sub := range a.subscriptions() {
			all = append(all, of[sub]...)
		}
		slices.SortFunc(all, func(a, b subscriber) int { return strings.Compare(a.ID, b.ID) })
		matched[a] = slices.CompactFunc(all, func(a, b subscriber) bool { return a.ID == b.ID })
	}
	return nil
}

func readNamed(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, found *subscribers) error {
	if len(webhookIDs) == 0 {
		return nil
	}
	var rows []subscriber
	err := sqlOf("SELECT "+subscriberColumns+" FROM webhooks w WHERE w.deleted_at IS NULL AND w.id IN").in(webhookIDs).selectInto(ctx, tx, &rows)
	for _, w := range rows {
		found.byID[w.ID] = w
	}
	return err
}

// check returns [postrider.CodeNotFound] for a publication to a webhook that its
// workspace does not have.
func (f *subscribers) check(p postrider.Publication) error {
	if p.OnlyWebhookID != "" && f.byID[p.OnlyWebhookID].WorkspaceID != p.WorkspaceID {
		return postrider.NotFound("webhook")
	}
	return nil
}

// of returns the webhooks that get the event, each once, in the order of ids.
func (f *subscribers) of(p postrider.Publication, e postrider.Event) []subscriber {
	if p.OnlyWebhookID != "" {
		return []subscriber{f.byID[p.OnlyWebhookID]}
	}
	return f.matched[audienceOf(p.WorkspaceID, e)]
}

// maxAudiences bounds what is remembered, in audiences and their webhooks together;
// it comes to some 20 MB.
const maxAudiences = 100_000

// audiences remembers the webhooks of audiences. What it remembers is right as long
// as the workspace's generation is the same. It is safe for concurrent use.
type audiences struct {
	mu    sync.Mutex
	known map[audience]knownAudience
	size  int
}

type knownAudience struct {
	generation string
	webhooks   []subscriber
}

func (k knownAudience) size() int { return 1 + len(k.webhooks) }

// recall fills in the webhooks that are known and returns the other audiences.
func (r *audiences) recall(matched map[audience][]subscriber, generations map[string]string) (unknown []audience) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for a := range matched {
		entry, found := r.known[a]
		if found && entry.generation == generations[a.workspaceID] {
			matched[a] = entry.webhooks
		} else {
			unknown = append(unknown, a)
		}
	}
	return unknown
}

// remember keeps what was read. When there is no room, it forgets everything else.
func (r *audiences) remember(read []audience, matched map[audience][]subscriber, generations map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range read {
		entry := knownAudience{generation: generations[a.workspaceID], webhooks: matched[a]}
		if before, found := r.known[a]; found {
			r.size -= before.size()
			delete(r.known, a)
		}
		if r.size+entry.size() > maxAudiences {
			clear(r.known)
			r.size = 0
		}
		if entry.size() <= maxAudiences {
			r.known[a] = entry
			r.size += entry.size()
		}
	}
}
