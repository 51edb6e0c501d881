package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"postrider.dev/postrider/standalone/instance"
	"postrider.dev/postrider/store/pgtest"
)

// startCluster starts Temporal with a PostgreSQL of its own, an API and two workers, prepared by
// an operator's commands.
func (s *system) startCluster(ctx context.Context) error {
	api, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	s.api.API, s.keys, s.namespace = "http://"+api, []string{newKey()}, "postrider"
	s.env = append(s.env, "POSTRIDER_LISTEN="+api, "POSTRIDER_METRICS_LISTEN=127.0.0.1:0", "POSTRIDER_LOG_FORMAT=json",
		"POSTRIDER_TEMPORAL_NAMESPACE="+s.namespace)
	if err := s.addTemporal(ctx); err != nil {
		return err
	}
	if err := s.provision(ctx); err != nil {
		return err
	}
	if err := s.addAPI(ctx); err != nil {
		return err
	}
	return s.addWorkers(ctx)
}

// newKey makes an encryption key.
func newKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return base64.StdEncoding.EncodeToString(key)
}

func (s *system) addTemporal(ctx context.Context) (err error) {
	if s.temporalPostgres, err = pgtest.StartDurable(ctx); err != nil {
		return err
	}
	database, err := s.temporalPostgres.Create(ctx, "chaos", "")
	if err != nil {
		return err
	}
	if database, err = s.links.throughURL(ctx, linkTemporalPostgres, database); err != nil {
		return err
	}
	if s.temporal, err = freeAddress(ctx); err != nil {
		return err
	}
	return s.add(ctx, partTemporal, func(context.Context) (*instance.Process, error) {
		return instance.Spawn(s.Standalone, []string{
			"temporal", "--bare", "--data-dir", filepath.Join(s.dir, "temporal"), "--database-url", database,
			"--temporal-listen", s.temporal, "--temporal-ui-listen", "127.0.0.1:0",
		}, nil, piped{s.log})
	})
}

func (s *system) addAPI(ctx context.Context) error {
	database, err := s.links.throughURL(ctx, linkAPIPostgres, s.database)
	if err != nil {
		return err
	}
	return s.add(ctx, partAPI, func(ctx context.Context) (*instance.Process, error) {
		process, err := instance.Spawn(s.Postrider, []string{"api"}, s.environment(database, s.temporal), piped{s.log})
		if err != nil {
			return nil, err
		}
		client := s.client()
		for !client.Ready(ctx) {
			if pause(ctx, publishAgain); ctx.Err() != nil {
				return process, errors.New("it does not become ready")
			}
		}
		return process, nil
	})
}

func (s *system) addWorkers(ctx context.Context) error {
	database, err := s.links.throughURL(ctx, linkWorkersPostgres, s.database)
	if err != nil {
		return err
	}
	temporal, err := s.links.through(ctx, linkWorkersTemporal, s.temporal)
	if err != nil {
		return err
	}
	for _, name := range []string{partWorker1, partWorker2} {
		err := s.add(ctx, name, func(context.Context) (*instance.Process, error) {
			return instance.Spawn(s.Postrider, []string{"worker"}, s.environment(database, temporal), piped{s.log})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// environment is the variables of a process of the cluster.
func (s *system) environment(database, temporal string) []string {
	return append(slices.Clone(s.env), "POSTRIDER_DATABASE_URL="+database, "POSTRIDER_TEMPORAL_ADDRESS="+temporal,
		"POSTRIDER_ENCRYPTION_KEYS="+strings.Join(s.keys, ","))
}

// provision runs an operator's commands.
func (s *system) provision(ctx context.Context) error {
	for _, command := range [][]string{{"migrate", "up"}, {"temporal", "setup"}} {
		if _, err := s.operate(ctx, command...); err != nil {
			return err
		}
	}
	workspace, err := s.operate(ctx, "workspace", "create", "chaos")
	if err != nil {
		return err
	}
	s.api.Key, err = s.operate(ctx, "key", "create", "--workspace", workspace, "--name", "chaos",
		"--scope", "publish", "--scope", "manage", "--scope", "read", "--scope", "secrets")
	return err
}

// operate runs an operator's command, which goes to the database and to Temporal directly.
func (s *system) operate(ctx context.Context, args ...string) (string, error) {
	return instance.Output(ctx, s.Postrider, s.environment(s.database, s.temporal), args...)
}

// freeAddress returns an address of the loopback interface whose port is free at the moment.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
