# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What is mounted on this host."""

from __future__ import annotations


def mount_points(table="/proc/self/mountinfo"):
    """Every mounted path; also bind mounts, which os.path.ismount does not see."""
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        # The kernel escapes blanks and backslashes as octal.
        return {
            line.split()[4]
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
            for line in lines
        }
