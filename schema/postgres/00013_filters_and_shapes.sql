-- +goose Up

-- Which events a webhook gets, and what is sent of them.
ALTER TABLE webhooks ADD COLUMN filter text; -- CEL
ALTER TABLE webhooks ADD COLUMN transform text; -- CEL
ALTER TABLE webhooks ADD COLUMN format text COLLATE "C" NOT NULL DEFAULT 'envelope';
ALTER TABLE webhooks ADD COLUMN shape_id text COLLATE "C"; -- null for the envelope

-- What bytes are sent of an event. Rows never change, and the id comes from what they hold, so a
-- delivery that keeps one sends the same in each attempt, whatever becomes of its webhook.
CREATE TABLE shapes (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    format text COLLATE "C" NOT NULL,
    transform text NOT NULL,
    source text NOT NULL
);
ALTER TABLE deliveries ADD COLUMN shape_id text COLLATE "C"; -- null for the envelope

DROP TRIGGER webhooks_generation ON webhooks;
CREATE TRIGGER webhooks_generation
    AFTER INSERT OR UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id
    ON webhooks FOR EACH ROW EXECUTE FUNCTION renew_generation();

-- +goose Down
-- The version before sends the envelope to all, and filters nothing: no webhook may want more, and
-- no delivery that is not finished.
CREATE TABLE filters_and_shapes_to_remove_before (waiting integer CHECK (waiting = 0));
INSERT INTO filters_and_shapes_to_remove_before
    SELECT COUNT(*) FROM webhooks WHERE deleted_at IS NULL AND (filter IS NOT NULL OR shape_id IS NOT NULL);
INSERT INTO filters_and_shapes_to_remove_before SELECT COUNT(*) FROM deliveries WHERE shape_id IS NOT NULL AND finished_at IS NULL;
DROP TABLE filters_and_shapes_to_remove_before;
DROP TRIGGER webhooks_generation ON webhooks;
CREATE TRIGGER webhooks_generation
    AFTER INSERT OR UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at ON webhooks
    FOR EACH ROW EXECUTE FUNCTION renew_generation();
ALTER TABLE deliveries DROP COLUMN shape_id;
DROP TABLE shapes;
ALTER TABLE webhooks DROP COLUMN shape_id;
ALTER TABLE webhooks DROP COLUMN format;
ALTER TABLE webhooks DROP COLUMN transform;
ALTER TABLE webhooks DROP COLUMN filter;
