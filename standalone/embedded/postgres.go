package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"go.temporal.io/server/common/config"
	pgplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/postgresql"
)

// Connections of one service. The server has four services with a pool for each store. Together
// with Postrider's 24 connections that is below PostgreSQL's default limit of 100.
const (
	executionsConns = 10
	visibilityConns = 5
)

// postgresShards is how many workflows can write history at the same time. More shards would cost
// memory and idle work without a benefit on one machine.
const postgresShards = 4

// postgresDatabase is Temporal's two databases, on the PostgreSQL server of Postrider's database.
type postgresDatabase struct {
	url    *url.URL
	plain  bool
	logger *slog.Logger
	claim  *claim
}

func newPostgresDatabase(cfg Config) (*postgresDatabase, error) {
	u, err := url.Parse(cfg.DatabaseURL)
	if err != nil {
		return nil, errors.New("the database URL cannot be parsed") // the parser's error repeats the password
	}
	if u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
		return nil, errors.New("the database URL must name a host and a database")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "5432")
	}
	return &postgresDatabase{url: u, plain: cfg.Plain, logger: cfg.Logger}, nil
}

func (d *postgresDatabase) executions() *config.SQL { return d.store("_temporal", executionsConns) }
func (d *postgresDatabase) visibility() *config.SQL {
	return d.store("_temporal_visibility", visibilityConns)
}
func (d *postgresDatabase) shards() int32 { return postgresShards }

// name returns the name of one of Temporal's databases.
func (d *postgresDatabase) name(suffix string) string { return strings.Trim(d.url.Path, "/") + suffix }

func (d *postgresDatabase) store(suffix string, conns int) *config.SQL {
	password, _ := d.url.User.Password()
	attributes := map[string]string{}
	for name, values := range d.url.Query() {
		attributes[name] = values[0]
	}
	plugin := pgplugin.PluginNamePGX
	if d.plain {
		plugin = pgplugin.PluginName
	}
	return &config.SQL{
		PluginName: plugin, ConnectAddr: d.url.Host, ConnectAttributes: attributes,
		User: url.PathEscape(d.url.User.Username()), Password: password, DatabaseName: d.name(suffix),
		MaxConns: conns, MaxIdleConns: conns,
	}
}

// open opens a database on the server.
func (d *postgresDatabase) open(name string) (*sql.DB, error) {
	u := *d.url
	u.Path = "/" + name
	db, err := sql.Open("pgx", u.String())
	if err != nil {
		return nil, errors.New("the database URL is not valid for PostgreSQL's driver")
	}
	return db, nil
}

// prepare creates the databases, claims them and migrates their tables. Without the claim, two
// servers would overwrite each other's workflows.
func (d *postgresDatabase) prepare(ctx context.Context) error {
	for _, suffix := range []string{"_temporal", "_temporal_visibility"} {
		if err := d.create(ctx, d.name(suffix)); err != nil {
			return err
		}
	}
	var err error
	if d.claim, err = d.take(ctx); err != nil {
		return err
	}
	if err := d.migrate(ctx); err != nil {
		return errors.Join(err, d.release(ctx))
	}
	return nil
}

// SQLSTATEs, https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	insufficientPrivilege = "42501"
	duplicateDatabase     = "42P04"
	uniqueViolation       = "23505" // also when two processes create the same database
)

// create creates a database unless it exists.
func (d *postgresDatabase) create(ctx context.Context, name string) (err error) {
	db, err := d.open(strings.Trim(d.url.Path, "/"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var found bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", name).Scan(&found); err != nil {
		return fmt.Errorf("look for database %s: %w", name, err)
	}
	if found {
		return nil
	}
	_, err = db.ExecContext(ctx, `CREATE DATABASE "`+strings.ReplaceAll(name, `"`, `""`)+`"`)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &refused):
		return fmt.Errorf("create database %s: %w", name, err)
	case refused.Code == duplicateDatabase, refused.Code == uniqueViolation:
		return nil
	case refused.Code == insufficientPrivilege:
		return fmt.Errorf("the role %[2]q may not create databases: "+
			"have somebody who may run CREATE DATABASE %[1]q OWNER %[2]q, for %[3]s and %[4]s",
			name, d.url.User.Username(), d.name("_temporal"), d.name("_temporal_visibility"))
	}
	return fmt.Errorf("create database %s: %w", name, err)
}

// release ends the claim.
func (d *postgresDatabase) release(context.Context) error {
	if d.claim == nil {
		return nil
	}
	return d.claim.end()
}

// claimPatience is how long take waits for an earlier claim to end. PostgreSQL needs some time to
// notice that a killed process is gone.
const claimPatience = 10 * time.Second

// take claims the databases. It returns an error when another process keeps its claim.
func (d *postgresDatabase) take(ctx context.Context) (*claim, error) {
	db, err := d.open(d.name("_temporal"))
	if err != nil {
		return nil, err
	}
	c := &claim{db: db, logger: d.logger}
	bound, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	for {
		taken, err := c.try(bound)
		if taken {
			c.keep(ctx)
			return c, nil
		}
		if err != nil && ctx.Err() == nil && bound.Err() == nil {
			return nil, errors.Join(fmt.Errorf("claim database %s: %w", d.name("_temporal"), err), db.Close())
		}
		pause, end := context.WithTimeout(bound, 100*time.Millisecond)
		<-pause.Done()
		end()
		if bound.Err() != nil {
			err := fmt.Errorf("database %s: another process runs Temporal on it; stop that one, or give this one another database",
				d.name("_temporal"))
			return nil, errors.Join(err, db.Close())
		}
	}
}
