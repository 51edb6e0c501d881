package store_test

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store"
	"postrider.dev/postrider/store/storetest"
)

// onBoth runs a test on each database.
func onBoth(t *testing.T, test func(t *testing.T, b *storetest.Bundle)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.NewBundle(t, postgres.NewDatabase(t)))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.NewBundle(t, "sqlite:"+filepath.Join(t.TempDir(), "postrider.db")))
	})
}

func onPostgres(b *storetest.Bundle) bool { return strings.HasPrefix(b.URL, "postgres") }

// read reads one column of a query's rows.
func read(t *testing.T, b *storetest.Bundle, query string, args ...any) []string {
	t.Helper()
	var found []string
	require.NoError(t, b.Raw(t).SelectContext(t.Context(), &found, query, args...))
	return found
}

var (
	// sqliteWords is a CHECK that lists words, as SQLite keeps it, and postgresWords one as
	// PostgreSQL shows it.
	sqliteWords   = regexp.MustCompile(`CHECK \((\w+) IN \(([^)]*)\)\)`)
	postgresWords = regexp.MustCompile(`\((\w+) = ANY \(+ARRAY\[([^\]]*)\]`)
	quoted        = regexp.MustCompile(`'([^']*)'`)
)

// checkedWords returns the words that the CHECK constraints list, by table and column.
func checkedWords(t *testing.T, b *storetest.Bundle) map[string][]string {
	t.Helper()
	list, definition := sqliteWords, "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = $1"
	tables := "SELECT name FROM sqlite_master WHERE type = 'table'"
	if onPostgres(b) {
		list, definition = postgresWords, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid = $1::regclass"
		tables = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace"
	}
	found := map[string][]string{}
	for _, table := range read(t, b, tables) {
		for _, text := range read(t, b, definition, table) {
			for _, match := range list.FindAllStringSubmatch(text, -1) {
				for _, word := range quoted.FindAllStringSubmatch(match[2], -1) {
					found[table+"."+match[1]] = append(found[table+"."+match[1]], word[1])
				}
			}
		}
	}
	return found
}

// Guards against a state, status or kind that the Go code has and a database refuses, or the
// other way round, and against a CHECK that this test does not know.
func TestWordsAreThoseOfTheSchema(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		var states []string
		for _, state := range postrider.DeliveryStates() {
			states = append(states, string(state))
		}
		var replays []string
		for _, state := range postrider.ReplayStates() {
			replays = append(replays, string(state))
		}
		want := map[string][]string{
			"replays.state":           replays,
			"deliveries.state":        states,
			"delivery_actions.action": store.ActionKinds(),
			"event_types.enforcement": {string(postrider.EnforceOff), string(postrider.EnforceWarn), string(postrider.EnforceAll)},
			"idempotency_keys.kind":   store.KeyKinds(),
			"outbox.kind":             store.OutboxKinds(),
			"webhooks.status": {
				string(postrider.WebhookActive), string(postrider.WebhookPaused), string(postrider.WebhookDisabled),
			},
		}
		found := checkedWords(t, b)
		require.ElementsMatch(t, slices.Collect(maps.Keys(want)), slices.Collect(maps.Keys(found)))
		for column, words := range want {
			require.ElementsMatch(t, words, found[column], column)
		}
	})
}

// Guards against words that no CHECK lists, and that a column cannot hold for another reason:
// results of attempts and scope types are stored as they are.
func TestWordsWithoutAListAreStored(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		for _, scope := range []postrider.ScopeType{postrider.ScopeGlobal, postrider.ScopePersona} {
			w := b.NewWebhook(t, func(w *postrider.Webhook) { w.ScopeType = scope })
			stored, err := b.Webhook(t.Context(), b.Workspace, w.ID)
			require.NoError(t, err)
			require.Equal(t, scope, stored.ScopeType)
		}
		id := b.PublishTo(t, b.NewWebhook(t).ID, 1)[0]
		var outcomes []postrider.Outcome
		for i, result := range postrider.Results() {
			o := b.Outcome(t, id, i+1, postrider.StateRetrying)
			o.Attempt.Result = result
			outcomes = append(outcomes, o)
		}
		require.NoError(t, b.Record(t.Context(), outcomes))
		attempts, err := b.Attempts(t.Context(), id)
		require.NoError(t, err)
		for i, result := range postrider.Results() {
			require.Equal(t, result, attempts[i].Result)
		}
	})
}

// Guards against a condition in the code that differs from its partial index: the database
// would not use the index.
func TestConditionsAreThoseOfPartialIndexes(t *testing.T) {
	t.Parallel()
	// PostgreSQL shows conditions with parentheses and types.
	plain := strings.NewReplacer("(", "", ")", "", "::text", "", ` COLLATE "C"`, "")
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		query := `SELECT name || ' ' || substr(sql, instr(sql, 'WHERE') + 6) FROM sqlite_master
			WHERE type = 'index' AND tbl_name = 'outbox' AND sql LIKE '%WHERE%'`
		if onPostgres(b) {
			query = `SELECT indexrelid::regclass || ' ' || pg_get_expr(indpred, indrelid) FROM pg_index
				WHERE indrelid = 'outbox'::regclass AND indpred IS NOT NULL`
		}
		found := map[string]string{}
		for _, index := range read(t, b, query) {
			name, condition, _ := strings.Cut(index, " ")
			found[name] = plain.Replace(condition)
		}
		require.Equal(t, store.PartialIndexes(), found)
	})
}

// Guards against a list by state that looks for a state in the column trouble which that
// column does not have.
func TestTroubleHasItsStates(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		id, raw := b.PublishTo(t, b.NewWebhook(t).ID, 1)[0], b.Raw(t)
		for _, state := range postrider.DeliveryStates() {
			_, err := raw.ExecContext(t.Context(), "UPDATE deliveries SET state = $1 WHERE id = $2", state, id)
			require.NoError(t, err)
			trouble := read(t, b, "SELECT trouble FROM deliveries WHERE id = $1 AND trouble IS NOT NULL", id)
			if slices.Contains(store.TroubleStates(), string(state)) {
				require.Equal(t, []string{string(state)}, trouble)
			} else {
				require.Empty(t, trouble, state)
			}
		}
	})
}

// Guards against a column that decides where events go and that is missing in the triggers of
// migration 4: processes would go on with webhooks that they remember. The columns come from
// the queries, so a new one is looked at without further ado.
func TestMatchedColumnsRenewTheGeneration(t *testing.T) {
	t.Parallel()
	matched := map[string]bool{}
	for _, query := range []string{store.SelectMatches, store.SelectNamed} {
		for _, column := range regexp.MustCompile(`\bw\.(\w+)`).FindAllStringSubmatch(query, -1) {
			matched[column[1]] = true
		}
	}
	// Rows of webhook_events are made of these columns of their webhook.
	sources := map[string][]string{
		"webhook_id": {"id"}, "workspace_id": {"workspace_id"}, "pattern": {"events"}, "persona_id": {"scope_type", "persona_id"},
	}
	for _, column := range regexp.MustCompile(`\be\.(\w+)`).FindAllStringSubmatch(store.SelectMatches, -1) {
		require.Contains(t, sources, column[1], "the columns of webhooks that it is made of")
		for _, source := range sources[column[1]] {
			matched[source] = true
		}
	}
	delete(matched, "id") // a webhook keeps its id and its workspace
	delete(matched, "workspace_id")
	require.Greater(t, len(matched), 7)

	changes := map[string]string{
		"filter": "'true'", "shape_id": "'0'", "retry_schedule_ms": "'1000'", "status": "'paused'", "events": "'[]'", "scope_type": "'persona'",
		"persona_id": "'p'", "deleted_at": "created_at",
		"ordering": "'fifo'",
	}
	onBoth(t, func(t *testing.T, b *storetest.Bundle) {
		t.Helper()
		w, raw := b.NewWebhook(t), b.Raw(t)
		generation := func() string {
			return read(t, b, "SELECT generation FROM workspaces WHERE id = $1", b.Workspace)[0]
		}
		change := func(column, value string) {
			_, err := raw.ExecContext(t.Context(), "UPDATE webhooks SET "+column+" = "+value+" WHERE id = $1", w.ID)
			require.NoError(t, err, "a value for %s", column)
		}
		for column := range matched {
			value, found := changes[column]
			if !found {
				value = column + " + 1"
			}
			before := generation()
			change(column, value)
			require.NotEqual(t, before, generation(), "%s is in the triggers", column)
		}
		before := generation()
		change("name", "'another'")
		require.Equal(t, before, generation(), "a name matches no event")
		b.NewWebhook(t)
		require.NotEqual(t, before, generation(), "a webhook is new")
	})
}
