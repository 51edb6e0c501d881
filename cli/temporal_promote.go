package cli

import (
	"context"
	"errors"
	"fmt"

	"go.temporal.io/sdk/client"

	"postrider.dev/postrider/server"
)

// TemporalPromoteCommand makes a version of a worker deployment the current one.
type TemporalPromoteCommand struct {
	TemporalOperator
	server.DeploymentSettings
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *TemporalPromoteCommand) Validate() error {
	if c.Name == "" {
		return errors.New("--worker-deployment (POSTRIDER_WORKER_DEPLOYMENT): must be given")
	}
	return nil
}

// Run implements the command. Temporal refuses a version that no worker polls for, so this
// tries until a worker does.
func (c *TemporalPromoteCommand) Run(ctx context.Context) error {
	return c.with(ctx, func(ctx context.Context, temporal client.Client) error {
		deployment := temporal.WorkerDeploymentClient().GetHandle(c.Name)
		err := c.repeat(ctx, func(error) bool { return true }, func() error {
			_, err := deployment.SetCurrentVersion(ctx, client.WorkerDeploymentSetCurrentVersionOptions{BuildID: c.Build()})
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot promote version %s of %s, which needs a running worker: %w", c.Build(), c.Name, err)
		}
		fmt.Printf("Version %s of %s is the current one: new and running workflows go on with it.\n", c.Build(), c.Name)
		return nil
	})
}
