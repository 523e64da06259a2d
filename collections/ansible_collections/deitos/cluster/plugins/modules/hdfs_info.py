#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What an HDFS is like: its NameNodes, its health, and any paths."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hdfs_info
short_description: Read the state of an HDFS and of paths in it
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Tells which NameNode is active, how the file system is, and what paths are like, over one login.
  - For assertions, and for playbooks that must decide something. Changes nothing.
extends_documentation_fragment:
  - deitos.cluster.hdfs
attributes:
  check_mode:
    description: Reads as ever.
    support: full
  diff_mode:
    description: Changes nothing, so has nothing to show.
    support: none
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  paths:
    description: The paths to tell about, absolute, without C(hdfs://…).
    type: list
    elements: str
    default: []
  usage:
    description: Whether to count what is in each path too, which takes long for large trees.
    type: bool
    default: false
seealso:
  - module: deitos.cluster.jmx_info
  - module: deitos.cluster.hdfs_path
"""

EXAMPLES = r"""
- name: Look at HDFS
  deitos.cluster.hdfs_info:
    endpoints: [https://nn1.example.org:9871, https://nn2.example.org:9871]
    paths: [/data/sales]
  register: hdfs

- name: Insist on a healthy file system and a closed directory
  ansible.builtin.assert:
    that:
      - hdfs.health.missing_blocks == 0
      - not hdfs.health.safe_mode
      - hdfs.paths['/data/sales'].mode == '0770'
"""

RETURN = r"""
namenodes:
  description: Each NameNode's state, by its address; V(unreachable) and the reason when it does not
    answer.
  returned: always
  type: dict
  sample:
    https://nn1.example.org:9871: {state: active}
    https://nn2.example.org:9871: {state: standby}
health:
  description: How the active NameNode sees the file system; empty when none is active.
  returned: always
  type: dict
  contains:
    safe_mode:
      description: Whether it takes no changes.
      type: bool
    live_datanodes:
      description: How many DataNodes report.
      type: int
    dead_datanodes:
      description: How many do not.
      type: int
    capacity:
      description: Bytes in all.
      type: int
    remaining:
      description: Bytes that are free.
      type: int
    files:
      description: Files and directories.
      type: int
    blocks:
      description: Blocks.
      type: int
    missing_blocks:
      description: Blocks of which no copy is left.
      type: int
    under_replicated_blocks:
      description: Blocks of which copies are missing.
      type: int
    version:
      description: The release of Hadoop.
      type: str
paths:
  description:
    - Each path that is there, by name, with C(type), C(owner), C(group), C(mode), C(length),
      C(replication), C(modified) (seconds since 1970), C(acl) and C(effective).
    - With O(usage), C(usage) tells what is in it as C(directories), C(files), C(length) and
      C(space) (bytes, once and with all copies), and its limits as C(name_quota) and
      C(space_quota) (C(-1) for none).
  returned: always
  type: dict
  sample:
    /data/sales:
      type: directory
      owner: etl
      group: sales
      mode: "0770"
      length: 0
      replication: 0
      modified: 1700000000
      acl: ["user::rwx", "group::rwx", "other::---"]
      effective: {}
errors:
  description: The paths that could not be read, or are none, with the reason.
  returned: when a path could not be read
  type: list
  elements: dict
"""

import json
import urllib.parse

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries, hdfs_mode
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.module_utils.webhdfs import (
    ARGUMENTS,
    Statuses,
    check_path,
    connect,
)

STATUS_BEAN = "Hadoop:service=NameNode,name=NameNodeStatus"
# Our word: (bean, attribute)
HEALTH = {
    "live_datanodes": ("FSNamesystemState", "NumLiveDataNodes"),
    "dead_datanodes": ("FSNamesystemState", "NumDeadDataNodes"),
    "capacity": ("FSNamesystemState", "CapacityTotal"),
    "remaining": ("FSNamesystemState", "CapacityRemaining"),
    "files": ("FSNamesystemState", "FilesTotal"),
    "blocks": ("FSNamesystemState", "BlocksTotal"),
    "under_replicated_blocks": ("FSNamesystemState", "UnderReplicatedBlocks"),
    "missing_blocks": ("FSNamesystem", "MissingBlocks"),
    "version": ("NameNodeInfo", "SoftwareVersion"),
    "safe_mode": ("NameNodeInfo", "Safemode"),
}


def bean(client, endpoint, name):
    """One bean of a NameNode."""
    query = urllib.parse.urlencode({"qry": name})
    response = client.request("GET", f"{endpoint}/jmx?{query}", repeat=True)
    try:
        return json.loads(response.body)["beans"][0]
    except (ValueError, KeyError, IndexError):
        raise Problem(
            f"{endpoint}/jmx answered HTTP {response.status} without {name}: {response.text()}"
        ) from None


def namenodes(hdfs):
    """{endpoint: {state, …}} of all NameNodes."""

    def state(endpoint):
        return {"state": bean(hdfs.client, endpoint, STATUS_BEAN)["State"]}

    answers = hdfs.map(state, hdfs.endpoints)
    return {
        endpoint: {"state": "unreachable", "reason": str(answer)}
        if isinstance(answer, Problem)
        else answer
        for endpoint, answer in zip(hdfs.endpoints, answers)
    }


def health(hdfs, endpoint):
    """What the active NameNode knows of the file system."""
    names = sorted({name for name, _attribute in HEALTH.values()})
    found = {
        name: bean(hdfs.client, endpoint, f"Hadoop:service=NameNode,name={name}") for name in names
    }
    values = {word: found[name].get(attribute) for word, (name, attribute) in HEALTH.items()}
    # The NameNode gives a sentence, or nothing.
    values["safe_mode"] = bool(values["safe_mode"])
    return values


def described(hdfs, path, status, usage):
    """A path, in our words."""
    acl = hdfs.acl(path) if status.get("aclBit") else None
    entries = hdfs_entries.logical(status["permission"], acl)
    words = {
        "type": status["type"].lower(),
        "owner": status["owner"],
        "group": status["group"],
        "mode": f"{hdfs_mode.mode_of(status, acl):04o}",
        "length": status["length"],
        "replication": status["replication"],
        "modified": status["modificationTime"] // 1000,
        "acl": [str(entry) for entry in entries],
        "effective": hdfs_entries.effective(entries),
    }
    if usage:
        summary = hdfs.get(path, "GETCONTENTSUMMARY")["ContentSummary"]
        words["usage"] = {
            "directories": summary["directoryCount"],
            "files": summary["fileCount"],
            "length": summary["length"],
            "space": summary["spaceConsumed"],
            "name_quota": summary["quota"],
            "space_quota": summary["spaceQuota"],
        }
    return words


def read_paths(hdfs, names, usage):
    """({path: words}, [errors])"""
    paths, errors = [], []
    for name in names:
        try:
            paths.append(check_path(name))
        except Problem as problem:
            errors.append({"path": name, "msg": str(problem)})
    tree = Statuses(hdfs)
    tree.load(paths)

    def read(path):
        status = tree.get(path)
        return described(hdfs, path, status, usage) if status else None

    found = {}
    for path, answer in zip(paths, hdfs.map(read, paths)):
        if isinstance(answer, Problem):
            errors.append({"path": path, "msg": str(answer)})
        elif answer:
            found[path] = answer
    return found, errors


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "default": []},
            "usage": {"type": "bool", "default": False},
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "namenodes": {}, "health": {}, "paths": {}}
    try:
        with connect(module) as hdfs:
            result["namenodes"] = namenodes(hdfs)
            active = [
                endpoint
                for endpoint, found in result["namenodes"].items()
                if found["state"] == "active"
            ]
            if active:
                result["health"] = health(hdfs, active[0])
            result["paths"], errors = read_paths(
                hdfs, module.params["paths"], module.params["usage"]
            )
    except Problem as problem:
        module.fail_json(msg=str(problem), **result)
    if errors:
        told = "; ".join(f"{error['path']}: {error['msg']}" for error in errors)
        module.fail_json(msg=told, errors=errors, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
