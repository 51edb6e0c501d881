-- +goose Up

-- Custom headers are encrypted as secrets are: headers then lists their names. Rows from before
-- have names and values in headers, and no key, until they change or `postrider secrets
-- reencrypt` encrypts them.
ALTER TABLE webhooks ADD COLUMN headers_key_id text; -- the encryption key's fingerprint
ALTER TABLE webhooks ADD COLUMN headers_ciphertext bytea;

-- +goose Down
-- What is encrypted cannot be written as it was.
UPDATE webhooks SET headers = '{}' WHERE headers_key_id IS NOT NULL;
ALTER TABLE webhooks DROP COLUMN headers_ciphertext;
ALTER TABLE webhooks DROP COLUMN headers_key_id;
