package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options say what to start.
type Options struct {
	Binary  string    // path of postrider-standalone
	DataDir string    // kept between starts; the caller removes it
	Args    []string  // flags, added to the flags for free ports
	Env     []string  // NAME=value, added to this process's environment
	Log     io.Writer // gets the process's output; nil drops it
}

// Instance is a running process and a client of its API.
type Instance struct {
	*Process
	Client

	Metrics    string // base URL of the metrics listener
	Temporal   string // host:port of the Temporal server
	TemporalUI string // base URL of Temporal's web interface
	Profile    string // base URL of Go's profiles; "" unless a flag asked for them
}

// pollInterval is how often Start checks whether the instance is ready.
const pollInterval = 20 * time.Millisecond

// Start starts an instance and returns when it is ready to accept and deliver. It returns an error
// when the process ends or ctx is done first.
func Start(ctx context.Context, options Options) (*Instance, error) {
	endpoints := filepath.Join(options.DataDir, "endpoints.json")
	if err := os.Remove(endpoints); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // the file of a process that was killed
	}
	args := append([]string{
		"run", "--data-dir", options.DataDir,
		"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--temporal-listen", "127.0.0.1:0", "--temporal-ui-listen", "127.0.0.1:0",
	}, options.Args...)
	process, err := Spawn(options.Binary, args, options.Env, options.Log)
	if err != nil {
		return nil, err
	}
	i := &Instance{Process: process}
	if err := i.becomeReady(ctx, options.DataDir, endpoints); err != nil {
		return nil, errors.Join(err, i.Kill())
	}
	return i, nil
}

// becomeReady waits until the instance is ready, and reads its addresses and its API key.
func (i *Instance) becomeReady(ctx context.Context, dataDir, endpoints string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if i.readEndpoints(endpoints) == nil && i.Ready(ctx) {
			key, err := os.ReadFile(filepath.Join(dataDir, "api-key")) //nolint:gosec // a path of our own
			i.Key = strings.TrimSpace(string(key))
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("postrider-standalone is not ready: %w", ctx.Err())
		case <-i.Exited():
			return fmt.Errorf("postrider-standalone ended while starting: %w", i.exit)
		case <-ticker.C:
		}
	}
}

// readEndpoints reads the addresses that the instance has written.
func (i *Instance) readEndpoints(path string) error {
	text, err := os.ReadFile(path) //nolint:gosec // a path of our own
	if err != nil {
		return err
	}
	var answers struct {
		API        string `json:"api"`
		Metrics    string `json:"metrics"`
		Temporal   string `json:"temporal"`
		TemporalUI string `json:"temporal_ui"`
		Profile    string `json:"profile"`
	}
	err = json.Unmarshal(text, &answers)
	i.API, i.Metrics, i.Temporal, i.TemporalUI, i.Profile = answers.API, answers.Metrics, answers.Temporal, answers.TemporalUI, answers.Profile
	return err
}
