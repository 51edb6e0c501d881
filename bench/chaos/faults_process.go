package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"time"
)

// killPart kills a part, and starts it again after a while.
func killPart(name string, away time.Duration) func(context.Context, *chaos) error {
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
	return func(ctx context.Context, c *chaos) error { return c.restart(ctx, name) }
}

// restart ends parts as an operator does, and starts them again, one after another.
func (c *chaos) restart(ctx context.Context, names ...string) error {
	for _, name := range names {
		p := c.system.part(name)
		if err := p.process.Stop(); err != nil {
			return fmt.Errorf("%s did not end cleanly: %w", name, err)
		}
		if err := p.restart(ctx); err != nil {
			return err
		}
	}
	return nil
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

// rollingRestart restarts the processes in the order of docs/operations.md, "Upgrade".
func rollingRestart(ctx context.Context, c *chaos) error {
	return c.restart(ctx, partWorker1, partWorker2, partAPI)
}

// rotateKeys changes the encryption key in the steps of docs/operations.md, "Key rotation". The
// processes take each step in an order by chance.
func rotateKeys(ctx context.Context, c *chaos) error {
	before, after := c.system.keys[0], newKey()
	for _, keys := range [][]string{{before, after}, {after, before}} {
		c.system.keys = keys
		if err := c.restart(ctx, c.shuffled(partAPI, partWorker1, partWorker2)...); err != nil {
			return err
		}
		if err := c.rotateSecret(ctx); err != nil { // it is encrypted with the first key
			return err
		}
	}
	if _, err := c.system.operate(ctx, "secrets", "reencrypt"); err != nil {
		return err
	}
	c.system.keys = []string{after}
	return c.restart(ctx, c.shuffled(partAPI, partWorker1, partWorker2)...)
}

// rotateKeysHastily changes the encryption key without the step that is there for workers: for a
// while they cannot read one secret, and then none.
func rotateKeysHastily(ctx context.Context, c *chaos) error {
	after := newKey()
	c.system.keys = []string{after, c.system.keys[0]}
	if err := c.restart(ctx, partAPI); err != nil {
		return err
	}
	if err := c.rotateSecret(ctx); err != nil {
		return err
	}
	pause(ctx, 3*time.Second)
	if _, err := c.system.operate(ctx, "secrets", "reencrypt"); err != nil {
		return err
	}
	pause(ctx, 3*time.Second)
	return c.restart(ctx, partWorker1, partWorker2)
}

// rotateSecret gives a good webhook another secret.
func (c *chaos) rotateSecret(ctx context.Context) error {
	api := c.system.client()
	return api.Call(ctx, http.MethodPost, "/api/v1/webhooks/"+c.ledger.webhook(goodPath(0))+"/secret/rotate", nil, nil)
}

// shuffled returns the names in an order by chance.
func (c *chaos) shuffled(names ...string) []string {
	names = slices.Clone(names)
	c.chance.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}
