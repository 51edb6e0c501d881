-- +goose Up

-- Lists of webhooks by persona and by status walk along these.
CREATE INDEX webhooks_persona ON webhooks (workspace_id, persona_id, id) WHERE deleted_at IS NULL AND persona_id IS NOT NULL;

CREATE INDEX webhooks_status ON webhooks (workspace_id, status, id) WHERE deleted_at IS NULL;

-- +goose Down

DROP INDEX webhooks_status;

DROP INDEX webhooks_persona;
