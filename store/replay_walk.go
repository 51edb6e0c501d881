package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/shaping"
	"postrider.dev/postrider/store/sqldb"
)

// replayWalk finds what a replay job sends: it walks along the ids of the webhook's deliveries, and then
// along the keys of the workspace's events for those that are missing, a page at a time and in the order of
// acceptance. A place on the way is such an id: everything up to it was looked at. Ids of events come after those
// of deliveries, and walkEnd after all.
type replayWalk struct {
	postrider.ReplaySpec
}

const walkEnd = "~"

// Pages of a walk.
const (
	deliveriesLooked = 1000 // rows that a page looks at
	eventsLooked     = 200  // a filter may have to read their bodies
)

// candidate is what a job sends.
type candidate struct {
	at      string // its place
	event   eventRow
	repeats *string // the delivery that it repeats; nil for an event that is missing
}

func walkOf(spec postrider.ReplaySpec) replayWalk { return replayWalk{spec} }

// ended returns the states of deliveries that the job sends again.
func (w replayWalk) ended() []postrider.DeliveryState {
	var states []postrider.DeliveryState
	for _, what := range w.States {
		if what != postrider.ReplayOfMissing {
			states = append(states, postrider.DeliveryState(what))
		}
	}
	return states
}

// begin returns the place before everything.
func (w replayWalk) begin() string {
	if len(w.ended()) == 0 {
		return w.beginMissing()
	}
	return postrider.IDFloor(postrider.PrefixDelivery, w.Since)
}

// beginMissing returns the place after the deliveries.
func (w replayWalk) beginMissing() string {
	if !w.Wants(postrider.ReplayOfMissing) {
		return walkEnd
	}
	return postrider.IDFloor(postrider.PrefixEvent, w.Since)
}

// page returns what is sent of the next rows after a place, up to so many rows, and the place that it came to.
func (s *Store) replayPage(ctx context.Context, q sqldb.Querier, w replayWalk, after string, most int) ([]candidate, string, error) {
	if strings.HasPrefix(after, postrider.PrefixDelivery+"_") {
		return s.replayDeliveries(ctx, q, w, after, min(most, deliveriesLooked))
	}
	return s.replayMissing(ctx, q, w, after, min(most, eventsLooked))
}

// endedDelivery is a delivery that may be sent again.
type endedDelivery struct {
	ID        string
	State     postrider.DeliveryState
	EventKey  string  `db:"event_key"`
	EventType string  `db:"event_type"`
	ReplayOf  *string `db:"replay_of"`
	Lane      *string
}

func (s *Store) replayDeliveries(
	ctx context.Context, q sqldb.Querier, w replayWalk, after string, most int,
) (found []candidate, to string, err error) {
	looked, err := w.lookAtDeliveries(ctx, q, after, most)
	if err != nil {
		return nil, "", err
	}
	if to = w.beginMissing(); len(looked) == most {
		to = looked[most-1].ID
	}
	ended := w.ended()
	wanted := slices.DeleteFunc(looked, func(d endedDelivery) bool {
		return !slices.Contains(ended, d.State) || !w.WantsType(d.EventType)
	})
	if wanted, err = w.notRepeated(ctx, q, wanted); err != nil {
		return nil, "", err
	}
	keys := make([]string, len(wanted))
	for i, d := range wanted {
		keys[i] = d.EventKey
	}
	events, err := keyed(ctx, q, selectEventsWithoutBodies, "key", keys, eventRow.cursor)
	for _, d := range wanted {
		if e, kept := events[d.EventKey]; kept && s.worthSending(e) {
			found = append(found, candidate{d.ID, e, &d.ID})
		}
	}
	return found, to, err
}

// lookAtDeliveries reads the webhook's next deliveries, those of the states alone where an index has them.
func (w replayWalk) lookAtDeliveries(ctx context.Context, q sqldb.Querier, after string, most int) (looked []endedDelivery, err error) {
	end := postrider.IDFloor(postrider.PrefixDelivery, w.Until)
	walk := func(state string, order string) error {
		st := sqldb.SQL(selectEnded).PinnedTo("webhook_id", w.WebhookID)
		if state != "" {
			st.Add(" AND ").PinnedTo("trouble", state)
		}
		var rows []endedDelivery
		err := st.Add(" AND id > ? AND id < ? ORDER BY "+order+" LIMIT ?", after, end, most).Select(ctx, q, &rows)
		looked = append(looked, rows...)
		return err
	}
	if w.Wants(postrider.ReplayOfSucceeded) {
		err := walk("", "webhook_id, id")
		return looked, err
	}
	for _, state := range w.ended() {
		if err := walk(string(state), "webhook_id, trouble, id"); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(looked, func(a, b endedDelivery) int { return cmp.Compare(a.ID, b.ID) })
	return looked[:min(len(looked), most)], nil
}

// notRepeated returns the deliveries whose events were not sent again meanwhile: by a delivery that the job
// comes to itself, or, where this one did not succeed, by one that did, or that is not finished.
func (w replayWalk) notRepeated(ctx context.Context, q sqldb.Querier, wanted []endedDelivery) ([]endedDelivery, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	byID := make(map[string]endedDelivery, len(wanted))
	ids := make([]string, len(wanted))
	for i, d := range wanted {
		ids[i], byID[d.ID] = d.ID, d
	}
	var repeats []endedDelivery
	if err := sqldb.SQL(selectEnded+"replay_of IS NOT NULL AND replay_of IN").In(ids).Select(ctx, q, &repeats); err != nil {
		return nil, err
	}
	end := postrider.IDFloor(postrider.PrefixDelivery, w.Until)
	repeated := map[string]bool{}
	for _, r := range repeats {
		comes := r.ID < end && slices.Contains(w.ended(), r.State)
		answered := byID[*r.ReplayOf].State != postrider.StateSucceeded && (!r.State.Finished() || r.State == postrider.StateSucceeded)
		if comes || answered {
			repeated[*r.ReplayOf] = true
		}
	}
	return slices.DeleteFunc(wanted, func(d endedDelivery) bool { return repeated[d.ID] }), nil
}

// worthSending reports whether an event can be sent now: it has not expired, and is not to come later.
func (s *Store) worthSending(e eventRow) bool {
	now := s.now()
	return (e.ExpiresAt == nil || e.ExpiresAt.After(now)) && (e.DeliverAt == nil || !e.DeliverAt.After(now))
}

// replayMissing returns the events that match the webhook as it is now, and have no delivery to it.
func (s *Store) replayMissing(
	ctx context.Context, q sqldb.Querier, w replayWalk, after string, most int,
) (found []candidate, to string, err error) {
	webhook, err := s.webhook(ctx, q, w.WorkspaceID, w.WebhookID, "")
	if postrider.CodeOf(err) == postrider.CodeNotFound {
		return nil, walkEnd, nil
	}
	if err != nil && !errors.Is(err, errUndecryptable) {
		return nil, "", err
	}
	looked, err := w.lookAtEvents(ctx, q, webhook.Filter != nil, after, most)
	if err != nil {
		return nil, "", err
	}
	if to = walkEnd; len(looked) == most {
		to = looked[most-1].Key
	}
	matching := slices.DeleteFunc(looked, func(e eventRow) bool {
		return !w.WantsType(e.Type) || !isFor(webhook, e) || e.CalledOffAt != nil || !s.worthSending(e)
	})
	if matching, err = s.passing(ctx, webhook.Filter, matching); err != nil {
		return nil, "", err
	}
	delivered, err := deliveredTo(ctx, q, w, matching)
	for _, e := range matching {
		if !delivered[e.Key] {
			found = append(found, candidate{at: e.Key, event: e})
		}
	}
	return found, to, err
}

// lookAtEvents reads the workspace's next events, with their bodies where a filter needs them.
func (w replayWalk) lookAtEvents(
	ctx context.Context, q sqldb.Querier, withBodies bool, after string, most int,
) (looked []eventRow, err error) {
	columns := selectEventsWithoutBodies
	if withBodies {
		columns = selectEvents
	}
	end := postrider.IDFloor(postrider.PrefixEvent, w.Until)
	err = sqldb.SQL(columns).PinnedTo("workspace_id", w.WorkspaceID).
		Add(" AND key > ? AND key < ? ORDER BY workspace_id, key LIMIT ?", after, end, most).Select(ctx, q, &looked)
	return looked, err
}

// isFor reports whether the webhook subscribes to the event, without its filter. What goes to one webhook
// alone is nobody else's, and had its delivery.
func isFor(w postrider.Webhook, e eventRow) bool {
	if e.WebhookID != nil {
		return false
	}
	if w.ScopeType == postrider.ScopePersona && (e.PersonaID == nil || w.PersonaID == nil || *e.PersonaID != *w.PersonaID) {
		return false
	}
	return slices.ContainsFunc(postrider.PatternsFor(e.Type), func(p string) bool { return slices.Contains(w.Events, p) })
}

// passing returns the events that the filter lets through. A filter that fails on an event does not match it.
func (s *Store) passing(ctx context.Context, filter *string, events []eventRow) ([]eventRow, error) {
	if filter == nil || len(events) == 0 {
		return events, nil
	}
	select {
	case s.judging <- struct{}{}:
		defer func() { <-s.judging }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	var through []eventRow
	for _, row := range events {
		event, err := shaping.NewEvent(row.Body)
		if err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if matches, err := s.shaper.Matches(*filter, event); err == nil && matches {
			through = append(through, row)
		}
	}
	return through, nil
}

// deliveredTo returns which of the events have a delivery to the webhook, or will have one that a fan-out has
// still to make. It looks for fan-outs first: one that ends meanwhile has made its deliveries by then.
func deliveredTo(ctx context.Context, q sqldb.Querier, w replayWalk, events []eventRow) (map[string]bool, error) {
	delivered := map[string]bool{}
	if len(events) == 0 {
		return delivered, nil
	}
	fanOuts, err := sqldb.SQL("SELECT events FROM fanouts WHERE ").PinnedTo("workspace_id", w.WorkspaceID).
		Add(" AND webhooks LIKE ?", `%"`+w.WebhookID+`"%`).Strings(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, text := range fanOuts {
		var keys []string
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			return nil, err
		}
		for _, key := range keys {
			delivered[key] = true
		}
	}
	keys := make([]string, len(events))
	for i, e := range events {
		keys[i] = e.Key
	}
	known, err := sqldb.SQL("SELECT DISTINCT event_key FROM deliveries WHERE webhook_id || '' = ? AND event_key IN", w.WebhookID).
		In(keys).Strings(ctx, q)
	for _, key := range known {
		delivered[key] = true
	}
	return delivered, err
}

// maxDryRun is how many rows a dry run looks at, at most.
const maxDryRun = 200_000

// CountReplay returns how many deliveries a job would make now. Returns [postrider.CodeNotFound] if the
// workspace does not have the webhook, and [postrider.CodeInvalid] for a period with too much to look at.
func (s *Store) CountReplay(ctx context.Context, spec postrider.ReplaySpec) (matched int, err error) {
	if _, err := s.Webhook(ctx, spec.WorkspaceID, spec.WebhookID); err != nil {
		return 0, err
	}
	w := walkOf(spec)
	looked := 0
	for at := w.begin(); at != walkEnd; {
		page := eventsLooked
		if strings.HasPrefix(at, postrider.PrefixDelivery+"_") {
			page = deliveriesLooked
		}
		if looked += page; looked > maxDryRun {
			return 0, tooLongToCount()
		}
		var found []candidate
		if found, at, err = s.replayPage(ctx, s.db.Reading, w, at, page); err != nil {
			if ctx.Err() != nil {
				return 0, tooLongToCount()
			}
			return 0, sqldb.Failure("count a replay", err)
		}
		matched += len(found)
	}
	return matched, nil
}

func tooLongToCount() error {
	return postrider.Invalid([]postrider.FieldError{{
		Field:   "since",
		Message: "must be nearer to until for a dry run: there is too much to look at. A replay without dry_run counts as it goes",
	}})
}
