package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// An event's own headers are encrypted as a webhook's are, and bound to the event's key.

// optionsOf returns what few events have, as it is stored.
func (s *Store) optionsOf(e postrider.Event) (eventOptions, error) {
	options := eventOptions{ExpiresAt: sqldb.NullTime(e.ExpiresAt), WebhookID: e.WebhookID, OrderingKey: e.OrderingKey}
	if len(e.Headers) == 0 {
		return options, nil
	}
	sealed, err := s.sealHeaders(e.WorkspaceID, e.Key, e.Headers)
	options.Headers, options.HeadersKeyID, options.HeadersCiphertext = &sealed.Headers, sealed.HeadersKeyID, sealed.HeadersCiphertext
	return options, err
}

// unsealEventHeaders is unsealHeaders for an event.
func (s *Store) unsealEventHeaders(workspaceID, key string, options eventOptions) (map[string]string, error) {
	return s.unsealHeaders(workspaceID, key, headersRow{*options.Headers, options.HeadersKeyID, options.HeadersCiphertext})
}

// addEventHeaders adds the event's headers to a delivery's target. Without them no request may be
// made.
func (s *Store) addEventHeaders(t *postrider.Target, event eventRow) {
	headers, err := s.unsealEventHeaders(t.Delivery.WorkspaceID, event.Key, event.eventOptions)
	if err != nil {
		t.Failure = errors.Join(t.Failure, fmt.Errorf("event %s: %w", event.Key, err))
		return
	}
	t.EventHeaders = headers
}

// shownEventHeaders returns an event's headers for somebody to see. Those that cannot be decrypted
// are masked.
func (s *Store) shownEventHeaders(ctx context.Context, row eventRow) (map[string]string, error) {
	if row.Headers == nil {
		return nil, nil
	}
	headers, err := s.unsealEventHeaders(row.WorkspaceID, row.Key, row.eventOptions)
	if errors.Is(err, errUndecryptable) {
		s.Logger.LogAttrs(ctx, slog.LevelError, "cannot read an event's headers", slog.String("event_key", row.Key), slog.Any("error", err))
		return headers, nil
	}
	return headers, err
}

// Both walk the index events_headers, which has the events with headers.
const (
	selectNextKey      = "SELECT headers_key_id FROM events WHERE headers_key_id > ? ORDER BY headers_key_id LIMIT 1"
	selectSealedEvents = "SELECT key, workspace_id, headers, headers_key_id, headers_ciphertext FROM events" +
		" WHERE (headers_key_id, key) > (?, ?) AND headers_key_id IS NOT NULL AND headers_key_id <> ? ORDER BY headers_key_id, key LIMIT ?"
)

// keysOfEvents returns the encryption keys that events' headers need, one look-up for each.
func (s *Store) keysOfEvents(ctx context.Context) (keyIDs []string, err error) {
	for last := ""; ; {
		next, err := sqldb.SQL(selectNextKey, last).Strings(ctx, s.db.Reading)
		if err != nil || len(next) == 0 {
			return keyIDs, err
		}
		last = next[0]
		keyIDs = append(keyIDs, last)
	}
}

// eventHeadersByChunks is secretsByChunks for the headers of events.
func (s *Store) eventHeadersByChunks() func(context.Context) (int, []error, error) {
	var last sealedEvent
	return func(ctx context.Context) (int, []error, error) {
		rows, failures, err := s.reencryptEventsAfter(ctx, last)
		if len(rows) > 0 {
			last = rows[len(rows)-1]
		}
		return len(rows), failures, err
	}
}

// sealedEvent is an event's headers, with whose they are.
type sealedEvent struct {
	Key         string
	WorkspaceID string `db:"workspace_id"`
	headersRow
}

// reencryptEventsAfter encrypts the headers anew of the events that follow the last one, in the
// order of the keys that encrypt them, and that the newest key does not encrypt.
func (s *Store) reencryptEventsAfter(ctx context.Context, last sealedEvent) (rows []sealedEvent, failures []error, err error) {
	keyID := ""
	if last.HeadersKeyID != nil {
		keyID = *last.HeadersKeyID
	}
	err = s.db.Write(ctx, "re-encrypt headers of events", func(tx *sqlx.Tx) error {
		rows, failures = nil, nil
		err := sqldb.SQL(selectSealedEvents, keyID, last.Key, s.Keys.newest, reencryptChunk).Select(ctx, tx, &rows)
		for _, row := range rows {
			if err != nil {
				return err
			}
			headers, unsealErr := s.unsealHeaders(row.WorkspaceID, row.Key, row.headersRow)
			if unsealErr != nil {
				failures = append(failures, fmt.Errorf("headers of %s: %w", row.Key, unsealErr))
				continue
			}
			var sealed headersRow
			if sealed, err = s.sealHeaders(row.WorkspaceID, row.Key, headers); err == nil {
				err = sqldb.SQL("UPDATE events SET headers_key_id = ?, headers_ciphertext = ? WHERE key = ?",
					sealed.HeadersKeyID, sealed.HeadersCiphertext, row.Key).Run(ctx, tx)
			}
		}
		return err
	})
	return rows, failures, err
}
