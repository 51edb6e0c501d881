package store

import (
	"context"
	"strings"

	"postrider.dev/postrider"
)

// listed is a row of a list: what it is to the caller, and the id by which the
// next page is asked for.
type listed[Item any] interface {
	item() (Item, error)
	cursor() string
}

// listOf completes a statement, whose conditions stand, with those of a page and
// returns that page: newest first, which is by the id, the last of the columns. The
// others have one value only, see [statement.only].
func listOf[Row listed[Item], Item any](ctx context.Context, q querier, st *statement, p postrider.Page, columns ...string) (postrider.List[Item], error) {
	limit := p.Limit
	if limit < 1 {
		limit = postrider.DefaultPageSize
	}
	limit = min(limit, postrider.MaxPageSize)
	if p.After != "" {
		st.add(" AND "+columns[len(columns)-1]+" < ?", p.After)
	}
	// One more than asked for tells whether there is another page.
	st.add(" ORDER BY "+strings.Join(columns, " DESC, ")+" DESC LIMIT ?", limit+1)
	var rows []Row
	if err := st.selectInto(ctx, q, &rows); err != nil {
		return postrider.List[Item]{}, err
	}
	var list postrider.List[Item]
	if len(rows) > limit {
		rows = rows[:limit]
		list.Next = rows[limit-1].cursor()
	}
	list.Items = make([]Item, len(rows))
	for i, row := range rows {
		made, err := row.item()
		if err != nil {
			return postrider.List[Item]{}, err
		}
		list.Items[i] = made
	}
	return list, nil
}
