-- A snapshot that a run made, newest first, the pruned ones too.
SELECT *
FROM snapshots
WHERE ($snapshot_id IS NULL OR snapshot_id = $snapshot_id)
    AND ($job::VARCHAR[] IS NULL OR list_contains($job::VARCHAR[], job))
    AND ($repository::VARCHAR[] IS NULL OR list_contains($repository::VARCHAR[], repository))
    AND ($since IS NULL OR created_at >= $since)
    AND ($until IS NULL OR created_at < $until)
ORDER BY created_at DESC NULLS LAST, snapshot_id DESC
LIMIT $limit
