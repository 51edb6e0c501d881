-- +goose Up

-- Who did what to which resource.
CREATE TABLE audit (
    id text COLLATE "C" NOT NULL PRIMARY KEY,
    workspace_id text COLLATE "C" NOT NULL,
    actor text COLLATE "C" NOT NULL,
    route text NOT NULL,
    request_id text NOT NULL,
    action text COLLATE "C" NOT NULL,
    resource_id text COLLATE "C" NOT NULL,
    changes text NOT NULL, -- JSON
    created_at timestamptz NOT NULL
);
CREATE INDEX audit_workspace ON audit (workspace_id, id);
CREATE INDEX audit_resource ON audit (workspace_id, resource_id, id);
CREATE INDEX audit_actor ON audit (workspace_id, actor, id);

-- +goose Down
DROP TABLE audit;
