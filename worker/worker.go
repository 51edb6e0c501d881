package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/workflows"
)

// Limits of the Temporal worker. An attempt mostly waits for its receiver, so many go on at
// once. The webhook's max_in_flight bounds one receiver, the dispatcher's InFlight all attempts.
const (
	maxWorkflowTasks = 3000 // a first attempt occupies one as long as it takes; the rest is for other workflows
	maxAttempts      = 2000
	workflowPollers  = 4
	activityPollers  = 4
)

// Worker executes the project's workflows and activities.
type Worker struct {
	worker sdkworker.Worker
	fatal  chan error
	drain  time.Duration
}

// Config configures [New].
type Config struct {
	TaskQueue   string // of all workers on the database, and of no others
	Activities  *activities.Activities
	Maintenance *activities.Maintenance
	Replays     *activities.Replays
	// Drain is how long attempts may go on after the worker is stopped. Another worker
	// repeats attempts that are cut off.
	Drain time.Duration
	// Deployment names a Temporal worker deployment and Build the worker's version in it;
	// both are "" without versioning.
	Deployment, Build string
}

// New returns a worker on the Temporal connection.
func New(temporal client.Client, config Config) *Worker {
	w := &Worker{fatal: make(chan error, 1), drain: config.Drain}
	w.worker = sdkworker.New(temporal, config.TaskQueue, sdkworker.Options{
		MaxConcurrentWorkflowTaskExecutionSize:  maxWorkflowTasks,
		MaxConcurrentLocalActivityExecutionSize: maxAttempts,
		MaxConcurrentActivityExecutionSize:      maxAttempts,
		MaxConcurrentWorkflowTaskPollers:        workflowPollers,
		MaxConcurrentActivityTaskPollers:        activityPollers,
		WorkerStopTimeout:                       config.Drain,
		DeploymentOptions:                       config.versioning(),
		OnFatalError:                            func(err error) { w.fatal <- err },
	})
	workflows.Register(w.worker)
	w.worker.RegisterActivity(config.Activities)
	w.worker.RegisterActivity(config.Maintenance)
	w.worker.RegisterActivity(config.Replays)
	return w
}

// versioning moves running workflows to the deployment's current version when it changes.
// Later builds can replay their histories, so workers of earlier builds need not stay.
func (c Config) versioning() sdkworker.DeploymentOptions {
	if c.Deployment == "" {
		return sdkworker.DeploymentOptions{}
	}
	return sdkworker.DeploymentOptions{
		UseVersioning:             true,
		Version:                   sdkworker.WorkerDeploymentVersion{DeploymentName: c.Deployment, BuildID: c.Build},
		DefaultVersioningBehavior: workflow.VersioningBehaviorAutoUpgrade,
	}
}

// Run works until ctx is done, then waits for attempts in progress. It returns an error when
// Temporal refuses the worker.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.worker.Start(); err != nil {
		return err
	}
	defer w.stop(ctx)
	select {
	case <-ctx.Done():
		return nil
	case err := <-w.fatal:
		return err
	}
}

// stop stops the worker and waits up to drain for attempts in progress. The SDK alone would
// wait that long for each kind of task in turn.
func (w *Worker) stop(ctx context.Context) {
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.drain)
	defer cancel()
	go func() {
		w.worker.Stop()
		cancel()
	}()
	<-bound.Done()
}
