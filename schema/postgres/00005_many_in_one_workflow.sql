-- +goose Up

-- One workflow may carry the first attempts of many deliveries. A delivery that did
-- not succeed with it wants a workflow of its own (kind 'own'). A leased row names the
-- workflow: until the first attempt is recorded, nothing else is written for a
-- delivery, so that it costs no version of its row to be on its way.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'own', 'retry', 'cancel'));
ALTER TABLE outbox ADD COLUMN workflow_id text COLLATE "C" NOT NULL DEFAULT '';
DROP INDEX outbox_cancel;
CREATE INDEX outbox_unpaced ON outbox (delivery_id) WHERE hold_until IS NULL AND kind IN ('own', 'cancel');

-- +goose Down
UPDATE deliveries SET state = 'delivering' FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.kind = 'own' AND deliveries.state = 'retrying';
UPDATE deliveries SET state = 'delivering', workflow_id = o.workflow_id FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.workflow_id <> '' AND o.kind = 'start' AND deliveries.state = 'pending';
ALTER TABLE outbox DROP COLUMN workflow_id;
DROP INDEX outbox_unpaced;
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
UPDATE outbox SET kind = 'start' WHERE kind = 'own';
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'retry', 'cancel'));
