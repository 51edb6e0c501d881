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

// ear is the receiver's process, as the benchmark speaks to it.
type ear struct {
	*instance.Process
	receiverAddresses
}

// startReceiver starts this very program as the receiver.
func startReceiver(ctx context.Context, dir string) (*ear, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process, err := instance.Spawn(self, []string{"receiver", "--dir", dir}, nil, os.Stderr)
	if err != nil {
		return nil, err
	}
	e := &ear{Process: process}
	err = poll(ctx, 10*time.Millisecond, func() (bool, error) {
		text, err := os.ReadFile(filepath.Join(dir, receiverFile)) //nolint:gosec // our own temporary folder
		if err != nil {
			return false, e.alive()
		}
		return true, json.Unmarshal(text, &e.receiverAddresses)
	})
	return e, err
}

func (e *ear) alive() error {
	select {
	case <-e.Exited():
		return errors.New("the receiver ended")
	default:
		return nil
	}
}

// count is how many requests came since the last reset and were accepted.
func (e *ear) count(ctx context.Context) (int, error) {
	c, err := e.counts(ctx)
	return c.All - c.Refused, err
}

// refused is how many requests came since the last reset and were answered 500.
func (e *ear) refused(ctx context.Context) (int, error) {
	c, err := e.counts(ctx)
	return c.Refused, err
}

func (e *ear) counts(ctx context.Context) (c counts, err error) {
	text, err := e.ask(ctx, http.MethodGet, "/count", nil)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	return c, err
}

// reset forgets what came.
func (e *ear) reset(ctx context.Context) error {
	_, err := e.ask(ctx, http.MethodPost, "/reset", nil)
	return err
}

// learn tells the secrets that webhooks sign with, by the path of their URL.
func (e *ear) learn(ctx context.Context, secrets map[string]string) error {
	text, err := json.Marshal(secrets)
	if err != nil {
		return err
	}
	_, err = e.ask(ctx, http.MethodPut, "/secrets", text)
	return err
}

// receipt is one request that came, as the receiver noted it.
type receipt struct {
	at              time.Time
	event, delivery string
	unsigned        bool
	refused         bool // it was answered 500
}

// accepted are the receipts that were not refused.
func accepted(receipts []receipt) []receipt {
	return slices.DeleteFunc(slices.Clone(receipts), func(r receipt) bool { return r.refused })
}

// receipts are all that came since the last reset.
func (e *ear) receipts(ctx context.Context) ([]receipt, error) {
	text, err := e.ask(ctx, http.MethodGet, "/notes", nil)
	if err != nil {
		return nil, err
	}
	var all []receipt
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		var r receipt
		var at int64
		if _, err := fmt.Sscan(lines.Text(), &at, &r.event, &r.delivery, &r.unsigned, &r.refused); err != nil {
			return nil, err
		}
		r.at = time.Unix(0, at)
		all = append(all, r)
	}
	return all, lines.Err()
}

func (e *ear) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, e.Control+path, bytes.NewReader(body))
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

// poll asks again and again until the answer is yes or an error.
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
