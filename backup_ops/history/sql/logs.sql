-- A run as the keeping of its log asks for it: whose it is, what became of it, and why its log was deleted if it was.
WITH deleted AS (
    SELECT unnest(TRY_CAST(data->'run_ids' AS VARCHAR[])) AS run_id, data->>'reason' AS reason, occurred_at
    FROM events
    WHERE kind = 'logs_deleted'
)
SELECT r.run_id, r.job_uid, r.outcome, r.started_at, any_value(d.reason ORDER BY d.occurred_at) AS deleted_because
FROM runs r
LEFT JOIN deleted d ON d.run_id = r.run_id
WHERE ($run_id::VARCHAR[] IS NULL OR r.run_id IN (SELECT unnest($run_id::VARCHAR[])))
GROUP BY ALL
ORDER BY r.run_id DESC
LIMIT $limit
