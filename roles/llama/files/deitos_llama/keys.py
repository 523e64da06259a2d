"""API keys: several, named, hashed at rest, revocable while the server runs.

A key is `dl_NAME_SECRET`, 256 random bits that are shown once. The file keeps name, salt and
SHA-256; a slow hash would add nothing to that many random bits.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import grp
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

FILE = Path("/etc/llama/keys.json")
# Keys that the inventory asked for, each in a file of root's.
ISSUED = Path("/etc/llama/issued")
GROUP = "llama"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
KEY = re.compile(rf"dl_(?P<name>{NAME.pattern})_(?P<secret>[0-9a-f]{{64}})")


def digest(salt: str, secret: str) -> str:
    return hashlib.sha256(bytes.fromhex(salt) + bytes.fromhex(secret)).hexdigest()


NOBODY = {"salt": "00" * 16, "sha256": digest("00" * 16, "00" * 32)}


def load(path: Path) -> dict[str, dict]:
    """{name: {salt, sha256, created}}; nothing when there is no file yet."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def keep(path: Path, key: str) -> None:
    """A key in a file of root's."""
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(f"{key}\n")
        file.flush()
        os.fchmod(file.fileno(), 0o400)
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Keys:
    """What the server asks: whose key is this? A changed file is read again at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: tuple | None = None
        self.entries: dict[str, dict] = {}

    def _refresh(self) -> None:
        try:
            found = self.path.stat()
        except OSError:
            self.seen, self.entries = None, {}
            return
        now = (found.st_ino, found.st_mtime_ns, found.st_size)
        if now != self.seen:
            # A file that cannot be read admits nobody.
            self.seen, self.entries = None, {}
            self.entries = load(self.path)
            self.seen = now

    def owner(self, key: str) -> str | None:
        """The name of a key, or None. It takes as long for a wrong secret as for a wrong name."""
        self._refresh()
        match = KEY.fullmatch(key)
        if not match:
            return None
        entry = self.entries.get(match["name"])
        known = entry or NOBODY
        right = hmac.compare_digest(digest(known["salt"], match["secret"]), known["sha256"])
        return match["name"] if entry and right else None


class Store:
    """What the command does: one change at a time, the file whole at every moment."""

    def __init__(self, path: Path = FILE, group: str = GROUP) -> None:
        self.path = path
        self.group = group
        lock = os.open(path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.lock = lock
        self.entries = load(path)

    def write(self) -> None:
        handle, temporary = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(handle, "w") as file:
            json.dump(self.entries, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fchown(file.fileno(), -1, grp.getgrnam(self.group).gr_gid)
            os.fchmod(file.fileno(), 0o640)
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def add(self, name: str, hand_over: Callable[[str], object] = lambda _key: None) -> str:
        """A new key of a name that has none; only its digest stays. Good once it is handed over:
        who is killed between leaves no key that nobody has."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: a name is lower-case letters, digits and '-'")
        if name in self.entries:
            raise ValueError(f"{name} has a key: revoke it first")
        salt, secret = secrets.token_hex(16), secrets.token_hex(32)
        key = f"dl_{name}_{secret}"
        hand_over(key)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.entries[name] = {"salt": salt, "sha256": digest(salt, secret), "created": created}
        self.write()
        return key

    def revoke(self, name: str) -> None:
        if name not in self.entries:
            raise ValueError(f"{name} has no key")
        del self.entries[name]
        self.write()

    def ensure(self, names: list[str], issued: Path, *, check: bool) -> list[str]:
        """Give each name that has none a key, in a file of root's; the names that got one."""
        missing = [name for name in names if name not in self.entries]
        if check:
            return missing
        for name in missing:
            issued.mkdir(mode=0o700, exist_ok=True)
            self.add(name, functools.partial(keep, issued / name))
        if not self.path.exists():
            self.write()
        return missing


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="deitos-llama-key", description="API keys of the model server on this host."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add", help="make a key, and show it once").add_argument("name")
    commands.add_parser("revoke", help="refuse a key from now on").add_argument("name")
    commands.add_parser("list", help="names and when each key was made")
    ensure = commands.add_parser("ensure", help=f"make missing keys, below {ISSUED}")
    ensure.add_argument("names", nargs="*")
    ensure.add_argument("--check", action="store_true", help="only say which are missing")
    options = parser.parse_args(arguments)
    try:
        if options.command == "list":
            for name, entry in sorted(load(FILE).items()):
                print(f"{name}\t{entry['created']}")
            return 0
        store = Store()
        if options.command == "add":
            print(store.add(options.name))
        elif options.command == "revoke":
            store.revoke(options.name)
            (ISSUED / options.name).unlink(missing_ok=True)
        else:
            print(json.dumps(store.ensure(options.names, ISSUED, check=options.check)))
    except (OSError, ValueError) as error:
        print(f"deitos-llama-key: {error}", file=sys.stderr)
        return 1
    return 0
