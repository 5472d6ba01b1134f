-- An error with the latest that was said of its resolution, newest first.
SELECT *
FROM errors
WHERE ($error_id IS NULL OR error_id = $error_id)
    AND ($run_id IS NULL OR run_id = $run_id)
    AND ($job::VARCHAR[] IS NULL OR list_contains($job::VARCHAR[], job))
    AND ($severity::VARCHAR[] IS NULL OR list_contains($severity::VARCHAR[], severity))
    AND ($component::VARCHAR[] IS NULL OR list_contains($component::VARCHAR[], component))
    AND ($error_type::VARCHAR[] IS NULL OR list_contains($error_type::VARCHAR[], error_type))
    AND ($unresolved IS NOT TRUE OR NOT resolved)
    AND ($since IS NULL OR occurred_at >= $since)
    AND ($until IS NULL OR occurred_at < $until)
ORDER BY occurred_at DESC, error_id DESC
LIMIT $limit
