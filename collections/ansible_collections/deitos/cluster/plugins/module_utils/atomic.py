# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole or not at all, with their owner and mode from the first moment."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile

# What a new file gets when the caller names no mode: nobody else may read it.
PRIVATE = 0o600


class UnknownName(ValueError):
    """A user or group that this host does not know."""


def uid_of(owner):
    """The number of a user given by name or number; None stays None."""
    return _number(owner, "user", lambda name: pwd.getpwnam(name).pw_uid)


def gid_of(group):
    """The number of a group given by name or number; None stays None."""
    return _number(group, "group", lambda name: grp.getgrnam(name).gr_gid)


def _number(value, kind, lookup):
    if value is None:
        return None
    text = str(value)
    if text.isdigit():
        return int(text)
    try:
        return lookup(text)
    except KeyError:
        raise UnknownName(f"there is no {kind} '{text}' on this host") from None


def parse_mode(mode):
    """An octal mode as text ('0640'); None stays None."""
    if mode is None:
        return None
    try:
        # A number would be YAML's reading of an unquoted mode: 420 for 0644.
        value = int(mode, 8) if isinstance(mode, str) else -1
    except ValueError:
        value = -1
    if not 0 <= value <= 0o7777:
        raise ValueError(f"mode {mode!r} is not an octal number in quotes, such as '0640'")
    return value


def read(path):
    """The content of a regular file as bytes; None when there is nothing at that path."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def attributes(path):
    """The owner, group and mode at a path (a link's own), as text; {} when nothing is there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return {}
    return {
        "owner": _name(status.st_uid, lambda uid: pwd.getpwuid(uid).pw_name),
        "group": _name(status.st_gid, lambda gid: grp.getgrgid(gid).gr_name),
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
    }


def _name(number, lookup):
    try:
        return lookup(number)
    except KeyError:
        return str(number)


def attribute_changes(path, owner=None, group=None, mode=None):
    """{"owner": (before, after), …} of what must change at a path.

    Names that this host does not know count as a change: in check mode an earlier task may be
    what creates them; when really written, `set_attributes` refuses them.
    """
    found = attributes(path)
    status = os.lstat(path) if found else None
    changes = {}
    for key, wanted, actual, number in (
        ("owner", owner, status and status.st_uid, uid_of),
        ("group", group, status and status.st_gid, gid_of),
    ):
        if wanted is None:
            continue
        try:
            same = actual == number(wanted)
        except UnknownName:
            same = False
        if not same:
            changes[key] = (found.get(key), str(wanted))
    wanted = parse_mode(mode)
    # The mode of a symbolic link means nothing.
    link = status and stat.S_ISLNK(status.st_mode)
    if wanted is not None and not link and wanted != (status and stat.S_IMODE(status.st_mode)):
        changes["mode"] = (found.get("mode"), f"{wanted:04o}")
    return changes


def set_attributes(path, owner=None, group=None, mode=None):
    """Set what differs of owner, group and mode; returns the changes made."""
    changes = attribute_changes(path, owner, group, mode)
    if not changes:
        return changes
    uid = uid_of(owner) if "owner" in changes else -1
    gid = gid_of(group) if "group" in changes else -1
    if uid != -1 or gid != -1:
        os.chown(path, uid, gid, follow_symlinks=False)
    # A change of owner clears setuid and setgid, so the mode comes last and always.
    if mode is not None and not os.path.islink(path):
        os.chmod(path, parse_mode(mode))
    return changes


def write_atomic(path, data, owner=None, group=None, mode=None):
    """Put a file in place whole: temporary file beside it, synced, owned, then renamed over it.

    What is not named stays as it was; a new file then belongs to the caller, mode 0600.
    A symbolic link at the path is replaced, not followed.
    """
    path = os.fspath(path)
    uid, gid, bits = uid_of(owner), gid_of(group), parse_mode(mode)
    try:
        before = os.lstat(path)
    except FileNotFoundError:
        before = None
    if before is not None and stat.S_ISREG(before.st_mode):
        uid = before.st_uid if uid is None else uid
        gid = before.st_gid if gid is None else gid
        bits = stat.S_IMODE(before.st_mode) if bits is None else bits
    directory, name = os.path.split(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory or ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            if uid is not None or gid is not None:
                os.fchown(handle, -1 if uid is None else uid, -1 if gid is None else gid)
            os.fchmod(handle, PRIVATE if bits is None else bits)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_directory(directory or ".")


def _sync_directory(path):
    """Make a rename in this directory outlive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
