-- +goose Up

-- Webhooks whose deliveries have still to follow a change of status, or a deletion.
CREATE TABLE sweeps (
    webhook_id text COLLATE "C" NOT NULL PRIMARY KEY,
    due_at timestamptz NOT NULL
);
CREATE INDEX sweeps_due ON sweeps (due_at);

-- Events that go to the same webhooks, and whose deliveries have still to be made.
CREATE TABLE fanouts (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL,
    events text NOT NULL, -- JSON: their keys
    webhooks text NOT NULL, -- JSON: their ids
    total integer NOT NULL,
    done integer NOT NULL,
    trace_context text
);
CREATE INDEX fanouts_workspace ON fanouts (workspace_id, id);

-- Temporal's task queue of all who work on this database. Workflows that an earlier version
-- started go on in its queue, which was the same everywhere.
CREATE TABLE installation (task_queue text COLLATE "C" NOT NULL);
INSERT INTO installation SELECT CASE WHEN EXISTS (SELECT 1 FROM webhooks) THEN 'postrider' ELSE 'postrider-' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 12) END;

-- What waits for a webhook that is not active is kept for so long.
ALTER TABLE webhooks ADD COLUMN park_seconds integer NOT NULL DEFAULT 604800;
ALTER TABLE webhooks ADD COLUMN inactive_since timestamptz;
UPDATE webhooks SET inactive_since = updated_at WHERE status <> 'active';
INSERT INTO sweeps SELECT id, updated_at FROM webhooks WHERE (status <> 'active' OR deleted_at IS NOT NULL)
    AND id IN (SELECT webhook_id FROM outbox);

-- +goose Down
-- The version before does not make steps: let workers finish them first.
CREATE TABLE steps_to_finish_before (waiting integer CHECK (waiting = 0));
INSERT INTO steps_to_finish_before SELECT (SELECT COUNT(*) FROM fanouts) + (SELECT COUNT(*) FROM sweeps);
DROP TABLE steps_to_finish_before;
-- It parks no retries.
INSERT INTO outbox (delivery_id, webhook_id, queue, kind, hold_until, leased, due_at)
    SELECT id, webhook_id, workspace_id || '/' || webhook_id, 'retry', NULL, FALSE, due_at
    FROM deliveries WHERE trouble = 'parked' AND attempt_count > 0 ON CONFLICT (delivery_id) DO NOTHING;
UPDATE deliveries SET state = 'retrying' WHERE trouble = 'parked' AND attempt_count > 0;
ALTER TABLE webhooks DROP COLUMN inactive_since;
ALTER TABLE webhooks DROP COLUMN park_seconds;
DROP TABLE installation;
DROP TABLE fanouts;
DROP TABLE sweeps;
