-- +goose Up

-- A workspace gets another generation when its webhooks change, as far as publishing
-- knows them, so that processes can remember which of them an event goes to. The
-- database gives it: a process of the version before does so too, and no change can
-- forget it. It is random and no counter, for after a failover or a restore a
-- counter might come to the same number in another way. What a webhook subscribes to
-- (webhook_events) changes only together with its row.
ALTER TABLE workspaces ADD COLUMN generation text COLLATE "C" NOT NULL DEFAULT '';
UPDATE workspaces SET generation = gen_random_uuid()::text;
-- +goose StatementBegin
CREATE FUNCTION renew_generation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE workspaces SET generation = gen_random_uuid()::text WHERE id = NEW.workspace_id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER webhooks_generation
    AFTER INSERT OR UPDATE OF events, scope_type, persona_id, timeout_ms, max_retries, backoff_ms, status, deleted_at ON webhooks
    FOR EACH ROW EXECUTE FUNCTION renew_generation();

-- +goose Down
DROP TRIGGER webhooks_generation ON webhooks;
DROP FUNCTION renew_generation;
ALTER TABLE workspaces DROP COLUMN generation;
