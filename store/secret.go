package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// secretRow is a row of the table secrets.
type secretRow struct {
	ID          string
	WorkspaceID string     `db:"workspace_id"`
	CreatedAt   sqldb.Time `db:"created_at"`
}

// versionRow is a row of the table secret_versions: one value that a secret has had.
type versionRow struct {
	SecretID   string `db:"secret_id"`
	Number     int
	KeyID      string `db:"key_id"`
	Ciphertext []byte
	CreatedAt  sqldb.Time  `db:"created_at"`
	ExpiresAt  *sqldb.Time `db:"expires_at"`
	// EffectiveAt is when it becomes the current one; nil: CreatedAt.
	EffectiveAt *sqldb.Time `db:"effective_at"`
}

// version is a secret's version with its workspace, as selectVersions reads it.
type version struct {
	versionRow
	WorkspaceID string `db:"workspace_id"`

	value string // decrypted
	err   error  // why it could not be decrypted
}

// identity names the row that a ciphertext is bound to.
func (v version) identity() string {
	return "postrider secret\x00" + v.WorkspaceID + "\x00" + v.SecretID + "\x00" + strconv.Itoa(v.Number)
}

// version returns the version as others know it.
func (v version) version() postrider.SecretVersion {
	known := postrider.SecretVersion{
		Value: v.value, CreatedAt: v.CreatedAt.Time, EffectiveAt: v.CreatedAt.Time, ExpiresAt: v.ExpiresAt.Pointer(), Failure: v.err,
	}
	if v.EffectiveAt != nil {
		known.EffectiveAt = v.EffectiveAt.Time
	}
	return known
}

// errForeignSecret means that a webhook names a secret that is not its workspace's.
var errForeignSecret = errors.New("the secret that it names is not in its workspace")

// versions runs a statement of selectVersions and decrypts what it finds. A version that cannot be
// decrypted has an error of its own.
func (s *Store) versions(ctx context.Context, q sqldb.Querier, st *sqldb.Statement) ([]version, error) {
	var found []version
	if err := st.Select(ctx, q, &found); err != nil {
		return nil, err
	}
	for i, v := range found {
		found[i].value, found[i].err = s.Keys.unseal(v.KeyID, v.Ciphertext, v.identity())
	}
	return found, nil
}

// revealed returns a webhook's secret as it is now. A secret of another workspace is not found.
func (s *Store) revealed(ctx context.Context, q sqldb.Querier, w postrider.Webhook) (postrider.Secret, error) {
	if w.SecretID == nil {
		return postrider.Secret{}, postrider.NotFound("secret")
	}
	now := s.now()
	const live = "v.secret_id = ? AND s.workspace_id = ? AND (v.expires_at IS NULL OR v.expires_at > ?) ORDER BY v.number DESC"
	stored, err := s.versions(ctx, q, sqldb.SQL(selectVersions+live, *w.SecretID, w.WorkspaceID, now))
	if err != nil {
		return postrider.Secret{}, err
	}
	var versions postrider.SecretVersions
	for _, v := range stored {
		versions = append(versions, v.version())
	}
	current, others := versions.At(now)
	if current == nil {
		return postrider.Secret{}, postrider.NotFound("secret")
	}
	secret := postrider.Secret{ID: *w.SecretID, SecretVersion: *current, Previous: []postrider.PreviousSecret{}}
	if len(others) > 0 && others[0].EffectiveAt.After(now) {
		secret.Next, others = &others[0], others[1:]
		current.Failure = cmp.Or(current.Failure, secret.Next.Failure)
	}
	for _, v := range others {
		secret.Previous = append(secret.Previous, postrider.PreviousSecret{CreatedAt: v.CreatedAt, ExpiresAt: *v.ExpiresAt})
	}
	return secret, current.Failure
}

func (s *Store) createSecret(ctx context.Context, tx *sqlx.Tx, workspaceID, value string) (string, error) {
	now := sqldb.TimeOf(s.now())
	secret := secretRow{ID: s.IDs.New(postrider.PrefixSecret), WorkspaceID: workspaceID, CreatedAt: now}
	if _, err := secretsTable.Insert(ctx, tx, secret); err != nil {
		return "", err
	}
	first := version{versionRow: versionRow{SecretID: secret.ID, Number: 1, CreatedAt: now}, WorkspaceID: workspaceID, value: value}
	return secret.ID, s.addVersion(ctx, tx, first)
}

// addVersion stores the version's value, encrypted.
func (s *Store) addVersion(ctx context.Context, tx *sqlx.Tx, v version) error {
	v.KeyID, v.Ciphertext = s.Keys.seal(v.value, v.identity())
	_, err := secretVersionsTable.Insert(ctx, tx, v.versionRow)
	return err
}

// replaceSecret gives the webhook, whose row is locked, another current secret, perhaps at a later
// time, and returns the secret's id.
func (s *Store) replaceSecret(ctx context.Context, tx *sqlx.Tx, w postrider.Webhook, r postrider.Rotation) (string, error) {
	if w.SecretID == nil {
		return s.createSecret(ctx, tx, w.WorkspaceID, r.Value)
	}
	now := s.now()
	var known struct{ Last, Current int }
	err := sqldb.SQL("SELECT COALESCE(MAX(v.number), 0) AS last,"+
		" COALESCE(MAX(CASE WHEN COALESCE(v.effective_at, v.created_at) <= ? THEN v.number END), 0) AS current", now).
		Add(" FROM secret_versions v JOIN secrets s ON s.id = v.secret_id WHERE v.secret_id = ? AND s.workspace_id = ?",
			*w.SecretID, w.WorkspaceID).Get(ctx, tx, &known)
	switch {
	case err != nil:
		return "", err
	case known.Last == 0:
		return "", fmt.Errorf("webhook %s: %w", w.ID, errForeignSecret)
	}
	next := versionRow{SecretID: *w.SecretID, Number: known.Last + 1, CreatedAt: sqldb.TimeOf(now)}
	effective := now
	if r.EffectiveAt.After(now) {
		effective = r.EffectiveAt
		next.EffectiveAt = &sqldb.Time{Time: effective}
	}
	change := changeover{next.SecretID, known.Current, now, effective, effective.Add(r.Grace)}
	if err := change.endVersions(ctx, tx); err != nil {
		return "", err
	}
	return next.SecretID, s.addVersion(ctx, tx, version{versionRow: next, WorkspaceID: w.WorkspaceID, value: r.Value})
}

// changeover is the times of a new version of a secret.
type changeover struct {
	secretID            string
	current             int // the number of the version that is current so far
	now, effective, end time.Time
}

// endVersions ends the versions before a new one: when its grace period does, at the latest, and the
// current one then, however early it was to end. One that is still to come does not before the new
// one, and so never does: it only signs beside the others. The oldest end now when there are more
// than [postrider.MaxLiveSecrets] with the new one: each makes the header longer that receivers read.
func (c changeover) endVersions(ctx context.Context, tx *sqlx.Tx) error {
	const (
		ends   = "UPDATE secret_versions SET expires_at = ? WHERE secret_id = ? AND (expires_at IS NULL OR expires_at > ? OR number = ?)"
		waits  = "UPDATE secret_versions SET effective_at = ? WHERE secret_id = ? AND effective_at > ?"
		excess = "UPDATE secret_versions SET expires_at = ? WHERE secret_id = ? AND expires_at > ? AND number NOT IN" +
			" (SELECT number FROM secret_versions WHERE secret_id = ? AND expires_at > ?" +
			" ORDER BY CASE number WHEN ? THEN 0 ELSE 1 END, number DESC LIMIT ?)"
	)
	for _, st := range []*sqldb.Statement{
		sqldb.SQL(ends, c.end, c.secretID, c.end, c.current),
		sqldb.SQL(waits, c.effective, c.secretID, c.now),
		sqldb.SQL(excess, c.now, c.secretID, c.now, c.secretID, c.now, c.current, postrider.MaxLiveSecrets-1),
	} {
		if err := st.Run(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}

// reencryptChunk is how many rows are encrypted anew in one transaction.
const reencryptChunk = 500

// Reencrypt encrypts every secret, every client key and all headers, of webhooks and of events, anew
// that are not encrypted with the keyring's newest key, headers that are not encrypted too, and returns
// how many there were. It calls progress now and then with how many are done. After it no other key is
// needed. It goes on past what cannot be decrypted; the error names each.
func (s *Store) Reencrypt(ctx context.Context, progress func(done int)) (int, error) {
	total := 0
	var failed []error
	for _, next := range []func(context.Context) (int, []error, error){
		s.secretsByChunks(), s.headersByChunks(), s.eventHeadersByChunks(), s.clientKeysByChunks(),
	} {
		for {
			found, failures, err := next(ctx)
			if err != nil {
				return total, errors.Join(append(failed, err)...)
			}
			total += found - len(failures)
			failed = append(failed, failures...)
			if found < reencryptChunk {
				break
			}
			progress(total)
		}
	}
	return total, errors.Join(failed...)
}

// secretsByChunks returns a function that encrypts the next secrets anew. It returns how many it
// found, and the failures among these.
func (s *Store) secretsByChunks() func(context.Context) (int, []error, error) {
	var last versionRow
	return func(ctx context.Context) (int, []error, error) {
		old, err := s.reencryptAfter(ctx, last)
		var failures []error
		for _, v := range old {
			last = v.versionRow
			if v.err != nil {
				failures = append(failures, fmt.Errorf("%s, version %d: %w", v.SecretID, v.Number, v.err))
			}
		}
		return len(old), failures, err
	}
}

// reencryptAfter encrypts the versions anew that follow the last one, at most reencryptChunk of
// them, and returns them.
func (s *Store) reencryptAfter(ctx context.Context, last versionRow) (old []version, err error) {
	err = s.db.Write(ctx, "re-encrypt secrets", func(tx *sqlx.Tx) error {
		const others = "v.key_id <> ? AND (v.secret_id, v.number) > (?, ?) ORDER BY v.secret_id, v.number LIMIT ?"
		var err error
		old, err = s.versions(ctx, tx, sqldb.SQL(selectVersions+others, s.Keys.newest, last.SecretID, last.Number, reencryptChunk).
			Add(s.db.Lock("FOR UPDATE OF v")))
		if err != nil {
			return err
		}
		for _, v := range old {
			if v.err != nil {
				continue
			}
			keyID, ciphertext := s.Keys.seal(v.value, v.identity())
			if err := sqldb.SQL("UPDATE secret_versions SET key_id = ?, ciphertext = ? WHERE secret_id = ? AND number = ?",
				keyID, ciphertext, v.SecretID, v.Number).Run(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	return old, err
}

// CheckKeys returns an error when a stored secret, a client key, or headers of a webhook or an event, were encrypted with a
// key that the keyring does not have: deliveries that need it could never be signed.
func (s *Store) CheckKeys(ctx context.Context) error {
	used, err := sqldb.SQL("SELECT key_id FROM secret_versions UNION"+
		" SELECT headers_key_id FROM webhooks WHERE headers_key_id IS NOT NULL UNION"+
		" SELECT tls_key_id FROM webhooks WHERE tls_key_id IS NOT NULL").Strings(ctx, s.db.Reading)
	if err != nil {
		return sqldb.Failure("look at the keys in use", err)
	}
	ofEvents, err := s.keysOfEvents(ctx)
	if err != nil {
		return sqldb.Failure("look at the keys in use", err)
	}
	for _, id := range append(used, ofEvents...) {
		if s.Keys.keys[id] == nil {
			return fmt.Errorf("stored secrets need the encryption key with the fingerprint %s, which is not among those given", id)
		}
	}
	return nil
}
