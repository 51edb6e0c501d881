package store

import (
	"context"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// emit stores operational events in the transaction of what they tell; they are published after it.
func (s *Store) emit(_ context.Context, _ *sqlx.Tx, _ ...postrider.OperationalEvent) error {
	return nil
}
