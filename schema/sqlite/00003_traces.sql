-- +goose Up

-- The W3C trace context of the publish, for the spans of attempts that another
-- process may make much later. Null for a publish that is not traced.
ALTER TABLE deliveries ADD COLUMN trace_context TEXT;

-- +goose Down
ALTER TABLE deliveries DROP COLUMN trace_context;
