-- +goose Up

-- A row that readiness writes anew, to know that others can be written.
CREATE TABLE write_probe (
    id     text COLLATE "C" PRIMARY KEY,
    filler bytea NOT NULL
);
ALTER TABLE write_probe ALTER COLUMN filler SET STORAGE EXTERNAL; -- compressed, it would take no room

-- +goose Down
DROP TABLE write_probe;
