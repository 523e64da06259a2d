# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Lists of items in one call: options from the task, errors and changes item by item."""

from __future__ import annotations

import contextlib

from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import ItemError


def merge(params, plural, options, default_state="present"):
    """The items of the list, or the single one, each with the task's options as defaults."""
    if params[plural] is None:
        items = [{option: params[option] for option in options}]
    else:
        items = [
            {
                option: params[option] if item.get(option) is None else item[option]
                for option in options
            }
            for item in params[plural]
        ]
    for item in items:
        if item.get("state") is None:
            item["state"] = default_state
    return items


class Report:
    """Collects what was done and what failed, then ends the module once."""

    def __init__(self, module, kind, result=None):
        """`result` names the list of changes in what the module returns; None: it makes none."""
        self.module = module
        self.kind = kind
        self.result = result
        self.changes = []
        self.errors = []
        self.before = []
        self.after = []
        self.extra = {}

    @contextlib.contextmanager
    def item(self, name):
        """An ItemError inside belongs to this item alone."""
        try:
            yield
        except ItemError as error:
            self.errors.append({"name": name or "", "msg": str(error)})

    def change(self, name, actions, before, after):
        """Note a change; before and after are what a person shall see (None: not there)."""
        self.changes.append({"name": name, "actions": actions})
        self.before.append(_lines(self.kind, name, before))
        self.after.append(_lines(self.kind, name, after))

    def results(self):
        """What the module returns."""
        results = {"changed": bool(self.changes), **self.extra}
        if self.result:
            results[self.result] = self.changes
        if self.result and self.module._diff:
            results["diff"] = {"before": "".join(self.before), "after": "".join(self.after)}
        if self.errors:
            results["errors"] = self.errors
        return results

    def fail(self, message):
        """The whole call failed."""
        self.module.fail_json(msg=message, **self.results())

    def exit(self):
        """End the module, as a failure when any item failed."""
        if not self.errors:
            self.module.exit_json(**self.results())
        lines = [f"{self.kind} '{error['name']}': {error['msg']}" for error in self.errors]
        message = "; ".join(lines[:20])
        if len(lines) > 20:
            message += f"; and {len(lines) - 20} more (see errors)"
        self.fail(message)


def _lines(kind, name, values):
    if values is None:
        return ""
    lines = [f"{kind} {name}\n"]
    lines += [f"  {key}: {value}\n" for key, value in sorted(values.items())]
    return "".join(lines)
