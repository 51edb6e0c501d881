-- +goose Up

-- Ids are text that sorts by time: COLLATE "C" compares them as bytes, which is
-- what a range of ids, a keyset cursor and a partition's bounds rely on.

-- +goose StatementBegin
CREATE TABLE workspaces (
    id         text COLLATE "C" PRIMARY KEY,
    name       text NOT NULL,
    created_at timestamptz NOT NULL
);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE api_keys (
    id           text COLLATE "C" PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    name         text NOT NULL,
    hash         text COLLATE "C" NOT NULL UNIQUE,
    scopes       text NOT NULL, -- JSON array
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
-- +goose StatementEnd
CREATE INDEX api_keys_workspace ON api_keys (workspace_id, id);

-- +goose StatementBegin
CREATE TABLE secrets (
    id           text COLLATE "C" PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    created_at   timestamptz NOT NULL
);
-- +goose StatementEnd

-- Every value that a secret has had. The one with the highest number is current;
-- the ones before it sign too until they expire.
-- +goose StatementBegin
CREATE TABLE secret_versions (
    secret_id  text COLLATE "C" NOT NULL REFERENCES secrets (id),
    number     integer NOT NULL,
    key_id     text COLLATE "C" NOT NULL, -- the encryption key's fingerprint
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (secret_id, number)
);
-- +goose StatementEnd

-- A deleted webhook's row stays: its deliveries go on naming it.
-- +goose StatementBegin
CREATE TABLE webhooks (
    id              text COLLATE "C" PRIMARY KEY,
    workspace_id    text COLLATE "C" NOT NULL REFERENCES workspaces (id),
    url             text NOT NULL,
    events          text NOT NULL, -- JSON array of patterns, as given
    name            text,
    description     text,
    signing_method  text NOT NULL,
    secret_id       text COLLATE "C" REFERENCES secrets (id),
    scope_type      text NOT NULL,
    persona_id      text,
    timeout_ms      integer NOT NULL,
    max_retries     integer NOT NULL,
    backoff_ms      integer NOT NULL,
    headers         text NOT NULL, -- JSON object
    rate_limit      integer,
    max_in_flight   integer NOT NULL,
    status          text NOT NULL CHECK (status IN ('active', 'paused', 'disabled')),
    disabled_reason text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    deleted_at      timestamptz
);
-- +goose StatementEnd
CREATE INDEX webhooks_workspace ON webhooks (workspace_id, id) WHERE deleted_at IS NULL;

-- What a published event is matched by: one lookup for each pattern that fits its
-- type. persona_id is '' for a webhook that gets every persona's events; it is in
-- the key so that a workspace with a webhook for each of its many personas does
-- not read them all for one event.
-- +goose StatementBegin
CREATE TABLE webhook_events (
    workspace_id text COLLATE "C" NOT NULL,
    pattern      text COLLATE "C" NOT NULL,
    persona_id   text COLLATE "C" NOT NULL,
    webhook_id   text COLLATE "C" NOT NULL REFERENCES webhooks (id),
    PRIMARY KEY (workspace_id, pattern, persona_id, webhook_id)
);
-- +goose StatementEnd
CREATE INDEX webhook_events_webhook ON webhook_events (webhook_id);

-- Counters change with every delivery; apart from webhooks they do not bloat the
-- table that every publish reads.
-- +goose StatementBegin
CREATE TABLE webhook_stats (
    webhook_id        text COLLATE "C" PRIMARY KEY REFERENCES webhooks (id),
    total_deliveries  bigint NOT NULL,
    failed_deliveries bigint NOT NULL,
    last_delivery_at  timestamptz,
    last_error        text
) WITH (fillfactor = 50);
-- +goose StatementEnd

-- The pace of a webhook's deliveries (GCRA): the earliest time of the next one.
-- A claim locks the row, so that two cannot overstep one webhook's limits.
-- +goose StatementBegin
CREATE TABLE webhook_pace (
    webhook_id text COLLATE "C" PRIMARY KEY REFERENCES webhooks (id),
    next_at    timestamptz NOT NULL
) WITH (fillfactor = 50);
-- +goose StatementEnd

-- What grows is partitioned by day. Ids are time-ordered, so a day is a range of
-- ids: primary keys need no other column, and a lookup by id reads one partition.
-- The default partitions take what no day's partition was made for, so that
-- nothing is ever refused.
--
-- These tables have no foreign keys: each would cost a lookup and a row lock for
-- every delivery, and would stand in the way of dropping a day. The store writes
-- an event, its deliveries and their outbox rows in one transaction instead.

-- key is Postrider's own id, id the public one, which differs when the publisher
-- gave it. Uniqueness of id in its workspace is idempotency_keys' part: a unique
-- index over partitions would have to hold the key.
-- +goose StatementBegin
CREATE TABLE events (
    key          text COLLATE "C" PRIMARY KEY,
    id           text COLLATE "C" NOT NULL,
    workspace_id text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL CHECK (type <> ''),
    persona_id   text,
    occurred_at  timestamptz NOT NULL,
    deliver_at   timestamptz,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL
) PARTITION BY RANGE (key);
-- +goose StatementEnd
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_workspace ON events (workspace_id, key);
CREATE INDEX events_given_id ON events (workspace_id, id) WHERE id <> key;

-- trouble is the state where it is off the way of a delivery that just succeeds.
-- It never changes on that way, so neither does any indexed column, and
-- PostgreSQL updates such a row without touching the indexes (HOT). An index on
-- state itself would cost every delivery two more entries in every index.
-- +goose StatementBegin
CREATE TABLE deliveries (
    id              text COLLATE "C" PRIMARY KEY,
    workspace_id    text COLLATE "C" NOT NULL,
    webhook_id      text COLLATE "C" NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    event_key       text COLLATE "C" NOT NULL,
    event_type      text COLLATE "C" NOT NULL,
    state           text COLLATE "C" NOT NULL
                    CHECK (state IN ('pending', 'delivering', 'retrying', 'parked', 'succeeded', 'failed', 'cancelled')),
    timeout_ms      integer NOT NULL,
    max_retries     integer NOT NULL,
    backoff_ms      integer NOT NULL,
    attempt_count   integer NOT NULL,
    next_attempt_at timestamptz,
    last_error      text,
    replay_of       text COLLATE "C",
    created_at      timestamptz NOT NULL,
    due_at          timestamptz NOT NULL,
    finished_at     timestamptz,
    workflow_id     text COLLATE "C" NOT NULL,
    handed_over     boolean NOT NULL DEFAULT FALSE, -- off the outbox before an attempt was recorded
    trouble         text COLLATE "C" GENERATED ALWAYS AS (
                        CASE WHEN state IN ('retrying', 'parked', 'failed', 'cancelled') OR (handed_over AND state = 'delivering')
                             THEN state END) STORED
) PARTITION BY RANGE (id);
-- +goose StatementEnd
CREATE TABLE deliveries_default PARTITION OF deliveries DEFAULT;
CREATE INDEX deliveries_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_event ON deliveries (event_key, id);
CREATE INDEX deliveries_trouble ON deliveries (webhook_id, trouble, id) WHERE trouble IS NOT NULL;

-- +goose StatementBegin
CREATE TABLE attempts (
    delivery_id        text COLLATE "C" NOT NULL,
    number             integer NOT NULL CHECK (number >= 1),
    started_at         timestamptz NOT NULL,
    duration_ms        bigint NOT NULL,
    status_code        integer,
    result             text COLLATE "C" NOT NULL,
    error              text,
    response_excerpt   text,
    response_truncated boolean NOT NULL,
    remote_ip          text,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);
-- +goose StatementEnd
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

-- What makes a publish repeatable: kind 'key' is an Idempotency-Key, kind 'id' an
-- event's own id. answer is the JSON of the receipts given the first time.
-- +goose StatementBegin
CREATE TABLE idempotency_keys (
    workspace_id text COLLATE "C" NOT NULL,
    kind         text COLLATE "C" NOT NULL CHECK (kind IN ('key', 'id')),
    value        text COLLATE "C" NOT NULL,
    request_hash text COLLATE "C" NOT NULL,
    answer       text NOT NULL,
    event_key    text COLLATE "C", -- of the event that an id stands for
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, kind, value)
);
-- +goose StatementEnd

-- The outbox: a row for every delivery that must still be handed to a workflow
-- (kind 'start') or whose workflow must be cancelled (kind 'cancel'). hold_until
-- is null when the row is ready, else the end of a dispatcher's lease (leased) or
-- the time that the delivery is scheduled for. Rows come and go all the time, so
-- vacuum has to come early.
-- +goose StatementBegin
CREATE TABLE outbox (
    delivery_id text COLLATE "C" PRIMARY KEY,
    webhook_id  text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL CHECK (kind IN ('start', 'cancel')),
    hold_until  timestamptz,
    leased      boolean NOT NULL,
    due_at      timestamptz NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
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
