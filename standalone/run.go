package main

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"postrider.dev/postrider/egress"
	"postrider.dev/postrider/server"
	"postrider.dev/postrider/standalone/embedded"
)

// namespace is the Temporal namespace of the embedded server.
const namespace = "default"

// runCommand runs everything.
type runCommand struct {
	server.Settings
	server.APISettings
	server.WorkerSettings
	TemporalSettings
}

// Run implements the command. Each part starts after the parts that it needs, and everything
// stops in the opposite order.
func (c *runCommand) Run(ctx context.Context) error {
	logger := c.Logger(slog.LevelDebug)
	release, err := claimDataDir(ctx, c.DataDir, logger)
	if err != nil {
		return err
	}
	defer release()

	ports, err := server.BindPorts(ctx, c.Settings, &c.APISettings)
	if err != nil {
		return err
	}
	defer ports.Close()
	temporal, err := c.start(ctx, embedded.Config{Namespace: namespace, Logger: logger})
	if err != nil {
		return err
	}
	defer stopTemporal(ctx, temporal, logger)

	process, err := server.New(ctx, c.Settings, server.Role{
		API:      &c.APISettings,
		Worker:   &c.WorkerSettings,
		Ports:    ports,
		DataDir:  c.DataDir,
		Database: cmp.Or(c.DatabaseURL, "sqlite:"+filepath.Join(c.DataDir, "postrider.db")),
		Temporal: server.TemporalSettings{Address: temporal.FrontendAddress(), Namespace: namespace, UIURL: temporal.UIURL()},
		Networks: egress.StandaloneNetworks(),
		Logger:   logger,
	})
	if err != nil {
		return err
	}
	return process.Run(ctx)
}

// stopTimeout bounds the stop of the embedded server. If it is too short, the server recovers
// from its write-ahead log at the next start.
const stopTimeout = 10 * time.Second

// stopTemporal stops the embedded server, and logs that it does. It logs a failure, because there is
// nothing else to do.
func stopTemporal(ctx context.Context, temporal *embedded.Server, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout) // ctx is done by now
	defer cancel()
	begun := time.Now()
	logger.LogAttrs(ctx, slog.LevelInfo, "stopping Temporal", slog.Duration("at_most", stopTimeout))
	if err := temporal.Stop(ctx); err != nil {
		logger.LogAttrs(ctx, slog.LevelWarn, "cannot stop Temporal cleanly", slog.Any("error", err))
		return
	}
	logger.LogAttrs(ctx, slog.LevelInfo, "stopped Temporal", slog.Duration("took", time.Since(begun).Round(time.Millisecond)))
}
