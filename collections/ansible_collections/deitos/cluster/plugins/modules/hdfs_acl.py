#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Access control lists of HDFS, as many paths as wanted in one call and one login."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hdfs_acl
short_description: Manage access control lists of HDFS
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Brings the access control list of one path (O(path)) or many (O(acls)) into the wanted state,
    over one login.
  - Does what C(hdfs dfs -setfacl) does, by the NameNode's own rules for masks and default entries,
    but only where that changes something.
  - The whole access control list of a path can also be given with its owner and mode, as
    O(deitos.cluster.hdfs_path#module:acl).
extends_documentation_fragment:
  - deitos.cluster.hdfs
attributes:
  check_mode:
    description: Says what would change without changing it. A path that is not there yet is taken
      to be made by an earlier task of the same run.
    support: full
  diff_mode:
    description: Shows each path that changes, as C(hdfs dfs -getfacl) prints it.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  acls:
    description:
      - Many paths in one call. Each takes the options below; what it does not give is taken from
        the same option of the task. A path must not be listed twice.
    type: list
    elements: dict
    suboptions:
      path:
        description: The absolute path, without C(hdfs://…). It must be there.
        type: str
      entries:
        description: The entries, as C(hdfs dfs -setfacl) takes them, one string each or several
          with commas between them.
        type: list
        elements: str
        aliases: [acl]
      state:
        description:
          - V(present) adds and changes these entries and keeps the others (C(setfacl -m)).
          - V(exact) leaves no other entries, access or default. The entries of owner, owning group
            and others stay as the mode has them when they are not listed.
          - V(absent) removes these entries (C(setfacl -x)).
          - V(stripped) removes everything but the mode (C(setfacl -b)).
          - V(no_default) removes the default entries (C(setfacl -k)).
        type: str
        choices: [present, exact, absent, stripped, no_default]
      recursive:
        description: Whether everything under a directory gets the same. Files get no default
          entries.
        type: bool
  path:
    description: The one path to manage, absolute, without C(hdfs://…). It must be there.
    type: str
  entries:
    description:
      - The entries, as C(hdfs dfs -setfacl) takes them, one string each or several with commas
        between them, as in V(user:alice:r-x), V(group::r-x), V(mask::rwx), V(other::---) and
        V(default:group:sales:rwX). With O(state=absent) the permissions are not needed.
      - V(X) in place of V(x) lets directories be entered, and files be run that somebody may run
        already.
      - Without an entry for it the mask is worked out anew whenever entries of its kind are given,
        so that all of them take effect.
    type: list
    elements: str
    aliases: [acl]
  state:
    description:
      - V(present) adds and changes these entries and keeps the others (C(setfacl -m)).
      - V(exact) leaves no other entries, access or default. The entries of owner, owning group and
        others stay as the mode has them when they are not listed.
      - V(absent) removes these entries (C(setfacl -x)).
      - V(stripped) removes everything but the mode (C(setfacl -b)).
      - V(no_default) removes the default entries (C(setfacl -k)).
    type: str
    choices: [present, exact, absent, stripped, no_default]
    default: present
  recursive:
    description: Whether everything under a directory gets the same. Files get no default entries.
    type: bool
    default: false
seealso:
  - module: deitos.cluster.hdfs_path
"""

EXAMPLES = r"""
- name: Let the auditors read a department's data, also what is yet to be written
  deitos.cluster.hdfs_acl:
    endpoints: [https://nn1.example.org:9871]
    path: /data/sales
    entries:
      - group:auditors:r-x
      - default:group:auditors:r-x

- name: Have exactly these access control lists
  deitos.cluster.hdfs_acl:
    state: exact
    acls:
      - {path: /data/sales, entries: ["user:etl:rwx", "default:user:etl:rwx"]}
      - {path: /data/hr, entries: []}

- name: Take somebody's access away everywhere
  deitos.cluster.hdfs_acl:
    path: /data
    entries: ["user:carol", "default:user:carol"]
    state: absent
    recursive: true
"""

RETURN = r"""
changed_paths:
  description: The paths whose access control list was (in check mode would be) changed.
  returned: always
  type: list
  elements: str
  sample: [/data/sales]
changes:
  description: What was done to each of them.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    actions:
      description: What was done.
      type: list
      elements: str
  sample:
    - path: /data/sales
      actions: [modify]
acls:
  description: The access control list of each listed path, as it is (in check mode would be) now.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    owner:
      description: Its owner.
      type: str
    group:
      description: Its group.
      type: str
    entries:
      description: All entries, in the order of C(hdfs dfs -getfacl).
      type: list
      elements: str
    effective:
      description: What each entry that the mask limits comes to; those of users and groups and of
        the owning group, by the entry without its permissions.
      type: dict
  sample:
    - path: /data/sales
      owner: etl
      group: sales
      entries: ["user::rwx", "group::r-x", "group:auditors:rwx", "mask::r-x", "other::---"]
      effective: {"group:": r-x, "group:auditors": r-x}
errors:
  description: The items that failed, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - path: /data/old
      msg: "there is no such path: make it first, with deitos.cluster.hdfs_path"
"""

from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.module_utils.webhdfs import (
    Statuses,
    check_path,
    manage,
    run_in_order,
)

ITEM = {
    "path": {"type": "str"},
    "entries": {"type": "list", "elements": "str", "aliases": ["acl"]},
    "state": {"type": "str", "choices": ["present", "exact", "absent", "stripped", "no_default"]},
    "recursive": {"type": "bool"},
}
DEFAULTS = {"state": "present", "recursive": False}


class Item:
    """One listed path."""

    def __init__(self, options):
        self.name = options["path"]
        self.path = check_path(options["path"] or "")
        self.state = options["state"]
        self.recursive = options["recursive"]
        listed = options["entries"] or []
        self.entries = hdfs_entries.parse(listed, removal=self.state == "absent")
        if self.state in ("stripped", "no_default") and listed:
            raise Problem(f"state={self.state} takes no entries")
        if self.state in ("present", "absent") and not self.entries:
            raise Problem(f"state={self.state} needs entries")

    @property
    def adds(self):
        """Whether there is something to set on a path that is yet to be made."""
        return bool(self.entries) and self.state in ("present", "exact")

    def wanted(self, acl, directory, below):
        """What the ACL shall be; `below` when the path is only reached by recursion."""
        entries = hdfs_entries.resolve(self.entries, acl, directory)
        if below and not directory:
            entries = [entry for entry in entries if not entry.default]
        if self.state == "stripped":
            return hdfs_entries.strip(acl)
        if self.state == "no_default":
            return hdfs_entries.strip_default(acl)
        if self.state == "exact":
            wanted = hdfs_entries.exact(acl, entries)
        elif not entries:
            return acl
        elif self.state == "present":
            wanted = hdfs_entries.merge(acl, entries)
        else:
            wanted = hdfs_entries.remove(acl, entries)
        if not directory and any(entry.default for entry in wanted):
            raise Problem("only directories have default entries")
        return wanted


class Change:
    """What is to be done to one path's ACL."""

    def __init__(self, item, path, before, after):
        self.item = item
        self.path = path
        self.before = before
        self.after = after
        self.begun = False
        self.action = "modify" if len(after) > hdfs_entries.BASE else "strip"

    def run(self, hdfs):
        """Do it."""
        for op, parameters in hdfs_entries.requests(self.before, self.after):
            hdfs.put(self.path, op, **parameters)
            self.begun = True

    def diff(self):
        """Ansible's diff of this change, as getfacl shows an ACL."""
        return {
            "before": hdfs_entries.shown(self.before),
            "after": hdfs_entries.shown(self.after),
            "before_header": self.path,
            "after_header": self.path,
        }


class Planner:
    """Finds what differs."""

    def __init__(self, hdfs, check_mode):
        self.hdfs = hdfs
        self.check_mode = check_mode
        self.tree = Statuses(hdfs)
        self.statuses = {}
        self.acls = {}
        self.trees = {}

    def load(self, items):
        """Ask for all that planning needs, side by side; an ACL only where there is one."""
        self.tree.load([item.path for item in items])
        for item in items:
            status = self.tree.known[item.path]
            if isinstance(status, dict):
                self.statuses[item.path] = status
                if item.recursive and status["type"] == "DIRECTORY":
                    self._load_tree(item)
        paths = [path for path, status in self.statuses.items() if status.get("aclBit")]
        self.acls = dict(zip(paths, self.hdfs.acls_of(paths)))

    def _load_tree(self, item):
        try:
            below = self.tree.below(item.path)
        except Problem as problem:
            self.trees[item.path] = problem
        else:
            self.trees[item.path] = below
            self.statuses.update(below)

    def _acl(self, path):
        found = self.acls.get(path)
        if isinstance(found, Problem):
            raise found
        if isinstance(found, list):
            return found
        return hdfs_entries.logical(self.statuses[path]["permission"], found)

    def plan(self, item):
        """The changes that an item needs; the ACLs are then known as changed."""
        if self.tree.get(item.path) is None:
            if self.check_mode:
                return [Change(item, item.path, [], item.entries)] if item.adds else []
            raise Problem("there is no such path: make it first, with deitos.cluster.hdfs_path")
        below = self.trees.get(item.path, {})
        if isinstance(below, Problem):
            raise below
        changes = []
        for path in [item.path, *sorted(below)]:
            before = self._acl(path)
            directory = self.statuses[path]["type"] == "DIRECTORY"
            after = item.wanted(before, directory, below=path != item.path)
            self.acls[path] = after
            if after != before:
                changes.append(Change(item, path, before, after))
        return changes

    def described(self, item):
        """The ACL of a listed path, for the return value."""
        status = self.statuses[item.path]
        acl = self._acl(item.path)
        return {
            "path": item.path,
            "owner": status["owner"],
            "group": status["group"],
            "entries": [str(entry) for entry in acl],
            "effective": hdfs_entries.effective(acl),
        }


def reconcile(module, report, hdfs, items):
    """Plan all, then do it."""
    planner = Planner(hdfs, module.check_mode)
    planner.load(items)
    changes = []
    planned = []
    for item in items:
        with report.item(item.name):
            changes += planner.plan(item)
            planned.append(item)
    failed = set()
    outcomes = (
        [(change, None) for change in changes] if module.check_mode else run_in_order(hdfs, changes)
    )
    for change, problem in outcomes:
        if problem:
            report.error(change.item.name, problem, change.path)
            report.begun |= change.begun
            failed |= {change.item.path, change.path}
        else:
            report.change(change.path, [change.action], [change.diff()])
    report.extra["acls"] = [
        planner.described(item)
        for item in planned
        if item.path in planner.statuses and item.path not in failed
    ]


def main():
    """Run the module."""
    manage("acls", ITEM, DEFAULTS, Item, reconcile, acls=[])


if __name__ == "__main__":
    main()
