package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// headersRow is custom headers as the row of their owner has them, a webhook or an event. Encrypted, names and values are the
// ciphertext, and Headers is the JSON array of the names. An earlier version left them plain:
// Headers is then the JSON object of names and values, as it is of a webhook without any, and there
// is no key. That version fails to read the array, which is better than requests without headers.
type headersRow struct {
	Headers           string  // JSON
	HeadersKeyID      *string `db:"headers_key_id"`
	HeadersCiphertext []byte  `db:"headers_ciphertext"`
}

// headersIdentity names the owner that encrypted headers are bound to: a webhook by its id, an
// event by its key.
func headersIdentity(workspaceID, ownerID string) string {
	return "postrider headers\x00" + workspaceID + "\x00" + ownerID
}

// sealHeaders returns headers as the owner's row has them.
func (s *Store) sealHeaders(workspaceID, ownerID string, headers map[string]string) (headersRow, error) {
	if len(headers) == 0 {
		return headersRow{Headers: "{}"}, nil
	}
	names, err := json.Marshal(slices.Sorted(maps.Keys(headers)))
	if err != nil {
		return headersRow{}, err
	}
	plain, err := json.Marshal(headers)
	if err != nil {
		return headersRow{}, err
	}
	keyID, ciphertext := s.Keys.seal(string(plain), headersIdentity(workspaceID, ownerID))
	return headersRow{Headers: string(names), HeadersKeyID: &keyID, HeadersCiphertext: ciphertext}, nil
}

// unsealHeaders returns the owner's headers. With [errUndecryptable] it returns their names, each
// with [postrider.MaskedHeader].
func (s *Store) unsealHeaders(workspaceID, ownerID string, row headersRow) (headers map[string]string, err error) {
	if row.HeadersKeyID == nil {
		return headers, json.Unmarshal([]byte(row.Headers), &headers)
	}
	plain, err := s.Keys.unseal(*row.HeadersKeyID, row.HeadersCiphertext, headersIdentity(workspaceID, ownerID))
	if err == nil {
		return headers, json.Unmarshal([]byte(plain), &headers)
	}
	var names []string
	if err := json.Unmarshal([]byte(row.Headers), &names); err != nil {
		return nil, err
	}
	headers = make(map[string]string, len(names))
	for _, name := range names {
		headers[name] = postrider.MaskedHeader
	}
	return headers, err
}

// shown returns a webhook that was read to be shown. Headers and a client key that cannot be
// decrypted keep nobody from seeing it, nor the others of its list: their values are masked.
func (s *Store) shown(ctx context.Context, w postrider.Webhook, err error) (postrider.Webhook, error) {
	if errors.Is(err, errUndecryptable) {
		const text = "cannot read a webhook's headers or client key"
		s.Logger.LogAttrs(ctx, slog.LevelError, text, slog.String("webhook_id", w.ID), slog.Any("error", err))
		return w, nil
	}
	return w, err
}

// owned is the headers of a row, with whose they are.
type owned struct {
	ID          string
	WorkspaceID string `db:"workspace_id"`
	headersRow
}

// headersByChunks is secretsByChunks for headers.
func (s *Store) headersByChunks() func(context.Context) (int, []error, error) {
	last := ""
	return func(ctx context.Context) (int, []error, error) {
		ids, failures, err := s.reencryptHeadersAfter(ctx, last)
		if len(ids) > 0 {
			last = ids[len(ids)-1]
		}
		return len(ids), failures, err
	}
}

// reencryptHeadersAfter encrypts the headers anew of the webhooks that follow the last one and that
// the newest key does not encrypt, at most reencryptChunk of them. Deleted webhooks have theirs too.
func (s *Store) reencryptHeadersAfter(ctx context.Context, last string) (ids []string, failures []error, err error) {
	err = s.db.Write(ctx, "re-encrypt headers", func(tx *sqlx.Tx) error {
		ids, failures = nil, nil
		var rows []owned
		err := sqldb.SQL("SELECT "+sqldb.ColumnsOf[owned]().List()+" FROM webhooks WHERE id > ? AND headers <> '{}'"+
			" AND (headers_key_id IS NULL OR headers_key_id <> ?) ORDER BY id LIMIT ?", last, s.Keys.newest, reencryptChunk).
			Add(s.db.Lock("FOR UPDATE")).Select(ctx, tx, &rows)
		if err != nil {
			return err
		}
		for _, row := range rows {
			ids = append(ids, row.ID)
			headers, err := s.unsealHeaders(row.WorkspaceID, row.ID, row.headersRow)
			if err != nil {
				failures = append(failures, fmt.Errorf("headers of %s: %w", row.ID, err))
				continue
			}
			sealed, err := s.sealHeaders(row.WorkspaceID, row.ID, headers)
			if err != nil {
				return err
			}
			changing := sqldb.ColumnsOf[headersRow]()
			if err := sqldb.SQL("UPDATE webhooks SET "+changing.Assignments(), changing.Values(&sealed)...).
				Add(" WHERE id = ?", row.ID).Run(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	return ids, failures, err
}
