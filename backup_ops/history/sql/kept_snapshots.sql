-- A snapshot of the job, whatever it was called, that was made and not pruned since, newest first.
SELECT s.*
FROM snapshots s
JOIN runs r ON r.run_id = s.run_id
WHERE ($job_uid IS NULL OR r.job_uid = $job_uid) AND s.pruned_at IS NULL
ORDER BY s.created_at DESC NULLS LAST, s.snapshot_id DESC
LIMIT $limit
