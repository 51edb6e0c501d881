package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// tlsRow is a webhook's TLS material as its row has it. Shown is what answers show, the JSON of
// [postrider.WebhookTLS] with its key masked; null without any. The key is the ciphertext, null
// without a client certificate.
type tlsRow struct {
	Shown         *string `db:"tls"`
	TLSKeyID      *string `db:"tls_key_id"`
	TLSCiphertext []byte  `db:"tls_ciphertext"`
}

// tlsIdentity names the webhook that an encrypted client key is bound to.
func tlsIdentity(workspaceID, webhookID string) string {
	return "postrider client key\x00" + workspaceID + "\x00" + webhookID
}

// sealTLS returns a webhook's TLS material as its row has it.
func (s *Store) sealTLS(workspaceID, webhookID string, own *postrider.WebhookTLS) (row tlsRow, err error) {
	if own == nil {
		return row, nil
	}
	text, err := json.Marshal(own.Masked()) //nolint:gosec // it has no key
	if err != nil {
		return row, err
	}
	row.Shown = nullText(string(text))
	if own.ClientKey != nil {
		keyID, ciphertext := s.Keys.seal(*own.ClientKey, tlsIdentity(workspaceID, webhookID))
		row.TLSKeyID, row.TLSCiphertext = &keyID, ciphertext
	}
	return row, nil
}

// unsealTLS returns a webhook's TLS material. With [errUndecryptable] its key is
// [postrider.MaskedKey].
func (s *Store) unsealTLS(workspaceID, webhookID string, row tlsRow) (own *postrider.WebhookTLS, err error) {
	if row.Shown == nil {
		return nil, nil //nolint:nilnil // most webhooks have none
	}
	if err := json.Unmarshal([]byte(*row.Shown), &own); err != nil || row.TLSKeyID == nil {
		return own, err
	}
	key, err := s.Keys.unseal(*row.TLSKeyID, row.TLSCiphertext, tlsIdentity(workspaceID, webhookID))
	if err == nil {
		own.ClientKey = &key
	}
	return own, err
}

// sealedKey is a webhook's client key, with whose it is.
type sealedKey struct {
	ID            string
	WorkspaceID   string `db:"workspace_id"`
	TLSKeyID      string `db:"tls_key_id"`
	TLSCiphertext []byte `db:"tls_ciphertext"`
}

// clientKeysByChunks is secretsByChunks for client keys.
func (s *Store) clientKeysByChunks() func(context.Context) (int, []error, error) {
	last := ""
	return func(ctx context.Context) (int, []error, error) {
		rows, failures, err := s.reencryptClientKeysAfter(ctx, last)
		if len(rows) > 0 {
			last = rows[len(rows)-1].ID
		}
		return len(rows), failures, err
	}
}

// reencryptClientKeysAfter encrypts the client keys anew of the webhooks that follow the last one and
// that the newest key does not encrypt, at most reencryptChunk of them, deleted webhooks' too.
func (s *Store) reencryptClientKeysAfter(ctx context.Context, last string) (rows []sealedKey, failures []error, err error) {
	err = s.db.Write(ctx, "re-encrypt client keys", func(tx *sqlx.Tx) error {
		rows, failures = nil, nil
		err := sqldb.SQL("SELECT "+sqldb.ColumnsOf[sealedKey]().List()+" FROM webhooks WHERE id > ? AND tls_key_id <> ?"+
			" ORDER BY id LIMIT ?", last, s.Keys.newest, reencryptChunk).Add(s.db.Lock("FOR UPDATE")).Select(ctx, tx, &rows)
		for _, row := range rows {
			if err != nil {
				return err
			}
			key, unsealErr := s.Keys.unseal(row.TLSKeyID, row.TLSCiphertext, tlsIdentity(row.WorkspaceID, row.ID))
			if unsealErr != nil {
				failures = append(failures, fmt.Errorf("client key of %s: %w", row.ID, unsealErr))
				continue
			}
			keyID, ciphertext := s.Keys.seal(key, tlsIdentity(row.WorkspaceID, row.ID))
			err = sqldb.SQL("UPDATE webhooks SET tls_key_id = ?, tls_ciphertext = ? WHERE id = ?", keyID, ciphertext, row.ID).Run(ctx, tx)
		}
		return err
	})
	return rows, failures, err
}
