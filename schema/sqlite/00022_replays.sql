-- +goose Up

-- Replay jobs: what each sends again, and how far it has come.
CREATE TABLE replays (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    webhook_id TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'cancelled', 'finished', 'failed')),
    since TIMESTAMP NOT NULL,
    until TIMESTAMP NOT NULL,
    states TEXT NOT NULL, -- JSON
    event_types TEXT NOT NULL, -- JSON
    rate INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    counted_to TEXT NOT NULL, -- where in the window the count has come to
    made_to TEXT NOT NULL, -- and the deliveries
    sent INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    next_at TIMESTAMP NOT NULL, -- its pace
    resumed_at TIMESTAMP NOT NULL,
    resumed_sent INTEGER NOT NULL,
    start_at TIMESTAMP, -- when its workflow is started, again if there is none by then
    created_at TIMESTAMP NOT NULL,
    finished_at TIMESTAMP
);
CREATE INDEX replays_workspace ON replays (workspace_id, id);
CREATE UNIQUE INDEX replays_open ON replays (workspace_id, webhook_id) WHERE state IN ('running', 'paused');
CREATE INDEX replays_start ON replays (start_at) WHERE start_at IS NOT NULL;

-- Deliveries of replay jobs that were not ended when the job last looked. A table of its own, so that
-- nobody who finishes a delivery has to count for a replay.
CREATE TABLE replay_deliveries (
    replay_id TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    PRIMARY KEY (replay_id, delivery_id)
);

-- What was sent again is found by what it repeats.
CREATE INDEX deliveries_replays ON deliveries (replay_of) WHERE replay_of IS NOT NULL;

-- An event that was called off is not missed by anybody.
ALTER TABLE events ADD COLUMN called_off_at TIMESTAMP;

-- +goose Down
ALTER TABLE events DROP COLUMN called_off_at;
DROP INDEX deliveries_replays;
DROP TABLE replay_deliveries;
DROP TABLE replays;
