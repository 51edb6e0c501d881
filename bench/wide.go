package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"postrider.dev/postrider/standalone/instance"
)

const (
	wideWebhooks = 1_000
	wideBound    = 30 * time.Minute
)

// wide measures one array of events that goes to very many webhooks, and the latency of another
// workspace's webhook beside it, compared with the same without it. Then the process is killed and
// started again, and every delivery has to be made.
func wide(name string) []part {
	alone := name + "-alone"
	with := defaultSettings()
	with.text += fmt.Sprintf("; beside it %d webhooks and an array of %d", wideWebhooks, arraySize)
	step := fanOutStep(name, 1, with, func(ctx context.Context, r *run) (measured metrics, err error) {
		w, err := r.newWideRun(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, w.load.close()) }()
		return r.measureBesideWide(ctx, w)
	})
	return []part{fresh(fanOutStep(alone, 1, defaultSettings(), func(ctx context.Context, r *run) (metrics, error) {
		return r.measureRate(ctx, goodRate, goodSpan)
	})), fresh(comparedWith(alone, step))}
}

// measureBesideWide publishes the array, measures beside what it makes, and sees that all of it is
// made.
func (r *run) measureBesideWide(ctx context.Context, w *run) (metrics, error) {
	var answered time.Duration
	began := time.Now()
	m, err := r.measureRateBeside(ctx, goodRate, goodSpan, func(ctx context.Context) error {
		published, err := w.load.publish(ctx, &atOnce{n: 1}, w.requests)
		if err == nil {
			answered = published[0].answered.Sub(published[0].sent)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	memory, err := peakMB(r.PID())
	if err != nil {
		return nil, err
	}
	finished, _, err := w.countFinished(ctx)
	if err != nil {
		return nil, err
	}
	want := arraySize * len(w.hooks)
	r.sayf("  killing the process after %d of %d deliveries", finished, want)
	if err := errors.Join(r.Kill(), r.launch(ctx)); err != nil {
		return nil, err
	}
	w.API = r.API
	all := wait{what: "deliveries to very many webhooks were recorded", want: want, stall: time.Minute, bound: wideBound}
	if err := w.await(ctx, all, w.countRecorded); err != nil {
		return nil, err
	}
	maps.DeleteFunc(m, func(name string, _ float64) bool { return strings.HasPrefix(name, cpuPer1000) })
	maps.Copy(m, metrics{answerMS: float64(answered.Microseconds()) / 1000, allSeconds: time.Since(began).Seconds(), peakMemory: memory})
	return m, w.checkNoneUnfinished(ctx)
}

// newWideRun creates a workspace with very many webhooks for one type of event.
func (r *run) newWideRun(ctx context.Context) (*run, error) {
	w := r.newRun(r.system, r.name+"-crowd", r.scaled(wideWebhooks))
	other, err := r.newWorkspace(ctx, w.name)
	if err != nil {
		return nil, err
	}
	w.system = &system{Instance: &instance.Instance{Process: r.Process, Client: other}}
	w.path = unnotedPath
	for range w.fanOut {
		if err := w.add(ctx, w.eventType(), defaultSettings()); err != nil {
			return nil, err
		}
	}
	if w.load, err = newLoad(ctx, w.Client, 1); err != nil {
		return nil, err
	}
	w.requests = w.load.arrays(r.random(), w.eventType())
	return w, nil
}

// newWorkspace creates a workspace and returns a client with a key of it.
func (r *run) newWorkspace(ctx context.Context, name string) (instance.Client, error) {
	var workspace struct{ ID string }
	if err := r.Call(ctx, http.MethodPost, "/api/v1/admin/workspaces", map[string]any{"name": name}, &workspace); err != nil {
		return instance.Client{}, err
	}
	var created struct{ Key string }
	err := r.Call(ctx, http.MethodPost, "/api/v1/admin/workspaces/"+workspace.ID+"/keys",
		map[string]any{"name": name, "scopes": []string{"publish", "manage", "read", "secrets"}}, &created)
	return instance.Client{API: r.API, Key: created.Key}, err
}
