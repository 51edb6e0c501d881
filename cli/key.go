package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/server"
	"postrider.dev/postrider/store"
)

// KeyCommand manages API keys, directly on the database.
type KeyCommand struct {
	Create KeyCreateCommand `cmd:"" help:"Make a key and print it: once, for it is stored hashed."`
	List   KeyListCommand   `cmd:"" help:"List a workspace's keys, newest first."`
	Revoke KeyRevokeCommand `cmd:"" help:"End a key for good. Every process refuses it within five seconds."`
}

// KeyCreateCommand creates a key and prints it.
type KeyCreateCommand struct {
	OperatorSettings

	Workspace string     `required:"" placeholder:"ID" help:"Id of the workspace."`
	Name      string     `required:"" help:"Name of the key, 1 to 255 characters: who has it, and what for."`
	Scope     []string   `required:"" placeholder:"SCOPE" help:"What the key may do; repeat it for more: publish, manage, read, secrets, admin. A key with admin manages every workspace."`
	Expires   expiryTime `placeholder:"WHEN" help:"When the key ends by itself: a time such as 2027-01-31T00:00:00Z, or after so many days (90d) or hours (36h). Default: never."`
}

// Run implements the command.
func (c *KeyCreateCommand) Run(ctx context.Context) error {
	now := time.Now()
	key := postrider.APIKey{WorkspaceID: c.Workspace, Name: c.Name, ExpiresAt: c.Expires.after(now)}
	for _, scope := range c.Scope {
		key.Scopes = append(key.Scopes, postrider.Scope(scope))
	}
	key, secret, err := key.Issue(server.NewIDs(), rand.Reader, now)
	if err != nil {
		return err
	}
	return c.with(ctx, func(db *store.Store) error {
		if _, err := db.Workspace(ctx, c.Workspace); err != nil {
			return fmt.Errorf("--workspace %s: %w", c.Workspace, err)
		}
		if err := db.CreateAPIKey(ctx, key); err != nil {
			return err
		}
		fmt.Println(secret)
		notef("Key %s (%s). It is shown this once: keep it, and send it as X-API-Key.", key.ID, printable(key.Name))
		return nil
	})
}

// expiryTime is the value of --expires: a time, or a span from now.
type expiryTime struct {
	at   time.Time
	span time.Duration
}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (e *expiryTime) UnmarshalText(text []byte) error {
	var err error
	if e.at, err = time.Parse(time.RFC3339, string(text)); err == nil {
		return nil
	}
	var span server.Days
	if err := span.UnmarshalText(text); err == nil && span > 0 {
		e.span = time.Duration(span)
		return nil
	}
	return errors.New("must be an RFC 3339 time, or a span such as 90d or 36h")
}

// after returns the time at which a key of now expires, or nil when it never does.
func (e expiryTime) after(now time.Time) *time.Time {
	if e.at.IsZero() && e.span == 0 {
		return nil
	}
	at := e.at
	if at.IsZero() {
		at = now.Add(e.span)
	}
	return &at
}

// KeyListCommand lists a workspace's keys.
type KeyListCommand struct {
	OperatorSettings
	printing

	Workspace string `required:"" placeholder:"ID" help:"Id of the workspace."`
}

// Run implements the command.
func (c *KeyListCommand) Run(ctx context.Context) error {
	type shown struct {
		ID         string            `json:"id"`
		Name       string            `json:"name"`
		Scopes     []postrider.Scope `json:"scopes"`
		CreatedAt  time.Time         `json:"created_at"`
		ExpiresAt  *time.Time        `json:"expires_at"`
		RevokedAt  *time.Time        `json:"revoked_at"`
		LastUsedAt *time.Time        `json:"last_used_at"`
	}
	return c.with(ctx, func(db *store.Store) error {
		if _, err := db.Workspace(ctx, c.Workspace); err != nil {
			return fmt.Errorf("--workspace %s: %w", c.Workspace, err)
		}
		found, err := all(func(p postrider.Page) (postrider.List[postrider.APIKey], error) {
			return db.APIKeys(ctx, c.Workspace, p)
		},
			func(k postrider.APIKey) shown {
				return shown{k.ID, k.Name, k.Scopes, k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt}
			})
		if err != nil {
			return err
		}
		return show(c.printing, found, []string{"ID", "NAME", "SCOPES", "CREATED", "LAST USED", "EXPIRES", "REVOKED"}, func(k shown) []string {
			scopes := strings.Trim(fmt.Sprint(k.Scopes), "[]")
			return []string{k.ID, k.Name, scopes, when(&k.CreatedAt), when(k.LastUsedAt), when(k.ExpiresAt), when(k.RevokedAt)}
		})
	})
}

// KeyRevokeCommand revokes a key.
type KeyRevokeCommand struct {
	OperatorSettings

	ID string `arg:"" help:"Id of the key, as 'postrider key list' shows it."`
}

// Run implements the command.
func (c *KeyRevokeCommand) Run(ctx context.Context) error {
	return c.with(ctx, func(db *store.Store) error {
		if err := db.RevokeAPIKey(ctx, c.ID); err != nil {
			return fmt.Errorf("%s: %w", c.ID, err)
		}
		notef("Revoked %s. Every process refuses it within five seconds.", c.ID)
		return nil
	})
}
