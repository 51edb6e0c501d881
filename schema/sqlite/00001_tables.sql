-- +goose Up

-- Ids are text that sorts by time: SQLite compares text as bytes, which is what a
-- range of ids and a keyset cursor rely on.

-- +goose StatementBegin
CREATE TABLE workspaces (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL
);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE api_keys (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name         TEXT NOT NULL,
    hash         TEXT NOT NULL UNIQUE,
    scopes       TEXT NOT NULL, -- JSON array
    created_at   TIMESTAMP NOT NULL,
    expires_at   TIMESTAMP,
    last_used_at TIMESTAMP,
    revoked_at   TIMESTAMP
);
-- +goose StatementEnd
CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);

-- +goose StatementBegin
CREATE TABLE secrets (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    created_at   TIMESTAMP NOT NULL
);
-- +goose StatementEnd

-- Every value that a secret has had. The one with the highest number is current;
-- the ones before it sign too until they expire.
-- +goose StatementBegin
CREATE TABLE secret_versions (
    secret_id  TEXT NOT NULL REFERENCES secrets (id),
    number     INTEGER NOT NULL,
    key_id     TEXT NOT NULL, -- the encryption key's fingerprint
    ciphertext BLOB NOT NULL,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP,
    PRIMARY KEY (secret_id, number)
);
-- +goose StatementEnd

-- A deleted webhook's row stays: its deliveries go on naming it.
-- +goose StatementBegin
CREATE TABLE webhooks (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL REFERENCES workspaces (id),
    url             TEXT NOT NULL,
    events          TEXT NOT NULL, -- JSON array of patterns, as given
    name            TEXT,
    description     TEXT,
    signing_method  TEXT NOT NULL,
    secret_id       TEXT REFERENCES secrets (id),
    scope_type      TEXT NOT NULL,
    persona_id      TEXT,
    timeout_ms      INTEGER NOT NULL,
    max_retries     INTEGER NOT NULL,
    backoff_ms      INTEGER NOT NULL,
    headers         TEXT NOT NULL, -- JSON object
    rate_limit      INTEGER,
    max_in_flight   INTEGER NOT NULL,
    status          TEXT NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason TEXT,
    created_at      TIMESTAMP NOT NULL,
    updated_at      TIMESTAMP NOT NULL,
    deleted_at      TIMESTAMP
);
-- +goose StatementEnd
CREATE INDEX webhooks_workspace ON webhooks (workspace_id, id) WHERE deleted_at IS NULL;

-- What a published event is matched by: one lookup for each pattern that fits its
-- type. persona_id is '' for a webhook that gets every persona's events; it is in
-- the key so that a workspace with a webhook for each of its many personas does
-- not read them all for one event.
-- +goose StatementBegin
CREATE TABLE webhook_events (
    workspace_id TEXT NOT NULL,
    pattern      TEXT NOT NULL,
    persona_id   TEXT NOT NULL,
    webhook_id   TEXT NOT NULL REFERENCES webhooks (id),
    PRIMARY KEY (workspace_id, pattern, persona_id, webhook_id)
);
-- +goose StatementEnd
CREATE INDEX webhook_events_webhook ON webhook_events (webhook_id);

-- Counters change with every delivery; apart from webhooks they do not bloat the
-- table that every publish reads.
-- +goose StatementBegin
CREATE TABLE webhook_stats (
    webhook_id        TEXT PRIMARY KEY REFERENCES webhooks (id),
    total_deliveries  INTEGER NOT NULL,
    failed_deliveries INTEGER NOT NULL,
    last_delivery_at  TIMESTAMP,
    last_error        TEXT
);
-- +goose StatementEnd

-- The pace of a webhook's deliveries (GCRA): the earliest time of the next one.
-- A claim locks the row, so that two cannot overstep one webhook's limits.
-- +goose StatementBegin
CREATE TABLE webhook_pace (
    webhook_id TEXT PRIMARY KEY REFERENCES webhooks (id),
    next_at    TIMESTAMP NOT NULL
);
-- +goose StatementEnd

-- These tables have no foreign keys: each would cost a lookup for every delivery.
-- The store writes an event, its deliveries and their outbox rows in one
-- transaction instead.

-- key is Postrider's own id, id the public one, which differs when the publisher
-- gave it. Uniqueness of id in its workspace is idempotency_keys' part.
-- +goose StatementBegin
CREATE TABLE events (
    key          TEXT PRIMARY KEY,
    id           TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    type         TEXT NOT NULL CHECK (type <> ''),
    persona_id   TEXT,
    occurred_at  TIMESTAMP NOT NULL,
    deliver_at   TIMESTAMP,
    body         BLOB NOT NULL,
    created_at   TIMESTAMP NOT NULL
);
-- +goose StatementEnd
CREATE INDEX events_workspace ON events (workspace_id, key);
CREATE INDEX events_given_id ON events (workspace_id, id) WHERE id <> key;

-- trouble is the state where it is off the way of a delivery that just succeeds.
-- It never changes on that way, so the indexes need no update either.
-- +goose StatementBegin
CREATE TABLE deliveries (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL,
    webhook_id      TEXT NOT NULL,
    event_id        TEXT NOT NULL,
    event_key       TEXT NOT NULL,
    event_type      TEXT NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('pending', 'delivering', 'retrying', 'parked', 'succeeded', 'failed', 'cancelled')),
    timeout_ms      INTEGER NOT NULL,
    max_retries     INTEGER NOT NULL,
    backoff_ms      INTEGER NOT NULL,
    attempt_count   INTEGER NOT NULL,
    next_attempt_at TIMESTAMP,
    last_error      TEXT,
    replay_of       TEXT,
    created_at      TIMESTAMP NOT NULL,
    due_at          TIMESTAMP NOT NULL,
    finished_at     TIMESTAMP,
    workflow_id     TEXT NOT NULL,
    handed_over     BOOLEAN NOT NULL DEFAULT FALSE, -- off the outbox before an attempt was recorded
    trouble         TEXT GENERATED ALWAYS AS (
                        CASE WHEN state IN ('retrying', 'parked', 'failed', 'cancelled') OR (handed_over AND state = 'delivering')
                             THEN state END) STORED
);
-- +goose StatementEnd
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_event ON deliveries (event_key, id);
CREATE INDEX deliveries_trouble ON deliveries (webhook_id, trouble, id) WHERE trouble IS NOT NULL;

-- +goose StatementBegin
CREATE TABLE attempts (
    delivery_id        TEXT NOT NULL,
    number             INTEGER NOT NULL CHECK (number >= 1),
    started_at         TIMESTAMP NOT NULL,
    duration_ms        INTEGER NOT NULL,
    status_code        INTEGER,
    result             TEXT NOT NULL,
    error              TEXT,
    response_excerpt   TEXT,
    response_truncated BOOLEAN NOT NULL,
    remote_ip          TEXT,
    PRIMARY KEY (delivery_id, number)
);
-- +goose StatementEnd

-- What makes a publish repeatable: kind 'key' is an Idempotency-Key, kind 'id' an
-- event's own id. answer is the JSON of the receipts given the first time.
-- +goose StatementBegin
CREATE TABLE idempotency_keys (
    workspace_id TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('key', 'id')),
    value        TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    answer       TEXT NOT NULL,
    event_key    TEXT, -- of the event that an id stands for
    created_at   TIMESTAMP NOT NULL,
    PRIMARY KEY (workspace_id, kind, value)
);
-- +goose StatementEnd

-- The outbox: a row for every delivery that must still be handed to a workflow
-- (kind 'start') or whose workflow must be cancelled (kind 'cancel'). hold_until
-- is null when the row is ready, else the end of a dispatcher's lease (leased) or
-- the time that the delivery is scheduled for.
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id TEXT PRIMARY KEY,
    webhook_id  TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('start', 'cancel')),
    hold_until  TIMESTAMP,
    leased      BOOLEAN NOT NULL,
    due_at      TIMESTAMP NOT NULL
);
-- +goose StatementEnd
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_held ON outbox (hold_until) WHERE hold_until IS NOT NULL;
CREATE INDEX outbox_leased ON outbox (webhook_id) WHERE leased AND kind = 'start';

-- +goose Down
DROP TABLE outbox;
DROP TABLE idempotency_keys;
DROP TABLE attempts;
DROP TABLE deliveries;
DROP TABLE events;
DROP TABLE webhook_pace;
DROP TABLE webhook_stats;
DROP TABLE webhook_events;
DROP TABLE webhooks;
DROP TABLE secret_versions;
DROP TABLE secrets;
DROP TABLE api_keys;
DROP TABLE workspaces;
