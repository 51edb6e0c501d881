-- +goose Up

-- A workspace gets another generation when its webhooks change, as far as publishing
-- knows them, so that a process can remember which of them an event goes to. What a
-- webhook subscribes to (webhook_events) changes only together with its row.
ALTER TABLE workspaces ADD COLUMN generation TEXT NOT NULL DEFAULT '';
UPDATE workspaces SET generation = hex(randomblob(16));
-- +goose StatementBegin
CREATE TRIGGER webhooks_created AFTER INSERT ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER webhooks_changed
    AFTER UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at ON webhooks BEGIN
    UPDATE workspaces SET generation = hex(randomblob(16)) WHERE id = NEW.workspace_id;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER webhooks_changed;
DROP TRIGGER webhooks_created;
ALTER TABLE workspaces DROP COLUMN generation;
