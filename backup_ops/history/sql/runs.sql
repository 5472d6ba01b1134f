-- A run, newest first: its final row, or the latest one said of it while it is queued or running.
SELECT *
FROM runs
WHERE ($run_id IS NULL OR run_id = $run_id)
    AND ($run_id_prefix IS NULL OR starts_with(run_id, $run_id_prefix))
    AND ($job::VARCHAR[] IS NULL OR list_contains($job::VARCHAR[], job))
    AND ($outcome::VARCHAR[] IS NULL OR list_contains($outcome::VARCHAR[], outcome))
    AND ($since IS NULL OR coalesce(started_at, queued_at, scheduled_at, finished_at) >= $since)
    AND ($until IS NULL OR coalesce(started_at, queued_at, scheduled_at, finished_at) < $until)
ORDER BY coalesce(started_at, queued_at, scheduled_at, finished_at) DESC NULLS LAST, run_id DESC
LIMIT $limit
