-- +goose Up

-- What a publisher may say of one event: until when it is worth delivering, the webhook that alone
-- gets it, and headers for its requests. The headers are encrypted as webhooks' are.
ALTER TABLE events ADD COLUMN expires_at TIMESTAMP;
ALTER TABLE events ADD COLUMN webhook_id TEXT;
ALTER TABLE events ADD COLUMN headers TEXT; -- JSON: their names
ALTER TABLE events ADD COLUMN headers_key_id TEXT; -- the encryption key's fingerprint
ALTER TABLE events ADD COLUMN headers_ciphertext BLOB;
CREATE INDEX events_headers ON events (headers_key_id, key) WHERE headers_key_id IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN expires_at TIMESTAMP;

-- Deliveries that expire, and when to look at them. A table of its own and no index on deliveries:
-- there every finished delivery would pay for it.
CREATE TABLE expiries (
    delivery_id TEXT NOT NULL PRIMARY KEY,
    due_at TIMESTAMP NOT NULL
);
CREATE INDEX expiries_due ON expiries (due_at);

-- +goose Down
-- What expires would be delivered after its time by the version before, which knows none.
DROP TABLE expiries;
ALTER TABLE deliveries DROP COLUMN expires_at;
DROP INDEX events_headers;
ALTER TABLE events DROP COLUMN headers_ciphertext;
ALTER TABLE events DROP COLUMN headers_key_id;
ALTER TABLE events DROP COLUMN headers;
ALTER TABLE events DROP COLUMN webhook_id;
ALTER TABLE events DROP COLUMN expires_at;
