package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
)

// version is one value that a secret has had.
type version struct {
	WorkspaceID string `db:"workspace_id"`
	SecretID    string `db:"secret_id"`
	Number      int
	KeyID       string `db:"key_id"`
	Ciphertext  []byte
	CreatedAt   moment  `db:"created_at"`
	ExpiresAt   *moment `db:"expires_at"`

	value string // decrypted
}

const selectVersions = `SELECT s.workspace_id, v.secret_id, v.number, v.key_id, v.ciphertext, v.created_at, v.expires_at
	FROM secret_versions v JOIN secrets s ON s.id = v.secret_id WHERE `

// identity is what a ciphertext is bound to.
func (v version) identity() string {
	return "postrider secret\x00" + v.WorkspaceID + "\x00" + v.SecretID + "\x00" + strconv.Itoa(v.Number)
}

// versions runs a statement of selectVersions and decrypts what it finds.
func (s *Store) versions(ctx context.Context, q querier, st *statement) ([]version, error) {
	var found []version
	if err := st.selectInto(ctx, q, &found); err != nil {
		return nil, err
	}
	for i, v := range found {
		value, err := s.Keys.unseal(v.KeyID, v.Ciphertext, v.identity())
		if err != nil {
			return nil, err
		}
		found[i].value = value
	}
	return found, nil
}

// liveVersions returns a secret's values that sign now, the current one first.
func (s *Store) liveVersions(ctx context.Context, q querier, secretID *string) ([]version, error) {
	if secretID == nil {
		return nil, nil
	}
	return s.versions(ctx, q, sqlOf(selectVersions+"v.secret_id = ? AND (v.expires_at IS NULL OR v.expires_at > ?) ORDER BY v.number DESC",
		*secretID, s.now()))
}

func (s *Store) revealed(ctx context.Context, q querier, secretID *string) (postrider.Secret, error) {
	versions, err := s.liveVersions(ctx, q, secretID)
	if err != nil {
		return postrider.Secret{}, err
	}
	if len(versions) == 0 {
		return postrider.Secret{}, postrider.NotFound("secret")
	}
	current := versions[0]
	secret := postrider.Secret{ID: current.SecretID, Value: current.value, CreatedAt: current.CreatedAt.Time, Previous: []postrider.PreviousSecret{}}
	for _, v := range versions[1:] {
		secret.Previous = append(secret.Previous, postrider.PreviousSecret{CreatedAt: v.CreatedAt.Time, ExpiresAt: v.ExpiresAt.Time})
	}
	return secret, nil
}

func (s *Store) createSecret(ctx context.Context, tx *sqlx.Tx, workspaceID, value string) (string, error) {
	id := s.IDs.New(postrider.PrefixSecret)
	err := sqlOf("INSERT INTO secrets (id, workspace_id, created_at) VALUES (?, ?, ?)", id, workspaceID, s.now()).run(ctx, tx)
	if err != nil {
		return "", err
	}
	return id, s.addVersion(ctx, tx, version{WorkspaceID: workspaceID, SecretID: id, Number: 1, value: value})
}

func (s *Store) addVersion(ctx context.Context, tx *sqlx.Tx, v version) error {
	keyID, ciphertext := s.Keys.seal(v.value, v.identity())
	return sqlOf("INSERT INTO secret_versions (secret_id, number, key_id, ciphertext, created_at) VALUES (?, ?, ?, ?, ?)",
		v.SecretID, v.Number, keyID, ciphertext, s.now()).run(ctx, tx)
}

// replaceSecret gives the webhook, whose row is locked, another current secret and
// returns the secret's id. Those before end after grace at the latest.
func (s *Store) replaceSecret(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook, value string, grace time.Duration) (string, error) {
	if w.SecretID == nil {
		return s.createSecret(ctx, tx, w.WorkspaceID, value)
	}
	end := s.now().Add(grace)
	err := sqlOf("UPDATE secret_versions SET expires_at = ? WHERE secret_id = ? AND (expires_at IS NULL OR expires_at > ?)",
		end, *w.SecretID, end).run(ctx, tx)
	if err != nil {
		return "", err
	}
	var last int
	if err := sqlOf("SELECT MAX(number) FROM secret_versions WHERE secret_id = ?", *w.SecretID).get(ctx, tx, &last); err != nil {
		return "", err
	}
	return *w.SecretID, s.addVersion(ctx, tx, version{WorkspaceID: w.WorkspaceID, SecretID: *w.SecretID, Number: last + 1, value: value})
}

// reencryptChunk is how many secrets are encrypted anew in one transaction.
const reencryptChunk = 500

// Reencrypt encrypts every secret anew that another key than the keyring's newest
// encrypts, and returns how many there were. It tells progress how many are done
// now and then. After it no other key is needed.
func (s *Store) Reencrypt(ctx context.Context, progress func(done int)) (int, error) {
	total := 0
	for {
		done := 0
		err := s.write(ctx, "re-encrypt secrets", func(tx *sqlx.Tx) error {
			old, err := s.versions(ctx, tx, sqlOf(selectVersions+"v.key_id <> ? ORDER BY v.secret_id, v.number LIMIT ?", s.Keys.newest, reencryptChunk).
				add(s.dialect.lock("FOR UPDATE OF v")))
			if err != nil {
				return err
			}
			for _, v := range old {
				keyID, ciphertext := s.Keys.seal(v.value, v.identity())
				if err := sqlOf("UPDATE secret_versions SET key_id = ?, ciphertext = ? WHERE secret_id = ? AND number = ?",
					keyID, ciphertext, v.SecretID, v.Number).run(ctx, tx); err != nil {
					return err
				}
			}
			done = len(old)
			return nil
		})
		total += done
		if err != nil || done < reencryptChunk {
			return total, err
		}
		progress(total)
	}
}

// CheckKeys returns an error when a stored secret was encrypted with a key that the
// keyring does not have: deliveries that need it could never be signed.
func (s *Store) CheckKeys(ctx context.Context) error {
	used, err := ids(ctx, s.reading, sqlOf("SELECT DISTINCT key_id FROM secret_versions"))
	if err != nil {
		return failure("look at the keys in use", err)
	}
	for _, id := range used {
		if s.Keys.keys[id] == nil {
			return fmt.Errorf("stored secrets need the encryption key with the fingerprint %s, which is not among those given", id)
		}
	}
	return nil
}
