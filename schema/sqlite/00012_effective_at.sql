-- +goose Up

-- When a version of a secret becomes the current one; null: when it is created.
ALTER TABLE secret_versions ADD COLUMN effective_at TIMESTAMP;

-- +goose Down
-- What was to come later is the current one at once.
ALTER TABLE secret_versions DROP COLUMN effective_at;
