# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What is mounted on this host."""

from __future__ import annotations

import os


def _unescaped(field):
    """A path of a table of mounts; blanks and backslashes stand there as octal."""
    for code, text in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace(f"\\{code}", text)
    return field


def mount_points(table="/proc/self/mountinfo"):
    """Every mounted path; also bind mounts, which os.path.ismount does not see."""
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        return {_unescaped(line.split()[4]) for line in lines}


def _declared(table):
    """The paths at which this host is to mount something at boot."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as lines:
            entries = [line.split() for line in lines if not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return set()
    return {
        _unescaped(fields[1]).rstrip("/")
        for fields in entries
        if len(fields) > 3 and "noauto" not in fields[3].split(",")
    }


def _upwards(path):
    """A path and what is above it, without the root."""
    path = os.path.realpath(path)
    while path != "/":
        yield path
        path = os.path.dirname(path)


def on_own_file_system(path, mounted):
    """Whether a path lies on another file system than the root's."""
    return any(place in mounted for place in _upwards(path))


def missing_mount(path, mounted, table="/etc/fstab"):
    """The mount point at or above a path at which nothing is mounted, against fstab; or None."""
    declared = _declared(table)
    return next((place for place in _upwards(path) if place in declared - mounted), None)
