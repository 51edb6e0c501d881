package server

import (
	"context"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// frontend is the part of a Temporal frontend that a process needs to start workflows. It notes
// the authorization of each check of the namespace, and the workflows that were started.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer

	authorizations chan []string
	started        chan string
	noNamespace    bool
	noAttributes   bool
}

func newFrontend() *frontend {
	return &frontend{authorizations: make(chan []string, 1000), started: make(chan string, 1000)}
}

// serve runs the frontend on the address until the test ends.
func (f *frontend) serve(t *testing.T, address string, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	require.NoError(t, err)
	server := grpc.NewServer(options...)
	workflowservice.RegisterWorkflowServiceServer(server, f)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	return listener.Addr().String()
}

func (f *frontend) DescribeNamespace(
	ctx context.Context, request *workflowservice.DescribeNamespaceRequest,
) (*workflowservice.DescribeNamespaceResponse, error) {
	if f.noNamespace {
		return nil, serviceerror.ToStatus(serviceerror.NewNamespaceNotFound(request.GetNamespace())).Err()
	}
	headers, _ := metadata.FromIncomingContext(ctx)
	select {
	case f.authorizations <- headers.Get("authorization"):
	default:
	}
	return &workflowservice.DescribeNamespaceResponse{}, nil
}

func (f *frontend) CountWorkflowExecutions(
	context.Context, *workflowservice.CountWorkflowExecutionsRequest,
) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	if f.noAttributes {
		return nil, serviceerror.ToStatus(serviceerror.NewInvalidArgument("invalid query: PostriderWebhooks")).Err()
	}
	return &workflowservice.CountWorkflowExecutionsResponse{}, nil
}

func (f *frontend) StartWorkflowExecution(
	_ context.Context, request *workflowservice.StartWorkflowExecutionRequest,
) (*workflowservice.StartWorkflowExecutionResponse, error) {
	f.started <- request.GetWorkflowId()
	return &workflowservice.StartWorkflowExecutionResponse{RunId: "run"}, nil
}

func (f *frontend) PollWorkflowTaskQueue(
	ctx context.Context, _ *workflowservice.PollWorkflowTaskQueueRequest,
) (*workflowservice.PollWorkflowTaskQueueResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (f *frontend) PollActivityTaskQueue(
	ctx context.Context, _ *workflowservice.PollActivityTaskQueueRequest,
) (*workflowservice.PollActivityTaskQueueResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
