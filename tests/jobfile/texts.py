"""Texts of jobs.yaml that several tests begin with."""

HEAD = "version: 1\nrepositories:\n  mirror: {url: /mnt/mirror}\njobs:\n"  # what follows begins in line 5
PHOTOS = "  photos:\n    source: /srv/photos\n    repository: mirror\n"  # what follows begins in line 8

# The example of docs/jobs-yaml.md's settings in use, each at least once.
EVERYTHING = """\
version: 1
settings:
  {max_running: 4, restore_roots: [/srv/restores], logs: {keep: 30, cap: 5G}, engines: {rclone: /usr/bin/rclone}}
repositories:
  mirror: {engine: rclone, url: /mnt/disk/mirror}
  vault:  {engine: restic, url: "sftp:nas:/vault", password: {env: VAULT_PASSWORD}}
jobs:
  photos:
    source: /srv/photos                 # or a list
    repository: mirror
    schedule: {cron: "0 2 * * *", timezone: Europe/Berlin}   # or {every: 6h}
    retention: {last: 3, daily: 7, weekly: 4, monthly: 12}
    exclude: ["*.tmp"]
    limits: {timeout: 2h, bandwidth: 20M, priority: 5}       # 0-9, higher first
    retry: {max_retries: 2, delay: 1m, max_delay: 15m}       # transient failures only
    guard: {min_files: 1, max_delete_percent: 50}
    hooks: {before: [[/usr/bin/true]], after: [], on_failure: [], timeout: 5m}
    drill: {every: 7d, sample: 20}
  orders-db:
    command: [pg_dump, --format=custom, orders]
    output: orders.dump
    repository: vault
  nas-own: {heartbeat: true, schedule: {every: 1d, grace: 2h}}
notify:
  - {url: {env: APPRISE_URL}, min_severity: HIGH}
"""
