#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Directories and files of HDFS, as many as wanted in one call and one login."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hdfs_path
short_description: Manage directories and files of HDFS
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Brings one path (O(path)) or many (O(paths)) of HDFS into the wanted state, over one login.
  - What is not given is left as it is.
  - Items take effect in the order given, as far as they touch each other. So list a directory
    before what is in it; what is missing above a path is made with O(parents_mode).
extends_documentation_fragment:
  - deitos.cluster.hdfs
  - deitos.cluster.hdfs.attributes
options:
  paths:
    description:
      - Many paths in one call. Each takes the options below; what it does not give is taken from
        the same option of the task. A path must not be listed twice.
    type: list
    elements: dict
    suboptions:
      path:
        description:
          - The absolute path, without C(hdfs://…).
          - V(/DIR/.snapshot/NAME) is a snapshot of a snapshottable directory, which
            V(state=directory) takes and V(state=absent) deletes.
        type: str
      state:
        description:
          - V(directory) is a directory, and is the default.
          - V(file) is a file, with O(content) or O(src) when it has to be written. Without them
            the file must be there.
          - V(touch) is a file, empty when it has to be made; one that is there gets the present
            time as its modification time, which is a change every time.
          - V(absent) removes it, past the trash. A directory with something in it needs
            O(recursive).
        type: str
        choices: [directory, file, touch, absent]
      content:
        description: What a V(state=file) contains.
        type: raw
      src:
        description: A file, on the host where the module runs, whose content a V(state=file) has.
        type: path
      owner:
        description: The owner's name. Only a superuser of HDFS can give paths away.
        type: str
      group:
        description: The group's name.
        type: str
      mode:
        description:
          - The mode, octal in quotes (V('1777')) or symbolic (V('u=rwx,g+rX,o='), V('+t')). A new
            directory has V('0755') and a new file V('0644') when not given; a default ACL or a
            umask never changes that.
          - On a path with an ACL the group's digit is what the owning group may do (the C(group::)
            entry), not the mask, so that this module and M(deitos.cluster.hdfs_acl) never undo
            each other's work. The mask stays as it is, unless O(acl) is given.
        type: raw
      acl:
        description:
          - All that the access control list has besides what O(mode) says, as
            C(hdfs dfs -setfacl) takes it. What else is there goes; an empty list leaves nothing but
            the mode. Entries of owner, owning group and others are refused, for O(mode) has them.
          - It is the path's alone, also with O(recursive). M(deitos.cluster.hdfs_acl) does trees,
            and adds or removes single entries.
        type: list
        elements: str
      recursive:
        description:
          - O(owner), O(group), O(mode) and O(replication) hold for everything under a directory.
            With a symbolic mode V(X) is for directories and programs only.
          - With V(state=absent), a directory goes with all that is in it.
        type: bool
      parents:
        description: Whether to make missing directories above the path.
        type: bool
      parents_mode:
        description: The mode of each directory made above the path. Each one is set, so that a
          umask leaves none that nobody can pass.
        type: raw
      replication:
        description: How many copies of a file HDFS keeps.
        type: int
      name_quota:
        description: How many files and directories may be in a directory, itself included;
          V(none) for no limit.
        type: raw
      space_quota:
        description: How many bytes a directory may take, all copies counted, as a number or like
          V(10g) or V(2t) (powers of 1024); V(none) for no limit.
        type: raw
      storage_policy:
        description: The storage policy in force, such as V(HOT), V(COLD) or V(ALL_SSD); V(none) for
          that of the directory above.
        type: str
      ec_policy:
        description: A directory's erasure coding policy in force, such as V(RS-6-3-1024k); V(none)
          for that of the directory above. It must be enabled. Files keep what they have until they
          are written anew.
        type: str
      snapshottable:
        description: Whether snapshots of a directory may be taken.
        type: bool
  path:
    description:
      - The one path to manage, absolute, without C(hdfs://…).
      - V(/DIR/.snapshot/NAME) is a snapshot of a snapshottable directory, which
        V(state=directory) takes and V(state=absent) deletes.
    type: str
  state:
    description:
      - V(directory) is a directory, and is the default.
      - V(file) is a file, with O(content) or O(src) when it has to be written. Without them the
        file must be there.
      - V(touch) is a file, empty when it has to be made; one that is there gets the present time
        as its modification time, which is a change every time.
      - V(absent) removes it, past the trash. A directory with something in it needs O(recursive).
    type: str
    choices: [directory, file, touch, absent]
    default: directory
  content:
    description:
      - What a V(state=file) contains.
      - A file is written beside its place and renamed into it, so that nobody reads half of it.
      - It keeps owner, group, mode, ACL, copies, storage policy and extended attributes of the file
        that it replaces. Its erasure coding is that of the directory.
    type: raw
  src:
    description:
      - A file, on the host where the module runs, whose content a V(state=file) has.
      - A large file's digest is kept with it (extended attribute C(user.deitos.content)), so that
        the next run need not read it back.
    type: path
  owner:
    description: The owner's name. Only a superuser of HDFS can give paths away.
    type: str
  group:
    description: The group's name.
    type: str
  mode:
    description:
      - The mode, octal in quotes (V('1777')) or symbolic (V('u=rwx,g+rX,o='), V('+t')). A new
        directory has V('0755') and a new file V('0644') when not given; a default ACL or a umask
        never changes that.
      - On a path with an ACL the group's digit is what the owning group may do (the C(group::)
        entry), not the mask, so that this module and M(deitos.cluster.hdfs_acl) never undo each
        other's work. The mask stays as it is, unless O(acl) is given.
    type: raw
  acl:
    description:
      - All that the access control list has besides what O(mode) says, as C(hdfs dfs -setfacl)
        takes it, as in V(user:alice:r-x), V(mask::rwx) and V(default:group:sales:rwX). What else is
        there goes; an empty list leaves nothing but the mode. Entries of owner, owning group and
        others are refused, for O(mode) has them.
      - It is the path's alone, also with O(recursive). M(deitos.cluster.hdfs_acl) does trees, and
        adds or removes single entries.
    type: list
    elements: str
  recursive:
    description:
      - O(owner), O(group), O(mode) and O(replication) hold for everything under a directory. With
        a symbolic mode V(X) is for directories and programs only.
      - With V(state=absent), a directory goes with all that is in it.
    type: bool
    default: false
  parents:
    description: Whether to make missing directories above the path.
    type: bool
    default: true
  parents_mode:
    description: The mode of each directory made above the path. Each one is set, so that a umask
      leaves none that nobody can pass.
    type: raw
    default: '0755'
  replication:
    description: How many copies of a file HDFS keeps.
    type: int
  name_quota:
    description: How many files and directories may be in a directory, itself included; V(none) for
      no limit.
    type: raw
  space_quota:
    description: How many bytes a directory may take, all copies counted, as a number or like V(10g)
      or V(2t) (powers of 1024); V(none) for no limit.
    type: raw
  storage_policy:
    description: The storage policy in force, such as V(HOT), V(COLD) or V(ALL_SSD); V(none) for
      that of the directory above.
    type: str
  ec_policy:
    description: A directory's erasure coding policy in force, such as V(RS-6-3-1024k); V(none) for
      that of the directory above. It must be enabled. Files keep what they have until they are
      written anew.
    type: str
  snapshottable:
    description: Whether snapshots of a directory may be taken.
    type: bool
seealso:
  - module: deitos.cluster.hdfs_acl
"""

EXAMPLES = r"""
- name: Have the directories that everybody needs
  deitos.cluster.hdfs_path:
    endpoints: [https://nn1.example.org:9871, https://nn2.example.org:9871]
    paths:
      - {path: /tmp, mode: "1777"}
      - {path: /user, mode: "0755"}
      - {path: /user/alice, owner: alice, group: alice, mode: "0700"}
      - {path: /data/sales, owner: etl, group: sales, mode: "0770", space_quota: 2t}
      - {path: /data/hr, group: hr, mode: "0750", acl: ["user:audit:r-x", "default:user:audit:r-x"]}
      - {path: /data/old, state: absent, recursive: true}

- name: Put a library archive where all jobs find it
  deitos.cluster.hdfs_path:
    path: /apps/tez/tez.tar.gz
    state: file
    src: /opt/tez/tez.tar.gz
    mode: "0644"
    replication: 3

- name: Let nobody but the group read what is already there
  deitos.cluster.hdfs_path:
    path: /data/sales
    group: sales
    mode: u=rwX,g=rX,o=
    recursive: true

- name: Take a snapshot before an upgrade
  deitos.cluster.hdfs_path:
    paths:
      - {path: /data, snapshottable: true}
      - {path: /data/.snapshot/before-upgrade}
"""

RETURN = r"""
changed_paths:
  description: The paths that were (in check mode would be) made, changed or removed.
  returned: always
  type: list
  elements: str
  sample: [/user/alice]
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
    - path: /user/alice
      actions: [create, owner]
errors:
  description: The items that failed, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - path: /data/old
      msg: the directory is not empty; recursive removes it with all that is in it
"""

import functools
import hashlib
import re
import time
import uuid

from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries, hdfs_mode
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.module_utils.webhdfs import (
    Inherited,
    RemoteProblem,
    Statuses,
    check_path,
    manage,
    parent_of,
    run_in_order,
)

ITEM = {
    "path": {"type": "str"},
    "state": {"type": "str", "choices": ["directory", "file", "touch", "absent"]},
    "content": {"type": "raw"},
    "src": {"type": "path"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "acl": {"type": "list", "elements": "str"},
    "recursive": {"type": "bool"},
    "parents": {"type": "bool"},
    "parents_mode": {"type": "raw"},
    "replication": {"type": "int"},
    "name_quota": {"type": "raw"},
    "space_quota": {"type": "raw"},
    "storage_policy": {"type": "str"},
    "ec_policy": {"type": "str"},
    "snapshottable": {"type": "bool"},
}
DEFAULTS = {"state": "directory", "recursive": False, "parents": True, "parents_mode": "0755"}
NEW_MODE = {"directory": 0o755, "file": 0o644, "touch": 0o644}
OF_DIRECTORIES = ("name_quota", "space_quota", "ec_policy", "snapshottable")
SNAPSHOTS = "/.snapshot/"

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
NO_QUOTA = -1
LARGEST_QUOTA = (1 << 63) - 1

# Larger files carry their digest, so that comparing them does not read them back.
RECORD_FROM = 1 << 20
RECORD = "user.deitos.content"
SHOWN_CONTENT = 1 << 16


def quota(value):
    """A quota as a number; NO_QUOTA for none."""
    if value is None:
        return None
    text = str(value).strip().lower()
    if text in ("none", "-1"):
        return NO_QUOTA
    match = re.fullmatch(r"(\d+)([kmgtp]?)b?", text)
    number = int(match.group(1)) * UNITS[match.group(2)] if match else 0
    if isinstance(value, bool) or not 0 < number < LARGEST_QUOTA:
        raise Problem(f"'{value}' is no quota: give a number above 0, such as 1000 or 10g, or none")
    return number


def told_quota(number):
    """A quota as a person reads it."""
    return "none" if number in (NO_QUOTA, LARGEST_QUOTA) else number


class Source:
    """What a file shall contain."""

    def __init__(self, item):
        self.path = item["src"]
        self.data = None
        content = item["content"]
        if content is not None:
            if isinstance(content, bool) or not isinstance(content, (str, int, float)):
                raise Problem(
                    f"content must be text, not a {type(content).__name__}: use a filter or"
                    " a template"
                )
            self.data = str(content).encode("utf-8", "surrogateescape")
            self.length = len(self.data)
            self.digest = hashlib.sha256(self.data).hexdigest()
            return
        digest = hashlib.sha256()
        self.length = 0
        try:
            with open(self.path, "rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
                    self.length += len(piece)
        except OSError as error:
            raise Problem(
                f"src {self.path} cannot be read on the host where the module runs:"
                f" {error.strerror}"
            ) from None
        self.digest = digest.hexdigest()

    def write(self, hdfs, path, **parameters):
        """Write it to a new file of HDFS."""
        if self.data is not None:
            hdfs.create(path, self.data, **parameters)
            return
        with open(self.path, "rb") as file:
            hdfs.create(path, file, **parameters)

    def small(self):
        """The content when it is little enough to be shown."""
        if self.length > SHOWN_CONTENT:
            return None
        if self.data is None:
            with open(self.path, "rb") as file:
                self.data = file.read()
        return self.data


def content_of(hdfs, path, status):
    """(digest, bytes or None) of a file of HDFS: by its record when that still holds."""
    if status["length"] >= RECORD_FROM:
        record = read_record(hdfs, path)
        if record and record[1:] == [str(status["modificationTime"]), str(status["length"])]:
            return record[0], None
    digest = hashlib.sha256()
    kept = []
    length = 0
    for piece in hdfs.read(path) if status["length"] else ():
        digest.update(piece)
        length += len(piece)
        if status["length"] <= SHOWN_CONTENT:
            kept.append(piece)
    if length != status["length"]:
        raise Problem(
            f"{length} bytes were read of {status['length']}: if somebody writes to this file, stop"
            " that; run the task again"
        )
    shown = b"".join(kept) if status["length"] <= SHOWN_CONTENT else None
    return digest.hexdigest(), shown


def read_record(hdfs, path):
    """[digest, modification time, length] as they were when the file was written."""
    try:
        answer = hdfs.get(path, "GETXATTRS", **{"xattr.name": RECORD, "encoding": "text"})
    except RemoteProblem:
        # HDFS has no better word for an attribute that is not there.
        return None
    values = [item["value"] for item in answer["XAttrs"] if item["name"] == RECORD]
    return values[0].strip('"').split(":") if values and values[0] else None


def write_record(hdfs, path, digest):
    """Keep a new file's digest with it."""
    status = hdfs.status(path)
    value = f"{digest}:{status['modificationTime']}:{status['length']}"
    hdfs.put(
        path,
        "SETXATTR",
        **{"xattr.name": RECORD, "xattr.value": f'"{value}"', "flag": "CREATE"},
    )


def as_text(data, length):
    """File content for a diff."""
    if data is None:
        return f"({length} bytes)\n"
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"({len(data)} bytes, not text)\n"


def told_acl(entries):
    """An ACL as a diff shows it, the mode being shown by itself."""
    return [str(entry) for entry in hdfs_entries.beside_mode(entries)]


class Change:
    """What is to be done to one path, its requests in order."""

    def __init__(self, item, path):
        self.item = item
        self.path = path
        self.actions = []
        self.before = {}
        self.after = {}
        self.texts = None
        self.steps = []
        self.begun = False

    def add(self, action, key, before, after, *steps):
        """One difference: what it is called, how it is shown, how it is done."""
        if action not in self.actions:
            self.actions.append(action)
        if before is not None:
            self.before[key] = before
        if after is not None:
            self.after[key] = after
        self.steps += steps

    def run(self, hdfs):
        """Do it."""
        for step in self.steps:
            step(hdfs)
            self.begun = True

    def diffs(self):
        """Ansible's diffs of this change."""
        headers = {"before_header": self.path, "after_header": self.path}
        found = []
        if self.texts:
            found.append({"before": self.texts[0], "after": self.texts[1], **headers})
        if self.before or self.after:
            found.append({"before": self.before, "after": self.after, **headers})
        return found


def put(path, op, **parameters):
    """A step: one request."""
    return lambda hdfs: hdfs.put(path, op, **parameters)


def post(path, op, **parameters):
    """A step: one request that WebHDFS wants as a POST."""
    return lambda hdfs: hdfs.call("POST", path, op, **parameters)


def unset_ec(path):
    """A step: leave the erasure coding policy to what is above."""

    def step(hdfs):
        try:
            hdfs.call("POST", path, "UNSETECPOLICY")
        except RemoteProblem as problem:
            # What is in force came from above all along.
            if problem.kind != "NoECPolicySetException":
                raise

    return step


def ensure_mode(path, mode):
    """A step: correct what a default ACL made of a new path's mode."""

    def step(hdfs):
        status = hdfs.status(path)
        acl = hdfs.acl(path) if status.get("aclBit") else None
        if hdfs_mode.mode_of(status, acl) != mode:
            for change in mode_steps(path, mode, status, acl):
                change(hdfs)

    return step


def ensure_acl(path, entries):
    """A step: give a path an ACL, whatever it has inherited."""

    def step(hdfs):
        status = hdfs.status(path)
        acl = hdfs.acl(path) if status.get("aclBit") else None
        for change in acl_steps(path, hdfs_entries.logical(status["permission"], acl), entries):
            change(hdfs)

    return step


def acl_steps(path, before, after):
    """The requests that make one ACL of another."""
    return [put(path, op, **words) for op, words in hdfs_entries.requests(before, after)]


def mode_steps(path, mode, status, acl):
    """The requests that give a path a mode, its mask kept."""
    if not hdfs_mode.is_extended(acl):
        return [put(path, "SETPERMISSION", permission=f"{mode:o}")]
    mask = int(status["permission"], 8) & 0o070
    entries = f"group::{hdfs_mode.triple(mode >> 3)},mask::{hdfs_mode.triple(mask >> 3)}"
    return [
        put(path, "MODIFYACLENTRIES", aclspec=entries),
        put(path, "SETPERMISSION", permission=f"{mode & ~0o070 | mask:o}"),
    ]


class Item:
    """One wanted path."""

    def __init__(self, options):
        self.options = options
        self.name = options["path"]
        self.path = check_path(options["path"] or "")
        self.state = options["state"]
        self.source = None
        self.mode = hdfs_mode.parse(options["mode"])
        self.parents_mode = hdfs_mode.parse(options["parents_mode"])
        self.acl = None if options["acl"] is None else hdfs_entries.parse(options["acl"])
        self.quotas = {
            "name_quota": quota(options["name_quota"]),
            "space_quota": quota(options["space_quota"]),
        }
        self._check()

    def _check(self):
        options = self.options
        written = [key for key in ("content", "src") if options[key] is not None]
        if len(written) == 2:
            raise Problem("content and src exclude each other")
        if written and self.state != "file":
            raise Problem(f"{written[0]} goes with state=file only")
        for key in OF_DIRECTORIES:
            if options[key] is not None and self.state in ("file", "touch"):
                raise Problem(f"{key} is for directories")
        if options["replication"] is not None and not 1 <= options["replication"] <= 512:
            raise Problem(f"replication must be from 1 to 512, not {options['replication']}")
        for key in ("owner", "group"):
            if options[key] is not None and not options[key].strip():
                raise Problem(f"{key} must not be empty")
        for entry in self.acl or []:
            if entry.of_mode:
                raise Problem(f"acl has {entry}: give what owner, group and others may do as mode")
            if entry.default and self.state in ("file", "touch"):
                raise Problem(f"acl has {entry}: only directories have default entries")
        if self.state == "absent" and self.path == "/":
            raise Problem("the root directory cannot be removed")
        if self.snapshot:
            self._check_snapshot()
        if written:
            self.source = Source(options)

    @property
    def snapshot(self):
        """(directory, snapshot's name) when the path is a snapshot; None otherwise."""
        if SNAPSHOTS not in self.path:
            return None
        directory, name = self.path.split(SNAPSHOTS, 1)
        return directory or "/", name

    def entries(self, mode, before, directory):
        """All entries of the path's ACL, given its mode and the entries that it has."""
        base = hdfs_entries.of_mode(mode)
        there = [*base, *hdfs_entries.beside_mode(before)]
        return hdfs_entries.exact(base, hdfs_entries.resolve(self.acl, there, directory))

    def _check_snapshot(self):
        if "/" in self.snapshot[1] or self.state not in ("directory", "absent"):
            raise Problem("what is in a snapshot cannot be changed")
        own = ("owner", "group", "mode", "acl", "replication", "storage_policy", *OF_DIRECTORIES)
        for key in own:
            if self.options[key] is not None:
                raise Problem(f"a snapshot has no {key} of its own")


class Planner:
    """Finds what differs, item by item, as if the items before were already done."""

    def __init__(self, hdfs):
        self.hdfs = hdfs
        self.tree = Statuses(hdfs)
        self.acls = {}
        self.trees = {}
        self.contents = {}
        self.quotas = {}
        self.storage = Inherited(self.tree, lambda status: status.get("storagePolicy", 0))
        self.ec = Inherited(self.tree, ec_policy_of)

    @functools.cached_property
    def storage_policies(self):
        """{name: number} of all there are."""
        answer = self.hdfs.get("/", "GETALLSTORAGEPOLICY")["BlockStoragePolicies"]
        return {policy["name"]: policy["id"] for policy in answer["BlockStoragePolicy"]}

    @functools.cached_property
    def ec_policies(self):
        """{name: state} of all there are."""
        answer = self.hdfs.get("/", "GETECPOLICIES")["ErasureCodingPolicies"]
        return {
            found["policy"]["name"]: found["state"]
            for found in answer["ErasureCodingPolicyInfo"] or []
        }

    def load(self, items):
        """Ask for all that planning needs, side by side."""
        self.tree.load([item.path for item in items])
        found = [(item, self.tree.known[item.path]) for item in items]
        found = [(item, status) for item, status in found if isinstance(status, dict)]
        self._load_trees([item for item, status in found if self._spreads(item, status)])
        self._load_acls(found)
        compare = [
            (item, status)
            for item, status in found
            if item.source
            and status["type"] == "FILE"
            and (status["length"] == item.source.length or status["length"] <= SHOWN_CONTENT)
        ]
        answers = self.hdfs.map(lambda pair: content_of(self.hdfs, pair[0].path, pair[1]), compare)
        self.contents = {item.path: answer for (item, _status), answer in zip(compare, answers)}
        limited = [
            item.path
            for item, status in found
            if status["type"] == "DIRECTORY" and any(item.quotas.values())
        ]
        answers = self.hdfs.map(lambda path: self.hdfs.get(path, "GETQUOTAUSAGE"), limited)
        self.quotas = dict(zip(limited, answers))

    @staticmethod
    def _spreads(item, status):
        wanted = ("owner", "group", "mode", "replication")
        return (
            item.state == "directory"
            and item.options["recursive"]
            and status["type"] == "DIRECTORY"
            and any(item.options[key] is not None for key in wanted)
        )

    def _load_trees(self, items):
        for item in items:
            try:
                self.trees[item.path] = self.tree.below(item.path)
            except Problem as problem:
                self.trees[item.path] = problem

    def _load_acls(self, found):
        paths = set()
        for item, status in found:
            if item.mode is None and item.acl is None:
                continue
            below = self.trees.get(item.path, {})
            statuses = {item.path: status, **(below if isinstance(below, dict) else {})}
            paths |= {path for path, status in statuses.items() if status.get("aclBit")}
        paths = sorted(paths)
        self.acls = dict(zip(paths, self.hdfs.acls_of(paths)))

    def plan(self, item):
        """The changes that an item needs; the tree then knows them as done."""
        status = self.tree.get(item.path)
        if item.snapshot:
            return self._plan_snapshot(item, status)
        if item.state == "absent":
            return self._plan_absent(item, status)
        kind = "DIRECTORY" if item.state == "directory" else "FILE"
        self._check_policies(item, status or {})
        if status is None:
            return self._plan_new(item)
        if status["type"] != kind and not (item.state == "touch" and status["type"] == "DIRECTORY"):
            raise Problem(
                f"a {status['type'].lower()} is in the way: remove it first if it is not needed"
            )
        change = Change(item, item.path)
        if item.state == "touch":
            self._plan_touch(change)
        if item.source:
            self._plan_content(change, item, status)
        after = self._plan_attributes(change, item, item.path, status, at_top=True)
        self._plan_extras(change, item, after)
        self.tree.known[item.path] = after
        changes = [change] if change.actions else []
        below = self.trees.get(item.path, {})
        if isinstance(below, Problem):
            raise below
        for path, inner in below.items():
            if self.tree.is_gone(path):
                continue
            inner = self.tree.known.get(path) or inner
            change = Change(item, path)
            self.tree.known[path] = self._plan_attributes(change, item, path, inner)
            if change.actions:
                changes.append(change)
        return changes

    def _check_policies(self, item, status):
        """Refuse policies that HDFS would refuse, before anything of the item is planned."""
        name = (item.options["storage_policy"] or "none").upper()
        if name != "NONE" and name not in self.storage_policies:
            raise Problem(
                f"there is no storage policy '{item.options['storage_policy']}': HDFS has"
                f" {', '.join(sorted(self.storage_policies))}"
            )
        name = item.options["ec_policy"] or "none"
        if name.lower() in ("none", "replication") or name == ec_policy_of(status):
            return
        if name not in self.ec_policies:
            raise Problem(
                f"there is no erasure coding policy '{name}': HDFS has"
                f" {', '.join(sorted(self.ec_policies))}"
            )
        if self.ec_policies[name] != "ENABLED":
            raise Problem(
                f"the erasure coding policy {name} is {self.ec_policies[name].lower()}: enable it"
                f" with 'hdfs ec -enablePolicy -policy {name}', or use another"
            )

    def _plan_snapshot(self, item, status):
        directory, name = item.snapshot
        change = Change(item, item.path)
        wanted = item.state == "directory"
        if wanted == (status is not None):
            return []
        above = self.tree.get(directory)
        if wanted and (above is None or not above.get("snapshotEnabled")):
            raise Problem(f"{directory} is not snapshottable: list it with snapshottable: true")
        if wanted:
            step = put(directory, "CREATESNAPSHOT", snapshotname=name)
            change.add("create", "state", "absent", "snapshot", step)
            self.tree.known[item.path] = dict(above)
        else:

            def step(hdfs):
                hdfs.call("DELETE", directory, "DELETESNAPSHOT", snapshotname=name)

            change.add("remove", "state", "snapshot", "absent", step)
            self.tree.remove(item.path)
        return [change]

    def _plan_absent(self, item, status):
        if status is None:
            return []
        kind = status["type"].lower()
        recursive = item.options["recursive"]
        if kind == "directory" and not recursive and self.tree.children(item.path, status) > 0:
            raise Problem("the directory is not empty; recursive removes it with all that is in it")

        def step(hdfs):
            answer = hdfs.call("DELETE", item.path, "DELETE", recursive=str(recursive).lower())
            if not answer.get("boolean") and hdfs.status(item.path) is not None:
                raise Problem(
                    "HDFS has not removed it and does not say why: see the NameNode's log"
                )

        change = Change(item, item.path)
        change.add("remove", "state", kind, "absent", step)
        self.tree.remove(item.path)
        return [change]

    def _plan_parents(self, item):
        """The directories to make above a path, the uppermost first; and what is above those."""
        missing = []
        above = parent_of(item.path)
        while (status := self.tree.get(above)) is None:
            if above == "/":
                raise Problem("the server knows no root directory: is this address a NameNode's?")
            missing.append(above)
            above = parent_of(above)
        if status["type"] != "DIRECTORY":
            raise Problem(f"{above} is a file, so nothing can be in it")
        if missing and not item.options["parents"]:
            raise Problem(f"the directory {missing[0]} is missing, and parents is off")
        mode = item.parents_mode(NEW_MODE["directory"], True)
        changes = []
        inherits = bool(status.get("aclBit"))
        for path in reversed(missing):
            change = Change(item, path)
            self._make_directory(change, path, mode, inherits)
            self.tree.add(path, self._new_status("DIRECTORY", mode, above=status))
            status = self.tree.known[path]
            changes.append(change)
        return changes, status

    @staticmethod
    def _new_status(kind, mode, above):
        return {
            "type": kind,
            "permission": f"{mode:o}",
            # Whoever runs this; not known before it is done.
            "owner": None,
            "group": above.get("group"),
            "length": 0,
            "childrenNum": 0,
            "aclBit": above.get("aclBit", False),
            "snapshotEnabled": False,
            "replication": 0,
            "new": True,
        }

    @staticmethod
    def _make_directory(change, path, mode, inherits):
        change.add(
            "create", "state", "absent", "directory", put(path, "MKDIRS", permission=f"{mode:o}")
        )
        change.after["mode"] = f"{mode:04o}"
        if inherits:
            change.steps.append(ensure_mode(path, mode))

    def _plan_new(self, item):
        if item.state == "file" and not item.source:
            raise Problem("there is no such file, and neither content nor src says what to write")
        changes, above = self._plan_parents(item)
        mode = NEW_MODE[item.state]
        if item.mode is not None:
            mode = item.mode(mode, item.state == "directory")
        change = Change(item, item.path)
        kind = "DIRECTORY" if item.state == "directory" else "FILE"
        status = self._new_status(kind, mode, above)
        if item.state == "directory":
            inherits = bool(above.get("aclBit"))
            self._make_directory(change, item.path, mode, inherits)
            self._plan_owner(change, item, item.path, status)
            if item.acl is not None:
                self._plan_new_acl(change, item, status, inherits)
        else:
            change.add("create", "state", "absent", "file", self._writer(item, mode, None))
            for key in ("owner", "group"):
                if item.options[key] is not None:
                    change.add(key, key, None, item.options[key])
            change.after["mode"] = f"{mode:04o}"
            if item.acl is not None:
                change.after["acl"] = told_acl(item.entries(mode, [], directory=False))
            if item.source:
                change.texts = ("", as_text(item.source.small(), item.source.length))
        status["owner"] = item.options["owner"]
        status["group"] = item.options["group"] or status["group"]
        self._plan_replication(change, item, item.path, status)
        self.tree.add(item.path, status)
        self._plan_extras(change, item, status)
        return [*changes, change]

    def _plan_touch(self, change):
        # The time is that of the doing, so that check mode and a real run show the same.
        change.add(
            "touch",
            "modification_time",
            "earlier",
            "now",
            lambda hdfs: hdfs.put(
                change.path, "SETTIMES", modificationtime=int(time.time() * 1000), accesstime=-1
            ),
        )

    def _plan_content(self, change, item, status):
        answer = self.contents.get(item.path)
        if isinstance(answer, Problem):
            raise answer
        if answer and answer[0] == item.source.digest:
            return
        mode = hdfs_mode.mode_of(status, self._acl(item.path, status))
        if item.mode is not None:
            mode = item.mode(mode, False)
        change.add("content", "content", None, None, self._writer(item, mode, status))
        data = answer[1] if answer else None
        change.texts = (
            as_text(data, status["length"]),
            as_text(item.source.small(), item.source.length),
        )

    def _acl(self, path, status):
        if not status.get("aclBit"):
            return None
        if path not in self.acls:
            self.acls[path] = self.hdfs.acl(path)
        found = self.acls[path]
        if isinstance(found, Problem):
            raise found
        return found

    def _writer(self, item, mode, old):
        """A step: write the file beside its place, make it like the old one, rename it."""
        acl = self._written_acl(item, mode, old)

        def step(hdfs):
            directory, name = item.path.rsplit("/", 1)
            # HDFS allows names of 255 bytes.
            short = name.encode()[:200].decode("utf-8", "ignore")
            temporary = f"{directory}/.{short}.{uuid.uuid4().hex}.tmp"
            parameters = {"permission": f"{mode:o}", "overwrite": "false"}
            if item.options["replication"] or old:
                parameters["replication"] = item.options["replication"] or (
                    old["replication"] or None
                )
            try:
                source = item.source
                if source:
                    source.write(hdfs, temporary, **parameters)
                else:
                    hdfs.create(temporary, b"", **parameters)
                self._dress(hdfs, item, temporary, mode, old, acl)
                hdfs.put(temporary, "RENAME", destination=item.path, renameoptions="OVERWRITE")
            except Problem:
                remove_quietly(hdfs, temporary)
                raise
            if source and source.length >= RECORD_FROM:
                write_record(hdfs, item.path, source.digest)

        return step

    def _written_acl(self, item, mode, old):
        """The ACL of a file that is written; None for nothing but its mode."""
        after = []
        if old:
            after = hdfs_entries.logical(old["permission"], self._acl(item.path, old))
        if item.acl is not None:
            after = item.entries(mode, after, directory=False)
        return hdfs_entries.spec(after) if len(after) > hdfs_entries.BASE else None

    def _dress(self, hdfs, item, temporary, mode, old, acl):
        """All that a new file has besides its content, before it takes its place."""
        status = hdfs.status(temporary)
        wanted = item.source.length if item.source else 0
        if status["length"] != wanted:
            raise Problem(f"only {status['length']} of {wanted} bytes were written")
        names = {
            key: item.options[key] or (old[key] if old else None) for key in ("owner", "group")
        }
        names = {key: name for key, name in names.items() if name and name != status[key]}
        if names:
            hdfs.put(temporary, "SETOWNER", **names)
        if acl:
            hdfs.put(temporary, "SETACL", aclspec=acl)
        elif status.get("aclBit") and (old or item.acl is not None):
            hdfs.put(temporary, "REMOVEACL")
        ensure_mode(temporary, mode)(hdfs)
        if old:
            self._keep(hdfs, item.path, temporary, status)

    def _keep(self, hdfs, path, temporary, status):
        """Give a new file the storage policy and the extended attributes of the one it replaces."""
        # Asked for anew: a change above may have changed what it inherits.
        policy = (hdfs.status(path) or {}).get("storagePolicy", 0)
        if policy and policy != status.get("storagePolicy", 0):
            names = {number: name for name, number in self.storage_policies.items()}
            hdfs.put(temporary, "SETSTORAGEPOLICY", storagepolicy=names[policy])
        try:
            attributes = hdfs.get(path, "GETXATTRS", encoding="hex")["XAttrs"]
        except RemoteProblem:
            # This HDFS has extended attributes switched off.
            return
        for attribute in attributes:
            if attribute["name"] != RECORD:
                words = {"xattr.name": attribute["name"], "xattr.value": attribute["value"]}
                hdfs.put(temporary, "SETXATTR", **words, flag="CREATE")

    def _plan_attributes(self, change, item, path, status, at_top=False):
        """Owner, group, mode and replication of what is there; returns the status afterwards."""
        old, status = status, dict(status)
        # A rewritten file is given its owner, mode and ACL before it takes its place.
        rewritten = "content" in change.actions
        before = len(change.steps)
        self._plan_owner(change, item, path, status)
        if item.mode is not None:
            self._plan_mode(change, item, path, status)
        if at_top and item.acl is not None:
            self._plan_acl(change, item, old, status)
        if rewritten:
            del change.steps[before:]
        self._plan_replication(change, item, path, status, with_content=rewritten)
        return status

    @staticmethod
    def _plan_owner(change, item, path, status):
        names = {
            key: item.options[key]
            for key in ("owner", "group")
            if item.options[key] is not None
            and (status.get("new") or item.options[key] != status[key])
        }
        if not names:
            return
        for key, name in names.items():
            change.add(key, key, None if status.get("new") else status[key], name)
        status.update(names)
        change.steps.append(put(path, "SETOWNER", **names))

    def _plan_mode(self, change, item, path, status):
        acl = self._acl(path, status) if not status.get("new") else None
        now = hdfs_mode.mode_of(status, acl)
        wanted = item.mode(now, status["type"] == "DIRECTORY")
        if now == wanted:
            return
        change.add(
            "mode",
            "mode",
            f"{now:04o}",
            f"{wanted:04o}",
            *mode_steps(path, wanted, status, acl),
        )
        if not hdfs_mode.is_extended(acl):
            status["permission"] = f"{wanted:o}"

    def _plan_acl(self, change, item, old, status):
        """The ACL of a path; what the mode says of it is planned already."""
        if old.get("new"):
            self._plan_new_acl(change, item, status, inherits=old["aclBit"])
            return
        found = self._acl(item.path, old)
        before = hdfs_entries.logical(old["permission"], found)
        directory = old["type"] == "DIRECTORY"
        mode = hdfs_mode.mode_of(old, found)
        if item.mode is not None:
            mode = item.mode(mode, directory)
        after = item.entries(mode, before, directory)
        if told_acl(before) != told_acl(after):
            steps = acl_steps(item.path, before, after)
            change.add("acl", "acl", told_acl(before), told_acl(after), *steps)
            self._know_acl(item.path, status, mode, after)

    def _plan_new_acl(self, change, item, status, inherits):
        mode = int(status["permission"], 8)
        after = item.entries(mode, [], directory=True)
        if inherits:
            change.add("acl", "acl", None, told_acl(after), ensure_acl(item.path, after))
        elif told_acl(after):
            steps = acl_steps(item.path, hdfs_entries.of_mode(mode), after)
            change.add("acl", "acl", None, told_acl(after), *steps)
        self._know_acl(item.path, status, mode, after)

    def _know_acl(self, path, status, mode, entries):
        """From here on, a path has these entries."""
        self.acls[path] = hdfs_entries.as_status(entries)
        permission = int(self.acls[path]["permission"], 8) | mode & hdfs_mode.STICKY
        status.update(permission=f"{permission:o}", aclBit=len(entries) > hdfs_entries.BASE)

    @staticmethod
    def _plan_replication(change, item, path, status, with_content=False):
        wanted = item.options["replication"]
        if wanted is None or status["type"] != "FILE" or status["replication"] == wanted:
            return
        # A new file is written with it.
        steps = [put(path, "SETREPLICATION", replication=wanted)]
        if status.get("new") or with_content:
            steps = []
        before = None if status.get("new") else status["replication"]
        change.add("replication", "replication", before, wanted, *steps)
        status["replication"] = wanted

    def _plan_extras(self, change, item, status):
        """What only the path itself has: quotas, policies, snapshots."""
        if status["type"] == "DIRECTORY":
            self._plan_quotas(change, item)
            self._plan_ec(change, item, status)
            self._plan_snapshottable(change, item, status)
        self._plan_storage_policy(change, item, status)

    def _plan_quotas(self, change, item):
        wanted = {key: value for key, value in item.quotas.items() if value is not None}
        if not wanted:
            return
        usage = self.quotas.get(item.path, {"QuotaUsage": {"quota": -1, "spaceQuota": -1}})
        if isinstance(usage, Problem):
            raise usage
        now = {
            "name_quota": usage["QuotaUsage"]["quota"],
            "space_quota": usage["QuotaUsage"]["spaceQuota"],
        }
        words = {"name_quota": "namespacequota", "space_quota": "storagespacequota"}
        changes = {
            key: value for key, value in wanted.items() if told_quota(value) != told_quota(now[key])
        }
        if not changes:
            return
        for key, value in changes.items():
            change.add(key, key, told_quota(now[key]), told_quota(value))
        change.steps.append(
            put(item.path, "SETQUOTA", **{words[key]: value for key, value in changes.items()})
        )

    def _plan_storage_policy(self, change, item, status):
        name = item.options["storage_policy"]
        if name is None:
            return
        names = {number: policy for policy, number in self.storage_policies.items()}
        wanted = self._inherited(self.storage, item.path, 0)
        step = post(item.path, "UNSETSTORAGEPOLICY")
        if name.lower() != "none":
            name = name.upper()
            wanted = {self.storage_policies[name]}
            step = put(item.path, "SETSTORAGEPOLICY", storagepolicy=name)
        if self._plan_policy(self.storage, item.path, wanted):
            before = names.get(status.get("storagePolicy", 0), "none")
            change.add("storage_policy", "storage_policy", before, name, step)

    def _plan_ec(self, change, item, status):
        name = item.options["ec_policy"]
        if name is None:
            return
        wanted = self._inherited(self.ec, item.path, None)
        step = unset_ec(item.path)
        if name.lower() != "none":
            wanted = {name}
            step = put(item.path, "SETECPOLICY", ecpolicy=name)
        if self._plan_policy(self.ec, item.path, wanted):
            change.add("ec_policy", "ec_policy", ec_policy_of(status) or "none", name, step)

    @staticmethod
    def _inherited(policy, path, without):
        return {without} if path == "/" else policy.get(parent_of(path))

    @staticmethod
    def _plan_policy(policy, path, wanted):
        """Whether a path needs a policy set; from here on it has one of those wanted."""
        now = policy.get(path)
        if now == wanted and len(now) == 1:
            return False
        policy.set(path, wanted)
        return True

    @staticmethod
    def _plan_snapshottable(change, item, status):
        wanted = item.options["snapshottable"]
        now = bool(status.get("snapshotEnabled"))
        if wanted is None or wanted == now:
            return
        op = "ALLOWSNAPSHOT" if wanted else "DISALLOWSNAPSHOT"
        change.add("snapshottable", "snapshottable", now, wanted, put(item.path, op))
        status["snapshotEnabled"] = wanted


def ec_policy_of(status):
    """The name of the erasure coding policy in force; None for replication."""
    return status.get("ecPolicy") or (status.get("ecPolicyObj") or {}).get("name")


def remove_quietly(hdfs, path):
    """Remove what a failed write left behind; the failure itself is what is told."""
    try:
        hdfs.call("DELETE", path, "DELETE", recursive="false")
    except Problem:
        return


def reconcile(module, report, hdfs, items):
    """Plan all, then do it."""
    planner = Planner(hdfs)
    planner.load(items)
    changes = []
    for item in items:
        with report.item(item.name):
            changes += planner.plan(item)
    if module.check_mode:
        for change in changes:
            report.change(change.path, change.actions, change.diffs())
        return
    for change, problem in run_in_order(hdfs, changes):
        if problem:
            report.error(change.item.name, problem, change.path)
            report.begun |= change.begun
        else:
            report.change(change.path, change.actions, change.diffs())


def main():
    """Run the module."""
    manage("paths", ITEM, DEFAULTS, Item, reconcile)


if __name__ == "__main__":
    main()
