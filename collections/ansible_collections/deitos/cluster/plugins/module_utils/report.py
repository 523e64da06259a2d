# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of items in one call: options from the task, errors and changes item by item."""

from __future__ import annotations

import contextlib


class Problem(Exception):
    """A failure told so that a person knows what to do."""


def merge(params, plural, options, defaults):
    """The items of the list, or the single one; a task's option holds where an item gives none."""
    task = {option: params[option] for option in options if params[option] is not None}
    common = {**dict.fromkeys(options), **defaults, **task}
    if params[plural] is None:
        return [common]
    # Ansible sends all options back with the result, and would send those not given of every item.
    params[plural] = [
        {key: value for key, value in item.items() if value is not None} for item in params[plural]
    ]
    return [{**common, **item} for item in params[plural]]


class Report:
    """Collects what was done and what failed, then ends the module once."""

    MOST_TOLD = 20
    # What an item is called by in the result.
    KEY = "name"

    def __init__(self, module, kind="", result=None):
        """`kind` says in messages what an item is; `result` names the list of changes in what the
        module returns (None: it makes none).
        """
        self.module = module
        self.kind = kind
        self.result = result
        self.changes = []
        # Whether an item was changed in part before it failed.
        self.begun = False
        self.errors = []
        self.before = []
        self.after = []
        self.extra = {}

    @contextlib.contextmanager
    def item(self, name):
        """A Problem inside belongs to this item alone."""
        try:
            yield
        except Problem as problem:
            self.error(name, problem)

    def error(self, name, problem):
        """Note that an item failed."""
        self.errors.append({self.KEY: name or "", "msg": str(problem)})

    def change(self, name, actions, before, after):
        """Note a change; before and after are what a person shall see (None: not there)."""
        self.changes.append({self.KEY: name, "actions": actions})
        self.before.append(self._shown(name, before))
        self.after.append(self._shown(name, after))

    def _shown(self, name, values):
        if values is None:
            return ""
        lines = [f"{self.kind} {name}\n"]
        lines += [f"  {key}: {value}\n" for key, value in sorted(values.items())]
        return "".join(lines)

    def changed(self):
        """The changes, as the module returns them."""
        return {self.result: self.changes} if self.result else {}

    def diff(self):
        """Ansible's diff of the changes; None for a module that makes none."""
        if not self.result:
            return None
        return {"before": "".join(self.before), "after": "".join(self.after)}

    def results(self):
        """What the module returns."""
        results = {"changed": bool(self.changes) or self.begun, **self.changed(), **self.extra}
        diff = self.diff()
        if diff is not None and self.module._diff:
            results["diff"] = diff
        if self.errors:
            results["errors"] = self.errors
        return results

    def fail(self, message):
        """The whole call failed."""
        self.module.fail_json(msg=message, **self.results())

    def told(self, name):
        """An item, as messages name it."""
        return f"{self.kind} '{name}'"

    def exit(self):
        """End the module, as a failure when any item failed."""
        if not self.errors:
            self.module.exit_json(**self.results())
        lines = [f"{self.told(error[self.KEY])}: {error['msg']}" for error in self.errors]
        message = "; ".join(lines[: self.MOST_TOLD])
        if len(lines) > self.MOST_TOLD:
            message += f"; and {len(lines) - self.MOST_TOLD} more (see errors)"
        self.fail(message)


class PathReport(Report):
    """The same of paths, each with diffs of its own."""

    KEY = "path"

    def __init__(self, module):
        super().__init__(module)
        self.diffs = []

    def error(self, name, problem, path=None):
        """Note that an item failed, at its path or at one that it needs."""
        super().error(name, problem if path in (None, name) else f"{path}: {problem}")

    def change(self, path, actions, diffs):
        """Note a change."""
        self.changes.append({"path": path, "actions": actions})
        self.diffs += diffs

    def changed(self):
        """The changes, and the paths that they are of."""
        paths = list(dict.fromkeys(change["path"] for change in self.changes))
        return {"changed_paths": paths, "changes": self.changes}

    def diff(self):
        """Ansible's diffs, in the order of the changes."""
        return self.diffs

    def told(self, name):
        """A path speaks for itself."""
        return name
