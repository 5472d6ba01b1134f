-- All errors (scope 'total'), those of one severity, or those of one component: how many, unresolved, in the last 24 h.
WITH counted AS (
    SELECT
        CASE WHEN grouping(severity) = 0 THEN 'severity' WHEN grouping(component) = 0 THEN 'component' ELSE 'total' END
            AS scope,
        coalesce(severity, component, 'all') AS name,
        count(*) AS errors,
        count(*) FILTER (NOT resolved) AS unresolved,
        count(*) FILTER (occurred_at >= coalesce($now::TIMESTAMP, now() AT TIME ZONE 'UTC') - INTERVAL 24 HOUR)
            AS last_24h,
        min(occurred_at) AS first_at,
        max(occurred_at) AS last_at
    FROM errors
    WHERE ($since IS NULL OR occurred_at >= $since)
        AND ($until IS NULL OR occurred_at < $until)
    GROUP BY GROUPING SETS ((), (severity), (component))
)
SELECT *
FROM counted
ORDER BY
    list_position(['total', 'severity', 'component'], scope),
    list_position(['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], name) NULLS LAST,
    errors DESC,
    name
