-- +goose Up

-- A retry (kind 'retry') has a row in the outbox too while it has a place among its
-- webhook's attempts (leased) or lately asked for one, so that what is under way
-- can be counted. SQLite changes no check: the table is made anew.
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
INSERT INTO outbox SELECT * FROM outbox_before;
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';

-- What is past its retention is found by it.
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- +goose Down
DROP INDEX idempotency_keys_created;
ALTER TABLE outbox RENAME TO outbox_before;
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id TEXT PRIMARY KEY,
    webhook_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('start', 'cancel')),
    hold_until  TIMESTAMP,
    leased      BOOLEAN NOT NULL,
    due_at      TIMESTAMP NOT NULL
);
-- +goose StatementEnd
INSERT INTO outbox SELECT * FROM outbox_before WHERE kind <> 'retry';
DROP TABLE outbox_before;
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_leased ON outbox (webhook_id) WHERE leased AND kind = 'start';
