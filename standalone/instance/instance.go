// Package instance runs a postrider-standalone of its own, as another process on
// free ports, and talks to it as any client would. The demo, the end-to-end tests
// and the benchmarks use it, so that what they try is the real binary.
package instance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Options say what to start.
type Options struct {
	Binary  string    // path of postrider-standalone
	DataDir string    // kept between starts; the caller removes it
	Args    []string  // flags on top of those for free ports
	Env     []string  // NAME=value, on top of this process's environment
	Log     io.Writer // gets the process's output; nil drops it
}

// Endpoints is where a running instance answers, as it says itself.
type Endpoints struct {
	API        string `json:"api"`
	Metrics    string `json:"metrics"`
	Temporal   string `json:"temporal"`
	TemporalUI string `json:"temporal_ui"`
}

// Instance is a running process.
type Instance struct {
	Endpoints
	Key string // API key of the first workspace

	command *exec.Cmd
	exited  chan struct{}
	exit    error // of the process, once exited is closed
}

// pollInterval is how often a starting instance is looked at.
const pollInterval = 20 * time.Millisecond

// Start starts an instance and returns when it is ready to accept and deliver. It
// returns an error when ctx is done before, or the process ends.
func Start(ctx context.Context, options Options) (*Instance, error) {
	endpoints := filepath.Join(options.DataDir, "endpoints.json")
	if err := os.Remove(endpoints); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err // left by one that was killed
	}
	args := append([]string{
		"run", "--data-dir", options.DataDir,
		"--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--temporal-listen", "127.0.0.1:0", "--temporal-ui-listen", "127.0.0.1:0",
	}, options.Args...)
	i := &Instance{command: exec.Command(options.Binary, args...), exited: make(chan struct{})} //nolint:gosec,noctx // our own binary; it outlives ctx
	i.command.Env = append(os.Environ(), options.Env...)
	i.command.Stdout, i.command.Stderr = options.Log, options.Log
	i.command.SysProcAttr = dieWithParent()
	if err := i.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		i.exit = i.command.Wait()
		close(i.exited)
	}()
	if err := i.becomeReady(ctx, options.DataDir, endpoints); err != nil {
		return nil, errors.Join(err, i.Kill())
	}
	return i, nil
}

func (i *Instance) becomeReady(ctx context.Context, dataDir, endpoints string) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		text, err := os.ReadFile(endpoints) //nolint:gosec // a path of our own
		if err == nil && json.Unmarshal(text, &i.Endpoints) == nil && i.ready(ctx) {
			key, err := os.ReadFile(filepath.Join(dataDir, "api-key")) //nolint:gosec // a path of our own
			i.Key = strings.TrimSpace(string(key))
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("postrider-standalone is not ready: %w", ctx.Err())
		case <-i.exited:
			return fmt.Errorf("postrider-standalone ended while starting: %w", i.exit)
		case <-ticker.C:
		}
	}
}

func (i *Instance) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, i.API+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Stop asks the process to stop, as SIGTERM does, and waits for its end. It returns
// an error when that end was not a clean one.
func (i *Instance) Stop() error {
	return i.end(syscall.SIGTERM)
}

// Kill ends the process without giving it a chance, as kill -9 does.
func (i *Instance) Kill() error {
	var killed *exec.ExitError
	if err := i.end(syscall.SIGKILL); !errors.As(err, &killed) {
		return err
	}
	return nil
}

func (i *Instance) end(signal syscall.Signal) error {
	if err := i.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-i.exited
	return i.exit
}
