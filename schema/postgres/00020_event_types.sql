-- +goose Up

-- What a workspace's publishers may send.
CREATE TABLE event_types (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    description text,
    schema text, -- JSON Schema of the events' data
    schema_id text COLLATE "C", -- comes from what the schema says
    example text, -- JSON
    enforcement text COLLATE "C" NOT NULL CHECK (enforcement IN ('off', 'warn', 'enforce')),
    deprecated boolean NOT NULL,
    replaced_by text COLLATE "C",
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX event_types_type ON event_types (workspace_id, type);
CREATE INDEX event_types_list ON event_types (workspace_id, id);

-- Another value for each change of the workspace's event types; null before the first.
ALTER TABLE workspaces ADD COLUMN catalogue text COLLATE "C";

ALTER TABLE events ADD COLUMN schema_valid boolean; -- false, or null for what was not found to break a schema

-- +goose Down
ALTER TABLE events DROP COLUMN schema_valid;
ALTER TABLE workspaces DROP COLUMN catalogue;
DROP TABLE event_types;
