package embedded

import (
	"context"
	"errors"

	"go.temporal.io/server/common/config"
)

// ErrOtherSchema says that the database was made by a version of the server with
// other tables.
var ErrOtherSchema = errors.New("temporal's database has another version's tables")

// database is where the server keeps what it must not lose.
type database interface {
	// prepare makes the database and its tables where they are missing, brings them
	// up to date, and claims them for this process.
	prepare(ctx context.Context) error
	// executions and visibility are the server's two stores.
	executions() *config.SQL
	visibility() *config.SQL
	// shards is the number of history shards of a new database. It cannot be changed
	// afterwards: the server goes by what the database was made with.
	shards() int32
	// release ends what prepare began, when the server has stopped.
	release(ctx context.Context) error
}

// databaseOf returns the database that the configuration names.
func databaseOf(cfg Config) (database, error) {
	if cfg.DatabaseURL == "" {
		return &sqliteDatabase{path: cfg.databasePath()}, nil
	}
	return newPostgresDatabase(cfg)
}
