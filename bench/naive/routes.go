package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
)

// routes returns the part of Postrider's API that the benchmark uses.
func (n *naive) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/webhooks", answer(http.StatusCreated, n.createWebhook))
	mux.HandleFunc("GET /api/v1/webhooks", answer(http.StatusOK, n.webhooks))
	mux.HandleFunc("GET /api/v1/webhooks/{id}/secret", answer(http.StatusOK, n.secret))
	mux.HandleFunc("GET /api/v1/webhooks/{id}/deliveries", answer(http.StatusOK, n.deliveries))
	mux.HandleFunc("POST /api/v1/events", answer(http.StatusAccepted, n.publish))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-API-Key") != n.key && r.URL.Path != "/readyz" {
			http.Error(w, "no such key", http.StatusUnauthorized)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// answer returns an HTTP handler that encodes the value of handle as JSON.
func answer(status int, handle func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := handle(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value) // fails only when the client has gone
	}
}

// newID returns a prefix and a UUIDv7, as Postrider's ids are.
func newID(prefix string) string {
	id := uuid.Must(uuid.NewV7())
	return prefix + hex.EncodeToString(id[:])
}

// publish stores an event and its deliveries, and starts a workflow for each.
func (n *naive) publish(r *http.Request) (any, error) {
	ctx := r.Context()
	var request struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		return nil, err
	}
	id, now := newID("evt_"), time.Now()
	body, err := json.Marshal(map[string]any{"id": id, "type": request.Type, "timestamp": now, "data": request.Data})
	if err != nil {
		return nil, err
	}
	if _, err := n.db.ExecContext(ctx, "INSERT INTO events (id, type, body, created_at) VALUES ($1, $2, $3, $4)",
		id, request.Type, body, now); err != nil {
		return nil, err
	}
	webhooks, err := n.ids(ctx, "SELECT id FROM webhooks WHERE event_type = $1", request.Type)
	if err != nil {
		return nil, err
	}
	for _, webhook := range webhooks {
		delivery := newID("dlv_")
		if _, err := n.db.ExecContext(ctx,
			"INSERT INTO deliveries (id, webhook_id, event_id, state, attempt_count, created_at) VALUES ($1, $2, $3, 'pending', 0, $4)",
			delivery, webhook, id, now); err != nil {
			return nil, err
		}
		if err := n.start(ctx, delivery); err != nil {
			return nil, err
		}
	}
	return map[string]any{"id": id, "type": request.Type, "deliveries": len(webhooks), "duplicate": false}, nil
}

// ids runs a query for one column of ids.
func (n *naive) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	rows, err := n.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (n *naive) createWebhook(r *http.Request) (any, error) {
	var request struct {
		URL    string   `json:"url"`
		Events []string `json:"events"`
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &request); err != nil {
		return nil, err
	}
	if len(request.Events) != 1 {
		return nil, errors.New("events must have exactly one entry")
	}
	id := newID("wh_")
	_, err = n.db.ExecContext(r.Context(), "INSERT INTO webhooks (id, url, event_type, secret) VALUES ($1, $2, $3, $4)",
		id, request.URL, request.Events[0], "whsec_"+hex.EncodeToString([]byte(id))[:32])
	return map[string]any{"id": id}, err
}

func (n *naive) secret(r *http.Request) (any, error) {
	var secret string
	err := n.db.QueryRowContext(r.Context(), "SELECT secret FROM webhooks WHERE id = $1", r.PathValue("id")).Scan(&secret)
	return map[string]any{"secret": secret}, err
}

func (n *naive) webhooks(r *http.Request) (any, error) {
	all, err := n.ids(r.Context(), "SELECT id FROM webhooks ORDER BY id DESC")
	if err != nil {
		return nil, err
	}
	data := make([]map[string]any, len(all))
	for i, id := range all {
		total := 0
		err := n.db.QueryRowContext(r.Context(), "SELECT count(*) FROM deliveries WHERE webhook_id = $1 AND state = 'succeeded'", id).Scan(&total)
		if err != nil {
			return nil, err
		}
		data[i] = map[string]any{"id": id, "stats": map[string]int{"total_deliveries": total}}
	}
	return map[string]any{"data": data}, nil
}

func (n *naive) deliveries(r *http.Request) (any, error) {
	found, err := n.ids(r.Context(), "SELECT id FROM deliveries WHERE webhook_id = $1 AND state = $2 LIMIT 1",
		r.PathValue("id"), r.URL.Query().Get("state"))
	data := make([]map[string]string, 0, len(found))
	for _, id := range found {
		data = append(data, map[string]string{"id": id})
	}
	return map[string]any{"data": data}, err
}
