package worker_test

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	temporallog "go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"postrider.dev/postrider/activities"
	"postrider.dev/postrider/worker"
)

// frontend is as much of Temporal's server as a worker needs. It hands out one activity task,
// the maintenance's.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer

	refusal error // the answer to a worker that starts
	task    chan struct{}
	polls   chan *workflowservice.PollWorkflowTaskQueueRequest

	completed atomic.Int64
}

// GetSystemInfo implements [workflowservice.WorkflowServiceServer].
func (*frontend) GetSystemInfo(
	context.Context, *workflowservice.GetSystemInfoRequest,
) (*workflowservice.GetSystemInfoResponse, error) {
	return &workflowservice.GetSystemInfoResponse{}, nil
}

// DescribeNamespace implements [workflowservice.WorkflowServiceServer].
func (f *frontend) DescribeNamespace(
	context.Context, *workflowservice.DescribeNamespaceRequest,
) (*workflowservice.DescribeNamespaceResponse, error) {
	if f.refusal != nil {
		return nil, serviceerror.ToStatus(f.refusal).Err()
	}
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

// PollWorkflowTaskQueue implements [workflowservice.WorkflowServiceServer]: there are no tasks.
func (f *frontend) PollWorkflowTaskQueue(
	ctx context.Context, request *workflowservice.PollWorkflowTaskQueueRequest,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	if request.GetTaskQueue().GetKind() == enumspb.TASK_QUEUE_KIND_NORMAL {
		select {
		case f.polls <- request:
		default:
		}
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// PollActivityTaskQueue implements [workflowservice.WorkflowServiceServer].
func (f *frontend) PollActivityTaskQueue(
	ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	select {
	case <-f.task:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := timestamppb.Now()
	return &workflowservice.PollActivityTaskQueueResponse{
		TaskToken: []byte("task"), ActivityId: "1", Attempt: 1,
		ActivityType:      &commonpb.ActivityType{Name: "Maintain"},
		WorkflowType:      &commonpb.WorkflowType{Name: "Maintenance"},
		WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: "maintenance", RunId: "run"},
		ScheduledTime:     now, CurrentAttemptScheduledTime: now, StartedTime: now,
		ScheduleToCloseTimeout: durationpb.New(time.Hour), StartToCloseTimeout: durationpb.New(time.Hour),
	}, nil
}

// RespondActivityTaskCompleted implements [workflowservice.WorkflowServiceServer].
func (f *frontend) RespondActivityTaskCompleted(
	context.Context, *workflowservice.RespondActivityTaskCompletedRequest,
) (*workflowservice.RespondActivityTaskCompletedResponse, error) {
	f.completed.Add(1)
	return &workflowservice.RespondActivityTaskCompletedResponse{}, nil
}

// ShutdownWorker implements [workflowservice.WorkflowServiceServer].
func (*frontend) ShutdownWorker(
	context.Context, *workflowservice.ShutdownWorkerRequest,
) (*workflowservice.ShutdownWorkerResponse, error) {
	return &workflowservice.ShutdownWorkerResponse{}, nil
}

// keeper is a database whose maintenance takes until it is released.
type keeper struct {
	activities.Keeper

	began, release chan struct{}
}

func newKeeper() *keeper { return &keeper{began: make(chan struct{}), release: make(chan struct{})} }

// EnsurePartitions implements [activities.Keeper].
func (k *keeper) EnsurePartitions(context.Context, time.Time) error {
	close(k.began)
	<-k.release
	return nil
}

// CompactStats implements [activities.Keeper]: there are none.
func (k *keeper) CompactStats(context.Context, func(int64)) error { return nil }

// newWorker returns a worker on a fake of Temporal's server.
func newWorker(t *testing.T, f *frontend, config worker.Config) *worker.Worker {
	t.Helper()
	config.TaskQueue = "postrider"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	connection, err := client.DialContext(t.Context(), client.Options{
		HostPort: listener.Addr().String(), Logger: temporallog.NewStructuredLogger(slog.New(slog.DiscardHandler)),
	})
	require.NoError(t, err)
	t.Cleanup(connection.Close)
	if config.Maintenance == nil {
		config.Maintenance = &activities.Maintenance{}
	}
	config.Activities = activities.New(activities.Config{})
	return worker.New(connection, config)
}

func newFrontend() *frontend {
	return &frontend{task: make(chan struct{}, 1), polls: make(chan *workflowservice.PollWorkflowTaskQueueRequest, 1)}
}

// running runs a worker until its one activity has begun. The returned channel gets the result
// of Run after stop.
func running(t *testing.T, f *frontend, k *keeper) (stop func(), ended <-chan error) {
	t.Helper()
	w := newWorker(t, f, worker.Config{Drain: time.Minute, Maintenance: &activities.Maintenance{Keeper: k, Now: time.Now}})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	f.task <- struct{}{}
	<-k.began
	return cancel, result
}

// Guards against attempts that are cut off, and made again by another worker, at each restart.
func TestStoppedWorkerFinishesWhatIsInProgress(t *testing.T) {
	t.Parallel()
	f, k := newFrontend(), newKeeper()
	stop, ended := running(t, f, k)
	stop()
	close(k.release)
	require.NoError(t, <-ended)
	require.EqualValues(t, 1, f.completed.Load(), "Temporal got the result")
}

// Guards against a process that looks healthy and works on nothing.
func TestWorkerThatTemporalRefusesIsAnError(t *testing.T) {
	t.Parallel()
	f := newFrontend()
	f.refusal = serviceerror.NewNamespaceNotFound("default")
	w := newWorker(t, f, worker.Config{Drain: time.Second})
	require.ErrorContains(t, w.Run(t.Context()), "default")
}

// Guards rolling deployments: Temporal routes workflows by the version under which a worker
// polls.
func TestWorkerPollsUnderItsVersion(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]worker.Config{
		"versioned":     {Deployment: "postrider", Build: "1.2.3"},
		"not versioned": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFrontend()
			config.Drain = time.Second
			w := newWorker(t, f, config)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- w.Run(ctx) }()
			poll := <-f.polls
			require.Equal(t, "postrider", poll.GetTaskQueue().GetName())
			got := poll.GetDeploymentOptions()
			versioned := got.GetWorkerVersioningMode() == enumspb.WORKER_VERSIONING_MODE_VERSIONED
			require.Equal(t, config.Deployment != "", versioned)
			if versioned {
				require.Equal(t, "postrider", got.GetDeploymentName())
				require.Equal(t, "1.2.3", got.GetBuildId())
			}
			cancel()
			require.NoError(t, <-ended)
		})
	}
}
