package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"postrider.dev/postrider/bench/harness"
	"postrider.dev/postrider/cli"
	"postrider.dev/postrider/standalone/embedded"
)

// commands is the command line.
type commands struct {
	Run runCommand `cmd:"" default:"withargs" help:"Run everything (the default)."`
}

func main() {
	cli.Main("naive", "Delivers webhooks by a plain Temporal design, to be measured.", &commands{})
}

// runCommand runs Temporal, its worker, and the endpoint.
type runCommand struct{ harness.Settings }

// stopTimeout bounds the stop of the embedded server.
const stopTimeout = 10 * time.Second

// connections is the size of the connection pool to PostgreSQL.
const connections = 20

// Run implements the command.
func (c *runCommand) Run(ctx context.Context) (err error) {
	db, err := sql.Open("postgres", c.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	if _, err := db.ExecContext(ctx, tables); err != nil {
		return err
	}
	server, err := embedded.Start(ctx, embedded.Config{
		Dir: c.DataDir, DatabaseURL: c.DatabaseURL, FrontendListen: "127.0.0.1:0", UIListen: "127.0.0.1:0", Plain: true,
	})
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, server.Stop(bound))
	}()
	temporal, err := client.DialContext(ctx, client.Options{HostPort: server.FrontendAddress()})
	if err != nil {
		return err
	}
	defer temporal.Close()
	n := &naive{db: db, temporal: temporal, key: rand.Text()}
	w := worker.New(temporal, taskQueue, worker.Options{})
	w.RegisterWorkflow(deliver)
	w.RegisterActivity(n.attempt)
	if err := w.Start(); err != nil {
		return err
	}
	defer w.Stop()
	return harness.Serve(ctx, c.Settings, n.key, n.routes())
}
