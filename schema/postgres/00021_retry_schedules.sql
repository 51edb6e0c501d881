-- +goose Up

-- The waits before the retries in milliseconds, as "1000,60000", where a list of them takes the place of
-- backoff_ms; null otherwise. max_retries is their number then.
ALTER TABLE webhooks ADD COLUMN retry_schedule_ms text COLLATE "C";
ALTER TABLE deliveries ADD COLUMN retry_schedule_ms text COLLATE "C";

DROP TRIGGER webhooks_generation ON webhooks;
CREATE TRIGGER webhooks_generation
    AFTER INSERT OR UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id, retry_schedule_ms
    ON webhooks FOR EACH ROW EXECUTE FUNCTION renew_generation();

-- +goose Down
-- The version before goes by max_retries and backoff_ms, which a schedule has set to its length and its first wait.
DROP TRIGGER webhooks_generation ON webhooks;
CREATE TRIGGER webhooks_generation
    AFTER INSERT OR UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id
    ON webhooks FOR EACH ROW EXECUTE FUNCTION renew_generation();
ALTER TABLE deliveries DROP COLUMN retry_schedule_ms;
ALTER TABLE webhooks DROP COLUMN retry_schedule_ms;
