-- +goose Up

ALTER TABLE webhooks ADD COLUMN circuit_breaker BOOLEAN NOT NULL DEFAULT TRUE;
ALTER TABLE webhooks ADD COLUMN disable_after_seconds INTEGER NOT NULL DEFAULT 432000;

-- How a webhook's attempts go, since the latest success.
ALTER TABLE webhook_stats ADD COLUMN consecutive_failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhook_stats ADD COLUMN failing_since TIMESTAMP;
ALTER TABLE webhook_stats ADD COLUMN last_success_at TIMESTAMP;
ALTER TABLE webhook_stats ADD COLUMN failing_told BOOLEAN NOT NULL DEFAULT FALSE; -- postrider.webhook.failing was published

-- Webhooks that may have fewer attempts under way than their max_in_flight: after the circuit has
-- opened, or after they were resumed.
CREATE TABLE webhook_gates (
    webhook_id TEXT NOT NULL PRIMARY KEY REFERENCES webhooks (id),
    allowance INTEGER NOT NULL, -- 0: one probe at a time
    probe_at TIMESTAMP NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    openings INTEGER NOT NULL
);

-- +goose Down
-- The version before knows no gates: what waits goes at once, under max_in_flight.
DROP TABLE webhook_gates;
ALTER TABLE webhook_stats DROP COLUMN failing_told;
ALTER TABLE webhook_stats DROP COLUMN last_success_at;
ALTER TABLE webhook_stats DROP COLUMN failing_since;
ALTER TABLE webhook_stats DROP COLUMN consecutive_failures;
ALTER TABLE webhooks DROP COLUMN disable_after_seconds;
ALTER TABLE webhooks DROP COLUMN circuit_breaker;
