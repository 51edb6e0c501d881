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

// Limits of the Temporal worker. An attempt spends its time waiting for a
// receiver, so many go on at once; what bounds one receiver is its webhook's
// max_in_flight, and the first attempts of all together the dispatcher's InFlight.
const (
	maxWorkflowTasks = 3000 // one of a first attempt lasts as long; room is left for all others
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

// Config is what [New] needs beside a Temporal connection.
type Config struct {
	Activities  *activities.Activities
	Maintenance *activities.Maintenance
	// Drain is how long attempts that are going on have to end when the worker is
	// stopped; what is cut off then is made again by another worker.
	Drain time.Duration
	// Deployment is the Temporal worker deployment that the worker is a version of;
	// "" for none. Build is that version.
	Deployment, Build string
}

// New returns a worker on the Temporal connection.
func New(temporal client.Client, config Config) *Worker {
	w := &Worker{fatal: make(chan error, 1), drain: config.Drain}
	w.worker = sdkworker.New(temporal, workflows.TaskQueue, sdkworker.Options{
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
	return w
}

// versioning makes workflows go on under the deployment's current version as soon
// as that changes: their code is made to be replayed by later builds, so nothing
// keeps the workers of an earlier one alive.
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

// Run works until ctx is done, then lets what is going on end. It returns an
// error when Temporal refuses the worker, and nil otherwise.
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

// stop stops the worker and waits for the attempts under way, for drain in all: the
// SDK would wait that long for each kind of task in turn.
func (w *Worker) stop(ctx context.Context) {
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.drain)
	defer cancel()
	go func() {
		w.worker.Stop()
		cancel()
	}()
	<-bound.Done()
}
