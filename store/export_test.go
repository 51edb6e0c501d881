package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"

	"postrider.dev/postrider"
	"postrider.dev/postrider/store/sqldb"
)

// What the tests of package store_test compare with the databases.
var (
	SelectMatches = selectMatches
	SelectNamed   = selectNamed
)

// PartialIndexes returns the conditions of the outbox's partial indexes, by their names.
func PartialIndexes() map[string]string {
	return map[string]string{
		"outbox_ready": readyStart, "outbox_handover": readyRetry, "outbox_cancel": readyCancel, "outbox_held": onHold,
		"outbox_leased": leasedAttempt, "outbox_scheduled": scheduledStart, "outbox_retrying": waitingRetry,
	}
}

// ExecWriting runs a statement on the pool that writes.
func ExecWriting(ctx context.Context, s *Store, text string) error {
	_, err := s.db.Writing.ExecContext(ctx, text)
	return err
}

// MaxLookedAt is how many rows a page of a filtered list looks at.
const MaxLookedAt = maxLookedAt

// Pools returns the pools of connections by what they are for. SQLite's one that writes is for all.
func Pools(s *Store) map[string]*sqlx.DB {
	return map[string]*sqlx.DB{"reading": s.db.Reading, "delivering": s.db.Delivering.Reading, "publishing": s.db.Authenticating}
}

// AllPools returns each pool once.
func AllPools(s *Store) []*sqlx.DB {
	all := []*sqlx.DB{s.db.Writing, s.db.Authenticating, s.db.Reading, s.db.Delivering.Reading, s.db.Delivering.Writing, s.db.Leasing}
	slices.SortFunc(all, func(a, b *sqlx.DB) int { return cmp.Compare(fmt.Sprintf("%p", a), fmt.Sprintf("%p", b)) })
	return slices.Compact(all)
}

// OutboxKinds returns the kinds of outbox rows.
func OutboxKinds() []string { return texts(outboxKinds()) }

// ActionKinds returns the kinds of actions.
func ActionKinds() []string { return texts(postrider.ActionKinds()) }

// KeyKinds returns the kinds of idempotency keys.
func KeyKinds() []string { return texts(keyKinds()) }

// TroubleStates returns the states that the column trouble has.
func TroubleStates() []string { return texts(troubleStates()) }

func texts[Word ~string](words []Word) []string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = string(word)
	}
	return all
}

// RowColumns returns the columns of each table's row type, by table.
func RowColumns() map[string][]string {
	return map[string][]string{
		"workspaces":         sqldb.ColumnsOf[workspaceRow]().Names(),
		"api_keys":           sqldb.ColumnsOf[apiKeyRow]().Names(),
		"secrets":            sqldb.ColumnsOf[secretRow]().Names(),
		"secret_versions":    sqldb.ColumnsOf[versionRow]().Names(),
		"webhooks":           sqldb.ColumnsOf[storedWebhook]().Names(),
		"webhook_events":     sqldb.ColumnsOf[patternRow]().Names(),
		"webhook_stats":      sqldb.ColumnsOf[statsRow]().Names(),
		"webhook_gates":      sqldb.ColumnsOf[gateRow]().Names(),
		"webhook_pace":       sqldb.ColumnsOf[paceRow]().Names(),
		"events":             sqldb.ColumnsOf[eventRow]().Names(),
		"deliveries":         sqldb.ColumnsOf[deliveryRow]().Names(),
		"attempts":           sqldb.ColumnsOf[attemptRow]().Names(),
		"idempotency_keys":   sqldb.ColumnsOf[idempotencyRow]().Names(),
		"installation":       sqldb.ColumnsOf[installationRow]().Names(),
		"sweeps":             sqldb.ColumnsOf[sweepRow]().Names(),
		"expiries":           sqldb.ColumnsOf[expiryRow]().Names(),
		"lanes":              sqldb.ColumnsOf[laneRow]().Names(),
		"lane_places":        sqldb.ColumnsOf[placeRow]().Names(),
		"shapes":             sqldb.ColumnsOf[shapeRow]().Names(),
		"fanouts":            sqldb.ColumnsOf[fanOutRow]().Names(),
		"delivery_actions":   sqldb.ColumnsOf[actionRow]().Names(),
		"write_probe":        sqldb.ColumnsOf[probeRow]().Names(),
		"rollup_minutes":     sqldb.ColumnsOf[rollupRow]().Names(),
		"rollup_hours":       sqldb.ColumnsOf[rollupRow]().Names(),
		"operational_events": sqldb.ColumnsOf[operationalRow]().Names(),
		"audit":              sqldb.ColumnsOf[auditRow]().Names(),
		"replays":            sqldb.ColumnsOf[replayRow]().Names(),
		"replay_deliveries":  sqldb.ColumnsOf[replayDelivery]().Names(),
		"event_types":        sqldb.ColumnsOf[eventTypeRow]().Names(),
		"outbox":             sqldb.ColumnsOf[outboxRow]().Names(),
	}
}
