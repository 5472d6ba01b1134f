"""The reference page of jobs.yaml, made from the layout and the parameters."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import param

from backup_ops.job import Setting
from backup_ops.jobfile import layout
from backup_ops.jobfile.layout import Key, Section
from backup_ops.jobfile.notices import NOT_YET

_HEAD = """\
# jobs.yaml

<!-- Made by `python -m backup_ops.jobfile.reference > docs/jobs-yaml.md`; a test compares. -->

The file in the home that says what is backed up, and where to. `backup-ops init` writes a first one,
`backup-ops validate` names everything that is wrong with it, each with its line. A JSON Schema for editors
is [jobs-yaml.schema.json](jobs-yaml.schema.json), made by `backup_ops.jobfile.json_schema()`.

```yaml
version: 1
repositories:
  mirror: {engine: rclone, url: /mnt/disk/mirror}
jobs:
  photos:
    source: /srv/photos
    repository: mirror
    exclude: ["*.tmp"]
    limits: {timeout: 2h}
```

* **Names** of jobs and repositories are 1 to 64 letters, digits, `.`, `_`, `-` and single spaces, of any script; they
  start with a letter or a digit. A name must not look like the id of a run.
* **Paths** are full paths; `~` is expanded. A source must not lie in its repository, nor the repository in a
  source, and the sources of one list must differ in their last name, under which a snapshot keeps each.
* **Durations** are written `90s`, `15m`, `2h`, `7d`, `1d 12h`; a bare number is seconds. **Sizes** are written `500K`,
  `20M`, `5G` (1K is 1024 bytes); a bare number is bytes.
* **Secrets** never stand in the file. They are referred to: `{env: NAME}`, `{file: PATH}`,
  `{command: [pass, show, vault]}` or `{keyring: SERVICE/USER}`.
* **Commands** are lists of words; no shell reads them.
* A value may be anchored once and reused by an alias (`&keep`, `*keep`); merge keys (`<<`) are refused.
* A job is one of three: `source` (files), `command` (what a program prints) or `heartbeat` (runs elsewhere).
* A setting marked ○ is read and checked, and this version does not act on it yet; `validate` says what happens
  meanwhile.

`version: 1` is the first line; `settings`, `repositories`, `jobs` and `notify` may be absent or empty.
"""

_REMOTES = """\
## Remotes

The `url` of a repository of engine `rclone` is one of three:

| url | is |
|---|---|
| `/mnt/disk/mirror` | a folder on this machine |
| `nas:vault/photos` | a path on a remote that rclone knows by the name `nas` |
| `:sftp,host=nas,user=me,key_file=/home/me/.ssh/id:/vault` | backend, options and path, all in the address |

(`sftp:nas:/vault` is how restic writes it; to rclone it is a remote called `sftp`.) The folder or bucket above the last
name must be there; the first run makes the last one.

A remote gets its name from variables `RCLONE_CONFIG_<NAME>_TYPE` and `RCLONE_CONFIG_<NAME>_<OPTION>` in the environment
of backup-ops, or from the configuration file that `RCLONE_CONFIG` names there. The file in rclone's usual place is not
read by itself: what a backup does should not hang on which user starts it. For an address with all its options the
variables are `RCLONE_<BACKEND>_<OPTION>`. Passwords in them are written as `rclone obscure -` prints them. Only the
variables of the remote in question are handed on, and to the rclone process only.

```sh
export RCLONE_CONFIG_NAS_TYPE=sftp RCLONE_CONFIG_NAS_HOST=nas.lan RCLONE_CONFIG_NAS_USER=me
export RCLONE_CONFIG_NAS_KEY_FILE=~/.ssh/id_ed25519 RCLONE_CONFIG_NAS_KNOWN_HOSTS_FILE=~/.ssh/known_hosts
```

An address never holds a secret: everybody who may list processes would read it. `validate` refuses `pass=`,
`secret_access_key=`, `headers=` and their like, a user or a token before the @ of a web address, and `ssh=` and
`bearer_token_command=`, whose command line can say a password. Set them as variables; logs show `***` for what these
hold.

With `password` everything but the marker is encrypted by rclone's crypt, names too: when and how much is all that
whoever has the storage can tell. Without the password nothing of it ever comes back: keep it elsewhere too. A plain
repository is not made an encrypted one, or the other way: give the new one another url. The password is one line of
text, taken from where the reference says each time it is needed, and kept nowhere:

| reference | is |
|---|---|
| `{env: NAME}` | a variable of the process that starts the run; one that waits is started by a process that has it |
| `{file: /PATH}` | the content of a file that nobody but its owner may read or write (mode 0600 or less) |
| `{command: [pass, show, vault]}` | what the program prints; it must not ask a person |
| `{keyring: SERVICE/USER}` | an entry of the desktop's keyring; needs `pip install keyring` |

"""

_PARTS: tuple[tuple[str, str, str, Section], ...] = (
    ("jobs: NAME:", "One job, by its name.", "job", layout.JOB),
    ("schedule", "One of `cron` and `every`.", "", layout.SCHEDULE),
    ("retention", "A snapshot is kept when one of these keeps it; what none keeps is deleted.", "", layout.RETENTION),
    ("limits", "", "", layout.LIMITS),
    ("retry", "", "", layout.RETRY),
    ("guard", "", "", layout.GUARD),
    ("hooks", "", "", layout.HOOKS),
    ("drill", "", "", layout.DRILL),
    ("repositories: NAME:", "One place snapshots are kept in, by its name.", "repository", layout.REPOSITORY),
    ("settings", "What holds for all jobs.", "settings", layout.SETTINGS),
    ("notify", "A list of rules.", "notify", layout.NOTIFY),
)


def page() -> str:
    """The whole page, in Markdown."""
    lines = [_HEAD]
    for title, sentence, prefix, section in _PARTS:
        lines += [f"## `{title}`", ""]
        lines += [sentence, ""] if sentence else []
        lines += ["| setting | written as | default | what it does |", "|---|---|---|---|"]
        lines += _rows(section, prefix, "")
        lines.append("")
    lines.append(_REMOTES)
    lines += ["## Not acted on yet", ""]
    lines += [f"* `{key.replace('job.', '')}`: {meanwhile}" for key, meanwhile in NOT_YET.items()]
    return "\n".join(lines) + "\n"


def _rows(section: Section, prefix: str, path: str) -> Iterator[str]:
    for key in section.keys:
        if isinstance(key.kind, Section) and key.kind.is_group:
            yield from _rows(key.kind, f"{prefix}.{key.name}", f"{key.name}.")
            continue
        parameter = section.setting.param[key.attribute]
        is_waiting = bool({f"{prefix}.{key.name}", prefix} & NOT_YET.keys())
        cells = (
            f"`{path}{key.name}`{' ○' if is_waiting else ''}",
            f"see [{key.name}](#{key.name})"
            if isinstance(key.kind, Section)
            else key.kind.written + _bounds(section.setting, key),
            "required" if key.name in section.required else _default(section.setting, key),
            parameter.doc or "",
        )
        yield f"| {' | '.join(cells)} |"


def _bounds(setting: type[Setting], key: Key) -> str:
    parameter = setting.param[key.attribute]
    if isinstance(key.kind, Section) or not isinstance(parameter, param.Number) or not parameter.bounds:
        return ""
    low, high = parameter.bounds
    if high is not None:
        return f", {key.kind.show(low)} to {key.kind.show(high)}"
    return f", at least {key.kind.show(low)}" if low else ""


def _default(setting: type[Setting], key: Key) -> str:
    value = setting.param[key.attribute].default
    if isinstance(key.kind, Section) or value in (None, "", [], {}):
        return ""
    return f"`{key.kind.show(value)}`"


if __name__ == "__main__":
    sys.stdout.write(page())
