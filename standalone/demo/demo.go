package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// limit is how long the whole demo may take.
const limit = time.Minute

// pollInterval is how often the demo asks for states.
const pollInterval = 50 * time.Millisecond

// Command is the demo as a command.
type Command struct {
	BreakSigning bool `help:"Give the receivers other secrets than the webhooks, to see that the demo notices."`
	Keep         bool `help:"Keep the temporary folder, with the log of what ran."`
}

// errDiffers is the error of a demo whose outcome is not the expected one.
var errDiffers = errors.New("something differs from what should have happened")

// Run implements the command. It returns an error when an outcome is not the expected one.
func (c *Command) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "postrider-demo-")
	if err != nil {
		return err
	}
	if c.Keep {
		fmt.Printf("Keeping everything in %s\n", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	postrider, err := start(ctx, dir)
	if err != nil {
		return err
	}
	d := &demo{Instance: postrider, breakSigning: c.BreakSigning}
	err = d.run(ctx)
	return errors.Join(err, postrider.Stop())
}

// start starts this binary as an instance in the folder.
func start(ctx context.Context, dir string) (*instance.Instance, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // our own temporary folder
	if err != nil {
		return nil, err
	}
	fmt.Println("Starting a Postrider of the demo's own …")
	postrider, err := instance.Start(ctx, instance.Options{Binary: binary, DataDir: dir, Log: log})
	if err != nil {
		text, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return postrider, nil
}

// demo is one execution: the instance and the receivers.
type demo struct {
	*instance.Instance
	breakSigning bool
	receivers    []*testReceiver
}

// run creates receivers and webhooks, publishes, waits and reports.
func (d *demo) run(ctx context.Context) error {
	defer func() {
		for _, t := range d.receivers {
			t.server.CloseClientConnections()
			t.server.Close()
		}
	}()
	for _, c := range cases() {
		if err := d.subscribe(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	fmt.Printf("Registered %d webhooks.\n", len(d.receivers))
	for _, event := range publications() {
		receipt, err := d.Publish(ctx, event)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		fmt.Printf("Published %s (%s): %d deliveries.\n", receipt.Type, receipt.ID, receipt.Deliveries)
	}
	if err := d.await(ctx); err != nil {
		return err
	}
	return d.report(ctx)
}

// subscribe starts a receiver and creates the webhook for it.
func (d *demo) subscribe(ctx context.Context, c testCase) error {
	t := newTestReceiver(c)
	d.receivers = append(d.receivers, t)
	fields := map[string]any{"url": t.server.URL + "/hook", "events": []string{"*"}, "name": c.name, "signing_method": c.method}
	for name, value := range c.webhook {
		fields[name] = value
	}
	webhook, err := d.CreateWebhook(ctx, fields)
	if err != nil {
		return err
	}
	t.id = webhook.ID
	if c.method == "none" {
		return nil
	}
	secret, err := d.Secret(ctx, webhook.ID)
	if err != nil {
		return err
	}
	if d.breakSigning {
		secret = "whsec_" + "bm90IHRoZSBzZWNyZXQgdGhhdCBzaWducw=="
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secret = secret
	return nil
}

// await waits until every delivery is finished. It prints the number of unfinished ones.
func (d *demo) await(ctx context.Context) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for shown := -1; ; {
		waiting, err := d.waiting(ctx)
		if err != nil {
			return err
		}
		if waiting != shown {
			fmt.Printf("%d deliveries under way.\n", waiting)
			shown = waiting
		}
		if waiting == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d deliveries are not finished after %s", waiting, limit)
		case <-ticker.C:
		}
	}
}

// waiting returns the number of unfinished deliveries.
func (d *demo) waiting(ctx context.Context) (int, error) {
	n := 0
	for _, t := range d.receivers {
		deliveries, err := d.Deliveries(ctx, t.id)
		if err != nil {
			return 0, err
		}
		for _, delivery := range deliveries {
			switch delivery.State {
			case "succeeded", "failed", "cancelled":
			default:
				n++
			}
		}
	}
	return n, nil
}
