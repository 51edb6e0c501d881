package worker

import (
	"context"
	"time"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"

	"postrider/activities"
	"postrider/workflows"
)

// Limits of the Temporal worker. An attempt spends its time waiting for a
// receiver, so many go on at once; what bounds one receiver is its webhook's
// max_in_flight, and the first attempts of all together the dispatcher's InFlight.
const (
	maxWorkflowTasks = 2000
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

// New returns a worker on the Temporal connection. When it is stopped, attempts
// that are going on have drain to end; what is cut off then is made again by
// another worker.
func New(temporal client.Client, acts *activities.Activities, maintenance *activities.Maintenance, drain time.Duration) *Worker {
	w := &Worker{fatal: make(chan error, 1), drain: drain}
	w.worker = sdkworker.New(temporal, workflows.TaskQueue, sdkworker.Options{
		MaxConcurrentWorkflowTaskExecutionSize:  maxWorkflowTasks,
		MaxConcurrentLocalActivityExecutionSize: maxAttempts,
		MaxConcurrentActivityExecutionSize:      maxAttempts,
		MaxConcurrentWorkflowTaskPollers:        workflowPollers,
		MaxConcurrentActivityTaskPollers:        activityPollers,
		WorkerStopTimeout:                       drain,
		OnFatalError:                            func(err error) { w.fatal <- err },
	})
	workflows.Register(w.worker)
	w.worker.RegisterActivity(acts)
	w.worker.RegisterActivity(maintenance)
	return w
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
