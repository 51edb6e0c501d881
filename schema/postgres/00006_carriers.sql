-- +goose Up

-- A delivery has its row in the outbox until it is finished: one that is retried
-- (kind 'retry') names the workflow that carries its retries, and becomes claimable
-- again when that is lost. What wanted a workflow of its own only to be seen (kind
-- 'own', finished) is no more. Claims are fair by queue: workspace first, then webhook.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
DROP INDEX outbox_unpaced;
DROP INDEX outbox_busy;
DROP INDEX outbox_ready;
ALTER TABLE outbox ADD COLUMN queue text COLLATE "C" NOT NULL DEFAULT '';

DELETE FROM outbox USING deliveries d WHERE d.id = outbox.delivery_id AND outbox.kind IN ('own', 'retry') AND d.finished_at IS NOT NULL;
UPDATE outbox SET kind = 'retry', hold_until = NULL, leased = FALSE, workflow_id = '', due_at = COALESCE(d.next_attempt_at, outbox.due_at)
    FROM deliveries d WHERE d.id = outbox.delivery_id AND outbox.kind = 'own';
UPDATE outbox SET leased = FALSE, workflow_id = d.workflow_id, due_at = COALESCE(d.next_attempt_at, outbox.due_at),
        hold_until = GREATEST(d.next_attempt_at, now()) + INTERVAL '2 minutes'
    FROM deliveries d WHERE d.id = outbox.delivery_id AND outbox.kind = 'retry' AND outbox.workflow_id = '' AND outbox.hold_until IS NOT NULL;
INSERT INTO outbox (delivery_id, webhook_id, kind, hold_until, leased, due_at, workflow_id)
    SELECT d.id, d.webhook_id, CASE d.state WHEN 'retrying' THEN 'retry' ELSE 'start' END,
        GREATEST(d.next_attempt_at, now()) + INTERVAL '2 minutes', d.state = 'delivering', COALESCE(d.next_attempt_at, d.due_at), d.workflow_id
    FROM deliveries d WHERE d.trouble IN ('retrying', 'delivering')
    ON CONFLICT (delivery_id) DO NOTHING;
UPDATE outbox SET workflow_id = 'delivery/' || delivery_id WHERE kind = 'cancel' AND workflow_id = '';
UPDATE outbox SET queue = w.workspace_id || '/' || w.id FROM webhooks w WHERE w.id = outbox.webhook_id;

ALTER TABLE outbox ALTER COLUMN queue DROP DEFAULT;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'retry', 'cancel'));
CREATE INDEX outbox_ready ON outbox (queue, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_handover ON outbox (queue, delivery_id) WHERE hold_until IS NULL AND kind = 'retry';
CREATE INDEX outbox_cancel ON outbox (delivery_id) WHERE hold_until IS NULL AND kind = 'cancel';
CREATE INDEX outbox_leased ON outbox (webhook_id) WHERE leased AND kind <> 'cancel';
CREATE INDEX outbox_scheduled ON outbox (webhook_id) WHERE hold_until IS NOT NULL AND kind = 'start' AND NOT leased;
CREATE INDEX outbox_retrying ON outbox (webhook_id, due_at) WHERE kind = 'retry' AND NOT leased;

-- +goose Down
-- The version before starts a workflow for each delivery that is retried; one that has
-- its own keeps it.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
DROP INDEX outbox_retrying;
DROP INDEX outbox_scheduled;
DROP INDEX outbox_leased;
DROP INDEX outbox_cancel;
DROP INDEX outbox_handover;
DROP INDEX outbox_ready;
UPDATE deliveries SET workflow_id = 'delivery/' || deliveries.id FROM outbox o
    WHERE o.delivery_id = deliveries.id AND o.kind = 'retry' AND deliveries.finished_at IS NULL;
DELETE FROM outbox WHERE kind = 'retry' AND workflow_id = 'delivery/' || delivery_id;
UPDATE outbox SET kind = 'own', hold_until = NULL, leased = FALSE, workflow_id = '' WHERE kind = 'retry';
ALTER TABLE outbox DROP COLUMN queue;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('start', 'own', 'retry', 'cancel'));
CREATE INDEX outbox_ready ON outbox (webhook_id, delivery_id) WHERE hold_until IS NULL AND kind = 'start';
CREATE INDEX outbox_unpaced ON outbox (delivery_id) WHERE hold_until IS NULL AND kind IN ('own', 'cancel');
CREATE INDEX outbox_busy ON outbox (webhook_id) WHERE leased OR kind = 'retry';
