#!/usr/bin/python3 -IS
"""Run YARN's containers as the users who submitted them: the lab's container-executor.

It speaks the protocol that LinuxContainerExecutor of Hadoop 3.4 speaks to the native, setuid
container-executor of Apache's releases, and reads the same configuration. sudo starts it as root
for the NodeManager's user alone.

How it stays out of trouble:

- The NodeManager's files are read and written as the NodeManager's user, and a user's files and
  directories are made and removed as that user. Root does two things only: it makes the top
  directory of a user in each local directory and that of an application in each log directory, and
  it changes identity.
- Every path is resolved from one of the configured directories, step by step, following no link.
- No environment but its own, and no identity that the configuration does not allow.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

# Where the native program looks: ../etc/hadoop, seen from the release's bin.
CONFIG = "/opt/hadoop/etc/hadoop/container-executor.cfg"
PATH = "/usr/local/bin:/usr/bin:/bin"

# Exit codes, as LinuxContainerExecutor knows them.
INVALID_ARGUMENT_NUMBER = 1
INVALID_USER_NAME = 2
INVALID_COMMAND = 3
INVALID_NM_ROOT_DIRS = 5
SETUID_FAILED = 6
UNABLE_TO_EXECUTE = 7
UNABLE_TO_SIGNAL = 8
INVALID_CONTAINER_PID = 9
INITIALIZE_USER_FAILED = 20
INVALID_EXEC_PERMISSIONS = 22
INVALID_CONFIG_FILE = 24
# The native program has no common code for the rest; LinuxContainerExecutor fails the container.
FAILED = 35

# Java joins lists of directories with this.
SEPARATOR = "%"
USER_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
APPLICATION_ID = re.compile(r"application_\d+_\d+")
CONTAINER_ID = re.compile(r"container_(e\d+_)?\d+_\d+_\d+_\d+")
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# Scripts, tokens and keystores are far smaller.
PRIVATE_FILE_LIMIT = 16 * 1024 * 1024
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# To pass through: needs the right to search, not the right to read.
PASSAGE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


class Refused(Exception):
    """A request that is not carried out, and the code to exit with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


# --- Configuration ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    group: int
    local_dirs: tuple[str, ...]
    log_dirs: tuple[str, ...]
    minimum_uid: int
    banned: frozenset[str]
    allowed: frozenset[str]


def only_root_writes(status: os.stat_result) -> bool:
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def read_settings(path: str) -> Settings:
    """Read the configuration, which nobody but root may have been able to change."""
    real = os.path.realpath(path)
    for parent in PurePosixPath(real).parents:
        status = os.stat(parent)
        # In a sticky directory of root's, others cannot replace what is root's.
        sticky = status.st_uid == 0 and status.st_mode & stat.S_ISVTX
        if not sticky and not only_root_writes(status):
            raise Refused(INVALID_CONFIG_FILE, f"others than root can write to {parent}")
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise Refused(INVALID_CONFIG_FILE, f"cannot read {path}: {error.strerror}") from error
    with open(descriptor, encoding="utf-8") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not only_root_writes(status):
            raise Refused(INVALID_CONFIG_FILE, f"others than root can write to {path}")
        values = {}
        for line in stream:
            if line.startswith("["):  # sections are for docker, gpu and the like
                break
            name, equals, value = line.strip().partition("=")
            if equals and not name.startswith("#"):
                values[name.strip()] = value.strip()

    def words(name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in values.get(name, "").split(",") if word.strip())

    def directories(name: str) -> tuple[str, ...]:
        found = words(name)
        if not found or any(os.path.normpath(word) != word or word[0] != "/" for word in found):
            raise Refused(INVALID_CONFIG_FILE, f"{name} in {path} must list absolute paths")
        return found

    try:
        return Settings(
            group=grp.getgrnam(values["yarn.nodemanager.linux-container-executor.group"]).gr_gid,
            local_dirs=directories("yarn.nodemanager.local-dirs"),
            log_dirs=directories("yarn.nodemanager.log-dirs"),
            minimum_uid=int(values["min.user.id"]),
            banned=frozenset(words("banned.users")),
            allowed=frozenset(words("allowed.system.users")),
        )
    except (KeyError, ValueError) as error:
        raise Refused(INVALID_CONFIG_FILE, f"{path}: missing or wrong: {error}") from error


def permitted_user(name: str, settings: Settings) -> pwd.struct_passwd:
    """The user's entry, if the configuration lets this user run containers."""
    if not USER_NAME.fullmatch(name):
        raise Refused(INVALID_USER_NAME, f"{name!r} is no user name")
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise Refused(INVALID_USER_NAME, f"there is no user {name}") from None
    if user.pw_name != name:
        raise Refused(INVALID_USER_NAME, f"user {name} is called {user.pw_name}")
    if user.pw_uid == 0 or name in settings.banned:
        raise Refused(INVALID_USER_NAME, f"user {name} is banned")
    if user.pw_uid < settings.minimum_uid and name not in settings.allowed:
        raise Refused(
            INVALID_USER_NAME,
            f"user {name} has uid {user.pw_uid}, below min.user.id {settings.minimum_uid}, "
            "and is not in allowed.system.users",
        )
    return user


# --- Identity ---------------------------------------------------------------------------------


@contextlib.contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """Have the kernel judge what follows by another identity; main left no groups of root's."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def become(user: pwd.struct_passwd) -> None:
    """Change identity for good."""
    try:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except OSError as error:
        raise Refused(SETUID_FAILED, f"cannot become {user.pw_name}: {error}") from error
    if os.getresuid() != (user.pw_uid,) * 3 or os.getresgid() != (user.pw_gid,) * 3:
        raise Refused(SETUID_FAILED, f"did not become {user.pw_name}")
    with contextlib.suppress(PermissionError):
        os.setuid(0)
        raise Refused(SETUID_FAILED, f"{user.pw_name} could become root again")


def execute(user: pwd.struct_passwd, command: list[str]) -> NoReturn:
    """Run a command in place of this program, which has become the user."""
    environment = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "HOME": user.pw_dir,
    }
    os.umask(0o027)
    # Python ignores these, and what it ignores, its successors would.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)
    except OSError as error:
        raise Refused(UNABLE_TO_EXECUTE, f"cannot run {command[0]}: {error.strerror}") from error


def in_child(action: Callable[[], None]) -> int:
    """Run an action in a child process; return the child's exit code as a shell would."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        action()
        sys.exit(0)
    status = os.waitpid(child, 0)[1]
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


# --- Files ------------------------------------------------------------------------------------


def below(path: str, roots: tuple[str, ...]) -> tuple[str, list[str]]:
    """Split a path into the configured directory that it lies in and the steps from there."""
    if path.startswith("/") and os.path.normpath(path) == path and path.isprintable():
        for root in roots:
            if path.startswith(f"{root}/"):
                return root, path.removeprefix(f"{root}/").split("/")
    raise Refused(INVALID_NM_ROOT_DIRS, f"{path!r} is not below {', '.join(roots)}")


@contextlib.contextmanager
def opened(root: str, steps: list[str]) -> Iterator[int]:
    """A descriptor of a directory, reached without following links."""
    descriptor = os.open(root, PASSAGE)
    try:
        for step in steps:
            parent, descriptor = descriptor, os.open(step, PASSAGE, dir_fd=descriptor)
            os.close(parent)
        yield descriptor
    finally:
        os.close(descriptor)


def make_as_root(parent: int, name: str, user: pwd.struct_passwd, group: int) -> None:
    """Make or repair a directory of the user's in a directory of the NodeManager's."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        # Root's is one that was just made. Nobody else's becomes the user's.
        if os.fstat(descriptor).st_uid not in (0, user.pw_uid):
            raise Refused(INITIALIZE_USER_FAILED, f"{name} belongs to another user")
        os.fchown(descriptor, user.pw_uid, group)
        os.fchmod(descriptor, 0o2750)
    finally:
        os.close(descriptor)


def make_as_user(root: str, steps: list[str], names: list[str], mode: int) -> None:
    """Make directories one in the other. They inherit group and setgid bit from the first."""
    for index, name in enumerate(names):
        with opened(root, [*steps, *names[:index]]) as parent:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=parent)
            if os.lstat(name, dir_fd=parent).st_uid != os.geteuid():
                raise Refused(INITIALIZE_USER_FAILED, f"{name} belongs to another user")


def write_file(parent: int, name: str, content: bytes, mode: int) -> None:
    """Write a file anew, in a directory that may hold anything of that name."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(name, flags, mode, dir_fd=parent), "wb") as stream:
        stream.write(content)


def remove(parent: int, name: str) -> None:
    """Remove a file or a whole directory, following no link, as the caller may."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            os.unlink(name, dir_fd=parent)
            return
    except FileNotFoundError:
        return
    try:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    except PermissionError:
        # The user's own directory, closed to the user.
        os.chmod(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.fchmod(descriptor, 0o700)
        for entry in os.listdir(descriptor):
            remove(descriptor, entry)
    finally:
        os.close(descriptor)
    os.rmdir(name, dir_fd=parent)


# --- Requests ---------------------------------------------------------------------------------


class Executor:
    """One request of the NodeManager about one user."""

    def __init__(self, settings: Settings, manager: pwd.struct_passwd, user: str) -> None:
        self.settings = settings
        self.manager = manager
        self.user = permitted_user(user, settings)

    def as_manager(self) -> contextlib.AbstractContextManager[None]:
        return acting_as(self.manager.pw_uid, self.settings.group)

    def read_private(self, path: str) -> bytes:
        """Read a file that the NodeManager made for this program, as the NodeManager."""
        root, steps = below(path, self.settings.local_dirs)
        if steps[0] != "nmPrivate":
            raise Refused(INVALID_NM_ROOT_DIRS, f"{path} is not in nmPrivate")
        with self.as_manager(), opened(root, steps[:-1]) as parent:
            descriptor = os.open(
                steps[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent
            )
            with open(descriptor, "rb") as stream:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_size > PRIVATE_FILE_LIMIT:
                    raise Refused(FAILED, f"{path} is no ordinary file")
                return stream.read(PRIVATE_FILE_LIMIT)

    def write_private(self, path: str, text: str) -> None:
        """Write a file for the NodeManager, as the NodeManager, at once or not at all."""
        root, steps = below(path, self.settings.local_dirs)
        if steps[0] != "nmPrivate":
            raise Refused(INVALID_NM_ROOT_DIRS, f"{path} is not in nmPrivate")
        with self.as_manager(), opened(root, steps[:-1]) as parent:
            unfinished = f"{steps[-1]}.tmp"
            write_file(parent, unfinished, text.encode(), 0o600)
            os.replace(unfinished, steps[-1], src_dir_fd=parent, dst_dir_fd=parent)

    def directories(self, argument: str, configured: tuple[str, ...]) -> list[str]:
        found = argument.split(SEPARATOR)
        for directory in found:
            if directory not in configured:
                raise Refused(INVALID_NM_ROOT_DIRS, f"{directory!r} is not configured")
        return found

    def make_top_directories(
        self, application: str, local_dirs: list[str], log_dirs: list[str]
    ) -> None:
        for places, steps, name in (
            (local_dirs, ["usercache"], self.user.pw_name),
            (log_dirs, [], application),
        ):
            for place in places:
                with opened(place, steps) as parent:
                    if os.fstat(parent).st_uid not in (0, self.manager.pw_uid):
                        raise Refused(
                            INVALID_NM_ROOT_DIRS,
                            f"{'/'.join([place, *steps])} does not belong to the NodeManager",
                        )
                    make_as_root(parent, name, self.user, self.settings.group)

    def make_user_directories(
        self,
        application: str,
        container: str,
        local_dirs: list[str],
        log_dirs: list[str],
        *,
        work: bool,
    ) -> None:
        """What lies below the top directories; called as the user."""
        os.umask(0)
        name = self.user.pw_name
        for place in local_dirs:
            make_as_user(place, ["usercache", name], ["filecache"], 0o710)
            names = ["appcache", application, *([container] if work else [])]
            make_as_user(place, ["usercache", name], names, 0o710)
        for place in log_dirs:
            make_as_user(place, [application], [container], 0o750)

    def initialize(self, arguments: list[str]) -> int:
        if len(arguments) < 6:
            raise Refused(INVALID_ARGUMENT_NUMBER, "initialize: too few arguments")
        application, container, token_file, locals_, logs, *command = arguments
        check_ids(application, container)
        local_dirs = self.directories(locals_, self.settings.local_dirs)
        log_dirs = self.directories(logs, self.settings.log_dirs)
        token_name = token_file.rpartition("/")[2]
        if not FILE_NAME.fullmatch(token_name):
            raise Refused(FAILED, f"{token_name!r} is no file name")
        tokens = self.read_private(token_file)
        self.make_top_directories(application, local_dirs, log_dirs)
        become(self.user)
        self.make_user_directories(application, container, local_dirs, log_dirs, work=False)
        steps = ["usercache", self.user.pw_name, "appcache", application]
        with opened(local_dirs[0], steps) as home:
            write_file(home, token_name, tokens, 0o600)
            os.fchdir(home)
        execute(self.user, command)

    def launch(self, arguments: list[str]) -> int:
        # --https brings two more than --http, and traffic control one that is not used here.
        https = arguments[5:6] == ["--https"]
        if not https and arguments[5:6] != ["--http"]:
            raise Refused(INVALID_ARGUMENT_NUMBER, "launch: neither --http nor --https")
        files = arguments[:5] + (arguments[6:8] if https else [])
        rest = arguments[8 if https else 6 :]
        if len(rest) not in (4, 5):
            raise Refused(INVALID_ARGUMENT_NUMBER, "launch: wrong number of arguments")
        application, container, work, script, tokens, *stores = files
        pid_file, locals_, logs, resources = rest[:4]
        check_ids(application, container)
        if resources != "cgroups=none":
            raise Refused(FAILED, f"no control groups here: {resources}")
        local_dirs = self.directories(locals_, self.settings.local_dirs)
        log_dirs = self.directories(logs, self.settings.log_dirs)
        root, steps = below(work, tuple(local_dirs))
        if steps != ["usercache", self.user.pw_name, "appcache", application, container]:
            raise Refused(FAILED, f"{work} is not where this container works")
        contents = {
            "launch_container.sh": (self.read_private(script), 0o700),
            "container_tokens": (self.read_private(tokens), 0o600),
        }
        for name, store in zip(("keystore", "truststore"), stores, strict=False):
            contents[f"yarn_provided.{name}"] = (self.read_private(store), 0o600)
        self.make_top_directories(application, local_dirs, log_dirs)

        def run() -> None:
            os.setsid()
            self.write_private(pid_file, str(os.getpid()))
            become(self.user)
            self.make_user_directories(application, container, local_dirs, log_dirs, work=True)
            make_as_user(root, steps, ["tmp"], 0o710)
            with opened(root, steps) as home:
                for name, (content, mode) in contents.items():
                    write_file(home, name, content, mode)
                os.fchdir(home)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            execute(self.user, ["/bin/bash", f"{work}/launch_container.sh"])

        code = in_child(run)
        try:
            self.write_private(f"{pid_file}.exitcode", str(code))
        except OSError as error:
            # The NodeManager has given the container up; its end is still worth telling.
            complain(error)
        return code

    def send_signal(self, arguments: list[str]) -> int:
        if len(arguments) != 2 or not all(argument.isdecimal() for argument in arguments):
            raise Refused(INVALID_ARGUMENT_NUMBER, "signal: needs a process and a signal")
        process, number = map(int, arguments)
        if process <= 1 or number not in {0, *signal.valid_signals()}:
            raise Refused(INVALID_CONTAINER_PID, f"no process {process} or signal {number}")
        become(self.user)
        try:
            os.killpg(process, number)
        except ProcessLookupError:
            return INVALID_CONTAINER_PID
        except PermissionError as error:
            raise Refused(UNABLE_TO_SIGNAL, f"{process} is not {self.user.pw_name}'s") from error
        return 0

    def owned(self, path: str) -> tuple[str, list[str], bool]:
        """Split a path at which the user has, or had, files.

        The last value tells of a top directory, which lies in one of the NodeManager's.
        """
        with contextlib.suppress(Refused):
            root, steps = below(path, self.settings.local_dirs)
            # At its start the NodeManager moves old caches aside and then deletes them.
            cache = re.fullmatch(r"usercache(_DEL_\d+)?", steps[0])
            if cache and steps[1:2] == [self.user.pw_name]:
                return root, steps, len(steps) == 2
        root, steps = below(path, self.settings.log_dirs)
        if APPLICATION_ID.fullmatch(steps[0]):
            return root, steps, len(steps) == 1
        raise Refused(INVALID_NM_ROOT_DIRS, f"{path} is no place for {self.user.pw_name}'s files")

    def delete(self, arguments: list[str]) -> int:
        if not arguments:
            raise Refused(INVALID_ARGUMENT_NUMBER, "delete: needs a path")
        name, *bases = arguments
        paths = [f"{base}/{name}" if name else base for base in bases] or [name]
        places = [self.owned(path) for path in paths]

        def run() -> None:
            become(self.user)
            for root, steps, top in places:
                # The user may empty a top directory, the NodeManager remove it.
                expected = [FileNotFoundError, *([PermissionError] if top else [])]
                with contextlib.suppress(*expected), opened(root, steps[:-1]) as parent:
                    remove(parent, steps[-1])

        code = in_child(run)
        with self.as_manager():
            for root, steps in (place[:2] for place in places if place[2]):
                with contextlib.suppress(FileNotFoundError), opened(root, steps[:-1]) as parent:
                    os.rmdir(steps[-1], dir_fd=parent)
        return code

    def list_directory(self, arguments: list[str]) -> int:
        if len(arguments) != 1:
            raise Refused(INVALID_ARGUMENT_NUMBER, "list: needs a directory")
        root, steps, _ = self.owned(arguments[0])
        become(self.user)
        with opened(root, steps[:-1]) as parent:
            directory = os.open(steps[-1], DIRECTORY, dir_fd=parent)
            for name in sorted(os.listdir(directory)):
                print(name)
        return 0


def check_ids(application: str, container: str) -> None:
    if not APPLICATION_ID.fullmatch(application):
        raise Refused(FAILED, f"{application!r} is no application")
    if not CONTAINER_ID.fullmatch(container):
        raise Refused(FAILED, f"{container!r} is no container")


def complain(error: Exception) -> None:
    sys.stderr.write(f"container-executor: {error}\n")
    sys.stderr.flush()


def calling_user(environment: dict[str, str]) -> pwd.struct_passwd:
    """Who called sudo: the user that the NodeManager runs as."""
    uid = environment.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdecimal() or int(uid) == 0:
        raise Refused(INVALID_EXEC_PERMISSIONS, "to be run by sudo, for the NodeManager's user")
    return pwd.getpwuid(int(uid))


def run(arguments: list[str], environment: dict[str, str], config: str) -> int:
    manager = calling_user(environment)
    settings = read_settings(config)
    os.setgroups([])
    if arguments == ["--checksetup"]:
        return 0
    if len(arguments) < 3:
        raise Refused(INVALID_ARGUMENT_NUMBER, "needs a user, a user and a command")
    run_as, user, command, *rest = arguments
    if run_as != user:
        raise Refused(INVALID_USER_NAME, f"{user}'s containers do not run as {run_as} here")
    executor = Executor(settings, manager, user)
    actions = {
        "0": executor.initialize,
        "1": executor.launch,
        "2": executor.send_signal,
        "3": executor.delete,
        "5": executor.list_directory,
    }
    if command not in actions:
        raise Refused(INVALID_COMMAND, f"command {command!r} is not supported")
    return actions[command](rest)


def main(arguments: list[str], environment: dict[str, str], config: str = CONFIG) -> int:
    try:
        return run(arguments, environment, config)
    except Refused as error:
        complain(error)
        return error.code
    except OSError as error:
        complain(error)
        return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], dict(os.environ)))
