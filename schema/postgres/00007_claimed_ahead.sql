-- +goose Up

-- A first attempt that is leased, and waits for the place of one that is under way.
ALTER TABLE outbox ADD COLUMN ahead boolean NOT NULL DEFAULT FALSE;

-- +goose Down
UPDATE outbox SET hold_until = NULL, leased = FALSE WHERE ahead;
ALTER TABLE outbox DROP COLUMN ahead;
