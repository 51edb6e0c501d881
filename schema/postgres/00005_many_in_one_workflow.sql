-- +goose Up

-- One workflow may carry the first attempts of many deliveries. A delivery that did
-- not succeed with it wants a workflow of its own (kind 'own').
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'own', 'retry', 'cancel'));
DROP INDEX outbox_cancel;
CREATE INDEX outbox_unpaced ON outbox (delivery_id) WHERE hold_until IS NULL AND kind IN ('own', 'cancel');

-- +goose Down
DROP INDEX outbox_unpaced;
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
UPDATE outbox SET kind = 'start' WHERE kind = 'own';
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'retry', 'cancel'));
