-- +goose Up

-- Which of a webhook's deliveries are made one at a time, and what becomes of the others when one of
-- them fails.
ALTER TABLE webhooks ADD COLUMN ordering TEXT NOT NULL DEFAULT 'none';
ALTER TABLE webhooks ADD COLUMN on_exhausted TEXT NOT NULL DEFAULT 'skip';
ALTER TABLE events ADD COLUMN ordering_key TEXT;

-- A lane is a queue of deliveries that are made one at a time: all of a webhook, or those with one
-- ordering_key. Its id is the webhook's, a stroke, and the key.
ALTER TABLE deliveries ADD COLUMN lane TEXT; -- null without an order
CREATE TABLE lanes (
    id TEXT NOT NULL PRIMARY KEY,
    webhook_id TEXT NOT NULL,
    last INTEGER NOT NULL, -- the last place that was taken
    head TEXT, -- the delivery whose turn it is
    since TIMESTAMP NOT NULL, -- when it became the head, or blocked
    blocked BOOLEAN NOT NULL, -- the head failed, and somebody has to say how to go on
    wire_id TEXT, -- a delivery that ended while an attempt of it was under way
    wire_until TIMESTAMP -- when that attempt is taken for lost
);
CREATE INDEX lanes_webhook ON lanes (webhook_id, id);
CREATE INDEX lanes_blocked ON lanes (webhook_id, id) WHERE blocked;

-- The place of each delivery that is in a lane: it is not finished, or blocks it.
CREATE TABLE lane_places (
    delivery_id TEXT NOT NULL PRIMARY KEY,
    lane TEXT NOT NULL,
    position INTEGER NOT NULL
);
CREATE INDEX lane_places_lane ON lane_places (lane, position);

DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at,
    filter, shape_id, retry_schedule_ms, ordering
    ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd

-- +goose Down
-- The version before knows no order: no webhook may want one, and nothing may wait for its turn.
CREATE TABLE orders_to_remove_before (waiting INTEGER CHECK (waiting = 0));
INSERT INTO orders_to_remove_before SELECT COUNT(*) FROM webhooks WHERE deleted_at IS NULL AND ordering IN ('key', 'fifo');
INSERT INTO orders_to_remove_before SELECT COUNT(*) FROM lane_places;
DROP TABLE orders_to_remove_before;
DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id, retry_schedule_ms
    ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd
DROP TABLE lane_places;
DROP TABLE lanes;
ALTER TABLE deliveries DROP COLUMN lane;
ALTER TABLE events DROP COLUMN ordering_key;
ALTER TABLE webhooks DROP COLUMN on_exhausted;
ALTER TABLE webhooks DROP COLUMN ordering;
