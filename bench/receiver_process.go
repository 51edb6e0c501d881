package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

// receiverProcess is the receiver: a child process, and a client of its control API.
type receiverProcess struct {
	*instance.Process
	receiverAddresses
}

// startReceiver starts this program once more, as the receiver.
func startReceiver(ctx context.Context, dir string) (*receiverProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process, err := instance.Spawn(self, []string{"receiver", "--dir", dir}, nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	p := &receiverProcess{Process: process}
	err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(dir, receiverFile)) //nolint:gosec // our own temporary folder
		if err != nil {
			return false, p.alive()
		}
		return true, json.Unmarshal(text, &p.receiverAddresses)
	})
	return p, err
}

// alive returns an error when the process has ended.
func (p *receiverProcess) alive() error {
	select {
	case <-p.Exited():
		return errors.New("the receiver ended")
	default:
		return nil
	}
}

// count returns how many requests the receiver accepted since the last reset.
func (p *receiverProcess) count(ctx context.Context) (int, error) {
	c, err := p.counts(ctx)
	return c.All - c.Refused, err
}

// refused returns how many requests the receiver answered with 500 since the last reset.
func (p *receiverProcess) refused(ctx context.Context) (int, error) {
	c, err := p.counts(ctx)
	return c.Refused, err
}

// counts asks for the numbers of requests since the last reset.
func (p *receiverProcess) counts(ctx context.Context) (c counts, err error) {
	text, err := p.call(ctx, http.MethodGet, "/count", nil)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}

// reset makes the receiver forget every request.
func (p *receiverProcess) reset(ctx context.Context) error {
	_, err := p.call(ctx, http.MethodPost, "/reset", nil)
	return err
}

// setSecrets tells the receiver the secrets that webhooks sign with, by the path of their URL.
func (p *receiverProcess) setSecrets(ctx context.Context, secrets map[string]string) error {
	text, err := json.Marshal(secrets)
	if err != nil {
		return err
	}
	_, err = p.call(ctx, http.MethodPut, "/secrets", text)
	return err
}

// receivedRequest is one request, as the receiver noted it.
type receivedRequest struct {
	at              time.Time
	event, delivery string
	unsigned        bool
	refused         bool // it was answered 500
}

// accepted returns the requests that were not refused.
func accepted(received []receivedRequest) []receivedRequest {
	return slices.DeleteFunc(slices.Clone(received), func(r receivedRequest) bool { return r.refused })
}

// received returns every request since the last reset.
func (p *receiverProcess) received(ctx context.Context) ([]receivedRequest, error) {
	text, err := p.call(ctx, http.MethodGet, "/notes", nil)
	if err != nil {
		return nil, err
	}
	var all []receivedRequest
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var r receivedRequest
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &at, &r.event, &r.delivery, &r.unsigned, &r.refused); err != nil {
			return nil, err
		}
		r.at = time.Unix(0, at)
		all = append(all, r)
	}
	return all, lines.Err()
}

// call makes a request to the control API.
func (p *receiverProcess) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, p.Control+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("the receiver answered %d: %s", response.StatusCode, text)
	}
	return text, err
}

// poll asks until the answer is true or an error, once in every interval.
func poll(ctx context.Context, interval time.Duration, ask func() (bool, error)) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
