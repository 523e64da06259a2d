# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Files that a module writes or, in check mode, foretells to the modules after it."""

from __future__ import annotations

from ansible_collections.deitos.cluster.plugins.module_utils import atomic


class Files:
    """The files of one call: `result` tells which changed and, in check mode, which are planned."""

    def __init__(self, module):
        self.module = module
        self.check = module.check_mode
        self.result = {"changed": False, "changed_paths": [], "diff": []}
        if self.check:
            self.result["planned"] = {}

    def plan(self, path):
        """Foretell a file with new content."""
        self.result["planned"][path] = "new"

    def write(self, path, data, before, after, **attributes):
        """Give a file new content; in check mode that may be yet unknown."""
        if self.check:
            self.plan(path)
        else:
            atomic.write_atomic(path, data, **attributes)
        self.note(path, before, after)

    def mend(self, path, **attributes):
        """Correct a file's owner, group and mode."""
        changes = atomic.attribute_changes(path, **attributes)
        if not changes:
            return
        if not self.check:
            atomic.set_attributes(path, **attributes)
        self.note(
            path,
            {key: old for key, (old, _new) in changes.items()},
            {key: new for key, (_old, new) in changes.items()},
        )

    def note(self, path, before, after):
        """Tell of a change."""
        self.result["changed"] = True
        self.result["changed_paths"].append(path)
        self.result["diff"].append(
            {"before": before, "after": after, "before_header": path, "after_header": path}
        )
