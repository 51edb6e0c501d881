-- +goose Up

-- One workflow may carry the first attempts of many deliveries. A delivery that did
-- not succeed with it wants a workflow of its own (kind 'own'). A leased row names the
-- workflow: until the first attempt is recorded, nothing else is written for a
-- delivery, so that it costs no version of its row to be on its way. SQLite changes no
-- check: the table is made anew.
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
INSERT INTO outbox SELECT *, '' FROM outbox_before;
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_unpaced ON outbox (delivery_id) WHERE hold_until IS NULL AND kind IN ('own', 'cancel');
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';

-- +goose Down
UPDATE deliveries SET state = 'delivering' FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.kind = 'own' AND deliveries.state = 'retrying';
UPDATE deliveries SET state = 'delivering', workflow_id = o.workflow_id FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.workflow_id <> '' AND o.kind = 'start' AND deliveries.state = 'pending';
ALTER TABLE outbox RENAME TO outbox_before;
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id TEXT PRIMARY KEY,
    webhook_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('start', 'retry', 'cancel')),
    hold_until  TIMESTAMP,
    leased      BOOLEAN NOT NULL,
    due_at      TIMESTAMP NOT NULL
);
-- +goose StatementEnd
INSERT INTO outbox SELECT delivery_id, webhook_id, CASE kind WHEN 'own' THEN 'start' ELSE kind END, hold_until, leased, due_at FROM outbox_before;
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';
