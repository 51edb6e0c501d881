-- +goose Up

-- Who did what to which resource.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    route TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    changes TEXT NOT NULL, -- JSON
    created_at TIMESTAMP NOT NULL
);
CREATE INDEX audit_workspace ON audit (workspace_id, id);
CREATE INDEX audit_resource ON audit (workspace_id, resource_id, id);
CREATE INDEX audit_actor ON audit (workspace_id, actor, id);

-- +goose Down
DROP TABLE audit;
