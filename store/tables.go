package store

import "postrider.dev/postrider/store/sqldb"

// The tables that are written by typed rows, and the beginnings of queries that read such
// rows. The columns come from the rows' db tags.
//
//nolint:gochecknoglobals // computed once from types, never written again
var (
	workspacesTable     = sqldb.NewTable("workspaces", sqldb.ColumnsOf[workspaceRow](), "")
	apiKeysTable        = sqldb.NewTable("api_keys", sqldb.ColumnsOf[apiKeyRow](), "")
	secretsTable        = sqldb.NewTable("secrets", sqldb.ColumnsOf[secretRow](), "")
	secretVersionsTable = sqldb.NewTable("secret_versions", sqldb.ColumnsOf[versionRow](), "")
	webhooksTable       = sqldb.NewTable("webhooks", sqldb.ColumnsOf[storedWebhook](), "")
	shapesTable         = sqldb.NewTable("shapes", sqldb.ColumnsOf[shapeRow](), "ON CONFLICT (id) DO NOTHING")
	webhookEventsTable  = sqldb.NewTable("webhook_events", sqldb.ColumnsOf[patternRow](), "")
	webhookGatesTable   = sqldb.NewTable("webhook_gates", sqldb.ColumnsOf[gateRow](), upsertGate)
	webhookPaceTable    = sqldb.NewTable("webhook_pace", sqldb.ColumnsOf[paceRow](), upsertPace)
	sweepsTable         = sqldb.NewTable("sweeps", sqldb.ColumnsOf[sweepRow](),
		"ON CONFLICT (webhook_id) DO UPDATE SET due_at = excluded.due_at")
	missingSweepsTable     = sqldb.NewTable("sweeps", sqldb.ColumnsOf[sweepRow](), "ON CONFLICT (webhook_id) DO NOTHING")
	writeProbeTable        = sqldb.NewTable("write_probe", sqldb.ColumnsOf[probeRow](), "")
	webhookStatsTable      = sqldb.NewTable("webhook_stats", sqldb.ColumnsOf[statsRow](), addToStats)
	newEventsTable         = sqldb.NewTable("events", sqldb.ColumnsOf[eventRow]().Except(sqldb.ColumnsOf[eventOptions]().Names()...), "")
	optionedEventsTable    = sqldb.NewTable("events", sqldb.ColumnsOf[eventRow](), "")
	newDeliveriesTable     = sqldb.NewTable("deliveries", usualColumns(), "")
	replaysTable           = sqldb.NewTable("deliveries", sqldb.ColumnsOf[deliveryRow](), "")
	actionsTable           = sqldb.NewTable("delivery_actions", sqldb.ColumnsOf[actionRow](), "")
	unusualDeliveriesTable = sqldb.NewTable("deliveries", sqldb.ColumnsOf[deliveryRow]().Except(nullAtFirst()...), "")
	expiriesTable          = sqldb.NewTable("expiries", sqldb.ColumnsOf[expiryRow](),
		"ON CONFLICT (delivery_id) DO UPDATE SET due_at = excluded.due_at")
	placesTable           = sqldb.NewTable("lane_places", sqldb.ColumnsOf[placeRow](), "")
	newOutboxTable        = sqldb.NewTable("outbox", sqldb.ColumnsOf[outboxRow]().Except("workflow_id"), "")
	outboxTable           = sqldb.NewTable("outbox", sqldb.ColumnsOf[outboxRow](), "")
	fanOutsTable          = sqldb.NewTable("fanouts", sqldb.ColumnsOf[fanOutRow](), "")
	rollupMinutesTable    = sqldb.NewTable(tableMinutes, sqldb.ColumnsOf[rollupRow](), addToRollup(tableMinutes))
	rollupHoursTable      = sqldb.NewTable(tableHours, sqldb.ColumnsOf[rollupRow](), addToRollup(tableHours))
	operationalTable      = sqldb.NewTable("operational_events", sqldb.ColumnsOf[operationalRow](), "")
	eventTypesTable       = sqldb.NewTable("event_types", sqldb.ColumnsOf[eventTypeRow](), "")
	replayJobsTable       = sqldb.NewTable("replays", sqldb.ColumnsOf[replayRow](), "")
	replayDeliveriesTable = sqldb.NewTable("replay_deliveries", sqldb.ColumnsOf[replayDelivery](), "")
	auditTable            = sqldb.NewTable("audit", sqldb.ColumnsOf[auditRow](), "")
	idempotencyKeysTable  = sqldb.NewTable("idempotency_keys", sqldb.ColumnsOf[idempotencyRow](),
		"ON CONFLICT (workspace_id, kind, value) DO NOTHING")

	// publicationRows writes all rows of a publish but its idempotency keys in one statement. Events
	// with options and deliveries that expire have statements of their own, so that others do not
	// pay for their columns.
	publicationRows     = sqldb.NewBulk(newEventsTable, newDeliveriesTable, newOutboxTable)
	optionedEventRows   = sqldb.NewBulk(optionedEventsTable)
	unusualDeliveryRows = sqldb.NewBulk(unusualDeliveriesTable, expiriesTable)
	operationalRows     = sqldb.NewBulk(operationalTable)
	idempotencyRows     = sqldb.NewBulk(idempotencyKeysTable)
	placeRows           = sqldb.NewBulk(placesTable)
	// countedRows adds to stats and rollups. PostgreSQL does what comes last first: a webhook's stats are
	// the lock under which its rollups are added to.
	countedRows = sqldb.NewBulk(rollupMinutesTable, webhookStatsTable)

	// Beginnings with input, see sqldb.With, precede these. In SQLite, WHERE TRUE keeps ON
	// CONFLICT from being read as the ON of a join.
	insertAttempts = "INSERT INTO attempts (" + sqldb.ColumnsOf[attemptRow]().List() + ") SELECT * FROM input WHERE TRUE" +
		" ON CONFLICT (delivery_id, number) DO NOTHING RETURNING delivery_id, number"
	insertRetries = "INSERT INTO outbox (" + sqldb.ColumnsOf[outboxRow]().List() + ") SELECT * FROM input WHERE TRUE" +
		" ON CONFLICT (delivery_id) DO UPDATE SET ahead = FALSE, " +
		sqldb.ColumnsOf[outboxRow]().Except("delivery_id", "webhook_id", "queue").AssignmentsFrom("excluded") +
		" WHERE outbox.kind <> " + sqlCancel
	insertLanes = "INSERT INTO lanes (" + sqldb.ColumnsOf[laneRow]().List() + ") SELECT * FROM input WHERE TRUE" +
		" ON CONFLICT (id) DO UPDATE SET last = lanes.last + excluded.last, head = COALESCE(lanes.head, excluded.head)," +
		" since = CASE WHEN lanes.head IS NULL THEN excluded.since ELSE lanes.since END RETURNING " + sqldb.ColumnsOf[laneRow]().List()
	updateDeliveries = "UPDATE deliveries SET " + sqldb.ColumnsOf[deliveryProgress]().Except("id").AssignmentsFrom("input") +
		" FROM input WHERE deliveries.id = input.id AND "

	// Conditions follow these.
	selectEvents              = "SELECT " + sqldb.ColumnsOf[eventRow]().List() + " FROM events WHERE "
	selectEventsWithoutBodies = "SELECT " +
		sqldb.ColumnsOf[eventRow]().Except("body", "headers", "headers_key_id", "headers_ciphertext").List() + " FROM events WHERE "
	selectBodies      = "SELECT key, body, headers, headers_key_id, headers_ciphertext FROM events WHERE "
	selectOperational = "SELECT " + sqldb.ColumnsOf[operationalRow]().List() + " FROM operational_events WHERE "
	selectShapes      = "SELECT " + sqldb.ColumnsOf[shapeRow]().List() + " FROM shapes WHERE "
	selectFanOuts     = "SELECT " + sqldb.ColumnsOf[fanOutRow]().List() + " FROM fanouts WHERE "
	selectStored      = "SELECT " + sqldb.ColumnsOf[deliveryRow]().List() + " FROM deliveries WHERE "
	selectUpdates     = "SELECT " + sqldb.ColumnsOf[deliveryUpdate]().List() + " FROM deliveries WHERE "
	selectDeliveries  = "SELECT " + sqldb.ColumnsOf[deliveryRow]().Except("state", "workflow_id").Of("d") + ", " + stateOnItsWay +
		", " + workflowOrCarrier + " FROM deliveries d WHERE "
	selectAttempts              = "SELECT " + sqldb.ColumnsOf[attemptRow]().List() + " FROM attempts WHERE "
	selectAttemptsWithoutBodies = "SELECT " + sqldb.ColumnsOf[attemptRow]().Except("response_excerpt").List() + " FROM attempts WHERE "
	selectActions               = "SELECT " + sqldb.ColumnsOf[actionRow]().Of("a") + " FROM delivery_actions a WHERE "
	selectOutbox                = "SELECT " + sqldb.ColumnsOf[outboxRow]().List() + " FROM outbox WHERE "
	selectLanes                 = "SELECT " + sqldb.ColumnsOf[laneRow]().List() + " FROM lanes WHERE "
	selectAPIKeys               = "SELECT " + sqldb.ColumnsOf[apiKeyRow]().List() + " FROM api_keys WHERE "
	selectReplayJobs            = "SELECT " + sqldb.ColumnsOf[replayRow]().List() + " FROM replays WHERE "
	selectEnded                 = "SELECT " + sqldb.ColumnsOf[endedDelivery]().List() + " FROM deliveries WHERE "
	selectAudit                 = "SELECT " + sqldb.ColumnsOf[auditRow]().List() + " FROM audit WHERE "
	selectEventTypes            = "SELECT " + sqldb.ColumnsOf[eventTypeRow]().List() + " FROM event_types WHERE "
	selectEventTypesShortly     = "SELECT " + sqldb.ColumnsOf[eventTypeRow]().Except(sqldb.ColumnsOf[eventTypeTexts]().Names()...).List() +
		" FROM event_types WHERE "
	selectTypeRules  = "SELECT " + sqldb.ColumnsOf[typeRule]().List() + " FROM event_types WHERE "
	selectWorkspaces = "SELECT " + sqldb.ColumnsOf[workspaceRow]().List() + " FROM workspaces WHERE "
	selectWebhooks   = "SELECT " + sqldb.ColumnsOf[storedWebhook]().Of("w") + ", w.deleted_at, " +
		sqldb.ColumnsOf[webhookStats]().Of("t") + ", " + sqldb.ColumnsOf[healthColumns]().Of("t") + ", " +
		sqldb.ColumnsOf[gateColumns]().Of("g") + " FROM webhooks w JOIN webhook_stats t ON t.webhook_id = w.id" +
		" LEFT JOIN webhook_gates g ON g.webhook_id = w.id WHERE "
	selectVersions = "SELECT " + sqldb.ColumnsOf[versionRow]().Of("v") + ", s.workspace_id" +
		" FROM secret_versions v JOIN secrets s ON s.id = v.secret_id WHERE "

	// Lists of keys follow these.
	selectMatches = "SELECT " + sqldb.ColumnsOf[subscriber]().Of("w") + ", e.pattern, e.persona_id" +
		" FROM webhook_events e JOIN webhooks w ON w.id = e.webhook_id" +
		" WHERE w.deleted_at IS NULL AND (e.workspace_id, e.pattern, e.persona_id) IN"
	selectRecipients = "SELECT " + sqldb.ColumnsOf[subscriber]().Of("w") + ", w.deleted_at IS NOT NULL AS deleted" +
		" FROM webhooks w WHERE w.id IN"
	selectNamed = "SELECT " + sqldb.ColumnsOf[addressee]().Of("w") + " FROM webhooks w WHERE w.deleted_at IS NULL AND w.id IN"
)

// upsertPace is the end of an INSERT that changes the pace that there is.
const upsertPace = "ON CONFLICT (webhook_id) DO UPDATE SET next_at = excluded.next_at"
