package store

import (
	"context"
	"strings"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// listed is a row of a list.
type listed[Item any] interface {
	item() (Item, error) // as the caller gets it
	cursor() string      // the id by which the next page is asked for
}

// listOf completes a statement that ends with conditions by those of a page, and returns the
// page, newest first, ordered by the id, which is the last of the columns. The statement
// has the other columns pinned, see [sqldb.Statement.PinnedTo].
func listOf[Row listed[Item], Item any](
	ctx context.Context, q sqldb.Querier, st *sqldb.Statement, p postrider.Page, columns ...string,
) (postrider.List[Item], error) {
	limit := p.Limit
	if limit < 1 {
		limit = postrider.DefaultPageSize
	}
	limit = min(limit, postrider.MaxPageSize)
	if p.After != "" {
		st.Add(" AND "+columns[len(columns)-1]+" < ?", p.After)
	}
	// One row more than asked for tells whether there is another page.
	st.Add(" ORDER BY "+strings.Join(columns, " DESC, ")+" DESC LIMIT ?", limit+1)
	var rows []Row
	if err := st.Select(ctx, q, &rows); err != nil {
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
