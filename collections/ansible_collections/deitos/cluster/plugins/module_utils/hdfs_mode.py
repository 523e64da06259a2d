# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Modes of HDFS: octal and symbolic, and what they mean beside an ACL."""

from __future__ import annotations

import re

from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

WHO = {"u": 6, "g": 3, "o": 0}
BITS = {"r": 4, "w": 2, "x": 1}
STICKY = 0o1000
CLAUSE = re.compile(r"([ugoa]*)((?:[-+=][rwxXt]*)+)")


def parse(mode):
    """A function (present mode, is a directory) -> mode, of an octal or symbolic mode; or None."""
    if mode is None:
        return None
    if not isinstance(mode, str):
        # YAML has read an unquoted 0755 as the number 493.
        raise Problem(f"mode {mode!r} must stand in quotes, such as '0755'")
    text = mode.strip()
    if re.fullmatch(r"[0-7]{3,5}", text):
        bits = int(text, 8)
        if bits > 0o1777:
            raise Problem(f"mode '{mode}': HDFS has no setuid or setgid bits, only the sticky 1")
        return lambda _now, _directory: bits
    clauses = [CLAUSE.fullmatch(part.strip()) for part in text.split(",")]
    if not all(clauses):
        raise Problem(f"mode '{mode}' is neither octal, as '0755', nor symbolic, as 'u=rwx,g+rX'")

    def apply(now, directory):
        for clause in clauses:
            for operator, letters in re.findall(r"([-+=])([rwxXt]*)", clause.group(2)):
                now = _clause(now, directory, clause.group(1), operator, letters)
        return now

    return apply


def _clause(now, directory, who, operator, letters):
    bits = sum(BITS[letter] for letter in set(letters) & set(BITS))
    if "X" in letters and (directory or now & 0o111):
        bits |= BITS["x"]
    shifts = [WHO[letter] for letter in (who.replace("a", "ugo") or "ugo")]
    for shift in set(shifts):
        if operator == "=":
            now = now & ~(7 << shift) | bits << shift
        elif operator == "+":
            now |= bits << shift
        else:
            now &= ~(bits << shift)
    if "t" in letters:
        now = now & ~STICKY if operator == "-" else now | STICKY
    return now


def triple(bits):
    """The last three bits as rwx."""
    return "".join(letter if bits & bit else "-" for letter, bit in BITS.items())


def bits_of(letters):
    """rwx as three bits."""
    return sum(BITS[letter] for letter in letters if letter in BITS)


def is_extended(acl):
    """Whether an AclStatus has access entries of its own, so that the mode's middle is the mask."""
    return bool(acl) and any(not entry.startswith("default:") for entry in acl["entries"])


def mode_of(status, acl=None):
    """The mode of a path, its middle digit that of the owning group even beside an ACL."""
    mode = int(status["permission"], 8)
    if is_extended(acl):
        group = next(entry for entry in acl["entries"] if entry.startswith("group::"))
        mode = mode & ~0o070 | bits_of(group.rsplit(":", 1)[1]) << 3
    return mode
