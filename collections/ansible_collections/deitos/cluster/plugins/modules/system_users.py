#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Local system users and groups with fixed numbers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: system_users
short_description: Make local system users and groups with fixed numbers, all in one call
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Makes the groups and users that are missing, and adds missing memberships, with one process of
    C(systemd-sysusers) for the whole list.
  - Each user gets a group of its own with the same name and number, a locked password and no login
    shell.
  - Numbers are never changed, since files on disk carry them. A name that has another number, or a
    number that has another name, is an error that says so, before anything is made.
  - Only C(/etc/passwd) and C(/etc/group) count, not what a directory service adds to them.
  - Members that others added to a group are left alone.
attributes:
  check_mode:
    description: Reports what would be made.
    support: full
  diff_mode:
    description: Shows the users, groups and memberships that are made.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  groups:
    description: Groups that are not the own group of a user.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the group.
        type: str
        required: true
      gid:
        description: Its number.
        type: int
        required: true
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user and of its own group.
        type: str
        required: true
      uid:
        description: The number of both.
        type: int
        required: true
      groups:
        description: Further groups that the user is a member of.
        type: list
        elements: str
        default: []
      description:
        description: What the user is for.
        type: str
        default: ""
      home:
        description: Home directory, which is not made.
        type: str
        default: /
"""

EXAMPLES = r"""
- name: Make the users of the services
  deitos.cluster.system_users:
    groups:
      - {name: tls, gid: 799}
      - {name: hadoop, gid: 800}
    users:
      - {name: hdfs, uid: 801, groups: [hadoop, tls], description: HDFS}
      - {name: yarn, uid: 802, groups: [hadoop, tls], description: YARN}
"""

RETURN = r"""
created:
  description: What was, or in check mode would be, made.
  returned: always
  type: list
  elements: str
  sample: [group tls (799), user hdfs (801), hdfs in tls]
"""

import re

from ansible.module_utils.basic import AnsibleModule

NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
PASSWD = "/etc/passwd"
GROUP = "/etc/group"


class Conflict(Exception):
    """What stands on the host contradicts the list, or the list itself."""


def table(path):
    """The entries of /etc/passwd or /etc/group by name, as lists of fields."""
    with open(path, encoding="utf-8") as lines:
        entries = [line.rstrip("\n").split(":") for line in lines if line.count(":") >= 3]
    return {entry[0]: entry for entry in entries}


def check_numbers(kind, wanted, entries):
    """Refuse a name with another number and a number with another name."""
    names = {}
    for name, entry in entries.items():
        names.setdefault(entry[2], name)
    taken = {}
    for name, number in wanted.items():
        if not NAME.fullmatch(name):
            raise Conflict(f"{name!r} is not a name for a system {kind}")
        other = taken.setdefault(number, name)
        if other != name:
            raise Conflict(f"{kind}s {other} and {name} are both to have the number {number}")
        if name in entries and entries[name][2] != str(number):
            raise Conflict(
                f"{kind} {name} has the number {entries[name][2]} on this host, not {number}:"
                f" files may carry it, so change it by hand, or choose {entries[name][2]} for all"
            )
        holder = names.get(str(number), name)
        if holder != name:
            raise Conflict(
                f"number {number}, meant for {kind} {name}, belongs to {kind} {holder} on this"
                " host: remove or renumber that one, or choose another number for all hosts"
            )


def find_missing(groups, users, passwd, group):
    """Lines of sysusers.d for what is missing, each with a description of it."""
    lines, created = [], []
    for name, gid in groups.items():
        if name not in group:
            lines.append(f"g {name} {gid}")
            created.append(f"group {name} ({gid})")
    for item in users:
        name, uid = item["name"], item["uid"]
        if name not in passwd:
            text = re.sub(r'[:"\\\s]+', " ", item["description"])
            # The group first: with a user alone its number would only be a wish.
            if name not in group:
                lines.append(f"g {name} {uid}")
            lines.append(f'u {name} {uid}:{name} "{text}" {item["home"]}')
            created.append(f"user {name} ({uid})")
        elif passwd[name][3] != str(uid):
            raise Conflict(
                f"user {name} has the primary group {passwd[name][3]}, not its own ({uid}):"
                f" usermod -g {name} {name}"
            )
        for other in item["groups"]:
            if name not in group.get(other, ["", "", "", ""])[3].split(","):
                lines.append(f"m {name} {other}")
                created.append(f"{name} in {other}")
    return lines, created


def reconcile(module):
    params = module.params
    groups = {item["name"]: item["gid"] for item in params["groups"]}
    users = {item["name"]: item["uid"] for item in params["users"]}
    if len(groups) != len(params["groups"]) or len(users) != len(params["users"]):
        raise Conflict("a user or group is listed twice")
    passwd, group = table(PASSWD), table(GROUP)
    own = {name: users[name] for name in users if name not in groups}
    check_numbers("group", {**groups, **own}, group)
    check_numbers("user", users, passwd)
    for item in params["users"]:
        for other in item["groups"]:
            if other not in groups and other not in group:
                raise Conflict(f"{item['name']} is to be in {other}, a group that is nowhere")
    lines, created = find_missing(groups, params["users"], passwd, group)
    if lines and not module.check_mode:
        tool = module.get_bin_path("systemd-sysusers", required=True)
        code, out, err = module.run_command([tool, "--inline", *lines])
        if code != 0:
            raise Conflict(f"systemd-sysusers failed: {(err or out).strip()}")
        # It goes on with another number when the wanted one cannot be had.
        passwd, group = table(PASSWD), table(GROUP)
        check_numbers("group", {**groups, **own}, group)
        check_numbers("user", users, passwd)
        left, _created = find_missing(groups, params["users"], passwd, group)
        if left:
            raise Conflict(f"systemd-sysusers did not bring about '{left[0]}': {err.strip()}")
    return created


def main():
    name = {"required": True}
    module = AnsibleModule(
        argument_spec={
            "groups": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"name": name, "gid": {"type": "int", "required": True}},
            },
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": name,
                    "uid": {"type": "int", "required": True},
                    "groups": {"type": "list", "elements": "str", "default": []},
                    "description": {"default": ""},
                    "home": {"default": "/"},
                },
            },
        },
        supports_check_mode=True,
    )
    try:
        created = reconcile(module)
    except (Conflict, OSError) as error:
        module.fail_json(msg=str(error))
    after = "".join(f"{line}\n" for line in created)
    module.exit_json(changed=bool(created), created=created, diff={"before": "", "after": after})


if __name__ == "__main__":
    main()
