-- A job that has run: its last finished run, what is usual for it, its sizes over time, and what is wrong with it.
WITH finished AS NOT MATERIALIZED (
    SELECT *, coalesce(finished_at, started_at, queued_at, scheduled_at) AS moment
    FROM runs
    WHERE outcome NOT IN ('queued', 'running') AND ($job_uid IS NULL OR job_uid = $job_uid)
),
newest AS (
    -- Two columns of all runs, and then all columns of a few: a window over whole rows costs three times as much.
    SELECT arg_max(run_id, (coalesce(moment, '-infinity'), run_id)) AS run_id
    FROM finished
    GROUP BY job_uid
),
last AS (
    SELECT *
    FROM finished
    WHERE run_id IN (SELECT run_id FROM newest)
),
past AS (
    SELECT
        job_uid,
        -- A run that was skipped or stopped by a person says nothing about whether the job works.
        arg_max(outcome, moment) FILTER (outcome NOT IN ('skipped', 'cancelled')) AS last_outcome,
        max(moment) FILTER (outcome IN ('succeeded', 'warning')) AS last_good_at,
        list_median(arg_max(duration_s, moment, 20) FILTER (outcome IN ('succeeded', 'warning'))) AS usual_duration_s,
        list_reverse(arg_max(bytes_total, moment, 30) FILTER (outcome IN ('succeeded', 'warning'))) AS sizes
    FROM finished
    GROUP BY job_uid
),
wrong AS (
    SELECT
        coalesce(e.job_uid, e.job) AS job_uid,
        count(*) FILTER (NOT e.resolved) AS errors_unresolved,
        -- The error that the last run names; else its latest one; else the latest that nobody has resolved.
        arg_max(
            {'id': e.error_id, 'run_id': e.run_id, 'type': e.error_type, 'message': e.message, 'remedy': e.remedy},
            (coalesce(e.error_id = l.error_id, false), coalesce(e.run_id = l.run_id, false), e.occurred_at, e.error_id)
        ) FILTER (e.run_id = l.run_id OR NOT e.resolved) AS worst
    FROM errors e
    LEFT JOIN last l ON l.job_uid = coalesce(e.job_uid, e.job)
    GROUP BY ALL
)
SELECT
    l.job_uid,
    l.job,
    l.run_id,
    l.engine,
    l.repository,
    l.outcome,
    l.reason,
    l.queued_at,
    l.started_at,
    l.finished_at,
    l.duration_s,
    l.snapshot_id,
    l.files_total,
    l.bytes_total,
    l.bytes_added,
    l.errors_total,
    p.last_good_at,
    p.last_outcome,
    p.usual_duration_s,
    coalesce(p.sizes, []::BIGINT[]) AS sizes,
    coalesce(w.errors_unresolved, 0) AS errors_unresolved,
    w.worst.id AS error_id,
    w.worst.run_id AS error_run_id,
    w.worst.type AS error_type,
    w.worst.message AS error_message,
    w.worst.remedy AS remedy
FROM last l
JOIN past p USING (job_uid)
LEFT JOIN wrong w USING (job_uid)
ORDER BY l.job, l.job_uid
