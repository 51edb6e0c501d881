-- +goose Up

-- What happened, by subject, type of event and result of the attempt, in each minute of the last day and in
-- each hour before: at is when it begins, in Unix seconds. The subject is a webhook, and again its workspace:
-- in minutes with the process that counted, "ws_…/…", so that processes do not wait for each other. A column
-- msN counts attempts that took up to N ms and more than the column before. A delivery that failed without an
-- attempt has the result ''.
CREATE TABLE rollup_minutes (
    subject TEXT NOT NULL,
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    result TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    ms1 INTEGER NOT NULL, ms2 INTEGER NOT NULL, ms4 INTEGER NOT NULL, ms8 INTEGER NOT NULL,
    ms16 INTEGER NOT NULL, ms32 INTEGER NOT NULL, ms64 INTEGER NOT NULL, ms128 INTEGER NOT NULL,
    ms256 INTEGER NOT NULL, ms512 INTEGER NOT NULL, ms1024 INTEGER NOT NULL, ms2048 INTEGER NOT NULL,
    ms4096 INTEGER NOT NULL, ms8192 INTEGER NOT NULL, ms16384 INTEGER NOT NULL, ms32768 INTEGER NOT NULL,
    PRIMARY KEY (subject, at, event_type, result)
);
CREATE INDEX rollup_minutes_at ON rollup_minutes (at);

CREATE TABLE rollup_hours (
    subject TEXT NOT NULL,
    at INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    result TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    ms1 INTEGER NOT NULL, ms2 INTEGER NOT NULL, ms4 INTEGER NOT NULL, ms8 INTEGER NOT NULL,
    ms16 INTEGER NOT NULL, ms32 INTEGER NOT NULL, ms64 INTEGER NOT NULL, ms128 INTEGER NOT NULL,
    ms256 INTEGER NOT NULL, ms512 INTEGER NOT NULL, ms1024 INTEGER NOT NULL, ms2048 INTEGER NOT NULL,
    ms4096 INTEGER NOT NULL, ms8192 INTEGER NOT NULL, ms16384 INTEGER NOT NULL, ms32768 INTEGER NOT NULL,
    PRIMARY KEY (subject, at, event_type, result)
);
CREATE INDEX rollup_hours_at ON rollup_hours (at);

-- +goose Down
DROP TABLE rollup_hours;
DROP TABLE rollup_minutes;
