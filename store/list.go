package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// maxLookedAt is how many rows a page of a list looks at, at most, where conditions narrow the
// list that no index serves. A page with a twentieth of its rows in the list is full.
const maxLookedAt = 5000

// listed is a row of a list.
type listed[Item any] interface {
	item() (Item, error) // as the caller gets it
	cursor() string      // the id by which the next page is asked for
}

// listing says how a list is read: it walks along an index, and leaves out on the way what does
// not belong to the list. docs/decisions/0011-bounded-reads.md says why.
type listing struct {
	rows  *sqldb.Statement // SELECT … FROM … WHERE, and conditions that every row on the way meets
	table string           // that is walked, with its alias
	// walk are the conditions that the index serves. The order's columns are pinned but the last,
	// see [sqldb.Statement.PinnedTo].
	walk *sqldb.Statement
	// filter are conditions that the index does not serve, each after AND. With any, a page looks
	// at maxLookedAt rows.
	filter *sqldb.Statement
	order  []string // the index's columns, of which the last is the id
}

func (l *listing) id() string { return l.order[len(l.order)-1] }

// ordered is the end of a statement: newest first.
func (l *listing) ordered() string {
	return " ORDER BY " + strings.Join(l.order, " DESC, ") + " DESC LIMIT ?"
}

// end returns the last id that a page looks at, "" when it may look at all.
func (l *listing) end(ctx context.Context, q sqldb.Querier) (string, error) {
	if l.filter == nil || l.filter.Empty() {
		return "", nil
	}
	var id string
	err := sqldb.SQL("SELECT "+l.id()+" FROM "+l.table+" WHERE ").Append(l.walk).
		Add(l.ordered()+" OFFSET ?", 1, maxLookedAt-1).Get(ctx, q, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// page returns the statement of the page's rows, and the last id that it looks at.
func (l *listing) page(ctx context.Context, q sqldb.Querier, p postrider.Page) (st *sqldb.Statement, end string, err error) {
	if p.After != "" {
		l.walk.Add(" AND "+l.id()+" < ?", p.After)
	}
	if end, err = l.end(ctx, q); err != nil {
		return nil, "", err
	}
	st = l.rows.Append(l.walk)
	if end != "" {
		st.Add(" AND "+l.id()+" >= ?", end)
	}
	if l.filter != nil {
		st.Append(l.filter)
	}
	// One row more than asked for tells whether there is another page.
	return st.Add(l.ordered(), p.Limit+1), end, nil
}

// pageSize returns how many items a page has at most.
func pageSize(p postrider.Page) int {
	if p.Limit < 1 {
		return postrider.DefaultPageSize
	}
	return min(p.Limit, postrider.MaxPageSize)
}

// listOf returns a page of the list, newest first. A page that has looked at as many rows as it
// may is shorter than asked for, or empty, and says where the next one goes on.
func listOf[Row listed[Item], Item any](ctx context.Context, q sqldb.Querier, l listing, p postrider.Page) (postrider.List[Item], error) {
	p.Limit = pageSize(p)
	st, end, err := l.page(ctx, q, p)
	if err != nil {
		return postrider.List[Item]{}, err
	}
	var rows []Row
	if err := st.Select(ctx, q, &rows); err != nil {
		return postrider.List[Item]{}, err
	}
	list := postrider.List[Item]{Next: end}
	if len(rows) > p.Limit {
		rows = rows[:p.Limit]
		list.Next = rows[p.Limit-1].cursor()
	}
	list.Items = make([]Item, len(rows))
	for i, row := range rows {
		if list.Items[i], err = row.item(); err != nil {
			return postrider.List[Item]{}, err
		}
	}
	return list, nil
}
