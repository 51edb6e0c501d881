package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/receiver"
	"postrider.dev/postrider/server"
	"postrider.dev/postrider/signing"
)

// receiverHeaderTimeout keeps a slow client from holding a connection for ever.
const receiverHeaderTimeout = 10 * time.Second

// ListenCommand runs a receiver that verifies and prints webhooks.
type ListenCommand struct {
	Address string   `name:"listen" env:"POSTRIDER_RECEIVER_LISTEN" default:"127.0.0.1:9000" help:"Address to receive on; any path will do."`
	Method  string   `default:"hmac_sha256" enum:"${signing_methods}" help:"Signing method of the webhook: ${enum}."`
	Secret  []string `env:"POSTRIDER_RECEIVER_SECRET" sep:"none" placeholder:"SECRET" help:"The webhook's secret, as GET /api/v1/webhooks/{id}/secret tells it. Repeat it for a rotation's old ones. Without a secret nothing is verified. Prefer the environment: other users can see a command line."`

	Fail       int           `default:"0" placeholder:"N" help:"Answer the first N requests with 500, to see retries."`
	Status     int           `default:"204" help:"Status of the other answers (200 to 599)."`
	Delay      time.Duration `default:"0s" help:"Wait before every answer, to see timeouts."`
	RetryAfter time.Duration `default:"0s" help:"Send Retry-After with every failure."`
}

// Validate checks what flag parsing cannot. The error names the flag and the rule.
func (c *ListenCommand) Validate() error {
	switch {
	case c.Fail < 0:
		return errors.New("--fail: must not be negative")
	case c.Status < 200 || c.Status > 599:
		return errors.New("--status: must be from 200 to 599")
	case c.Delay < 0, c.RetryAfter < 0:
		return errors.New("--delay and --retry-after: must not be negative")
	}
	for _, secret := range c.Secret {
		if secret == "" {
			return errors.New("--secret (POSTRIDER_RECEIVER_SECRET): must not be empty; leave it out to verify nothing")
		}
	}
	return nil
}

// brokenRules returns the rules of the API that the secrets break. They are used all the same,
// because a webhook may have one that is older than a rule.
func (c *ListenCommand) brokenRules() []string {
	var broken []string
	for _, secret := range c.Secret {
		if rule := signing.CheckSecret(postrider.SigningMethod(c.Method), secret); rule != "" {
			broken = append(broken, rule)
		}
	}
	return broken
}

// Run implements the command: it receives until ctx is done.
func (c *ListenCommand) Run(ctx context.Context) error {
	listener, err := server.Listen(ctx, "--listen", "POSTRIDER_RECEIVER_LISTEN", c.Address)
	if err != nil {
		return err
	}
	method := postrider.SigningMethod(c.Method)
	if len(c.Secret) == 0 {
		method = signing.None
	}
	for _, rule := range c.brokenRules() {
		notef("--secret (POSTRIDER_RECEIVER_SECRET): %s. No webhook gets such a secret any more.", rule)
	}
	var printing sync.Mutex
	handler := receiver.New(receiver.Options{
		Method: method, Secrets: c.Secret, Fail: c.Fail, Status: c.Status, Delay: c.Delay, RetryAfter: c.RetryAfter, Now: time.Now,
		OnReceived: func(r receiver.Received) {
			printing.Lock()
			defer printing.Unlock()
			fmt.Println(receiver.Line(r))
		},
	})
	fmt.Printf("Receiving on http://%s (stop with Ctrl-C). Signatures: %s\n", listener.Addr(), verification(method))
	receiving := &http.Server{Handler: handler, ReadHeaderTimeout: receiverHeaderTimeout}
	context.AfterFunc(ctx, func() { _ = receiving.Close() })
	if err := receiving.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// verification describes how requests are verified.
func verification(method postrider.SigningMethod) string {
	if method == signing.None {
		return "not verified; give the webhook's --secret to verify them"
	}
	return "verified (" + string(method) + ")"
}
