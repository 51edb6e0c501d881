package egress_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/egress"
)

// fewDescriptors is set in the process that runs out of descriptors.
const fewDescriptors = "POSTRIDER_TEST_FEW_DESCRIPTORS"

// Guards against a failure of ours that is booked as the receiver's. It runs in a process of its
// own, whose descriptors it uses up.
func TestDescriptorsUsedUp(t *testing.T) {
	t.Parallel()
	if os.Getenv(fewDescriptors) != "" {
		useUpDescriptors(t)
		return
	}
	program, err := os.Executable()
	require.NoError(t, err)
	command := exec.CommandContext(t.Context(), program, "-test.run=^TestDescriptorsUsedUp$", "-test.count=1")
	command.Env = append(os.Environ(), fewDescriptors+"=1", "GOCOVERDIR="+t.TempDir())
	output, err := command.CombinedOutput()
	require.NoError(t, err, "%s", output)
}

func useUpDescriptors(t *testing.T) {
	t.Helper()
	server := serve(t, func(http.ResponseWriter, *http.Request) {})
	client := setup(t, withResolver(&net.Resolver{PreferGo: true})) // as in the released binaries, which have no cgo
	limit := syscall.Rlimit{}
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	limit.Cur = 64
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	var held []*os.File
	for {
		file, err := os.Open(filepath.Clean(os.DevNull))
		if err != nil {
			require.ErrorIs(t, err, syscall.EMFILE)
			break
		}
		held = append(held, file)
	}
	for _, url := range []string{server.URL, named(server, "localhost")} {
		_, _, err := client.Post(t.Context(), egress.Request{URL: url, Timeout: long})
		require.ErrorIs(t, err, egress.ErrExhausted, url)
		require.ErrorIs(t, err, syscall.EMFILE)
		require.NotContains(t, err.Error(), "127.0.0.1")
	}
	for _, file := range held {
		require.NoError(t, file.Close())
	}
	require.Equal(t, postrider.ResultSuccess, client.post(t, server.URL, long).Result)
}

func TestExhaustionOfTheMachineIsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]error{
		"ports":            &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)},
		"buffers":          &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENOBUFS)},
		"system's files":   &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.ENFILE)},
		"in a look-up":     &net.DNSError{Err: "dial udp 10.0.0.2:53: socket: " + syscall.EMFILE.Error(), Name: marker},
		"a receiver's own": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := failure
			if answer == nil {
				answer = errors.New("server misbehaving")
			}
			client := setup(t, withResolver(lookup(func(context.Context, string) ([]netip.Addr, error) { return nil, answer })))
			attempt, _, err := client.Post(t.Context(), egress.Request{URL: "http://name.example/", Timeout: long})
			if failure == nil {
				require.NoError(t, err)
				require.Equal(t, postrider.ResultDNS, attempt.Result)
				return
			}
			require.ErrorIs(t, err, egress.ErrExhausted)
			require.Zero(t, attempt)
			require.NotContains(t, err.Error(), marker)
		})
	}
}
