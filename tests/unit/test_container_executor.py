"""The lab's container-executor: what it does for the NodeManager, and what it refuses.

Runs as root, in a mount namespace with users of its own, so that the machine's are left alone.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

PROGRAM = Path(__file__).parents[2] / "lab/container_executor/container_executor.py"
SUDOERS = PROGRAM.with_name("sudoers")
MANAGER, ALICE, BOB, SYSTEM, GROUP = 61001, 61002, 61003, 961, 61800
APP = "application_1700000000000_0001"
CONTAINER = "container_e01_1700000000000_0001_01_000001"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="changes identity: needs root")

# What sudo would start, with another configuration file.
DRIVER = """
import json, os, sys
sys.path.insert(0, os.path.dirname({program!r}))
import container_executor
sys.exit(container_executor.main(sys.argv[1:], json.loads({environment!r}), {config!r}))
"""


@pytest.fixture
def base():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def node(base):
    """A worker: users, two disks, a configuration, and the NodeManager's calls."""
    return Node(base)


class Node:
    def __init__(self, base):
        self.base = base
        self.passwd = base / "passwd"
        self.passwd.write_text(
            "root:x:0:0::/root:/bin/sh\n"
            f"nm:x:{MANAGER}:{MANAGER}::/:/bin/sh\n"
            f"alice:x:{ALICE}:{ALICE}::/home/alice:/bin/sh\n"
            f"bob:x:{BOB}:{BOB}::/home/bob:/bin/sh\n"
            f"system:x:{SYSTEM}:{SYSTEM}::/:/bin/sh\n"
            f"allowed:x:{SYSTEM + 1}:{SYSTEM + 1}::/:/bin/sh\n"
            "toor:x:0:0::/root:/bin/sh\n"
        )
        self.group = base / "group"
        self.group.write_text(
            f"root:x:0:\nhadoop:x:{GROUP}:nm\nalice:x:{ALICE}:\nprojects:x:61900:alice\n"
        )
        self.local_dirs = [base / "disk1/local", base / "disk2/local"]
        self.log_dirs = [base / "disk1/logs", base / "disk2/logs"]
        for directory in (*self.local_dirs, *self.log_dirs):
            self.make(directory, MANAGER, 0o755)
        for directory in self.local_dirs:
            self.make(directory / "usercache", MANAGER, 0o755)
            self.make(directory / "nmPrivate", MANAGER, 0o700)
        self.config = base / "container-executor.cfg"
        self.settings = {
            "yarn.nodemanager.linux-container-executor.group": "hadoop",
            "yarn.nodemanager.local-dirs": ",".join(map(str, self.local_dirs)),
            "yarn.nodemanager.log-dirs": ",".join(map(str, self.log_dirs)),
            "min.user.id": "1000",
            "banned.users": "nm,bob",
            "allowed.system.users": "allowed",
        }
        self.configure()
        self.environment = {"SUDO_UID": str(MANAGER)}
        self.private = self.local_dirs[0] / "nmPrivate"
        self.tokens = self.secret("container.tokens", b"the tokens")
        self.pid_file = self.private / "container.pid"
        self.cache = self.local_dirs[0] / "usercache/alice"
        self.work = self.cache / "appcache" / APP / CONTAINER

    @staticmethod
    def make(directory, owner, mode):
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, owner, GROUP)
        directory.chmod(mode)
        return directory

    def configure(self, **changes):
        self.settings |= changes
        lines = [f"{name}={value}" for name, value in self.settings.items() if value is not None]
        self.config.write_text("# written by a test\n" + "\n".join(lines) + "\n[docker]\na=b\n")
        self.config.chmod(0o400)

    def secret(self, name, content):
        path = self.private / name
        path.write_bytes(content)
        os.chown(path, MANAGER, MANAGER)
        path.chmod(0o600)
        return path

    def command(self, *arguments):
        driver = DRIVER.format(
            program=str(PROGRAM), environment=json.dumps(self.environment), config=str(self.config)
        )
        mounts = f"mount --bind {self.passwd} /etc/passwd && mount --bind {self.group} /etc/group"
        shell = f'{mounts} && exec "$@"'
        return [
            *("unshare", "--mount", "sh", "-c", shell, "sh"),
            *(sys.executable, "-I", "-c", driver, *map(str, arguments)),
        ]

    def run(self, *arguments):
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=30,
            env={"PATH": os.environ["PATH"], "SECRET": "of the NodeManager"},
        )

    def lists(self):
        return "%".join(map(str, self.local_dirs)), "%".join(map(str, self.log_dirs))

    def initialize(self, *command, user="alice", tokens=None, app=APP, container=CONTAINER):
        return self.run(
            *(user, user, 0, app, container, tokens or self.tokens, *self.lists(), *command)
        )

    def launch_arguments(self, script, *, user="alice", work=None, pid_file=None, stores=()):
        script = self.secret("launch_container.sh", script.encode())
        security = ["--https", *stores] if stores else ["--http"]
        return [
            *(user, user, 1, APP, CONTAINER, work or self.work, script, self.tokens, *security),
            *(pid_file or self.pid_file, *self.lists(), "cgroups=none"),
        ]

    def launch(self, script, **options):
        return self.run(*self.launch_arguments(script, **options))


def facts(path):
    status = path.lstat()
    return SimpleNamespace(
        uid=status.st_uid, gid=status.st_gid, mode=oct(stat.S_IMODE(status.st_mode))
    )


def assert_refused(result, text):
    assert result.returncode not in (0, -1)
    assert text in result.stderr
    assert "Traceback" not in result.stderr


# --- What it does -----------------------------------------------------------------------------


def test_check_setup(node):
    result = node.run("--checksetup")
    assert (result.returncode, result.stderr) == (0, "")


def test_initialize_runs_the_localizer_as_the_user_among_the_users_files(node):
    result = node.initialize("sh", "-c", "id -u; id -g; id -G; pwd; umask; env")
    assert result.returncode == 0, result.stderr
    uid, gid, groups, directory, umask, *environment = result.stdout.splitlines()
    assert (int(uid), int(gid), groups) == (ALICE, ALICE, f"{ALICE} 61900")
    assert directory == str(node.cache / "appcache" / APP)
    assert umask == "0027"
    assert {line.partition("=")[0] for line in environment} <= {
        *("PATH", "LANG", "USER", "LOGNAME", "HOME", "PWD", "SHLVL", "_", "OLDPWD"),
    }
    for local in node.local_dirs:
        home = local / "usercache/alice"
        expected = {home: "0o2750"}
        expected |= {home / name: "0o2710" for name in ("appcache", "filecache")}
        expected |= {home / "appcache" / APP: "0o2710"}
        for path, mode in expected.items():
            assert vars(facts(path)) == {"uid": ALICE, "gid": GROUP, "mode": mode}, path
    for log in node.log_dirs:
        for path in (log / APP, log / APP / CONTAINER):
            assert vars(facts(path)) == {"uid": ALICE, "gid": GROUP, "mode": "0o2750"}, path
    copy = node.cache / "appcache" / APP / node.tokens.name
    assert copy.read_bytes() == b"the tokens"
    assert facts(copy).mode == "0o600" and facts(copy).uid == ALICE


def test_initialize_again_is_fine(node):
    assert node.initialize("true").returncode == 0
    assert node.initialize("true").returncode == 0


def test_launch_runs_the_script_as_the_user_and_tells_its_end(node):
    result = node.launch("#!/bin/bash\nid -u; pwd; cat container_tokens; exit 7\n")
    assert result.returncode == 7, result.stderr
    assert result.stdout == f"{ALICE}\n{node.work}\nthe tokens"
    assert node.pid_file.read_text().isdecimal()
    exit_file = node.pid_file.with_name("container.pid.exitcode")
    assert exit_file.read_text() == "7"
    for path in (node.pid_file, exit_file):
        assert facts(path).uid == MANAGER and facts(path).mode == "0o600"
    assert facts(node.work / "launch_container.sh").mode == "0o700"
    assert facts(node.work / "container_tokens").mode == "0o600"
    assert facts(node.work / "tmp").uid == ALICE


def test_launch_hands_over_keystores(node):
    stores = [node.secret("keystore", b"keys"), node.secret("truststore", b"trust")]
    result = node.launch("cat yarn_provided.keystore yarn_provided.truststore", stores=stores)
    assert (result.returncode, result.stdout) == (0, "keystrust"), result.stderr


def test_launch_gives_containers_ordinary_signals(node):
    # Python ignores SIGPIPE; a container that did too would run on for ever.
    result = node.launch("yes | head -1; echo ${PIPESTATUS[0]}")
    assert result.stdout == "y\n141\n", result.stderr


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ended(pid):
    """Whether a process has gone, or waits as a zombie for the system's first process."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextmanager
def running(node, script):
    """A container that runs the script: its executor, and the id in its file."""
    process = subprocess.Popen(
        node.command(*node.launch_arguments(script)), stdout=subprocess.DEVNULL
    )
    try:
        until((node.work / "started").exists)
        yield process, node.pid_file.read_text()
    finally:
        process.kill()
        process.wait()


def test_a_container_can_be_signalled_by_the_pid_in_its_file(node):
    with running(node, "touch started; exec sleep 60") as (process, pid):
        assert node.run("alice", "alice", 2, pid, 0).returncode == 0
        # Not with the rights of somebody else.
        node.configure(**{"banned.users": "nm"})
        assert node.run("bob", "bob", 2, pid, 9).returncode == 8
        assert node.run("alice", "alice", 2, pid, int(signal.SIGKILL)).returncode == 0
        assert process.wait(timeout=20) == 137
        assert node.pid_file.with_name("container.pid.exitcode").read_text() == "137"
        assert node.run("alice", "alice", 2, pid, 0).returncode == 9


def test_a_signal_reaches_all_processes_of_a_container(node):
    with running(node, "sleep 60 & echo $! > child; touch started; wait") as (_, pid):
        child = (node.work / "child").read_text().strip()
        assert not ended(child)
        assert node.run("alice", "alice", 2, pid, int(signal.SIGKILL)).returncode == 0
        until(lambda: ended(child))


def test_relaunch_replaces_what_is_there(node):
    assert node.launch("exit 1").returncode == 1
    assert node.launch("exit 2").returncode == 2


def test_delete_a_container_everywhere(node):
    node.initialize("true")
    result = node.launch("mkdir -p a/b; touch a/b/c; chmod 0 a/b a; ln -s /etc/passwd link")
    assert result.returncode == 0, result.stderr
    bases = [local / "usercache/alice/appcache" / APP for local in node.local_dirs]
    result = node.run("alice", "alice", 3, CONTAINER, *bases)
    assert result.returncode == 0, result.stderr
    assert not node.work.exists()
    assert bases[0].exists()


def test_delete_of_files_needs_nothing_of_the_node_manager(node):
    # Log aggregation deletes single files while the directory goes, too.
    node.initialize("true")
    logs = node.log_dirs[0] / APP / CONTAINER
    for name in ("stdout", "stderr"):
        (logs / name).touch()
    logs.parent.chmod(0o700)
    result = node.run("alice", "alice", 3, "", logs / "stdout", logs / "stderr")
    assert result.returncode == 0, result.stderr
    assert not list(logs.iterdir())


def test_delete_what_lies_in_the_node_managers_directories(node):
    node.initialize("true")
    logs = [log / APP for log in node.log_dirs]
    homes = [local / "usercache/alice" for local in node.local_dirs]
    moved = [home.parent.rename(home.parent.parent / "usercache_DEL_17") for home in homes]
    for path in (*logs, *(directory / "alice" for directory in moved)):
        assert path.exists()
        result = node.run("alice", "alice", 3, "", path)
        assert result.returncode == 0, result.stderr
        assert not path.exists()


def test_delete_what_is_gone_already(node):
    assert node.run("alice", "alice", 3, node.work).returncode == 0


def test_delete_does_not_follow_links(node):
    node.initialize("true")
    precious = node.make(node.base / "precious", ALICE, 0o777)
    (precious / "file").touch()
    (node.cache / "filecache/10").symlink_to(precious)
    assert node.run("alice", "alice", 3, node.cache / "filecache/10").returncode == 0
    assert (precious / "file").exists()
    assert not (node.cache / "filecache/10").is_symlink()


def test_list(node):
    node.launch("touch b a")
    result = node.run("alice", "alice", 5, node.work)
    assert result.stdout.split() == ["a", "b", "container_tokens", "launch_container.sh", "tmp"]


def test_a_system_user_may_be_allowed(node):
    result = node.initialize("id", "-u", user="allowed")
    assert (result.returncode, result.stdout) == (0, f"{SYSTEM + 1}\n"), result.stderr


# --- Whom it refuses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("root", "banned"),
        ("toor", "banned"),
        ("nm", "banned"),
        ("bob", "banned"),
        ("system", "below min.user.id"),
        ("nobody-there", "no user"),
        ("../root", "no user name"),
        ("-u", "no user name"),
        ("", "no user name"),
        ("0", "no user name"),
        ("alice\n", "no user name"),
    ],
)
def test_users_that_run_no_containers(node, user, text):
    result = node.initialize("id", user=user)
    assert_refused(result, text)
    assert result.returncode == 2
    assert not list((node.local_dirs[0] / "usercache").iterdir())


def test_running_as_another_user_than_named(node):
    result = node.run("alice", "bob", 2, 1, 9)
    assert_refused(result, "do not run as")


@pytest.mark.parametrize("environment", [{}, {"SUDO_UID": "0"}, {"SUDO_UID": "-1"}])
def test_only_through_sudo(node, environment):
    node.environment = environment
    result = node.run("--checksetup")
    assert_refused(result, "to be run by sudo")
    assert result.returncode == 22


# --- Configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o420, 0o402, 0o666])
def test_a_configuration_that_others_can_write(node, mode):
    node.config.chmod(mode)
    result = node.run("--checksetup")
    assert_refused(result, "others than root can write")
    assert result.returncode == 24


def test_a_configuration_of_somebody_else(node):
    os.chown(node.config, MANAGER, GROUP)
    assert_refused(node.run("--checksetup"), "others than root can write")


def test_a_configuration_in_a_directory_of_somebody_else(node):
    directory = node.make(node.base / "etc", MANAGER, 0o755)
    node.config = node.config.rename(directory / "container-executor.cfg")
    result = node.run("--checksetup")
    assert_refused(result, f"others than root can write to {directory}")


def test_no_configuration(node):
    node.config.unlink()
    result = node.run("--checksetup")
    assert_refused(result, "cannot read")
    assert result.returncode == 24


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("min.user.id", None),
        ("min.user.id", "many"),
        ("yarn.nodemanager.linux-container-executor.group", "no-such-group"),
        ("yarn.nodemanager.local-dirs", None),
        ("yarn.nodemanager.local-dirs", ""),
        ("yarn.nodemanager.log-dirs", "logs"),
        ("yarn.nodemanager.log-dirs", "/var/../etc"),
    ],
)
def test_an_incomplete_configuration(node, key, value):
    node.configure(**{key: value})
    result = node.run("--checksetup")
    assert_refused(result, str(node.config))
    assert result.returncode == 24


# --- Paths ------------------------------------------------------------------------------------


def test_directories_must_be_configured(node):
    node.local_dirs.append(node.make(node.base / "elsewhere", MANAGER, 0o755))
    assert_refused(node.initialize("true"), "is not configured")
    assert not list((node.base / "elsewhere").iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "{private}/../../../../../etc/shadow",
        "{private}/../usercache/file",
        "{private}",
        "nmPrivate/file",
        "",
    ],
)
def test_tokens_come_from_the_private_directory(node, path):
    tokens = path.format(private=node.private)
    assert_refused(node.run("alice", "alice", 0, APP, CONTAINER, tokens, *node.lists(), "true"), "")
    assert not list((node.local_dirs[0] / "usercache").iterdir())


def test_private_files_are_read_with_the_rights_of_the_node_manager(node):
    (node.private / "link").symlink_to("/etc/shadow")
    hidden = node.private / "hidden"
    hidden.write_text("root's")
    hidden.chmod(0o600)
    os.mkfifo(node.private / "pipe")
    os.chown(node.private / "pipe", MANAGER, MANAGER)
    (node.private / "way").symlink_to("/etc")
    for name, text in {
        "link": "",
        "hidden": "Permission denied",
        "pipe": "no ordinary file",
        "way/passwd": "",
    }.items():
        assert_refused(node.initialize("true", tokens=node.private / name), text)
    assert not list((node.local_dirs[0] / "usercache").iterdir())


@pytest.mark.parametrize(
    "place", ["/etc/cron.d/x", "{cache}/x", "{private}/../x", "{private}/no/x"]
)
def test_pid_files_are_written_in_the_private_directory(node, place):
    pid_file = Path(place.format(cache=node.cache, private=node.private))
    result = node.run(*node.launch_arguments("touch /tmp/should-not-run", pid_file=pid_file))
    assert_refused(result, "")
    assert not pid_file.exists()
    assert not Path("/tmp/should-not-run").exists()


def test_pid_files_do_not_follow_links(node):
    victim = node.base / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    for name in ("container.pid", "container.pid.tmp", "container.pid.exitcode"):
        (node.private / name).symlink_to(victim)
    assert node.launch("exit 3").returncode == 3
    assert victim.read_text() == "untouched"
    assert not node.pid_file.is_symlink()


@pytest.mark.parametrize(
    ("application", "container"),
    [
        ("../../bob", CONTAINER),
        ("application_1_1/..", CONTAINER),
        ("application_1_1\n", CONTAINER),
        ("", CONTAINER),
        (APP, ".."),
        (APP, "container_1_1_1_1/../../x"),
        (APP, "tmp"),
    ],
)
def test_identifiers(node, application, container):
    result = node.initialize("true", app=application, container=container)
    assert_refused(result, "is no ")


@pytest.mark.parametrize("work", ["{cache}/appcache/x", "/home/alice", "{cache}/../bob", "{base}"])
def test_a_container_works_in_its_own_directory(node, work):
    path = work.format(cache=node.cache, base=node.base)
    assert_refused(node.launch("true", work=path), "")


def test_a_link_in_place_of_a_users_directory(node):
    target = node.make(node.base / "target", MANAGER, 0o755)
    (node.local_dirs[0] / "usercache/alice").symlink_to(target)
    assert_refused(node.initialize("true"), "")
    assert facts(target).uid == MANAGER


def test_a_directory_of_another_user_is_not_given_away(node):
    home = node.make(node.local_dirs[0] / "usercache/alice", BOB, 0o750)
    assert_refused(node.initialize("true"), "belongs to another user")
    assert facts(home).uid == BOB


def test_another_users_application_directory(node):
    node.make(node.log_dirs[0] / APP, BOB, 0o750)
    assert_refused(node.initialize("true"), "belongs to another user")


def test_a_cache_that_is_not_the_node_managers(node):
    os.chown(node.local_dirs[0] / "usercache", BOB, BOB)
    assert_refused(node.initialize("true"), "does not belong to the NodeManager")


def test_links_that_a_user_lays_lead_only_where_the_user_may_go(node):
    node.initialize("true")
    other = node.make(node.base / "bob", BOB, 0o700)
    (other / "file").write_text("bob's")
    app = node.cache / "appcache" / APP
    app.rename(app.with_name("moved"))
    app.symlink_to(other)
    assert_refused(node.launch("true"), "")
    assert_refused(node.initialize("true"), "")
    assert [path.name for path in other.iterdir()] == ["file"]


def test_a_link_laid_where_a_file_will_be_written_is_replaced(node):
    assert node.launch("true").returncode == 0
    victim = node.base / "victim"
    victim.write_text("untouched")
    victim.chmod(0o666)
    (node.work / "container_tokens").unlink()
    (node.work / "container_tokens").symlink_to(victim)
    assert node.launch("cat container_tokens").stdout == "the tokens"
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "{local}",
        "{local}/usercache",
        "{local}/usercache/bob",
        "{local}/usercache/alice/../bob",
        "{local}/usercache_DEL_x/alice",
        "{local}/nmPrivate/container.tokens",
        "{log}",
        "{log}/nodemanager.log",
        "{log}/../local/nmPrivate",
        "relative",
        "",
    ],
)
def test_deletes_only_what_can_be_the_users(node, path):
    node.initialize("true")
    node.make(node.local_dirs[0] / "usercache/bob", BOB, 0o777)
    place = path.format(local=node.local_dirs[0], log=node.log_dirs[0])
    assert_refused(node.run("alice", "alice", 3, place), "")
    assert_refused(node.run("alice", "alice", 5, place), "")
    assert node.tokens.exists()
    assert (node.local_dirs[0] / "usercache/bob").exists()


def test_deletes_with_the_rights_of_the_user(node):
    logs = node.make(node.log_dirs[0] / APP, BOB, 0o755)
    (logs / "stdout").write_text("bob's")
    result = node.run("alice", "alice", 3, "", logs)
    assert_refused(result, "")
    assert (logs / "stdout").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("alice",),
        ("alice", "alice"),
        ("alice", "alice", 4, "docker"),
        ("alice", "alice", "x"),
        ("alice", "alice", 0, APP),
        ("alice", "alice", 1, APP, CONTAINER),
        ("alice", "alice", 1, APP, CONTAINER, "w", "s", "t", "--ftp", "p", "l", "l", "r"),
        ("alice", "alice", 2, 1, 9),
        ("alice", "alice", 2, 0, 9),
        ("alice", "alice", 2, -1, 9),
        ("alice", "alice", 2, 99999999, 999),
        ("alice", "alice", 2, "²", 9),
        ("alice", "alice", 3),
        ("alice", "alice", 5),
        ("--mount-cgroups", "cpu", "x"),
        ("--module-gpu",),
    ],
)
def test_malformed_requests(node, arguments):
    result = node.run(*arguments)
    assert result.returncode not in (0, -1)
    assert "Traceback" not in result.stderr


def test_the_rule_is_for_one_user_and_one_program():
    rules = [line for line in SUDOERS.read_text().splitlines() if line and line[0] not in "#D"]
    assert rules == [
        "yarn ALL=(root) NOPASSWD: /usr/local/libexec/deitos-lab/container_executor.py"
    ]
