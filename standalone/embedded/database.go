package embedded

import (
	"context"
	"errors"

	"go.temporal.io/server/common/config"
)

// ErrOtherSchema means that another version of the server, with other tables, has made the
// database.
var ErrOtherSchema = errors.New("temporal's database has another version's tables")

// database is the storage of the server: a SQLite file, or two databases on PostgreSQL.
type database interface {
	// prepare creates and migrates the database and its tables, and claims them for this
	// process.
	prepare(ctx context.Context) error
	// executions and visibility return the configurations of the server's two stores.
	executions() *config.SQL
	visibility() *config.SQL
	// shards returns the number of history shards of a new database. It cannot be changed
	// later: the server uses the number that the database was created with.
	shards() int32
	// release ends the claim, after the server has stopped.
	release(ctx context.Context) error
}

// databaseOf returns the database that the configuration names.
func databaseOf(cfg Config) (database, error) {
	if cfg.DatabaseURL == "" {
		return &sqliteDatabase{path: cfg.databasePath()}, nil
	}
	return newPostgresDatabase(cfg)
}
