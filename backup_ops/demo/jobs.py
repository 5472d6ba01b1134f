"""The jobs.yaml of the demo."""

from __future__ import annotations

import json
from pathlib import Path

# Several repositories, because runs on one repository wait for each other. The paths are filled in by `jobs_yaml`.
_TEXT = """\
# The jobs of the demo, made by `backup-ops demo`. Edit it as you like: it is an ordinary jobs.yaml.
version: 1

settings: {max_running: 4}

repositories:
  mirror: {engine: rclone, url: DISK(mirror)}
  nas: {engine: rclone, url: DISK(nas)}
  office: {engine: rclone, url: DISK(office)}
  stick: {engine: rclone, url: DISK(stick/backup)}        # a disk of 8 MB, and films to put on it
  old-nas: {engine: rclone, url: DISK(old-nas)}           # somebody will clear it away on the fourth day

jobs:
  photos:
    source: FILES(photos)
    repository: mirror
    limits: {bandwidth: 2M}                  # leaves the line to others
  documents:
    source: FILES(documents)
    repository: mirror
  accounts:
    source: FILES(accounts)
    repository: mirror
    guard: {min_files: 20}
  shop-db:
    source: FILES(shop)
    repository: nas
  website:
    source: FILES(website)
    repository: nas
    exclude: ["build/**"]                     # can be built again
  mail:
    source: FILES(mail)
    repository: nas
  team:
    source: FILES(team)
    repository: nas
    guard: {max_delete_percent: 50}          # many files gone at once: a person should look first
  scans:
    source: FILES(scans)
    repository: office
  camera-card:
    source: FILES(camera-card)
    repository: office
  web-logs:
    source: FILES(web-logs)                  # a server writes to it all the time
    repository: office
  films:
    source: FILES(films)
    repository: stick
  research:
    source: FILES(research)
    repository: old-nas
"""

JOBS = tuple(line.strip(" :") for line in _TEXT.partition("\njobs:\n")[2].splitlines() if line[2:3].strip())


def jobs_yaml(files: Path, disks: Path) -> str:
    """The text, for sample files and repositories in these folders."""
    lines = []
    for line in _TEXT.splitlines():
        for word, folder in (("FILES", files), ("DISK", disks)):
            before, found, rest = line.partition(f"{word}(")
            if found:
                name, _, after = rest.partition(")")
                # A JSON string is a YAML string too, whatever is in the path.
                line = before + json.dumps(str(folder / name)) + after
        lines.append(line)
    return "\n".join(lines) + "\n"
