-- +goose Up

-- What a workspace's publishers may send.
CREATE TABLE event_types (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    type TEXT NOT NULL,
    description TEXT,
    schema TEXT, -- JSON Schema of the events' data
    schema_id TEXT, -- comes from what the schema says
    example TEXT, -- JSON
    enforcement TEXT NOT NULL CHECK (enforcement IN ('off', 'warn', 'enforce')),
    deprecated BOOLEAN NOT NULL,
    replaced_by TEXT,
    created_at TIMESTAMP NOT NULL,
    updated_at TIMESTAMP NOT NULL
);
CREATE UNIQUE INDEX event_types_type ON event_types (workspace_id, type);
CREATE INDEX event_types_list ON event_types (workspace_id, id);

-- Another value for each change of the workspace's event types; null before the first.
ALTER TABLE workspaces ADD COLUMN catalogue TEXT;

ALTER TABLE events ADD COLUMN schema_valid BOOLEAN; -- false, or null for what was not found to break a schema

-- +goose Down
ALTER TABLE events DROP COLUMN schema_valid;
ALTER TABLE workspaces DROP COLUMN catalogue;
DROP TABLE event_types;
