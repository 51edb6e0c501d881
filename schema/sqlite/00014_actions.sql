-- +goose Up

-- What operators did to deliveries. One that changed something for the workflow that carried the
-- delivery has that workflow, and tell_at until the workflow has heard of it.
CREATE TABLE delivery_actions (
    delivery_id TEXT NOT NULL,
    id          TEXT NOT NULL,
    at          TIMESTAMP NOT NULL,
    action      TEXT NOT NULL CHECK (action IN ('retry', 'cancel', 'pause', 'resume', 'skip', 'edit')),
    actor       TEXT NOT NULL,
    detail      TEXT NOT NULL,
    attempt     INTEGER NOT NULL, -- the attempt that was under way, or the next
    made        TEXT, -- the delivery that sends the event again
    workflow_id TEXT NOT NULL,
    left_it     BOOLEAN NOT NULL, -- the workflow does not carry the delivery any more
    tell_at     TIMESTAMP,
    PRIMARY KEY (delivery_id, id)
);
CREATE INDEX delivery_actions_untold ON delivery_actions (tell_at) WHERE tell_at IS NOT NULL;

-- An operator paused the delivery.
ALTER TABLE deliveries ADD COLUMN held_at TIMESTAMP;
CREATE INDEX deliveries_held ON deliveries (held_at) WHERE held_at IS NOT NULL AND trouble = 'parked';

-- Deliveries of a whole workspace.
CREATE INDEX deliveries_workspace ON deliveries (workspace_id, id);
CREATE INDEX deliveries_workspace_trouble ON deliveries (workspace_id, trouble, id) WHERE trouble IS NOT NULL;

-- +goose Down
DROP INDEX deliveries_workspace_trouble;
DROP INDEX deliveries_workspace;
-- The version before knows no paused delivery: it goes on with its webhook.
INSERT INTO sweeps SELECT webhook_id, MAX(held_at) FROM deliveries WHERE held_at IS NOT NULL AND trouble = 'parked' GROUP BY webhook_id
    ON CONFLICT (webhook_id) DO NOTHING;
DROP INDEX deliveries_held;
ALTER TABLE deliveries DROP COLUMN held_at;
DROP TABLE delivery_actions;
