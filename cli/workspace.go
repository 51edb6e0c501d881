package cli

import (
	"context"
	"fmt"
	"time"

	"postrider.dev/postrider"
	"postrider.dev/postrider/server"
	"postrider.dev/postrider/store"
)

// WorkspaceCommand manages workspaces, directly on the database.
type WorkspaceCommand struct {
	Create WorkspaceCreateCommand `cmd:"" help:"Make a workspace and print its id."`
	List   WorkspaceListCommand   `cmd:"" help:"List the workspaces, newest first."`
}

// WorkspaceCreateCommand creates a workspace and prints its id.
type WorkspaceCreateCommand struct {
	OperatorSettings

	Name string `arg:"" help:"Name of the workspace, 1 to 255 characters. It need not be unique."`
}

// Run implements the command.
func (c *WorkspaceCreateCommand) Run(ctx context.Context) error {
	w := postrider.Workspace{ID: server.NewIDs().New(postrider.PrefixWorkspace), Name: c.Name, CreatedAt: postrider.Timestamp(time.Now())}
	if err := postrider.Invalid(w.Validate()); err != nil {
		return err
	}
	return c.with(ctx, func(db *store.Store) error {
		if err := db.CreateWorkspace(ctx, w); err != nil {
			return err
		}
		fmt.Println(w.ID)
		notef("Next: a key for it: postrider key create --workspace %s --name NAME --scope publish …", w.ID)
		return nil
	})
}

// WorkspaceListCommand lists workspaces.
type WorkspaceListCommand struct {
	OperatorSettings
	PrintSettings
}

// Run implements the command.
func (c *WorkspaceListCommand) Run(ctx context.Context) error {
	type shown struct {
		ID        string    `json:"id"`
		Name      string    `json:"name"`
		CreatedAt time.Time `json:"created_at"`
	}
	return c.with(ctx, func(db *store.Store) error {
		found, err := all(func(p postrider.Page) (postrider.List[postrider.Workspace], error) { return db.Workspaces(ctx, p) },
			func(w postrider.Workspace) shown { return shown(w) })
		if err != nil {
			return err
		}
		return show(c.PrintSettings, found, []string{"ID", "NAME", "CREATED"}, func(w shown) []string {
			return []string{w.ID, w.Name, when(&w.CreatedAt)}
		})
	})
}

// all reads every page of a list.
func all[Stored, Shown any](read func(postrider.Page) (postrider.List[Stored], error), show func(Stored) Shown) ([]Shown, error) {
	var items []Shown
	page := postrider.Page{Limit: postrider.MaxPageSize}
	for {
		part, err := read(page)
		if err != nil {
			return nil, err
		}
		for _, item := range part.Items {
			items = append(items, show(item))
		}
		if part.Next == "" {
			return items, nil
		}
		page.After = part.Next
	}
}
