package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Process is a running child process.
type Process struct {
	command *exec.Cmd
	exited  chan struct{}
	exit    error // valid when exited is closed
}

// Spawn starts a program. env is NAME=value, added to this process's environment. log gets the
// output; nil drops it. On Linux the child does not outlive this process.
func Spawn(binary string, args, env []string, log io.Writer) (*Process, error) {
	command := exec.Command(binary, args...) //nolint:gosec,noctx // our own binary; Stop and Kill end it
	p := &Process{command: command, exited: make(chan struct{})}
	p.command.Env = append(os.Environ(), env...)
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = dieWithParent()
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.exit = p.command.Wait()
		close(p.exited)
	}()
	return p, nil
}

// PID returns the process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop sends SIGTERM and waits for the end. It returns an error when the process did not end
// cleanly.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() error {
	var killed *exec.ExitError
	if err := p.end(syscall.SIGKILL); !errors.As(err, &killed) {
		return err
	}
	return nil
}

// end sends the signal, unless the process has ended, and waits for the end.
func (p *Process) end(signal syscall.Signal) error {
	if err := p.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return p.exit
}

// Output runs a command of a binary to its end, and returns its standard output without the white
// space around it. env is NAME=value, added to this process's environment. The error has what the
// command wrote to standard error.
func Output(ctx context.Context, binary string, env []string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, binary, args...) //nolint:gosec // our own binary
	command.Env = append(os.Environ(), env...)
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %v: %w: %s", filepath.Base(binary), args, err, &problems)
	}
	return strings.TrimSpace(string(out)), nil
}
