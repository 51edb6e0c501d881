package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider/client"
	"postrider.dev/postrider/standalone/instance"
)

// operator is somebody who types commands.
type operator struct {
	t       *testing.T
	program string
	i       *instance.Instance
}

// try runs a command and returns its output, its errors and its exit code.
func (o operator) try(args ...string) (out, errs string, code int) {
	o.t.Helper()
	ctx, stop := context.WithTimeout(o.t.Context(), patience)
	defer stop()
	command := exec.CommandContext(ctx, o.program, args...)
	command.Env = append(os.Environ(), "POSTRIDER_URL="+o.i.API, "POSTRIDER_API_KEY="+o.i.Key)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		require.ErrorAs(o.t, err, new(*exec.ExitError))
	}
	require.NotContains(o.t, stdout.String()+stderr.String(), o.i.Key)
	return stdout.String(), stderr.String(), command.ProcessState.ExitCode()
}

// run runs a command that succeeds, and returns its output.
func (o operator) run(args ...string) string {
	o.t.Helper()
	out, errs, code := o.try(args...)
	require.Zero(o.t, code, "%v: %s%s", args, out, errs)
	return out
}

// id runs a command that answers one thing, and returns the id of that.
func (o operator) id(args ...string) string {
	o.t.Helper()
	var answer struct{ ID string }
	out := o.run(append(args, "--output", "json")...)
	require.NoError(o.t, json.Unmarshal([]byte(out), &answer), out)
	return answer.ID
}

// TestCommandsOverTheAPI walks through a day of an operator, with the commands of both binaries.
func TestCommandsOverTheAPI(t *testing.T) {
	t.Parallel()
	i := start(t, t.TempDir())
	receiver := newMoody(t)
	o := operator{t, binary, i}

	require.Contains(t, o.run("service", "readyz"), "ok")
	wh := o.id("webhook", "create", "--url", receiver.URL, "--events", "call.*", "--name", "mine", "--backoff-ms", "3600000")
	require.Contains(t, o.run("webhook", "list"), wh)
	event := o.id("event", "publish", "--type", "call.ended", "--data", `{"seconds": 42.50}`)
	require.Contains(t, o.run("event", "get", event), `{"seconds":42.50}`)

	var dlv string
	require.Eventually(t, func() bool {
		fields := strings.Fields(o.run("delivery", "list", "--state", "retrying", "--columns", "id"))
		if len(fields) == 2 {
			dlv = fields[1]
		}
		return len(fields) == 2
	}, patience, tick)
	require.Contains(t, o.run("delivery", "get", dlv), "server_error")
	receiver.accepts.Store(true)
	watched := o.run("delivery", "retry", dlv, "--watch", "--interval", "100ms", "-o", "json")
	require.Contains(t, watched, `"state":"succeeded"`, "it is watched until it has ended")
	require.Contains(t, o.run("delivery", "get-history", dlv), "retry")

	require.Contains(t, o.run("webhook", "pause", wh), "paused")
	require.Regexp(t, `(?m)^parked +1$`, o.run("event", "publish", "--type", "call.ended", "--data", "1"))
	o.run("webhook", "resume", wh)
	require.Eventually(t, func() bool {
		return strings.Count(o.run("webhook", "list-deliveries", wh, "--state", "succeeded"), "dlv_") == 2
	}, patience, tick)
	require.Contains(t, o.run("audit", "list", "--resource", wh), "webhook.pause")
	require.Contains(t, o.run("stats", "get", "--step", "1m"), "DELIVERED")

	production := operator{t, production, i}
	_, errs, code := production.try("webhook", "update", wh, "--timeout-ms", "1")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "--timeout-ms (body.timeout_ms)")
	_, errs, code = production.try("webhook", "update")
	require.Equal(t, 2, code)
	require.Contains(t, errs, `expected "<id>"`)
	production.run("webhook", "delete", wh) // there is no person to ask
	_, _, code = production.try("webhook", "get", wh)
	require.Equal(t, 1, code)
	require.Contains(t, production.run("complete", "--", "delivery", "re"), "retry\t")
	require.Contains(t, production.run("completion", "bash"), "complete -o default -F _postrider postrider\n")
}

// TestTheGoClient publishes and reads back as a platform's program would.
func TestTheGoClient(t *testing.T) {
	t.Parallel()
	i := start(t, t.TempDir())
	receiver := newMoody(t)
	receiver.accepts.Store(true)
	c := client.New(client.Config{URL: i.API, APIKey: i.Key})

	w, err := c.CreateWebhook(t.Context(), client.CreateWebhook{URL: receiver.URL, Events: []string{"*"}, MaxRetries: new(0)})
	require.NoError(t, err)
	event, key := client.PublishEvent{Type: "call.ended", Data: json.RawMessage(`1.50`)}, client.WithIdempotencyKey("k")
	receipt, err := c.PublishEvent(t.Context(), event, key)
	require.NoError(t, err)
	again, err := c.PublishEvent(t.Context(), event, key)
	require.NoError(t, err)
	require.Equal(t, receipt.ID, again.ID)
	require.Eventually(t, func() bool {
		count := 0
		for d, err := range c.ListWebhookDeliveries(t.Context(), w.ID, client.ListWebhookDeliveriesParams{State: "succeeded"}) {
			require.NoError(t, err)
			require.Equal(t, receipt.ID, d.EventID)
			count++
		}
		return count == 1
	}, patience, tick)
	require.EqualValues(t, 1, receiver.requests.Load())
	c.CloseIdleConnections()
}
