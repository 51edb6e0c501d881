-- +goose Up

-- The waits before the retries in milliseconds, as "1000,60000", where a list of them takes the place of
-- backoff_ms; null otherwise. max_retries is their number then.
ALTER TABLE webhooks ADD COLUMN retry_schedule_ms TEXT;
ALTER TABLE deliveries ADD COLUMN retry_schedule_ms TEXT;

DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id, retry_schedule_ms
    ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd

-- +goose Down
-- The version before goes by max_retries and backoff_ms, which a schedule has set to its length and its first wait.
DROP TRIGGER webhooks_changed;
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at, filter, shape_id
    ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd
ALTER TABLE deliveries DROP COLUMN retry_schedule_ms;
ALTER TABLE webhooks DROP COLUMN retry_schedule_ms;
