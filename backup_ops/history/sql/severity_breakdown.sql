-- A severity with its errors: how many, how many unresolved, the last one's time. Worst first.
SELECT
    severity,
    count(*) AS errors,
    count(*) FILTER (NOT resolved) AS unresolved,
    max(occurred_at) AS last_at
FROM errors
WHERE ($job::VARCHAR[] IS NULL OR list_contains($job::VARCHAR[], job))
    AND ($component::VARCHAR[] IS NULL OR list_contains($component::VARCHAR[], component))
    AND ($since IS NULL OR occurred_at >= $since)
    AND ($until IS NULL OR occurred_at < $until)
GROUP BY severity
ORDER BY list_position(['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], severity) NULLS LAST, severity
