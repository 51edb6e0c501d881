-- +goose Up

-- Events about the engine itself that somebody subscribes to, and that have still to be published.
CREATE TABLE operational_events (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    resource_id text COLLATE "C" NOT NULL, -- what it is about
    data text NOT NULL, -- JSON
    created_at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX operational_events_workspace ON operational_events (workspace_id, id);

-- +goose Down
-- The version before publishes none, so what has still to be published is not.
DROP TABLE operational_events;
