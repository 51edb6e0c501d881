package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
)

// fault is something that breaks.
type fault struct {
	name string
	// inject breaks it, for as long as it lasts, and heals it.
	inject func(ctx context.Context, c *chaos) error
	// layouts are those in which it can happen.
	layouts []string
}

var (
	everywhere = []string{layoutSQLite, layoutPostgres, layoutCluster} //nolint:gochecknoglobals // constants
	alone      = everywhere[:2]                                        //nolint:gochecknoglobals // constants
	onPostgres = everywhere[1:]                                        //nolint:gochecknoglobals // constants
	cluster    = everywhere[2:]                                        //nolint:gochecknoglobals // constants
)

// faults returns the faults of a layout.
func faults(layout string) []fault {
	all := []fault{
		{"kill -9 of the standalone process", killPart("standalone"), alone},
		{"SIGTERM and a restart of the standalone process", restartPart("standalone"), alone},
		{"SIGSTOP of the standalone process for 5 s", stopPart("standalone", 5*time.Second), alone},
		{"kill -9 of the API", killPart("api"), cluster},
		{"kill -9 of a worker", killPart("worker-1"), cluster},
		{"SIGTERM and a restart of a worker", restartPart("worker-2"), cluster},
		{"SIGSTOP of a worker for 60 s, longer than its leases", stopPart("worker-1", time.Minute), cluster},
		{"kill -9 of Temporal, away for 10 s", killPartFor("temporal", 10*time.Second), cluster},
		{"PostgreSQL stopped at once, and recovering", crashPostgres, onPostgres},
		{"all connections to PostgreSQL cut, five times", cutConnections, onPostgres},
		{"PostgreSQL read-only for 5 s", readOnly, onPostgres},
		{"open workflows terminated", endWorkflows(client.Client.TerminateWorkflow), everywhere},
		{"a storm of events to hostile receivers", storm, everywhere},
		{"a webhook paused and resumed", pauseAndResume, everywhere},
	}
	return slices.DeleteFunc(all, func(f fault) bool { return !slices.Contains(f.layouts, layout) })
}

func killPart(name string) func(context.Context, *chaos) error { return killPartFor(name, 0) }

// killPartFor kills a part, and starts it again after a while.
func killPartFor(name string, away time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		p := c.system.part(name)
		if err := p.process.Kill(); err != nil {
			return err
		}
		pause(ctx, away)
		return p.restart(ctx)
	}
}

func restartPart(name string) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		p := c.system.part(name)
		if err := p.process.Stop(); err != nil {
			return fmt.Errorf("%s did not end cleanly: %w", name, err)
		}
		return p.restart(ctx)
	}
}

// stopPart lets a part stand still: to everybody else it looks alive and slow.
func stopPart(name string, span time.Duration) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		p := c.system.part(name)
		if err := p.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, span)
		return p.signal(syscall.SIGCONT)
	}
}

func crashPostgres(ctx context.Context, c *chaos) error { return c.system.postgres.Crash(ctx) }

func cutConnections(ctx context.Context, c *chaos) error {
	for range 5 {
		err := c.system.postgres.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"+
			" WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'")
		if err != nil {
			return err
		}
		pause(ctx, time.Second)
	}
	return nil
}

func readOnly(ctx context.Context, c *chaos) error {
	err := c.system.postgres.Exec(ctx, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
	pause(ctx, 5*time.Second)
	return errors.Join(err, c.system.postgres.Exec(ctx,
		"SET default_transaction_read_only = off", "ALTER SYSTEM RESET default_transaction_read_only",
		"SELECT pg_reload_conf()"))
}

// endWorkflows ends all workflows that carry deliveries now, behind Postrider's back.
func endWorkflows(
	end func(client.Client, context.Context, string, string, string, ...any) error,
) func(context.Context, *chaos) error {
	return func(ctx context.Context, c *chaos) error {
		temporal, err := client.DialContext(ctx, client.Options{
			HostPort: c.system.temporal, Namespace: c.system.namespace, Logger: log.NewStructuredLogger(c.logger),
		})
		if err != nil {
			return err
		}
		defer temporal.Close()
		open, err := temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: "WorkflowType = 'Delivery' AND ExecutionStatus = 'Running'", PageSize: 100,
		})
		if err != nil {
			return err
		}
		for _, e := range open.GetExecutions() {
			if err := end(temporal, ctx, e.GetExecution().GetWorkflowId(), "", "chaos"); err == nil {
				c.ended++
			}
		}
		return nil
	}
}

func storm(ctx context.Context, c *chaos) error {
	for range stormSize {
		c.publish(ctx, badEvents)
	}
	return nil
}

// pauseAndResume pauses a good webhook while events come for it.
func pauseAndResume(ctx context.Context, c *chaos) error {
	for id, w := range c.ledger.webhooks {
		if w.path != "/good/0" {
			continue
		}
		api := c.system.client()
		if err := api.Call(ctx, "POST", "/api/v1/webhooks/"+id+"/pause", nil, nil); err != nil {
			return err
		}
		pause(ctx, 3*time.Second)
		return api.Call(ctx, "POST", "/api/v1/webhooks/"+id+"/resume", nil, nil)
	}
	return errors.New("there is no webhook to pause")
}
