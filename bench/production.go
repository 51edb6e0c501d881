package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"postrider.dev/postrider/standalone/instance"
)

// startAPI starts `postrider api` without a worker, on a database that it prepares as an
// operator does.
func (b *bench) startAPI(ctx context.Context, m mode) (_ *system, err error) {
	s, err := b.newSystem(ctx, m, startOptions{})
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	s.options.Env = []string{
		"POSTRIDER_DATABASE_URL=" + s.address,
		"POSTRIDER_ENCRYPTION_KEYS=" + base64.StdEncoding.EncodeToString(key),
		"POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8", "POSTRIDER_LISTEN=127.0.0.1:0", "POSTRIDER_METRICS_LISTEN=127.0.0.1:0",
		"POSTRIDER_TEMPORAL_ADDRESS=127.0.0.1:1", // accepting events needs no Temporal
		"POSTRIDER_LOG_FORMAT=json",
	}
	if b.Profile != "" {
		s.options.Env = append(s.options.Env, "POSTRIDER_PROFILE_LISTEN=127.0.0.1:0")
	}
	apiKey, err := b.provision(ctx, s.options.Env)
	if err != nil {
		return nil, err
	}
	process, err := instance.Spawn(b.Postrider, []string{"api"}, s.options.Env, s.options.Log)
	if err != nil {
		return nil, err
	}
	s.adopt(&instance.Instance{Process: process, Client: instance.Client{Key: apiKey}})
	return s, s.awaitAPI(ctx)
}

// provision runs an operator's commands for a first workspace and returns an API key.
func (b *bench) provision(ctx context.Context, env []string) (apiKey string, err error) {
	if _, err := b.operate(ctx, env, "migrate", "up"); err != nil {
		return "", err
	}
	workspace, err := b.operate(ctx, env, "workspace", "create", "bench")
	if err != nil {
		return "", err
	}
	return b.operate(ctx, env, "key", "create", "--workspace", workspace, "--name", "bench",
		"--scope", "publish", "--scope", "manage", "--scope", "read", "--scope", "secrets")
}

// operate runs a command of the production binary and returns what it printed.
func (b *bench) operate(ctx context.Context, env []string, args ...string) (string, error) {
	return instance.Output(ctx, b.Postrider, env, args...)
}

// awaitAPI waits until the process has logged its address and answers there.
func (s *system) awaitAPI(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return poll(ctx, pollInterval, func() (bool, error) {
		select {
		case <-s.Exited():
			return false, fmt.Errorf("postrider api ended while starting\n%s", s.logged())
		default:
		}
		text, err := os.ReadFile(filepath.Join(s.options.DataDir, "log"))
		if err != nil {
			return false, err
		}
		for line := range bytes.Lines(text) {
			var entry struct{ Msg, API, URL string }
			if json.Unmarshal(line, &entry) != nil {
				continue // the line is incomplete
			}
			switch entry.Msg {
			case "started":
				s.API = entry.API
			case "profiles are served":
				s.Profile = entry.URL
			}
		}
		return s.API != "" && s.Call(ctx, http.MethodGet, "/readyz?exclude=temporal", nil, nil) == nil, nil
	})
}
