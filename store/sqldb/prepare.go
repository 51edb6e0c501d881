package sqldb

import (
	"context"
	"database/sql/driver"

	"github.com/lib/pq"
)

// Limits of the statements that a connection keeps prepared.
const (
	maxPrepared = 256
	maxSeen     = 1024 // texts that are remembered as run once
	// maxPreparedText leaves out statements with long lists of parameters, because the same
	// text is hardly ever run again.
	maxPreparedText = 4096
)

// preparing makes connections that prepare a statement when it is run a second time.
// PostgreSQL then does not parse and plan it again, which takes as long as running one of the
// store's small statements.
type preparing struct{ *pq.Connector }

// Connect implements [driver.Connector].
func (p preparing) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := p.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &preparingConn{
		pqConn: conn.(pqConn), //nolint:errcheck,forcetypeassert // the driver says that it is
		seen:   map[string]bool{}, prepared: map[string]driver.Stmt{},
	}, nil
}

// pqConn is what a connection of the driver implements.
type pqConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// preparingConn is a connection with its prepared statements. It is used by one
// goroutine at a time, as database/sql does.
type preparingConn struct {
	pqConn
	seen     map[string]bool
	prepared map[string]driver.Stmt
}

// Close implements [driver.Conn]. It ignores the error, because the server may have ended the
// connection before, and a connection that is closed has no work left to lose.
func (c *preparingConn) Close() error {
	_ = c.pqConn.Close()
	return nil
}

// QueryContext implements [driver.QueryerContext].
func (c *preparingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	st, err := c.statement(ctx, query)
	if err != nil || st == nil {
		return orElse(err, func() (driver.Rows, error) { return c.pqConn.QueryContext(ctx, query, args) })
	}
	return st.(driver.StmtQueryContext).QueryContext(ctx, args) //nolint:errcheck,forcetypeassert // the driver's are
}

// ExecContext implements [driver.ExecerContext].
func (c *preparingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	st, err := c.statement(ctx, query)
	if err != nil || st == nil {
		return orElse(err, func() (driver.Result, error) { return c.pqConn.ExecContext(ctx, query, args) })
	}
	return st.(driver.StmtExecContext).ExecContext(ctx, args) //nolint:errcheck,forcetypeassert // the driver's are
}

func orElse[T any](err error, run func() (T, error)) (T, error) {
	if err != nil {
		var nothing T
		return nothing, err
	}
	return run()
}

// statement returns the prepared statement, nil for a statement that is run the first time.
func (c *preparingConn) statement(ctx context.Context, query string) (driver.Stmt, error) {
	if st, found := c.prepared[query]; found {
		return st, nil
	}
	if len(query) > maxPreparedText || len(c.prepared) >= maxPrepared {
		return nil, nil
	}
	if !c.seen[query] {
		if len(c.seen) >= maxSeen {
			clear(c.seen)
		}
		c.seen[query] = true
		return nil, nil
	}
	st, err := c.PrepareContext(ctx, query)
	if err == nil {
		c.prepared[query] = st
	}
	return st, err
}
