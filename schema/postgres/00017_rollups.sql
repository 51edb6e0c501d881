-- +goose Up

-- What happened, by subject, type of event and result of the attempt, in each minute of the last day and in
-- each hour before: at is when it begins, in Unix seconds. The subject is a webhook, and again its workspace:
-- in minutes with the process that counted, "ws_…/…", so that processes do not wait for each other. A column
-- msN counts attempts that took up to N ms and more than the column before. A delivery that failed without an
-- attempt has the result ''.
CREATE TABLE rollup_minutes (
    subject text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    result text COLLATE "C" NOT NULL,
    workspace_id text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    delivered integer NOT NULL,
    failed integer NOT NULL,
    ms1 integer NOT NULL, ms2 integer NOT NULL, ms4 integer NOT NULL, ms8 integer NOT NULL,
    ms16 integer NOT NULL, ms32 integer NOT NULL, ms64 integer NOT NULL, ms128 integer NOT NULL,
    ms256 integer NOT NULL, ms512 integer NOT NULL, ms1024 integer NOT NULL, ms2048 integer NOT NULL,
    ms4096 integer NOT NULL, ms8192 integer NOT NULL, ms16384 integer NOT NULL, ms32768 integer NOT NULL,
    PRIMARY KEY (subject, at, event_type, result)
) WITH (fillfactor = 50);
CREATE INDEX rollup_minutes_at ON rollup_minutes (at);

CREATE TABLE rollup_hours (
    subject text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    event_type text COLLATE "C" NOT NULL,
    result text COLLATE "C" NOT NULL,
    workspace_id text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    delivered integer NOT NULL,
    failed integer NOT NULL,
    ms1 integer NOT NULL, ms2 integer NOT NULL, ms4 integer NOT NULL, ms8 integer NOT NULL,
    ms16 integer NOT NULL, ms32 integer NOT NULL, ms64 integer NOT NULL, ms128 integer NOT NULL,
    ms256 integer NOT NULL, ms512 integer NOT NULL, ms1024 integer NOT NULL, ms2048 integer NOT NULL,
    ms4096 integer NOT NULL, ms8192 integer NOT NULL, ms16384 integer NOT NULL, ms32768 integer NOT NULL,
    PRIMARY KEY (subject, at, event_type, result)
);
CREATE INDEX rollup_hours_at ON rollup_hours (at);

-- +goose Down
DROP TABLE rollup_hours;
DROP TABLE rollup_minutes;
