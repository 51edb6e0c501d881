package store

import (
	"context"
	"slices"
	"strconv"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// maxLooked is the most deliveries that a page of a search looks at, where no index has what is
// asked for: a page may have fewer items than its limit, or none, and yet go on. It is less than
// [maxLookedAt], because a search looks into attempts, too, and goes along several indexes at once,
// which is why it is no [listing].
const maxLooked = 2000

// SearchDeliveries lists deliveries of a workspace, newest first. A page looks at a bounded number
// of deliveries, however few are found.
func (s *Store) SearchDeliveries(
	ctx context.Context, workspaceID string, f postrider.DeliverySearch, p postrider.Page,
) (postrider.List[postrider.Delivery], error) {
	list, err := s.searchDeliveries(ctx, workspaceID, f, p)
	return list, sqldb.Failure("search deliveries", err)
}

func (s *Store) searchDeliveries(
	ctx context.Context, workspaceID string, f postrider.DeliverySearch, p postrider.Page,
) (list postrider.List[postrider.Delivery], err error) {
	list.Items = []postrider.Delivery{}
	if f.WebhookID != "" {
		if err := s.hadWebhook(ctx, workspaceID, f.WebhookID); err != nil {
			if postrider.CodeOf(err) == postrider.CodeNotFound {
				err = nil
			}
			return list, err
		}
	}
	search := newSearch(workspaceID, f, p)
	looked, err := search.candidates().Strings(ctx, s.db.Reading)
	if err != nil || len(looked) == 0 {
		return list, err
	}
	var rows []deliveryRow
	if err := search.matching(looked).Select(ctx, s.db.Reading, &rows); err != nil {
		return list, err
	}
	switch {
	case len(rows) > search.limit:
		rows = rows[:search.limit]
		list.Next = rows[search.limit-1].ID
	case len(looked) == search.look:
		list.Next = looked[len(looked)-1]
	}
	for _, row := range rows {
		d, err := row.item()
		if err != nil {
			return list, err
		}
		list.Items = append(list.Items, d)
	}
	return list, nil
}

// search is one page of a search.
type search struct {
	postrider.DeliverySearch

	workspaceID string
	after       string
	limit       int
	look        int // how many candidates there are at most
}

func newSearch(workspaceID string, f postrider.DeliverySearch, p postrider.Page) *search {
	q := &search{DeliverySearch: f, workspaceID: workspaceID, after: p.After, limit: pageSize(p), look: maxLooked}
	if q.byIndex() && f.EventType == "" && f.Result == "" && f.StatusCode == 0 {
		q.look = q.limit + 1 // each candidate is a match, and one more tells whether there is another page
	}
	return q
}

// byIndex reports whether indexes have the states asked for.
func (q *search) byIndex() bool {
	return !slices.ContainsFunc(q.States, func(state postrider.DeliveryState) bool { return !slices.Contains(troubleStates(), state) })
}

// candidates finds the newest deliveries by the indexes, one for each state that they have.
func (q *search) candidates() *sqldb.Statement {
	if len(q.States) == 0 || !q.byIndex() {
		return q.inIndex("")
	}
	st := sqldb.SQL("SELECT id FROM (")
	for i, state := range q.States {
		if i > 0 {
			st.Add(" UNION ALL ")
		}
		st.Add("SELECT id FROM (").Append(q.inIndex(state)).Add(") s" + strconv.Itoa(i))
	}
	return st.Add(") found ORDER BY id DESC LIMIT ?", q.look)
}

// inIndex finds the newest deliveries of the webhook or the workspace, of one state unless it is "".
func (q *search) inIndex(state postrider.DeliveryState) *sqldb.Statement {
	column, value := "workspace_id", q.workspaceID
	st := sqldb.SQL("SELECT id FROM deliveries WHERE ")
	if q.WebhookID != "" {
		column, value = "webhook_id", q.WebhookID
		st.Add(ofWorkspace+" AND ", q.workspaceID)
	}
	st.PinnedTo(column, value)
	if state != "" {
		st.Add(" AND trouble = ?", state)
	}
	if !q.Since.IsZero() {
		st.Add(" AND id >= ?", postrider.IDFloor(postrider.PrefixDelivery, q.Since))
	}
	if !q.Until.IsZero() {
		st.Add(" AND id < ?", postrider.IDFloor(postrider.PrefixDelivery, q.Until))
	}
	if q.after != "" {
		st.Add(" AND id < ?", q.after)
	}
	return st.Add(" ORDER BY "+column+" DESC, id DESC LIMIT ?", q.look)
}

// matching reads those of the candidates, the newest first, that match what indexes do not have.
func (q *search) matching(looked []string) *sqldb.Statement {
	oldestFirst := slices.Clone(looked)
	slices.Reverse(oldestFirst)
	st := sqldb.SQL(selectDeliveries).InKeyRange("d.id", oldestFirst)
	if q.EventType != "" {
		st.Add(" AND d.event_type = ?", q.EventType)
	}
	if len(q.States) > 0 && !q.byIndex() {
		st.Add(" AND (FALSE")
		for _, state := range q.States {
			st.Add(" OR TRUE")
			addState(st, state)
		}
		st.Add(")")
	}
	if q.Result != "" || q.StatusCode != 0 {
		const latest = " AND EXISTS (SELECT 1 FROM attempts a WHERE a.delivery_id = d.id AND a.number = d.attempt_count"
		st.Add(latest+" AND a.delivery_id BETWEEN ? AND ?", oldestFirst[0], oldestFirst[len(oldestFirst)-1])
		if q.Result != "" {
			st.Add(" AND a.result = ?", q.Result)
		}
		if q.StatusCode != 0 {
			st.Add(" AND a.status_code = ?", q.StatusCode)
		}
		st.Add(")")
	}
	return st.Add(" ORDER BY d.id DESC LIMIT ?", q.limit+1)
}
