package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"sync"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/catalogue"
	"postrider.dev/postrider/store/sqldb"
)

// Events are checked against the schemas of their types as filters are evaluated, see filter.go: before the
// transaction, by what is remembered of the catalogue. The transaction says what the catalogue is by then.

// typeRule is an event type as far as publishing needs it.
type typeRule struct {
	WorkspaceID string `db:"workspace_id"`
	Type        string
	SchemaID    *string `db:"schema_id"`
	Enforcement postrider.Enforcement
	Deprecated  bool
	ReplacedBy  *string `db:"replaced_by"`
}

// checks reports whether events of the type are checked.
func (r typeRule) checks() bool { return r.SchemaID != nil && r.Enforcement != postrider.EnforceOff }

// typeRules are a workspace's catalogue by the names of the types.
type typeRules map[string]typeRule

// maxRules bounds what is remembered, in event types and workspaces together; it comes to some 20 MB.
const maxRules = 100_000

// ruleCache remembers workspaces' catalogues. An entry is right as long as the workspace's version of the
// catalogue is the same. It is safe for concurrent use.
type ruleCache struct {
	mu    sync.Mutex
	known map[string]cachedRules
	size  int
}

type cachedRules struct {
	version string
	rules   typeRules
}

// latest returns what was last known of a workspace's catalogue.
func (c *ruleCache) latest(workspaceID string) cachedRules {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[workspaceID]
}

// remember keeps what was read of a catalogue. When there is no room, it forgets all others.
func (c *ruleCache) remember(workspaceID string, read cachedRules) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before, known := c.known[workspaceID]; known {
		c.size -= 1 + len(before.rules)
	}
	if c.known == nil || c.size+1+len(read.rules) > maxRules {
		c.known, c.size = map[string]cachedRules{}, 0
	}
	c.known[workspaceID] = read
	c.size += 1 + len(read.rules)
}

// typeRules returns the catalogues of the workspaces that have one. Generations are those of the transaction,
// until whose end no catalogue changes.
func (s *Store) typeRules(ctx context.Context, tx *sqlx.Tx, generations map[string]generation) (map[string]typeRules, error) {
	var byWorkspace map[string]typeRules // most have none
	for workspaceID, g := range generations {
		if g.Catalogue == nil {
			continue
		}
		cached := s.rules.latest(workspaceID)
		if cached.version != *g.Catalogue {
			var rows []typeRule
			err := sqldb.SQL(selectTypeRules).PinnedTo("workspace_id", workspaceID).Select(ctx, tx, &rows)
			if err != nil {
				return nil, err
			}
			cached = cachedRules{*g.Catalogue, make(typeRules, len(rows))}
			for _, row := range rows {
				cached.rules[row.Type] = row
			}
			s.rules.remember(workspaceID, cached)
		}
		if byWorkspace == nil {
			byWorkspace = map[string]typeRules{}
		}
		byWorkspace[workspaceID] = cached.rules
	}
	return byWorkspace, nil
}

// conformity is what the catalogue says of an event.
type conformity struct {
	schemaID string
	broken   []postrider.FieldError
}

// conform checks the publication's events against the schemas of their types, where that is not done.
func (s *Store) conform(ctx context.Context, p *publication, rules typeRules) error {
	if len(rules) == 0 {
		return nil
	}
	var due []int
	for i, e := range p.Events {
		if rule := rules[e.Type]; rule.checks() && p.conformities[i].schemaID != *rule.SchemaID {
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return nil
	}
	return s.inTurn(ctx, tooSlowSchemas, func(ctx context.Context) error {
		if p.conformities == nil {
			p.conformities = map[int]conformity{}
		}
		for _, i := range due {
			schema, err := s.schema(ctx, rules[p.Events[i].Type])
			if err != nil {
				return err
			}
			if schema == nil {
				continue // the transaction knows what took its place
			}
			checked := conformity{schemaID: *rules[p.Events[i].Type].SchemaID}
			if checked.broken, err = checkBody(ctx, schema, p.Events[i].Body); err != nil {
				return err
			}
			p.conformities[i] = checked
		}
		return nil
	})
}

const tooSlowSchemas = "checking these events against the schemas of their types takes longer than two seconds; " +
	"publish fewer at once, or try again later"

// checkBody returns the rules that an event's data breaks.
func checkBody(ctx context.Context, schema *catalogue.Schema, body []byte) ([]postrider.FieldError, error) {
	var rendered struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &rendered); err != nil {
		return nil, err
	}
	return schema.Check(ctx, "data", rendered.Data)
}

// schema returns the compiled schema of a type; nil when the type has another by now.
func (s *Store) schema(ctx context.Context, rule typeRule) (*catalogue.Schema, error) {
	if known := s.schemas.Get(*rule.SchemaID); known != nil {
		return known, nil
	}
	var source string
	err := sqldb.SQL("SELECT schema FROM event_types WHERE workspace_id = ? AND type = ? AND schema_id || '' = ?",
		rule.WorkspaceID, rule.Type, *rule.SchemaID).Get(ctx, s.db.Reading, &source)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // as it says
	}
	if err != nil {
		return nil, sqldb.Failure("read a schema", err)
	}
	compiled, err := catalogue.Compile([]byte(source))
	if err == nil {
		s.schemas.Put(*rule.SchemaID, compiled)
	}
	return compiled, err
}

// conforming says what becomes of an event by the catalogue: it returns warnings for its receipt, and an error
// for one that is refused. It sets missing for an event that was not checked.
func (p *publication) conforming(event int, rules typeRules, missing *bool) (remarks postrider.Remarks, err error) {
	rule, known := rules[p.Events[event].Type]
	if !known {
		return remarks, nil
	}
	if rule.Deprecated {
		remarks.Deprecated, remarks.ReplacedBy = true, rule.ReplacedBy
	}
	if !rule.checks() {
		return remarks, nil
	}
	checked := p.conformities[event]
	switch {
	case checked.schemaID != *rule.SchemaID:
		*missing = true
	case len(checked.broken) == 0:
	case rule.Enforcement == postrider.EnforceAll:
		return remarks, postrider.Invalid(slices.Clone(checked.broken))
	default:
		remarks.SchemaErrors = make([]string, len(checked.broken))
		for i, b := range checked.broken {
			remarks.SchemaErrors[i] = b.Field + " " + b.Message
		}
	}
	return remarks, nil
}
