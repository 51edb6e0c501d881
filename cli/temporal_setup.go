package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/types/known/durationpb"

	"postrider.dev/postrider/server"
	"postrider.dev/postrider/workflows"
)

// TemporalCommand prepares a Temporal cluster.
type TemporalCommand struct {
	Setup   TemporalSetupCommand   `cmd:"" help:"Make the namespace and its search attributes, or bring them up to date. Safe to repeat."`
	Promote TemporalPromoteCommand `cmd:"" help:"Let a version of a worker deployment take over, once a worker of it runs."`
}

// TemporalOperator is the settings that commands on a Temporal cluster have in common.
type TemporalOperator struct {
	server.TemporalSettings
	server.LogSettings

	Timeout time.Duration `default:"1m" help:"How long to wait for Temporal to answer, and to know what it was told."`
}

// with connects to the cluster and runs work, within the timeout.
func (o *TemporalOperator) with(ctx context.Context, work func(context.Context, client.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	temporal, err := o.Dial(o.Logger(slog.LevelError), nil, nil)
	if err != nil {
		return err
	}
	defer temporal.Close()
	return work(ctx, temporal)
}

// repeatPause is the time between two attempts.
const repeatPause = time.Second

// repeat calls do until it succeeds or fails with an error that is not transient. It gives up
// with the last error when ctx is done.
func (o *TemporalOperator) repeat(ctx context.Context, transient func(error) bool, do func() error) error {
	for {
		err := do()
		if err == nil || !transient(err) {
			return err
		}
		if server.Pause(ctx, repeatPause); ctx.Err() != nil {
			return fmt.Errorf("gave up after %s: %w", o.Timeout, err)
		}
	}
}

// TemporalSetupCommand makes a Temporal cluster ready.
type TemporalSetupCommand struct {
	TemporalOperator

	Retention time.Duration `name:"workflow-retention" env:"POSTRIDER_WORKFLOW_RETENTION" default:"72h" help:"How long Temporal keeps a workflow that has ended, 24h at least. The database keeps deliveries for longer."`
}

// minRetention is the shortest retention that Temporal accepts.
const minRetention = 24 * time.Hour

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *TemporalSetupCommand) Validate() error {
	if c.Retention < minRetention {
		return errors.New("--workflow-retention (POSTRIDER_WORKFLOW_RETENTION): must be 24h or longer")
	}
	return nil
}

// Run implements the command.
func (c *TemporalSetupCommand) Run(ctx context.Context) error { return c.with(ctx, c.setUp) }

// setUp creates the namespace and its search attributes, and waits until they can be used.
func (c *TemporalSetupCommand) setUp(ctx context.Context, temporal client.Client) error {
	if err := c.namespace(ctx, temporal.WorkflowService()); err != nil {
		return fmt.Errorf("temporal at %s: namespace %s: %w", c.Address, c.Namespace, err)
	}
	if err := c.searchAttributes(ctx, temporal.OperatorService()); err != nil {
		return fmt.Errorf("temporal at %s: search attributes of %s: %w", c.Address, c.Namespace, err)
	}
	if err := c.usable(ctx, temporal.WorkflowService()); err != nil {
		return fmt.Errorf("temporal at %s: search attributes of %s: %w", c.Address, c.Namespace, err)
	}
	fmt.Println("Temporal is ready. Next: `postrider serve`, or `postrider api` and `postrider worker`.")
	return nil
}

// namespace creates the namespace, or sets the retention of an existing one.
func (c *TemporalSetupCommand) namespace(ctx context.Context, service workflowservice.WorkflowServiceClient) error {
	retention := durationpb.New(c.Retention)
	err := c.repeat(ctx, transient, func() error {
		_, err := service.RegisterNamespace(ctx, &workflowservice.RegisterNamespaceRequest{
			Namespace: c.Namespace, Description: "Postrider's deliveries", WorkflowExecutionRetentionPeriod: retention,
		})
		return err
	})
	var exists *serviceerror.NamespaceAlreadyExists
	switch {
	case errors.As(err, &exists):
		_, err = service.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: c.Namespace, Config: &namespacepb.NamespaceConfig{WorkflowExecutionRetentionTtl: retention},
		})
		if err == nil {
			fmt.Printf("Namespace %s exists; ended workflows are kept for %s.\n", c.Namespace, c.Retention)
		}
	case err == nil:
		fmt.Printf("Namespace %s made; ended workflows are kept for %s.\n", c.Namespace, c.Retention)
	}
	return err
}

// searchAttributes adds the missing search attributes and waits until all are listed. A
// cluster needs some time to know a new namespace, and more to know its attributes.
func (c *TemporalSetupCommand) searchAttributes(ctx context.Context, operator operatorservice.OperatorServiceClient) error {
	return c.repeat(ctx, transient, func() error {
		known, err := operator.ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: c.Namespace})
		if err != nil {
			return err
		}
		missing, err := missingAttributes(known.GetCustomAttributes())
		if err != nil || len(missing) == 0 {
			return err
		}
		fmt.Printf("Adding search attributes: %s.\n", strings.Join(slices.Sorted(maps.Keys(missing)), ", "))
		_, err = operator.AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: c.Namespace, SearchAttributes: missing})
		if err == nil {
			err = errNotYet
		}
		return err
	})
}

// usable returns when the cluster accepts workflows with the search attributes. Its services
// learn of new attributes only at their next refresh.
func (c *TemporalSetupCommand) usable(ctx context.Context, service workflowservice.WorkflowServiceClient) error {
	for name := range workflows.SearchAttributes() {
		err := c.repeat(ctx, transient, func() error {
			_, err := service.CountWorkflowExecutions(ctx, &workflowservice.CountWorkflowExecutionsRequest{
				Namespace: c.Namespace, Query: name + " = 'x'",
			})
			var unknown *serviceerror.InvalidArgument
			if errors.As(err, &unknown) {
				return errors.Join(errNotYet, err)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// errNotYet means that a change has not reached every service of the cluster.
var errNotYet = errors.New("not known everywhere yet")

// missingAttributes returns the search attributes of deliveries that are not known. It returns
// an error when one is known with another type.
func missingAttributes(known map[string]enumspb.IndexedValueType) (map[string]enumspb.IndexedValueType, error) {
	missing := workflows.SearchAttributes()
	for name, kind := range missing {
		have, found := known[name]
		if found && have != kind {
			return nil, fmt.Errorf("%s is a %s there, and must be a %s: choose another namespace, or rename that attribute", name, have, kind)
		}
	}
	maps.DeleteFunc(missing, func(name string, _ enumspb.IndexedValueType) bool { _, found := known[name]; return found })
	return missing, nil
}

// transient reports whether an error may go away by itself.
func transient(err error) bool {
	var away *serviceerror.Unavailable
	var unknown *serviceerror.NamespaceNotFound
	var late *serviceerror.DeadlineExceeded
	return errors.Is(err, errNotYet) || errors.As(err, &away) || errors.As(err, &unknown) || errors.As(err, &late)
}
