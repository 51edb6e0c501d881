-- +goose Up

-- Events about the engine itself that somebody subscribes to, and that have still to be published.
CREATE TABLE operational_events (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    type TEXT NOT NULL,
    resource_id TEXT NOT NULL, -- what it is about
    data TEXT NOT NULL, -- JSON
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX operational_events_workspace ON operational_events (workspace_id, id);

-- +goose Down
-- The version before publishes none, so what has still to be published is not.
DROP TABLE operational_events;
