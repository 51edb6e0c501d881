package main

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/bench/hostile"
	"postrider.dev/postrider/signing"
	"postrider.dev/postrider/standalone/instance"
)

const (
	hostileEvents = 32 // for each hostile receiver
	hostileBound  = 5 * time.Minute
)

// hostileReceivers are receivers in this process that misbehave in every way that package hostile
// knows. They count the requests of each delivery.
type hostileReceivers struct {
	plain, away *httptest.Server // away is HTTP/2 and takes no request
	authority   string           // file of away's certificate

	mu   sync.Mutex
	came map[string]int // requests, by delivery
}

func startHostileReceivers(dir string) (*hostileReceivers, error) {
	h := &hostileReceivers{came: map[string]int{}, authority: filepath.Join(dir, "authority.pem")}
	mux := http.NewServeMux()
	for name, behave := range hostile.Behaviours("/elsewhere", func(*http.Request) {}) {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, r *http.Request) {
			h.count(r.Header.Get(signing.HeaderDeliveryID))
			behave(w, r)
		})
	}
	h.plain, h.away = httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	h.away.Config.ErrorLog = log.New(io.Discard, "", 0)
	hostile.ConfigureGoAway(h.away)
	h.away.StartTLS()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.away.Certificate().Raw})
	return h, os.WriteFile(h.authority, certificate, 0o600)
}

func (h *hostileReceivers) count(deliveryID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.came[deliveryID]++
}

// repeated returns how many requests came for a delivery that had one already.
func (h *hostileReceivers) repeated() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, came := range h.came {
		n += came - 1
	}
	return n
}

func (h *hostileReceivers) url(name string) string {
	if name == hostile.GoesAway {
		return h.away.URL + "/" + name
	}
	return h.plain.URL + "/" + name
}

func (h *hostileReceivers) close() {
	for _, server := range []*httptest.Server{h.plain, h.away} {
		server.CloseClientConnections()
		server.Close()
	}
}

// besideHostile measures a healthy webhook beside hostile receivers, and compares it with the same
// webhook alone: its latency, and the memory that the process took at the most.
func besideHostile(name string) []part {
	alone, h := name+"-alone", &hostileReceivers{}
	with := defaultSettings()
	with.text += fmt.Sprintf("; hostile: 0 retries, timeout %d s", postrider.DefaultTimeoutMS/1000)
	start := func(ctx context.Context, b *bench, m mode) (_ *system, err error) {
		if h, err = startHostileReceivers(b.dir); err != nil {
			return nil, err
		}
		s, err := b.start(ctx, m, startOptions{env: []string{"SSL_CERT_FILE=" + h.authority}})
		if err != nil {
			h.close()
			return nil, err
		}
		s.cleanups = append(s.cleanups, func() error { h.close(); return nil })
		return s, nil
	}
	return []part{
		fresh(fanOutStep(alone, 1, defaultSettings(), func(ctx context.Context, r *run) (metrics, error) {
			m, err := r.measureRate(ctx, goodRate, goodSpan)
			if err != nil {
				return nil, err
			}
			m[peakMemory], err = peakMB(r.PID())
			return m, err
		})),
		{start: start, steps: []step{comparedWith(alone, fanOutStep(name, 1, with, func(ctx context.Context, r *run) (metrics, error) {
			return r.measureBesideHostile(ctx, h)
		}))}},
	}
}

// measureBesideHostile publishes to the hostile receivers while it measures, and sees that none of
// their attempts took longer than it may have.
func (r *run) measureBesideHostile(ctx context.Context, h *hostileReceivers) (_ metrics, err error) {
	bad := r.newRun(r.system, r.name+"-bad", len(hostile.Names()))
	defer func() { err = errors.Join(err, bad.close()) }()
	for _, name := range hostile.Names() {
		w, err := r.CreateWebhook(ctx, map[string]any{
			"url": h.url(name), "events": []string{bad.eventType()}, "max_retries": 0, "circuit_breaker": false,
		})
		if err != nil {
			return nil, err
		}
		bad.hooks = append(bad.hooks, w)
	}
	if err := bad.connect(ctx, 1, bad.eventType()); err != nil {
		return nil, err
	}
	m, err := r.measureRateBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
		_, err := bad.load.publish(ctx, &atOnce{n: hostileEvents}, bad.requests)
		return err
	})
	if err != nil {
		return nil, err
	}
	if m[overrunMS], err = bad.longestOverrun(ctx); err != nil {
		return nil, err
	}
	maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
	m[duplicates] += float64(h.repeated())
	m[peakMemory], err = peakMB(r.PID())
	return m, err
}

// longestOverrun waits until no delivery of the run is on its way, and returns by how many
// milliseconds the longest attempt took longer than its timeout; 0 when none did.
func (r *run) longestOverrun(ctx context.Context) (longest float64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, hostileBound, errors.New("attempts at hostile receivers did not end"))
	defer cancel()
	for _, w := range r.hooks {
		var all []instance.Delivery
		err := poll(ctx, pollInterval, func() (bool, error) {
			if all, err = r.Deliveries(ctx, w.ID); err != nil {
				return false, err
			}
			for _, d := range all {
				if d.State != "succeeded" && d.State != "failed" && d.State != "parked" { // parked: the receiver is gone
					return false, nil
				}
			}
			return len(all) == hostileEvents, nil
		})
		if err != nil {
			return 0, err
		}
		for _, d := range all {
			read, err := r.Delivery(ctx, d.ID)
			if err != nil {
				return 0, err
			}
			for _, a := range read.Attempts {
				longest = max(longest, float64(a.DurationMS-postrider.DefaultTimeoutMS))
			}
		}
	}
	return longest, nil
}
