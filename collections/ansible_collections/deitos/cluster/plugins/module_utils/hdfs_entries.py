# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Access control lists of HDFS by the NameNode's rules: pure functions on lists of entries."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_mode
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

TYPES = ("user", "group", "mask", "other")
# owner, owning group, others
BASE = 3
# The NameNode's limit, for access and default entries each.
MOST = 32


@dataclass(frozen=True)
class Entry:
    """One entry; `bits` is rwx as a number, and `if_any` an X yet to be resolved."""

    default: bool
    type: str
    name: str
    bits: int = 0
    if_any: bool = False

    @property
    def key(self):
        """What an entry is about."""
        return self.default, self.type, self.name

    @property
    def of_mode(self):
        """Whether the mode says the same: what owner, owning group and others may do."""
        return not self.default and not self.name and self.type != "mask"

    @property
    def order(self):
        """Where the NameNode puts it."""
        return self.default, TYPES.index(self.type), self.name

    @property
    def subject(self):
        """The entry without its permissions, as text."""
        return f"{'default:' if self.default else ''}{self.type}:{self.name}"

    def __str__(self):
        return f"{self.subject}:{hdfs_mode.triple(self.bits)}"


def parse(listed, removal=False):
    """The entries that strings describe."""
    entries = []
    for text in listed:
        for part in str(text).split(","):
            if part.strip():
                entries.append(parse_one(part.strip(), removal))
    seen = set()
    for entry in entries:
        if entry.key in seen:
            raise Problem(f"the entry {entry.subject} is listed twice")
        seen.add(entry.key)
    return entries


def parse_one(text, removal=False):
    """One entry, as setfacl takes it; permissions are optional when it is to be removed."""
    parts = text.split(":")
    default = parts[0].lower() == "default"
    if default:
        parts = parts[1:]
    if len(parts) == 2 and removal:
        parts.append("")
    if len(parts) != 3:
        raise Problem(
            f"'{text}' is no ACL entry: write [default:]TYPE:NAME:PERMISSIONS, as in"
            " user:alice:r-x, group::rwx or default:mask::r-x"
        )
    kind, name, letters = parts[0].lower(), parts[1], parts[2]
    if kind not in TYPES:
        raise Problem(f"'{text}': the type is one of {', '.join(TYPES)}, not '{parts[0]}'")
    if name and kind in ("mask", "other"):
        raise Problem(f"'{text}': {kind} has no name; write {kind}::{letters}")
    if re.search(r"\s", name):
        raise Problem(f"'{text}': a name has no blanks")
    if not re.fullmatch(r"[r-]?[w-]?[xX-]?", letters) or not (letters or removal):
        raise Problem(f"'{text}': permissions are letters of rwx (or X), with - for what is not")
    return Entry(default, kind, name, hdfs_mode.bits_of(letters), "X" in letters)


def logical(permission, acl=None):
    """All entries of a path, in order, of its mode and (when it has one) its AclStatus."""
    mode = int(permission if acl is None else acl["permission"], 8)
    listed = [parse_one(text) for text in acl["entries"]] if acl else []
    # Beside access entries the middle of the mode is the mask, and the group has its entry.
    middle = "mask" if any(not entry.default for entry in listed) else "group"
    return ordered([*of_mode(mode, middle), *listed])


def of_mode(mode, middle="group"):
    """The entries that a mode stands for."""
    kinds = (("user", mode >> 6), (middle, mode >> 3), ("other", mode))
    return [Entry(False, kind, "", bits & 7) for kind, bits in kinds]


def beside_mode(entries):
    """The entries of an ACL that a mode does not stand for."""
    return [entry for entry in entries if not entry.of_mode]


def ordered(entries):
    """Entries as the NameNode sorts them."""
    return sorted(entries, key=lambda entry: entry.order)


def resolve(entries, acl, directory):
    """Entries without X: execute for directories, and where somebody may execute already."""
    execute = directory or any(entry.bits & 1 for entry in acl if not entry.default)
    return [
        replace(
            entry, bits=entry.bits | 1 if execute or entry.default else entry.bits, if_any=False
        )
        if entry.if_any
        else entry
        for entry in entries
    ]


def merge(acl, entries):
    """The ACL with these entries added or put in place of theirs."""
    given = {entry.key: entry for entry in entries}
    kept = [entry for entry in acl if entry.key not in given]
    return _build([*kept, *entries], given, touched={entry.default for entry in entries})


def remove(acl, entries):
    """The ACL without these entries."""
    named = {entry.key for entry in entries}
    gone = [entry for entry in acl if entry.key in named]
    kept = [entry for entry in acl if entry.key not in named]
    without_mask = {entry.default for entry in gone if entry.type == "mask"}
    return _build(kept, {}, touched={entry.default for entry in gone}, without_mask=without_mask)


def exact(acl, entries):
    """An ACL of these entries alone; owner, owning group and others as before when not given."""
    given = {entry.key: entry for entry in entries}
    base = [entry for entry in acl if entry.of_mode and entry.key not in given]
    return _build([*base, *entries], given, touched={False, True})


def strip(acl):
    """Nothing but the mode, whose middle stops being the mask: the owning group gets its entry."""
    return [entry for entry in acl if entry.of_mode]


def strip_default(acl):
    """The access entries."""
    return [entry for entry in acl if not entry.default]


def _build(entries, given, touched, without_mask=frozenset()):
    """Complete and check an ACL: copied default entries, masks, what must not be missing."""
    masks = {entry.default: entry for entry in entries if entry.type == "mask"}
    entries = _with_copied_defaults([entry for entry in entries if entry.type != "mask"])
    built = list(entries)
    for default in sorted({entry.default for entry in entries}):
        group_class = [
            entry
            for entry in entries
            if entry.default == default and (entry.name or entry.type == "group")
        ]
        needed = any(entry.name for entry in group_class)
        said = (default, "mask", "") in given
        if default in masks and (said or default not in touched):
            built.append(masks[default])
        elif needed and default in without_mask and default not in masks:
            raise Problem("the mask cannot be removed while there are entries with names")
        elif needed or default in masks:
            # As the NameNode has it, a mask stays, anew, even when nothing needs it any more.
            bits = 0
            for entry in group_class:
                bits |= entry.bits
            built.append(Entry(default, "mask", "", bits))
    _check(built)
    return ordered(built)


def _with_copied_defaults(entries):
    """Default entries are complete: what is not given is copied from the access entries."""
    if not any(entry.default for entry in entries):
        return entries
    there = {entry.key for entry in entries}
    copies = [
        replace(entry, default=True)
        for entry in entries
        if not entry.default and not entry.name and (True, entry.type, "") not in there
    ]
    return [*entries, *copies]


def _check(entries):
    keys = {entry.key for entry in entries}
    for default in {entry.default for entry in entries}:
        for kind in ("user", "group", "other"):
            if (default, kind, "") not in keys:
                raise Problem(
                    f"the entry {'default:' if default else ''}{kind}:: cannot be missing"
                )
        count = sum(1 for entry in entries if entry.default == default)
        if count > MOST:
            raise Problem(
                f"HDFS takes at most {MOST} {'default' if default else 'access'} entries, not"
                f" {count}: give a group access instead of each of its people"
            )


def spec(entries):
    """Entries as WebHDFS takes them."""
    return ",".join(str(entry) for entry in entries)


def requests(before, after):
    """[(operation, parameters)] of WebHDFS that make one ACL of another."""
    access, wanted = ([entry for entry in acl if not entry.default] for acl in (before, after))
    found = []
    # The NameNode keeps the default entries when none are given.
    if len(access) < len(before) and len(wanted) == len(after):
        found.append(("REMOVEDEFAULTACL", {}))
    # Always the whole ACL, so that what was foretold is what is done.
    if access != wanted or len(wanted) < len(after):
        found.append(("SETACL", {"aclspec": spec(after)}))
    return found


def as_status(entries):
    """The AclStatus of a path with these entries."""
    bits = {entry.type: entry.bits for entry in entries if not entry.default and not entry.name}
    middle = "mask" if "mask" in bits else "group"
    said = {(False, kind, "") for kind in ("user", middle, "other")}
    return {
        "permission": f"{bits['user'] << 6 | bits[middle] << 3 | bits['other']:o}",
        "entries": [str(entry) for entry in entries if entry.key not in said],
    }


def effective(entries):
    """{subject: permissions} of the entries that a mask applies to."""
    masks = {entry.default: entry.bits for entry in entries if entry.type == "mask"}
    return {
        entry.subject: hdfs_mode.triple(entry.bits & masks[entry.default])
        for entry in entries
        if entry.default in masks and (entry.name or entry.type == "group")
    }


def shown(entries):
    """An ACL as getfacl prints it."""
    after_mask = effective(entries)
    lines = []
    for entry in entries:
        limited = after_mask.get(entry.subject)
        note = "" if limited in (None, hdfs_mode.triple(entry.bits)) else f"\t#effective:{limited}"
        lines.append(f"{entry}{note}\n")
    return "".join(lines)
