package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/server/common/authorization"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Server is a running Temporal server with its web UI.
type Server struct {
	cfg      Config
	frontend string
	uiAddr   net.Addr
	database database // nil before it is prepared
	temporal temporal.Server
	conn     *grpc.ClientConn
	ui       *webUI
	logLevel *logLevel

	stopping sync.Once
	stopErr  error
}

// Start starts the server and the web UI, and returns when both answer. It returns a
// [*PortTakenError] for a taken port, and [ErrOtherSchema] for a database of another version.
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ls, err := openListeners(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, frontend: dialable(ls.frontend), uiAddr: ls.ui.Addr(), logLevel: &logLevel{configured: cfg.LogLevel}}
	defer func() {
		if err != nil {
			ls.close()
			err = errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
		}
	}()

	if s.database, err = s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("embedded temporal: %w", err)
	}
	if s.temporal, err = s.startTemporal(ctx, serverConfig(s.database, ls), ls); err != nil {
		return nil, err
	}
	if s.conn, err = dial(s.frontend); err != nil {
		return nil, err
	}
	if err := s.Healthy(ctx); err != nil {
		return nil, err
	}
	s.ui, err = startUI(ls.ui, s.conn, cfg)
	return s, err
}

// prepare prepares the database and the namespace, before the server starts.
func (s *Server) prepare(ctx context.Context) (database, error) {
	db, err := databaseOf(s.cfg)
	if err != nil {
		return nil, err
	}
	if err := db.prepare(ctx); err != nil {
		return nil, err
	}
	if s.cfg.Bare {
		return db, nil
	}
	if err := ensureNamespace(ctx, s.cfg, *db.executions()); err != nil {
		return nil, errors.Join(err, db.release(ctx))
	}
	return db, nil
}

// FrontendAddress returns host:port for clients and workers.
func (s *Server) FrontendAddress() string { return s.frontend }

// UIURL returns the web UI's address.
func (s *Server) UIURL() string { return "http://" + s.uiAddr.String() }

// Healthy asks the frontend for a namespace, which the frontend reads from the database. It waits
// for a frontend that has not started yet, until ctx is done.
func (s *Server) Healthy(ctx context.Context) error {
	request := &workflowservice.DescribeNamespaceRequest{Namespace: s.cfg.Namespace}
	if s.cfg.Bare {
		request.Namespace = primitives.SystemLocalNamespace
	}
	_, err := workflowservice.NewWorkflowServiceClient(s.conn).DescribeNamespace(ctx, request, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("embedded temporal: %w", err)
	}
	return nil
}

// Stop stops the web UI and then the server, its worker first and its history last. With SQLite
// it leaves one complete file. The caller stops its clients and workers before. Stop returns
// ctx's error when ctx is done first. Later calls return the result of the first.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

// stop stops the parts that have started, in reverse order.
func (s *Server) stop(ctx context.Context) (err error) {
	if s.ui != nil {
		err = s.ui.stop(ctx)
	}
	if s.conn != nil {
		err = errors.Join(err, s.conn.Close())
	}
	if s.database == nil {
		return err
	}
	if s.temporal == nil {
		return errors.Join(err, s.database.release(ctx))
	}
	s.logLevel.stopping.Store(true)
	stopped := make(chan error, 1)
	go func() { stopped <- s.temporal.Stop() }()
	select {
	case stopErr := <-stopped:
		err = errors.Join(err, stopErr)
	case <-ctx.Done():
		return errors.Join(err, fmt.Errorf("embedded temporal: stop: %w", ctx.Err()))
	}
	return errors.Join(err, s.database.release(ctx))
}

// startTemporal starts the services. The server opens its listeners itself, so the reserved ones
// are closed just before.
func (s *Server) startTemporal(ctx context.Context, cfg *config.Config, ls *listeners) (_ temporal.Server, err error) {
	defer func() {
		switch failure := recover().(type) {
		case nil:
		case fatalError:
			err = fmt.Errorf("embedded temporal: %w", failure)
		default:
			panic(failure)
		}
	}()
	logger := newServerLog(ctx, s.cfg.Logger, s.logLevel)
	options := []temporal.ServerOption{
		temporal.WithConfig(cfg),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(hosts(ls)),
		temporal.WithLogger(logger),
		temporal.WithNamespaceLogger(logger),
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*config.Config) authorization.ClaimMapper { return authorization.NewNoopClaimMapper() }),
		temporal.WithDynamicConfigClient(dynamicSettings(s.cfg.Plain)),
		temporal.WithCustomMetricsHandler(s.cfg.Metrics),
	}
	ls.releaseServer()
	server, err := temporal.NewServer(options...)
	if err != nil {
		return nil, fmt.Errorf("embedded temporal: %w", err)
	}
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("embedded temporal: start: %w", errors.Join(err, server.Stop()))
	}
	return server, nil
}

// dial returns a connection to the frontend.
func dial(address string) (*grpc.ClientConn, error) {
	const maxMessage = 64 << 20 // the largest page of a history with large payloads
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
}
