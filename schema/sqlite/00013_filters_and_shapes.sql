-- +goose Up

-- Which events a webhook gets, and what is sent of them.
ALTER TABLE webhooks ADD COLUMN filter TEXT; -- CEL
ALTER TABLE webhooks ADD COLUMN transform TEXT; -- CEL
ALTER TABLE webhooks ADD COLUMN format TEXT NOT NULL DEFAULT 'envelope';
ALTER TABLE webhooks ADD COLUMN shape_id TEXT; -- null for the envelope

-- What bytes are sent of an event. Rows never change, and the id comes from what they hold, so a
-- delivery that keeps one sends the same in each attempt, whatever becomes of its webhook.
CREATE TABLE shapes (
    id        TEXT NOT NULL PRIMARY KEY,
    format    TEXT NOT NULL,
    transform TEXT NOT NULL,
    source    TEXT NOT NULL
);
ALTER TABLE deliveries ADD COLUMN shape_id TEXT; -- null for the envelope

DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id
    ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd

-- +goose Down
-- The version before sends the envelope to all, and filters nothing: no webhook may want more, and
-- no delivery that is not finished.
CREATE TABLE filters_and_shapes_to_remove_before (waiting INTEGER CHECK (waiting = 0));
INSERT INTO filters_and_shapes_to_remove_before
    SELECT COUNT(*) FROM webhooks WHERE deleted_at IS NULL AND (filter IS NOT NULL OR shape_id IS NOT NULL);
INSERT INTO filters_and_shapes_to_remove_before SELECT COUNT(*) FROM deliveries WHERE shape_id IS NOT NULL AND finished_at IS NULL;
DROP TABLE filters_and_shapes_to_remove_before;
DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd
ALTER TABLE deliveries DROP COLUMN shape_id;
DROP TABLE shapes;
ALTER TABLE webhooks DROP COLUMN shape_id;
ALTER TABLE webhooks DROP COLUMN format;
ALTER TABLE webhooks DROP COLUMN transform;
ALTER TABLE webhooks DROP COLUMN filter;
