-- +goose Up

-- Replay jobs: what each sends again, and how far it has come.
CREATE TABLE replays (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL,
    webhook_id text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('running', 'paused', 'cancelled', 'finished', 'failed')),
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    states text NOT NULL, -- JSON
    event_types text NOT NULL, -- JSON
    rate integer NOT NULL,
    counted bigint NOT NULL,
    counted_to text COLLATE "C" NOT NULL, -- where in the window the count has come to
    made_to text COLLATE "C" NOT NULL, -- and the deliveries
    sent bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed bigint NOT NULL,
    next_at timestamptz NOT NULL, -- its pace
    resumed_at timestamptz NOT NULL,
    resumed_sent bigint NOT NULL,
    start_at timestamptz, -- when its workflow is started, again if there is none by then
    created_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX replays_workspace ON replays (workspace_id, id);
CREATE UNIQUE INDEX replays_open ON replays (workspace_id, webhook_id) WHERE state IN ('running', 'paused');
CREATE INDEX replays_start ON replays (start_at) WHERE start_at IS NOT NULL;

-- Deliveries of replay jobs that were not ended when the job last looked. A table of its own, so that
-- nobody who finishes a delivery has to count for a replay.
CREATE TABLE replay_deliveries (
    replay_id text COLLATE "C" NOT NULL,
    delivery_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (replay_id, delivery_id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

-- What was sent again is found by what it repeats.
CREATE INDEX deliveries_replays ON deliveries (replay_of) WHERE replay_of IS NOT NULL;

-- An event that was called off is not missed by anybody.
ALTER TABLE events ADD COLUMN called_off_at timestamptz;

-- +goose Down
ALTER TABLE events DROP COLUMN called_off_at;
DROP INDEX deliveries_replays;
DROP TABLE replay_deliveries;
DROP TABLE replays;
