-- +goose Up

-- A retry (kind 'retry') has a row in the outbox too while it has a place among its
-- webhook's attempts (leased) or lately asked for one, so that what is under way
-- can be counted.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'retry', 'cancel'));
DROP INDEX outbox_leased;
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';

-- What is past its retention is found by it.
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);

-- +goose Down
DROP INDEX idempotency_keys_created;
DROP INDEX outbox_busy;
DELETE FROM outbox WHERE kind = 'retry';
CREATE INDEX outbox_leased ON outbox (webhook_id) WHERE leased AND kind = 'start';
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'cancel'));
