// Package schema holds the database's tables as migrations: goose's numbered SQL
// files, one folder a database. The two folders tell the same story in the same
// order; they differ in the names of types, in collations, and in that PostgreSQL
// partitions by day what grows.
//
// A migration that was released is never edited, only followed by another. To see what all of
// them come to, read current.sql in either folder: it is generated, and not embedded.
package schema

import (
	"embed"
	"io/fs"
)

//go:embed postgres/[0-9]*.sql sqlite/[0-9]*.sql
var files embed.FS

// Postgres returns the migrations for PostgreSQL 14 and later.
func Postgres() (fs.FS, error) { return fs.Sub(files, "postgres") }

// SQLite returns the migrations for SQLite 3.35 and later.
func SQLite() (fs.FS, error) { return fs.Sub(files, "sqlite") }
