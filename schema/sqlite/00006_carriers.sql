-- +goose Up

-- A delivery has its row in the outbox until it is finished: one that is retried
-- (kind 'retry') names the workflow that carries its retries, and becomes claimable
-- again when that is lost. What wanted a workflow of its own only to be seen (kind
-- 'own', finished) is no more. Claims are fair by queue: workspace first, then webhook.
-- SQLite changes no check: the table is made anew.
ALTER TABLE outbox RENAME TO outbox_before;
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id TEXT PRIMARY KEY,
    webhook_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('start', 'retry', 'cancel')),
    hold_until  TIMESTAMP,
    leased      BOOLEAN NOT NULL,
    due_at      TIMESTAMP NOT NULL,
    workflow_id TEXT NOT NULL DEFAULT '',
    queue       TEXT NOT NULL
);
-- +goose StatementEnd
INSERT INTO outbox SELECT o.delivery_id, o.webhook_id, o.kind, o.hold_until, o.leased, o.due_at,
        CASE WHEN o.kind = 'cancel' AND o.workflow_id = '' THEN 'delivery/' || d.id ELSE o.workflow_id END, w.workspace_id || '/' || w.id
    FROM outbox_before o JOIN webhooks w ON w.id = o.webhook_id JOIN deliveries d ON d.id = o.delivery_id WHERE o.kind IN ('start', 'cancel');
INSERT INTO outbox SELECT o.delivery_id, o.webhook_id, 'retry', NULL, FALSE, COALESCE(d.next_attempt_at, o.due_at), '', w.workspace_id || '/' || w.id
    FROM outbox_before o JOIN webhooks w ON w.id = o.webhook_id JOIN deliveries d ON d.id = o.delivery_id
    WHERE o.kind = 'own' AND d.finished_at IS NULL;
INSERT INTO outbox SELECT d.id, d.webhook_id, CASE d.state WHEN 'retrying' THEN 'retry' ELSE 'start' END,
        strftime('%Y-%m-%d %H:%M:%f', MAX(COALESCE(d.next_attempt_at, ''), strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')), '+2 minutes') || '+00:00',
        d.state = 'delivering', COALESCE(d.next_attempt_at, d.due_at), d.workflow_id, w.workspace_id || '/' || w.id
    FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id
    WHERE d.trouble IN ('retrying', 'delivering') AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.delivery_id = d.id);
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (queue, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_handover ON outbox (queue, delivery_id) WHERE hold_until IS NULL AND kind = 'retry';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_leased ON outbox (webhook_id) WHERE leased AND kind <> 'cancel';
CREATE INDEX outbox_scheduled ON outbox (webhook_id) WHERE hold_until IS NOT NULL AND kind = 'start' AND NOT leased;
CREATE INDEX outbox_retrying ON outbox (webhook_id, due_at) WHERE kind = 'retry' AND NOT leased;

-- +goose Down
-- The version before starts a workflow for each delivery that is retried; one that has
-- its own keeps it.
UPDATE deliveries SET workflow_id = 'delivery/' || deliveries.id FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.kind = 'retry' AND deliveries.finished_at IS NULL;
ALTER TABLE outbox RENAME TO outbox_before;
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id TEXT PRIMARY KEY,
    webhook_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('start', 'own', 'retry', 'cancel')),
    hold_until  TIMESTAMP,
    leased      BOOLEAN NOT NULL,
    due_at      TIMESTAMP NOT NULL,
    workflow_id TEXT NOT NULL DEFAULT ''
);
-- +goose StatementEnd
INSERT INTO outbox SELECT delivery_id, webhook_id, kind, hold_until, leased, due_at, workflow_id FROM outbox_before WHERE kind IN ('start', 'cancel');
INSERT INTO outbox SELECT delivery_id, webhook_id, 'own', NULL, FALSE, due_at, '' FROM outbox_before
    WHERE kind = 'retry' AND workflow_id <> 'delivery/' || delivery_id;
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_unpaced ON outbox (delivery_id) WHERE hold_until IS NULL AND kind IN ('own', 'cancel');
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';
