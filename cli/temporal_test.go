package cli

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"postrider.dev/postrider/workflows"
)

// cluster is the part of a Temporal cluster that setup and promote need. It learns of search
// attributes and of workers with a delay, as a real one does.
type cluster struct {
	workflowservice.UnimplementedWorkflowServiceServer
	operatorservice.UnimplementedOperatorServiceServer

	mu         sync.Mutex
	namespaces map[string]time.Duration // retention
	attributes map[string]enumspb.IndexedValueType
	notYet     int // answers before a change has reached every service
	current    string
}

func startCluster(t *testing.T, c *cluster) string {
	t.Helper()
	if c.namespaces == nil {
		c.namespaces = map[string]time.Duration{}
	}
	if c.attributes == nil {
		c.attributes = map[string]enumspb.IndexedValueType{}
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(server, c)
	operatorservice.RegisterOperatorServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	return listener.Addr().String()
}

func refusal(err error) error { return serviceerror.ToStatus(err).Err() }

func (c *cluster) RegisterNamespace(
	_ context.Context, r *workflowservice.RegisterNamespaceRequest,
) (*workflowservice.RegisterNamespaceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, exists := c.namespaces[r.GetNamespace()]; exists {
		return nil, refusal(serviceerror.NewNamespaceAlreadyExists("it exists"))
	}
	c.namespaces[r.GetNamespace()] = r.GetWorkflowExecutionRetentionPeriod().AsDuration()
	return &workflowservice.RegisterNamespaceResponse{}, nil
}

func (c *cluster) UpdateNamespace(
	_ context.Context, r *workflowservice.UpdateNamespaceRequest,
) (*workflowservice.UpdateNamespaceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.namespaces[r.GetNamespace()] = r.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration()
	return &workflowservice.UpdateNamespaceResponse{}, nil
}

func (c *cluster) ListSearchAttributes(
	context.Context, *operatorservice.ListSearchAttributesRequest,
) (*operatorservice.ListSearchAttributesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &operatorservice.ListSearchAttributesResponse{CustomAttributes: maps.Clone(c.attributes)}, nil
}

func (c *cluster) AddSearchAttributes(
	_ context.Context, r *operatorservice.AddSearchAttributesRequest,
) (*operatorservice.AddSearchAttributesResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.attributes, r.GetSearchAttributes())
	return &operatorservice.AddSearchAttributesResponse{}, nil
}

func (c *cluster) CountWorkflowExecutions(
	context.Context, *workflowservice.CountWorkflowExecutionsRequest,
) (*workflowservice.CountWorkflowExecutionsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.notYet--; c.notYet >= 0 {
		return nil, refusal(serviceerror.NewInvalidArgument("no such search attribute"))
	}
	return &workflowservice.CountWorkflowExecutionsResponse{}, nil
}

func (c *cluster) SetWorkerDeploymentCurrentVersion(
	_ context.Context, r *workflowservice.SetWorkerDeploymentCurrentVersionRequest,
) (*workflowservice.SetWorkerDeploymentCurrentVersionResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.notYet--; c.notYet >= 0 {
		return nil, refusal(serviceerror.NewFailedPrecondition("no worker polls"))
	}
	c.current = r.GetDeploymentName() + " " + r.GetBuildId()
	return &workflowservice.SetWorkerDeploymentCurrentVersionResponse{}, nil
}

// temporalCommands runs an operator's command on a cluster and returns its standard output.
func temporalCommands(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var commands struct {
		Temporal TemporalCommand `cmd:""`
	}
	parser, err := kong.New(&commands, kong.Exit(func(int) {}), kong.BindTo(t.Context(), (*context.Context)(nil)))
	require.NoError(t, err)
	parsed, err := parser.Parse(append([]string{"temporal"}, args...))
	if err != nil {
		return "", err
	}
	return printed(t, parsed.Run)
}

// TestTemporalSetup guards that setup makes what deliveries need, returns only when every service of
// the cluster knows it, and can be repeated with another retention.
func TestTemporalSetup(t *testing.T) { //nolint:paralleltest // standard output is the process's
	c := &cluster{notYet: 1}
	address := startCluster(t, c)
	text, err := temporalCommands(t, "setup", "--temporal-address", address, "--temporal-namespace", "acme", "--workflow-retention", "48h")
	require.NoError(t, err)
	require.Contains(t, text, "Namespace acme made; ended workflows are kept for 48h0m0s.")
	require.Contains(t, text, "Temporal is ready.")
	require.Equal(t, map[string]time.Duration{"acme": 48 * time.Hour}, c.namespaces)
	require.Equal(t, workflows.SearchAttributes(), c.attributes)
	require.Negative(t, c.notYet, "it asked until the attributes could be used")

	text, err = temporalCommands(t, "setup", "--temporal-address", address, "--temporal-namespace", "acme")
	require.NoError(t, err)
	require.Contains(t, text, "Namespace acme exists; ended workflows are kept for 72h0m0s.")
	require.NotContains(t, text, "Adding search attributes")
	require.Equal(t, 72*time.Hour, c.namespaces["acme"])
}

// TestTemporalSetupRefuses guards the errors that operators act on.
func TestTemporalSetupRefuses(t *testing.T) { //nolint:paralleltest // standard output is the process's
	name := slices.Sorted(maps.Keys(workflows.SearchAttributes()))[0]
	address := startCluster(t, &cluster{attributes: map[string]enumspb.IndexedValueType{name: enumspb.INDEXED_VALUE_TYPE_DATETIME}})
	_, err := temporalCommands(t, "setup", "--temporal-address", address)
	require.ErrorContains(t, err, "temporal at "+address+": search attributes of default: "+name+" is a Datetime there")
	require.ErrorContains(t, err, "choose another namespace")

	_, err = temporalCommands(t, "setup", "--temporal-address", "127.0.0.1:1", "--timeout", "100ms")
	require.ErrorContains(t, err, "temporal at 127.0.0.1:1: namespace default: ")
	_, err = temporalCommands(t, "setup", "--workflow-retention", "23h")
	require.ErrorContains(t, err, "--workflow-retention (POSTRIDER_WORKFLOW_RETENTION): must be 24h or longer")
	_, err = temporalCommands(t, "setup", "--temporal-tls-cert", "client.pem")
	require.ErrorContains(t, err, "--temporal-tls-cert and --temporal-tls-key: must be given together")
}

// TestTemporalPromote guards that promote waits for a worker of the version.
func TestTemporalPromote(t *testing.T) { //nolint:paralleltest // standard output is the process's
	c := &cluster{notYet: 1}
	address := startCluster(t, c)
	text, err := temporalCommands(t, "promote", "--temporal-address", address, "--worker-deployment", "postrider", "--build-id", "two")
	require.NoError(t, err)
	require.Contains(t, text, "Version two of postrider is the current one")
	require.Equal(t, "postrider two", c.current)

	c.notYet = 1000
	_, err = temporalCommands(t, "promote", "--temporal-address", address, "--worker-deployment", "postrider", "--build-id", "three",
		"--timeout", "100ms")
	require.ErrorContains(t, err, "cannot promote version three of postrider, which needs a running worker: "+
		"gave up after 100ms: no worker polls")
	require.Equal(t, "postrider two", c.current)

	_, err = temporalCommands(t, "promote")
	require.ErrorContains(t, err, "--worker-deployment (POSTRIDER_WORKER_DEPLOYMENT): must be given")
}

// TestTransientErrors guards which errors setup waits for: others must reach the operator at once.
func TestTransientErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		errNotYet, serviceerror.NewUnavailable("away"), serviceerror.NewNamespaceNotFound("acme"), serviceerror.NewDeadlineExceeded("late"),
	} {
		require.True(t, transient(err), "%v", err)
	}
	for _, err := range []error{serviceerror.NewPermissionDenied("no", ""), serviceerror.NewInvalidArgument("what"), context.Canceled} {
		require.False(t, transient(err), "%v", err)
	}
}
