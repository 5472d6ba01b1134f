"""A home and its group, with real users: an owner who is no root, a member of the group, and a stranger."""

import contextlib
import grp
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from backup_ops import lock, sharing
from backup_ops.errors import HomeError
from backup_ops.home import Home
from tests.conftest import SCALE, Place, end_processes_of, wait_until

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sysconfig.get_path("purelib")
PYTHONS = (sys.executable, shutil.which(f"python{sys.version_info[0]}.{sys.version_info[1]}", path="/usr/bin") or "")
"""This one may lie where another user cannot reach it (pyenv in /root); the system's will do, with our packages."""
GROUP = next((g for g in reversed(grp.getgrall()) if g.gr_gid not in (0, 1, 65534)), grp.getgrgid(0))


@dataclass(frozen=True)
class User:
    """Somebody at a shell, and what belongs to them."""

    uid: int
    groups: tuple[int, ...]
    home: Path
    own_folder: Path
    umask: int = 0o022
    interpreter: str = sys.executable

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{sysconfig.get_path('scripts')}:/usr/bin:/bin",
            "HOME": str(self.own_folder),
            "BACKUP_OPS_HOME": str(self.home),
            "PYTHONPATH": f"{ROOT}:{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def started(self, words, **options) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=90,
            user=self.uid,
            group=pwd.getpwuid(self.uid).pw_gid,
            extra_groups=self.groups,
            umask=self.umask,
            cwd="/",
            env=self.environment,
            **options,
        )

    def shell(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.started([self.interpreter, "-m", "backup_ops", *map(str, words)])

    def data(self, *words: object):
        done = self.shell(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def python(self, script: str) -> str:
        done = self.started([self.interpreter, "-c", "import backup_ops as bo\n" + textwrap.dedent(script)])
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@dataclass
class Company:
    place: Place
    owner: User
    member: User
    stranger: User

    def share(self) -> None:
        done = self.owner.shell("doctor", "--share", GROUP.gr_name)
        assert done.returncode == 0, done.stderr

    def all_modes(self) -> dict[str, int]:
        home = self.place.home
        return {str(p.relative_to(home)): stat.S_IMODE(p.lstat().st_mode) for p in home.rglob("*")}

    def listing(self) -> dict[str, tuple[int, int, int]]:
        """Everything in the home, so that what a guest left there would show."""
        found = {}
        for path in sorted(self.place.home.rglob("*")):
            status = path.lstat()
            found[str(path.relative_to(self.place.home))] = (status.st_mode, status.st_size, status.st_mtime_ns)
        return found


def _works_for(user: User, interpreter: str) -> bool:
    try:
        return user.started([interpreter, "-c", "import backup_ops, duckdb, pandas"]).returncode == 0
    except OSError:
        return False


@contextlib.contextmanager
def a_company():
    if os.geteuid() != 0:
        pytest.skip("to be several users needs root: run the tests as root")
    folder = Path(tempfile.mkdtemp(prefix="backup-ops-company-"))  # pytest's own folders are closed to others
    try:
        folder.chmod(0o755)
        place = Place(folder)
        place.fill()
        place.write_jobs(f"gone: {{source: {folder}/gone, repository: mirror}}\n")
        place.repository.mkdir()
        for path in (place.home, place.repository, place.source, place.home / "jobs.yaml"):
            os.chown(path, 1, 1)
        for uid in (1, 65534, 13):
            (folder / str(uid)).mkdir(mode=0o700)
            os.chown(folder / str(uid), uid, pwd.getpwuid(uid).pw_gid)
        users = [
            User(1, (GROUP.gr_gid,), place.home, folder / "1"),
            User(65534, (GROUP.gr_gid,), place.home, folder / "65534"),
            User(13, (), place.home, folder / "13"),
        ]
        interpreter = next((found for found in PYTHONS if found and _works_for(users[1], found)), None)
        if interpreter is None:
            pytest.skip("another user can reach neither this Python nor one of the system's, nor our packages")
        users = [replace(user, interpreter=interpreter) for user in users]
        yield Company(place, *users)
        end_processes_of(place.home)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def company():
    with a_company() as made:
        yield made


@pytest.fixture(scope="module")
def worked():
    """A shared home in which a run succeeded and one failed; for tests that only look, or try to do more."""
    with a_company() as made:
        assert made.owner.shell("run", "photos").returncode == 0
        assert made.owner.shell("run", "gone").returncode == 1
        made.share()
        made.owner.python("bo.open().manager.history.ingest(force=True)")
        yield made


def test_a_member_sees_what_the_owner_sees_and_changes_nothing(worked):
    owner, member = worked.owner, worked.member
    before = worked.listing()
    for words in (["jobs"], ["errors"], ["sql", "SELECT * FROM runs ORDER BY run_id"]):
        assert member.data(*words) == owner.data(*words), words
    assert [row["outcome"] for row in member.data("runs")] == ["failed", "succeeded"]
    assert [card["job"] for card in member.data("status")["jobs"]] == ["photos", "gone"]
    run_id = member.data("runs", "--job", "photos")[0]["run_id"]
    assert member.shell("logs", run_id).stdout == owner.shell("logs", run_id).stdout != ""
    assert member.shell("status").returncode == 0
    done = member.shell("export", "errors", member.own_folder / "errors.csv")
    assert done.returncode == 0 and (member.own_folder / "errors.csv").stat().st_size > 100, done.stderr
    changed = {name for name, told in worked.listing().items() if before.get(name) != told}
    assert {
        name for name in changed if not name.startswith(("history.duckdb", "locks"))
    } == set()  # the owner looked too
    assert set(worked.listing()) - set(before) == set()


def test_a_member_leaves_no_trace(worked):
    before = worked.listing()
    assert worked.member.shell("validate").returncode == 0
    for words in (["status"], ["doctor"]):
        done = worked.member.shell(*words)
        assert (done.returncode, done.stderr) == (0, "")
    assert worked.listing() == before


def test_a_member_restores_where_the_repository_may_be_read(worked):
    for path in worked.place.repository.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    target = worked.member.own_folder / "restored"
    before = worked.listing()
    assert len(worked.member.data("snapshots", "photos")) == 1
    done = worked.member.shell("restore", "photos", "--target", target)
    assert done.returncode == 0, done.stderr
    assert len([path for path in target.rglob("*") if path.is_file()]) == 5
    assert worked.listing() == before


def test_a_member_runs_no_program_that_the_owner_names(company):
    owner, member, place = company.owner, company.member, company.place
    proof = member.own_folder / "proof"
    program = place.folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {proof}\nexit 1\n")
    program.chmod(0o755)
    assert owner.shell("run", "photos").returncode == 0
    for path in place.repository.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    place.write_jobs(
        f"locked: {{source: {place.source}, repository: locked}}\nfar: {{source: {place.source}, repository: far}}\n",
        settings=f"{{engines: {{rclone: {program}}}}}",
        repositories=(
            f"locked: {{engine: rclone, url: {place.folder}/locked, password: {{command: [{program}]}}}}\n"
            f"far: {{engine: rclone, url: ':sftp,host=localhost,sha1sum_command={program}:/x'}}\n"
        ),
    )
    os.chown(place.home / "jobs.yaml", 1, 1)
    company.share()
    for job in ("locked", "far"):
        done = member.shell("snapshots", job)
        assert done.returncode == 2 and f"repository '{job}' would have you run a program" in done.stderr, done.stderr
    assert len(member.data("snapshots", "photos")) == 1
    assert member.shell("ls", "photos", "latest").returncode == 0
    assert member.shell("restore", "photos", "--target", member.own_folder / "restored").returncode == 0
    assert member.shell("doctor").returncode == 0
    assert not proof.exists()


def test_a_member_can_take_no_lock_but_those_of_readers(company):
    home = company.place.home
    assert company.owner.shell("run", "photos").returncode == 0
    company.share()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (home / "locks").iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o640} == {"gate.lock", "db.lock"}
    assert set(modes.values()) == {0o600, 0o640} and {"submit.lock", "slot-0.lock"} < set(modes)
    assert company.owner.shell("run", "photos").returncode == 0  # also what is made, or used, afterwards
    for path in (home / "locks").iterdir():
        wanted = 0o640 if path.name in ("gate.lock", "db.lock") else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    (home / "locks" / "slot-0.lock").chmod(0o640)  # as an older version made it
    done = company.owner.shell("doctor", "--json")
    [amiss] = [finding for finding in json.loads(done.stdout) if finding["state"] != "ok"]
    assert "slot-0.lock is not for group" in amiss["sentence"]
    company.share()
    assert company.owner.shell("doctor").returncode == 0


def test_a_member_is_told_that_a_lock_is_held_which_he_cannot_open(worked):
    path = worked.place.home / "locks" / "slot-0.lock"
    script = f"""
        from pathlib import Path
        from backup_ops import lock
        print(lock.is_held(Path({str(path)!r})))
    """
    assert worked.member.python(script) == "False\n"
    with lock.hold(path):
        assert worked.member.python(script) == "True\n"


def test_questions_in_python(worked):
    said = worked.member.python("""
        ops = bo.open()
        print(len(ops.runs()), len(ops.errors()), sorted(ops.jobs))
        with ops.reading() as cursor:
            print(cursor.execute("SELECT count(*) FROM runs").fetchone()[0])
        print(len(ops.sql("SELECT * FROM runs")), ops.get_run(ops.runs().run_id[0]).outcome)
    """)
    assert said.split("\n")[:3] == ["2 1 ['gone', 'photos']", "2", "2 failed"], said


@pytest.mark.parametrize(
    "words",
    [
        ["run", "photos"],
        ["run", "photos", "--detach"],
        ["cancel", "photos"],
        ["resolve", "0"],
        ["rebuild"],
        ["doctor", "--share", GROUP.gr_name],
        ["doctor", "--unshare"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_writes_is_refused_in_a_sentence(worked, words):
    before = worked.listing()
    done = worked.member.shell(*words)
    assert done.returncode == 2
    assert "user nobody may only look at home" in done.stderr and "belongs to user daemon" in done.stderr
    assert done.stderr.count("\n") == 1
    assert worked.listing() == before


def test_what_writes_is_refused_in_python(worked):
    before = worked.listing()
    said = worked.member.python("""
        from backup_ops.errors import HomeError
        ops = bo.open()
        error_id = ops.errors().error_id[0]
        for write in (
            lambda: ops.submit("photos"), lambda: ops.run("photos"), lambda: ops.cancel("photos"),
            lambda: ops.resolve(error_id), lambda: ops.home.share(1), lambda: ops.home.unshare(),
        ):
            try: write()
            except HomeError as error: print(error)
        print(ops.manager.settle(), ops.manager.history.ingest(force=True), ops.manager.history.compact())
    """).splitlines()
    assert ["may only look at home" in line for line in said] == [True] * 6 + [False], said
    assert said[-1] == "[] False 0"
    assert worked.listing() == before


def test_a_member_watches_a_run(company):
    owner, place = company.owner, company.place
    place.fill(4, 1_000_000, folder=place.folder / "slow")
    place.write_jobs(f"slow: {{source: {place.folder}/slow, repository: mirror, limits: {{bandwidth: 100K}}}}\n")
    os.chown(place.home / "jobs.yaml", 1, 1)
    owner.shell("runs")
    company.share()
    closed = replace(owner, umask=0o077)
    assert closed.shell("run", "slow", "--detach").returncode == 0
    [running] = wait_until(
        lambda: [row for row in company.member.data("status")["running"] if row["progress"]], what="its progress"
    )
    assert running["job"] == "slow"
    assert company.member.shell("cancel", "slow").returncode == 2
    assert company.member.data("runs")[0]["outcome"] == "running"
    assert "started" in company.member.shell("logs", running["run_id"]).stdout
    assert owner.shell("cancel", "slow").returncode == 0
    wait_until(lambda: not list((place.home / "queue").glob("*.json")), what="its end")
    assert company.member.data("runs")[0]["outcome"] == "cancelled"


def test_a_member_serves_a_dashboard_to_look_at(worked):
    before = worked.listing()
    said = worked.member.python("""
        import os, threading, urllib.request
        from urllib.error import HTTPError
        from backup_ops.dashboard import serve
        def ask(url):
            try:
                with urllib.request.urlopen(url, timeout=30) as page:
                    print("page:", page.status, len(page.read()) > 1000, flush=True)
                try: urllib.request.urlopen(url + "?token=anything", timeout=30)
                except HTTPError as error: print("token:", error.code, flush=True)
            finally:
                os._exit(0)
        serve(port=0, started=lambda url: threading.Thread(target=ask, args=(url,)).start())
    """)
    assert "Jobs cannot be run from there" in said and "page: 200 True" in said and "token: 403" in said, said
    assert worked.listing() == before


def test_an_error_of_a_member_is_told_to_the_log_alone(worked):
    before = worked.listing()
    said = worked.member.python("print(bo.open().record_error(ValueError('mine')))")
    assert said.startswith("None\n")
    assert "an error could not be recorded" in said and "mine" in said
    assert worked.listing() == before


def test_others_are_refused_as_ever(worked):
    done = worked.stranger.shell("runs")
    assert done.returncode == 2
    assert "belongs to user daemon, and this is user proxy" in done.stderr
    if GROUP.gr_gid not in os.getgroups():  # root can do everything, and is nobody's guest all the same
        with pytest.raises(HomeError, match="belongs to user daemon, and this is user root"):
            Home(worked.place.home).open()


def test_the_doctor_says_to_a_stranger_no_more_than_there_is_to_see(company):
    done = company.stranger.shell("doctor", "--json")
    assert (done.returncode, done.stderr) == (1, "")
    found = [finding for finding in json.loads(done.stdout) if finding["subject"] != "engine"]
    assert [(finding["subject"], finding["state"]) for finding in found] == [("home", "ok"), ("rights", "problem")]
    assert found[1]["sentence"] == "user proxy may not use the home of user daemon."
    company.place.folder.chmod(0o700)
    done = company.stranger.shell("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"x  home: it could not be looked at: {company.place.home}: Permission denied.\n" in done.stdout


def test_secrets_and_strange_files_stay_closed(company):
    owner, home = company.owner, company.place.home
    owner.python("from backup_ops.dashboard.rights import Rights; Rights(bo.open().home).token()")
    for name in ("rclone.conf", ".password"):
        (home / name).write_text("secret")
        os.chown(home / name, 1, 1)
        (home / name).chmod(0o644)
    company.share()
    for name in ("operate.token", "rclone.conf", ".password"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
        done = company.member.started(["cat", str(home / name)])
        assert done.returncode != 0 and done.stdout == ""
    (home / "rclone.conf").chmod(0o644)
    done = owner.shell("doctor", "--json")
    assert done.returncode == 3
    amiss = [finding for finding in json.loads(done.stdout) if finding["state"] != "ok"]
    assert [finding["subject"] for finding in amiss] == ["sharing"] and "rclone.conf" in amiss[0]["sentence"]


def test_only_what_the_home_made_is_opened_in_its_folders_too(company):
    owner, home = company.owner, company.place.home
    assert owner.shell("run", "photos").returncode == 0
    strange = [
        home / name
        for name in (
            "repositories/password.json", "logs/rclone.conf", "logs/old.log", "locks/notes", "queue/notes.txt",
            "journal/key.pem", "segments/copy.csv", "runs/secret",
        )
    ]  # fmt: skip
    for path in strange:
        path.write_text("secret")
        os.chown(path, 1, 1)
        path.chmod(0o644)
    (home / "logs" / "mine").mkdir()
    os.chown(home / "logs" / "mine", 1, 1)
    done = owner.shell("doctor", "--share", GROUP.gr_name)
    assert done.returncode == 0
    for path in [*strange, home / "logs" / "mine"]:
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
        assert f"{path} is not the home's own; it is closed" in done.stderr
    for pattern in ("repositories/*.json", "logs/*.log.zst", "journal/*.jsonl"):
        made = [path for path in home.glob(pattern) if path not in strange]
        assert made and {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o640}
    assert owner.shell("doctor").returncode == 0
    strange[0].chmod(0o644)
    done = owner.shell("doctor")
    assert done.returncode == 3 and f"{strange[0]} is not for group {GROUP.gr_name} to read, and it may" in done.stdout


def test_what_the_home_keeps_to_its_owner_is_closed_without_a_word_and_goes_back(company):
    home = company.place.home
    company.owner.shell("runs")
    (home / "spill").mkdir()
    (home / "history.new-0.duckdb").write_text("")  # at work just now
    (home / "spill" / "block").write_text("")
    for path in (home / "spill", home / "spill" / "block", home / "history.new-0.duckdb"):
        os.chown(path, 1, GROUP.gr_gid)
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert company.owner.shell("doctor", "--share", GROUP.gr_name).stderr == ""
    assert stat.S_IMODE((home / "spill").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "history.new-0.duckdb").stat().st_mode) == 0o600
    (home / "spill").chmod(0o2755)  # as DuckDB makes it
    done = company.owner.shell("doctor")
    assert done.returncode == 0, done.stdout
    assert company.owner.shell("doctor", "--unshare").returncode == 0
    assert {path.stat().st_gid for path in home.rglob("*")} == {1}
    assert {name for name, mode in company.all_modes().items() if mode & 0o077} == set()


@pytest.mark.parametrize("number", ["-5", "99999999999999", "4294967295"])
def test_a_group_that_cannot_be_is_none(tmp_path, number):
    home = Home(tmp_path / "home")
    home.make()
    (home.path / "shared").write_text(number)
    (home.path / "shared").chmod(0o640)
    assert home.shared_with() is None


def test_sharing_on_a_full_disk_says_so_and_leaves_nothing(tmp_path):
    (tmp_path / "home").mkdir(mode=0o700)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", tmp_path / "home"], check=False
    )
    if done.returncode:
        pytest.skip("to mount a disk needs root")
    try:
        home = Home(tmp_path / "home")
        home.make()
        home.identity()
        with contextlib.suppress(OSError), (home.path / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with pytest.raises(HomeError) as told:
            home.share(os.getegid())
        assert told.value.message == f"home {home.path} could not be shared: No space left on device."
        assert not list(home.path.glob(".shared*"))
    finally:
        subprocess.run(["umount", "-l", tmp_path / "home"], check=True)


def test_what_the_group_cannot_read_is_named_and_mended_by_sharing_again(company):
    company.share()
    (company.place.home / "jobs.yaml").chmod(0o600)  # as an editor may leave it
    (company.place.home / "logs").chmod(0o700)
    done = company.owner.shell("doctor", "--json")
    [amiss] = [finding for finding in json.loads(done.stdout) if finding["state"] != "ok"]
    assert amiss["sentence"] == f"group {GROUP.gr_name} may look, but cannot read {company.place.home}/logs and 1 more."
    assert amiss["hint"] == f"Run: backup-ops doctor --share {GROUP.gr_name}"
    company.share()
    assert company.owner.shell("doctor").returncode == 0


def test_the_owner_keeps_it_shared_and_no_more_open_than_that(company):
    company.share()
    home = company.place.home
    assert (home / "home.id").read_text()  # a member's restore asks for it, and could not make it
    assert stat.S_IMODE(home.stat().st_mode) == 0o2750
    assert company.owner.shell("jobs").stderr == ""
    assert stat.S_IMODE(home.stat().st_mode) == 0o2750
    home.chmod(0o2775)
    done = company.owner.shell("jobs")
    assert "(mode 2775); it is 2750 now" in done.stderr
    assert stat.S_IMODE(home.stat().st_mode) == 0o2750
    os.chown(home, 1, 13)  # not the group it was shared with
    home.chmod(0o2750)
    assert "it is 0700 now" in company.owner.shell("jobs").stderr


def test_taking_it_back_leaves_nothing_open(company):
    owner, home = company.owner, company.place.home
    owner.python("bo.open().record_error('mine'); bo.open().errors()")
    company.share()
    assert len(company.member.data("errors")) == 1
    assert owner.shell("doctor", "--unshare").returncode == 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {name: oct(mode) for name, mode in company.all_modes().items() if mode & 0o077} == {}
    assert {path.stat().st_gid for path in home.rglob("*")} == {1}
    assert not (home / "shared").exists()
    assert len(owner.data("errors")) == 1
    done = company.member.shell("errors")
    assert done.returncode == 2
    assert "belongs to user daemon, and this is user nobody" in done.stderr


def test_only_the_owner_can_say_that_it_is_shared(company):
    home = company.place.home
    company.owner.shell("runs")
    home.chmod(0o750)
    os.chown(home, 1, GROUP.gr_gid)
    (home / "shared").write_text(f"{GROUP.gr_gid}\n")  # root's file, in daemon's home
    assert company.member.shell("jobs").returncode == 2
    os.chown(home / "shared", 1, GROUP.gr_gid)
    (home / "shared").chmod(0o664)
    assert company.member.shell("jobs").returncode == 2
    (home / "shared").chmod(0o640)
    assert company.member.python("print(bo.open().home.is_guest)") == "True\n"


DYING = """
    import os
    from backup_ops import sharing
    home, give, left = bo.open().home, sharing._give, [{left}]
    def give_some(*args):
        left[0] -= 1
        if left[0] < 0: os._exit(9)
        give(*args)
    sharing._give = give_some
    home.share({gid})
"""


def test_dying_half_way_leaves_it_closed(company):
    company.owner.python("bo.open().record_error('mine')")
    script = textwrap.dedent(DYING)
    for left in range(0, 60, 9 if SCALE < 10 else 1):
        program = "import backup_ops as bo\n" + script.format(left=left, gid=GROUP.gr_gid)
        done = company.owner.started([company.owner.interpreter, "-c", program])
        if done.returncode == 0:
            break
        assert done.returncode == 9, done.stderr
        assert company.member.shell("jobs").returncode == 2
        assert company.owner.shell("jobs").returncode == 0
    else:
        pytest.fail("it never got through")
    assert left > 0
    assert len(company.member.data("errors")) == 1


def test_a_member_reads_without_an_index_and_makes_none(company):
    company.owner.python("bo.open().record_error('mine')")
    company.share()
    for path in company.place.home.glob("history.duckdb*"):
        path.unlink()
    before = company.listing()
    assert len(company.member.data("errors")) == 1
    assert company.listing() == before


def test_a_member_who_reads_keeps_ingesters_out_of_the_index(worked):
    script = """
        import subprocess, sys
        from backup_ops import lock
        ops = bo.open()
        with ops.reading() as cursor:
            print("inside", flush=True)
            sys.stdin.readline()
    """
    member = worked.member
    reader = subprocess.Popen(
        [member.interpreter, "-c", "import backup_ops as bo\n" + textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        user=member.uid,
        group=65534,
        extra_groups=member.groups,
        env=member.environment,
    )
    try:
        assert reader.stdout.readline() == "inside\n"
        held = worked.owner.python("""
            from backup_ops import lock
            home = bo.open().home
            try: lock.release(lock.take(home.locks / "db.lock"))
            except lock.Held: print("held")
        """)
        assert held == "held\n"
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.wait(20) == 0
    finally:
        reader.kill()
        reader.stdin.close()
        reader.stdout.close()
        reader.wait()


def test_a_group_the_owner_is_not_in(company):
    outside = replace(company.owner, groups=())
    done = outside.shell("doctor", "--share", GROUP.gr_name)
    assert done.returncode == 2
    assert f"cannot be shared with group {GROUP.gr_name}: user daemon does not belong to it" in done.stderr
    done = company.owner.shell("doctor", "--share", "no-such-group")
    assert done.returncode == 2 and "there is no group 'no-such-group'" in done.stderr
    assert not (company.place.home / "shared").exists()


def test_what_the_store_makes_anew_is_readable_whatever_the_umask(company):
    company.share()
    closed = replace(company.owner, umask=0o077)
    closed.python("""
        for number in range(3):
            bo.open().record_error(str(number))
        history = bo.open().manager.history
        history.ingest(force=True)
    """)
    closed.python("print(bo.open().manager.history.compact(everything=True))")
    assert list((company.place.home / "segments").glob("*.parquet"))
    assert closed.shell("rebuild").returncode == 0
    assert len(company.member.data("errors", "--component", "other")) == 3
    (company.place.home / "history.duckdb").unlink()
    before = company.listing()
    assert len(company.member.data("errors", "--component", "other")) == 3
    assert company.listing() == before
    found = json.loads(company.member.shell("doctor", "--json").stdout)
    assert [finding["sentence"] for finding in found if finding["subject"] == "sharing"] == [
        f"the members of group {GROUP.gr_name} may look at everything and write nothing."
    ]


def test_a_way_that_is_closed_is_named(company):
    company.place.folder.chmod(0o700)
    os.chown(company.place.folder, 1, 1)
    done = company.owner.shell("doctor", "--share", GROUP.gr_name)
    assert done.returncode == 0
    assert f"{company.place.folder} is closed to others (mode 0700)" in done.stderr


def test_modes_come_from_the_folder(tmp_path):
    closed, shared = tmp_path / "closed", tmp_path / "shared"
    closed.mkdir(mode=0o700)
    shared.mkdir()
    shared.chmod(0o2750)
    before = os.umask(0o077)
    try:
        for folder, file_mode, folder_mode in ((closed, 0o600, 0o700), (shared, 0o640, 0o2750)):
            os.close(sharing.open_file(folder / "file", os.O_RDWR | os.O_CREAT))
            sharing.make_folder(folder / "folder")
            assert stat.S_IMODE((folder / "file").stat().st_mode) == file_mode
            assert stat.S_IMODE((folder / "folder").stat().st_mode) == folder_mode
            (folder / "late").touch()
            sharing.let_in(folder / "late")
            assert stat.S_IMODE((folder / "late").stat().st_mode) == file_mode
    finally:
        os.umask(before)


def test_a_link_in_the_home_is_not_followed(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o600)
    (home.logs / "link").symlink_to(outside)
    (home.path / "link").symlink_to(outside)
    home.jobs_yaml.symlink_to(outside)
    home.share(os.getegid())
    assert stat.S_IMODE(outside.stat().st_mode) == 0o600
    home.unshare()


def test_a_guest_is_told_whose_home_it_is(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    home.check_writable()
    home.is_guest = True
    with pytest.raises(HomeError, match="may only look at home"):
        home.check_writable()
