package store

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// subscriber is a webhook as far as publishing needs it. When one of these columns changes,
// the database's triggers give the workspace another generation. A column that is added
// here must be added to the triggers by a migration.
type subscriber struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	Status      postrider.WebhookStatus
	Filter      *string
	ShapeID     *string `db:"shape_id"`
	Ordering    postrider.Ordering
	postrider.Policy
}

// laneOf returns the lane of the webhook's deliveries of events with the key; nil without an order.
func (w subscriber) laneOf(key *string) *string { return laneOf(w.ID, w.Ordering, key) }

// matchKey is the same for all events that go to the same webhooks. Persona is "" for
// events without a persona.
type matchKey struct {
	workspaceID, eventType, persona string
}

func matchKeyOf(workspaceID string, e postrider.Event) matchKey {
	key := matchKey{workspaceID: workspaceID, eventType: e.Type}
	if e.PersonaID != nil {
		key.persona = *e.PersonaID
	}
	return key
}

// subscription is a row by which an event can be matched. Persona is "" for the webhooks
// that get the events of every persona.
type subscription struct {
	WorkspaceID string `db:"workspace_id"`
	Pattern     string
	Persona     string `db:"persona_id"`
}

// subscriptions returns every subscription that matches the key's events.
func (key matchKey) subscriptions() []subscription {
	var all []subscription
	for _, pattern := range postrider.PatternsFor(key.eventType) {
		all = append(all, subscription{key.workspaceID, pattern, ""})
		if key.persona != "" {
			all = append(all, subscription{key.workspaceID, pattern, key.persona})
		}
	}
	return all
}

// matches are the webhooks that events go to, by the events' keys.
type matches map[matchKey][]subscriber

// subscribers are the webhooks that a transaction's publications go to.
type subscribers struct {
	byID  map[string]addressee
	byKey matches
	rules map[string]typeRules // of workspaces with a catalogue
}

// addressee is a webhook that an event names.
type addressee struct {
	subscriber
	PersonaID *string `db:"persona_id"`
}

// subscribers finds the webhooks that the publications go to. It keeps their workspaces'
// generations, and so their webhooks, from changing until the transaction ends: a delivery
// must not be made pending for a webhook that is being paused, nor parked for one that is
// being resumed.
func (s *Store) subscribers(ctx context.Context, tx *sqlx.Tx, publications []publication) (*subscribers, error) {
	found := &subscribers{byID: map[string]addressee{}, byKey: matches{}}
	workspaces := make([]string, 0, len(publications))
	var named []string
	for _, p := range publications {
		workspaces = append(workspaces, p.WorkspaceID)
		for _, e := range p.Events {
			if e.WebhookID != nil {
				named = append(named, *e.WebhookID)
				continue
			}
			found.byKey[matchKeyOf(p.WorkspaceID, e.Event)] = nil
		}
	}
	slices.Sort(workspaces)
	generations, err := s.generations(ctx, tx, slices.Compact(workspaces))
	if err != nil {
		return nil, err
	}
	unknown := s.matches.cached(found.byKey, generations)
	if err := readMatches(ctx, s.db, tx, unknown, found.byKey); err != nil {
		return nil, err
	}
	s.matches.cache(unknown, found.byKey, generations)
	if found.rules, err = s.typeRules(ctx, tx, generations); err != nil {
		return nil, err
	}
	return found, readNamed(ctx, tx, named, found)
}

// generation says whether what is remembered of a workspace still holds.
type generation struct {
	ID         string
	Generation string
	Catalogue  *string // nil for a workspace that never had an event type
}

// generations returns the workspaces' generations, which cannot change until the
// transaction ends.
func (s *Store) generations(ctx context.Context, tx *sqlx.Tx, workspaceIDs []string) (map[string]generation, error) {
	var rows []generation
	err := sqldb.SQL("SELECT id, generation, catalogue FROM workspaces WHERE id IN").In(workspaceIDs).
		Add(" ORDER BY id"+s.db.Lock("FOR SHARE")).Select(ctx, tx, &rows)
	byID := make(map[string]generation, len(rows))
	for _, row := range rows {
		byID[row.ID] = row
	}
	return byID, err
}

// readMatches reads the webhooks of the keys into found, each once, in the order of ids.
func readMatches(ctx context.Context, db *sqldb.DB, tx *sqlx.Tx, keys []matchKey, found matches) error {
	bySubscription := map[subscription][]subscriber{}
	var wanted []subscription
	for _, key := range keys {
		for _, sub := range key.subscriptions() {
			if _, asked := bySubscription[sub]; !asked {
				bySubscription[sub] = nil
				wanted = append(wanted, sub)
			}
		}
	}
	err := sqldb.LookUp(db, selectMatches, wanted, func(st *sqldb.Statement) error {
		var rows []struct {
			subscriber
			Pattern string
			Persona string `db:"persona_id"`
		}
		err := st.Select(ctx, tx, &rows)
		for _, row := range rows {
			sub := subscription{row.WorkspaceID, row.Pattern, row.Persona}
			bySubscription[sub] = append(bySubscription[sub], row.subscriber)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range keys {
		var all []subscriber
		for _, sub := range key.subscriptions() {
			all = append(all, bySubscription[sub]...)
		}
		slices.SortFunc(all, func(a, b subscriber) int { return strings.Compare(a.ID, b.ID) })
		found[key] = slices.CompactFunc(all, func(a, b subscriber) bool { return a.ID == b.ID })
	}
	return nil
}

func readNamed(ctx context.Context, tx *sqlx.Tx, webhookIDs []string, found *subscribers) error {
	if len(webhookIDs) == 0 {
		return nil
	}
	var rows []addressee
	err := sqldb.SQL(selectNamed).In(webhookIDs).Select(ctx, tx, &rows)
	for _, w := range rows {
		found.byID[w.ID] = w
	}
	return err
}

// matching returns the webhooks that get an event of the publication, each once, in the order of
// ids. It adds the filters that were not evaluated to missing. Returns [postrider.CodeInvalid] for an
// event to a webhook that its workspace does not have, or that is another persona's: one customer's
// data must not go to another by a slip of the publisher.
func (f *subscribers) matching(p publication, event int, missing *[]string) ([]subscriber, error) {
	e := p.Events[event].Event
	if e.WebhookID == nil {
		return p.filtered(f.byKey[matchKeyOf(p.WorkspaceID, e)], event, missing), nil
	}
	to := f.byID[*e.WebhookID]
	broken := postrider.FieldError{Field: "webhook_id", Value: *e.WebhookID}
	switch {
	case to.WorkspaceID != p.WorkspaceID:
		broken.Message = "must be a webhook of the workspace"
	case to.PersonaID != nil && e.PersonaID != nil && *to.PersonaID != *e.PersonaID:
		broken.Message = "must be no webhook of another persona than persona_id"
	default:
		return []subscriber{to.subscriber}, nil
	}
	return nil, postrider.Invalid([]postrider.FieldError{broken})
}

// maxCached bounds the cache, in keys and their webhooks together; it comes to some 20 MB.
const maxCached = 100_000

// matchCache remembers which webhooks events go to. An entry is right as long as the
// workspace's generation is the same. It is safe for concurrent use.
type matchCache struct {
	mu    sync.Mutex
	known map[matchKey]cachedMatch
	size  int
}

type cachedMatch struct {
	generation string
	webhooks   []subscriber
	filters    []string // of the webhooks
}

func (m cachedMatch) size() int {
	size := 1 + len(m.webhooks)
	for _, w := range m.webhooks {
		if w.filters() {
			size += len(*w.Filter) / 200 // a webhook without one takes some 200 bytes
		}
	}
	return size
}

// cached fills in the webhooks that the cache has and returns the other keys.
func (c *matchCache) cached(found matches, generations map[string]generation) (unknown []matchKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range found {
		entry, known := c.known[key]
		if known && entry.generation == generations[key.workspaceID].Generation {
			found[key] = entry.webhooks
		} else {
			unknown = append(unknown, key)
		}
	}
	return unknown
}

// filtersOf returns the filters that the publication's events will probably have to pass.
func (c *matchCache) filtersOf(p postrider.Publication) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, e := range p.Events {
		for _, filter := range c.known[matchKeyOf(p.WorkspaceID, e.Event)].filters {
			if !slices.Contains(all, filter) {
				all = append(all, filter)
			}
		}
	}
	return all
}

// filtersOf returns the webhooks' filters.
func filtersOf(webhooks []subscriber) []string {
	var filters []string
	for _, w := range webhooks {
		if w.filters() {
			filters = append(filters, *w.Filter)
		}
	}
	slices.Sort(filters)
	return slices.Compact(filters)
}

// cache keeps the matches that were read. When there is no room, it forgets all others.
func (c *matchCache) cache(read []matchKey, found matches, generations map[string]generation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range read {
		entry := cachedMatch{generation: generations[key.workspaceID].Generation, webhooks: found[key], filters: filtersOf(found[key])}
		if before, known := c.known[key]; known {
			c.size -= before.size()
			delete(c.known, key)
		}
		if c.size+entry.size() > maxCached {
			clear(c.known)
			c.size = 0
		}
		if entry.size() <= maxCached {
			c.known[key] = entry
			c.size += entry.size()
		}
	}
}
