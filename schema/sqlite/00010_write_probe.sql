-- +goose Up

-- A row that readiness writes anew, to know that others can be written.
CREATE TABLE write_probe (
    id     TEXT PRIMARY KEY,
    filler BLOB NOT NULL
);

-- +goose Down
DROP TABLE write_probe;
