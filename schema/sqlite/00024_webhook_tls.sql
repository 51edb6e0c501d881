-- +goose Up

-- What a webhook's connections have of their own, as answers show it: JSON without the client key, which
-- is encrypted as secrets are. Null for nothing.
ALTER TABLE webhooks ADD COLUMN tls TEXT;
ALTER TABLE webhooks ADD COLUMN tls_key_id TEXT; -- the encryption key's fingerprint
ALTER TABLE webhooks ADD COLUMN tls_ciphertext BLOB;

-- +goose Down
-- The version before would trust other authorities and show no certificate: no webhook may want that.
CREATE TABLE tls_to_remove_before (webhooks integer CHECK (webhooks = 0));
INSERT INTO tls_to_remove_before SELECT COUNT(*) FROM webhooks WHERE deleted_at IS NULL AND tls IS NOT NULL;
DROP TABLE tls_to_remove_before;
ALTER TABLE webhooks DROP COLUMN tls_ciphertext;
ALTER TABLE webhooks DROP COLUMN tls_key_id;
ALTER TABLE webhooks DROP COLUMN tls;
