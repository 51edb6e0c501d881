package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/signing"
)

// listenCommand parses a command line of listen.
func listenCommand(t *testing.T, args ...string) (*ListenCommand, error) {
	t.Helper()
	var commands struct {
		Listen ListenCommand `cmd:""`
	}
	parser, err := kong.New(&commands, Vars("none", time.Second), kong.Exit(func(int) {}))
	require.NoError(t, err)
	_, err = parser.Parse(append([]string{"listen"}, args...))
	return &commands.Listen, err
}

// secretFrom returns a secret that a method accepts, always the same for a seed.
func secretFrom(t *testing.T, method postrider.SigningMethod, seed string) string {
	t.Helper()
	secret, err := signing.NewSecret(method, strings.NewReader(strings.Repeat(seed, 256)))
	require.NoError(t, err)
	if secret == "" { // people choose it
		secret = "user:" + seed
	}
	require.Empty(t, signing.CheckSecret(method, secret))
	return secret
}

// TestListenKnowsEveryMethod guards that listen accepts exactly the methods of the table, and knows
// the rules for secrets that the API has.
func TestListenKnowsEveryMethod(t *testing.T) {
	t.Parallel()
	for _, method := range signing.Methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			_, err := listenCommand(t, "--method", string(method))
			require.NoError(t, err, "without a secret nothing is verified")
			_, err = listenCommand(t, "--method", string(method), "--secret", secretFrom(t, method, "own"))
			require.NoError(t, err)
			_, err = listenCommand(t, "--method", string(method), "--secret=")
			require.ErrorContains(t, err, "--secret (POSTRIDER_RECEIVER_SECRET): must not be empty")
			for _, secret := range []string{secretFrom(t, method, "own"), "no\ncolon", strings.Repeat("s", postrider.MaxSecretLength+1)} {
				c, err := listenCommand(t, "--method", string(method), "--secret", secret)
				require.NoError(t, err, "a webhook may have it since before a rule")
				if rule := signing.CheckSecret(method, secret); rule == "" {
					require.Empty(t, c.brokenRules())
				} else {
					require.Equal(t, []string{rule}, c.brokenRules())
				}
			}
		})
	}
	_, err := listenCommand(t, "--method", "md5")
	require.ErrorContains(t, err, "--method must be one of ")
	for _, method := range signing.Methods() {
		require.ErrorContains(t, err, string(method))
	}
}

func TestListenDefaults(t *testing.T) {
	t.Parallel()
	c, err := listenCommand(t)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:9000", c.Address)
	require.Equal(t, string(signing.Methods()[0]), c.Method)
	require.Equal(t, http.StatusNoContent, c.Status)
	require.Zero(t, c.Fail)
}

func TestListenSaysWhatToDoAboutATakenPort(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, taken.Close()) })
	c, err := listenCommand(t, "--listen", taken.Addr().String())
	require.NoError(t, err)
	require.ErrorContains(t, c.Run(t.Context()), "--listen "+taken.Addr().String()+": the port is taken; stop what uses it, or choose another")
}

// post sends an event with the headers of a signing method, until the receiver is there.
func post(t *testing.T, url string, method postrider.SigningMethod, secret string) int {
	t.Helper()
	body := []byte(`{"id":"evt_1","type":"call.ended"}`)
	client := &http.Client{}
	defer client.CloseIdleConnections()
	var status int
	require.Eventually(t, func() bool {
		header, err := signing.Sign(method, []string{secret}, signing.Message{ID: "evt_1", Timestamp: time.Now(), Body: body})
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
		require.NoError(t, err)
		request.Header = header
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		status = response.StatusCode
		return response.Body.Close() == nil
	}, 10*time.Second, 10*time.Millisecond)
	return status
}

// TestListenVerifiesEveryMethod guards the whole way of a request: the answer, the line on standard
// output, and that a stranger's request is refused. Without a secret, all is accepted.
func TestListenVerifiesEveryMethod(t *testing.T) { //nolint:paralleltest // standard output is the process's
	for _, method := range signing.Methods() {
		for _, secrets := range [][]string{{secretFrom(t, method, "own")}, nil} {
			args := []string{"--listen", freeAddress(t), "--method", string(method)}
			for _, secret := range secrets {
				args = append(args, "--secret", secret)
			}
			c, err := listenCommand(t, args...)
			require.NoError(t, err)
			verifies := len(secrets) > 0 && signing.NeedsSecret(method)
			text, err := printed(t, func(...any) error {
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- c.Run(ctx) }()
				url := "http://" + c.Address + "/hook"
				require.Equal(t, http.StatusNoContent, post(t, url, method, secretFrom(t, method, "own")))
				want := http.StatusNoContent
				if verifies {
					want = http.StatusUnauthorized
				}
				require.Equal(t, want, post(t, url, method, secretFrom(t, method, "stranger")))
				stop()
				return <-ended
			})
			require.NoError(t, err)
			require.Contains(t, text, "Receiving on http://"+c.Address, "%s", method)
			require.Equal(t, verifies, strings.Contains(text, fmt.Sprintf("Signatures: verified (%s)", method)), text)
			require.Equal(t, verifies, strings.Contains(text, "call.ended evt_1 attempt 0 ✓ verified → 204"), text)
			require.NotContains(t, text, secretFrom(t, method, "own"))
		}
	}
}

// freeAddress returns a loopback address that is free at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}
