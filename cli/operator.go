package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"postrider.dev/postrider/server"
	"postrider.dev/postrider/store"
)

// OperatorSettings are the settings of an operator's command on the database.
type OperatorSettings struct {
	server.DatabaseSettings
	server.LogSettings
}

// open opens the database without encryption keys and without a check of its schema.
func (o *OperatorSettings) open(ctx context.Context) (*store.Store, error) {
	db, err := store.Open(ctx, o.DatabaseURL, store.Options{
		Keys: store.NoKeys(), Now: time.Now, IDs: server.NewIDs(), Logger: o.Logger(slog.LevelDebug),
	})
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	return db, nil
}

// with opens the database, runs work on it and closes it. It returns an error when the schema
// is not this build's.
func (o *OperatorSettings) with(ctx context.Context, work func(*store.Store) error) error {
	db, err := o.open(ctx)
	if err != nil {
		return err
	}
	err = db.CheckSchema(ctx)
	if err == nil {
		err = work(db)
	}
	return errors.Join(err, db.Close())
}
