#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""People and groups of an LDAP directory."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ldap_directory
short_description: Reconcile the people and groups of an LDAP directory with a list
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Brings POSIX accounts and groups (rfc2307bis, C(posixGroup) with C(groupOfMembers)) into the
    state that a list describes, over one connection.
  - Each person has a private group of the same name and number.
  - Passwords are not kept in the directory; no attribute for them is ever written.
  - The attributes that have an option here are exactly as the list says, and an option that is
    left out removes what it stands for. Other attributes of an entry are left alone.
  - Entries that are not listed are left alone, and so are their memberships in listed groups,
    unless O(exclusive=true).
extends_documentation_fragment:
  - deitos.cluster.ldap
  - deitos.cluster.ldap.attributes
options:
  people_base:
    description: The entry under which people are. It must exist.
    type: str
    required: true
  groups_base:
    description: The entry under which groups are. It must exist.
    type: str
    required: true
  people:
    description: People and service accounts.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The login name.
        type: str
        required: true
      uid:
        description:
          - The number of the person and of the private group.
          - When not given, a new person gets one from O(id_min) to O(id_max) that follows from the
            name and not from the place in the list; it is kept from then on.
          - The number of an entry that exists is never changed; another one here is an error.
        type: int
      given_name:
        description: First name.
        type: str
      surname:
        description: Last name; the login name when not given.
        type: str
      mail:
        description: Mail address.
        type: str
      groups:
        description: The groups that the person is in, listed here or in the directory.
        type: list
        elements: str
        default: []
      ssh_keys:
        description: OpenSSH public keys that may log in.
        type: list
        elements: str
        default: []
      shell:
        description: Login shell; that of O(shell) when not given.
        type: str
      home:
        description: Home directory; below O(home_prefix) when not given.
        type: str
      type:
        description: Told by the attribute C(employeeType).
        type: str
        choices: [person, service]
        default: person
      state:
        description:
          - V(disabled) keeps the entry and its memberships, and expires the account
            (C(shadowExpire)), which SSSD's access control refuses however the person logs in.
          - V(absent) removes the person and the private group.
        type: str
        choices: [present, disabled, absent]
        default: present
  groups:
    description: Groups, apart from private ones.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name.
        type: str
        required: true
      gid:
        description: The number; found as O(people[].uid) is when not given.
        type: int
      description:
        description: What the group is for.
        type: str
      members:
        description: Members besides the people who list the group.
        type: list
        elements: str
        default: []
      state:
        description: Whether the group is there.
        type: str
        choices: [present, absent]
        default: present
  id_min:
    description: The lowest number for a new person or group.
    type: int
    default: 20000
  id_max:
    description: The highest number for a new person or group.
    type: int
    default: 59999
  home_prefix:
    description: Where homes are.
    type: path
    default: /home
  shell:
    description: The login shell of people who name none.
    type: path
    default: /bin/bash
  exclusive:
    description: Whether to remove people, groups and members that are not listed.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Keep the people of this cluster in its directory
  deitos.cluster.ldap_directory:
    people_base: ou=people,dc=deitos,dc=network
    groups_base: ou=groups,dc=deitos,dc=network
    groups:
      - {name: analysts, gid: 20000, description: May read the shared data}
      - {name: interns, state: absent}
    people:
      - name: alice
        given_name: Alice
        surname: Liddell
        groups: [analysts]
        ssh_keys:
          - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFU3HpeZvLpuXJ4hkxz5pT0mQdPGOVR8Nc6BFbl9S5fK alice
      - {name: carol, state: disabled}
      - {name: report_job, type: service}

- name: Disable one person from elsewhere, over TLS with a ticket
  deitos.cluster.ldap_directory:
    uri: ldap://kdc1.deitos.network
    start_tls: true
    ca_path: /etc/deitos/pki/ca.crt
    bind: gssapi
    people_base: ou=people,dc=deitos,dc=network
    groups_base: ou=groups,dc=deitos,dc=network
    people:
      - {name: bob, given_name: Bob, surname: Cratchit, state: disabled}
"""

RETURN = r"""
added:
  description: The DNs of entries that were, or in check mode would be, added.
  returned: always
  type: list
  elements: str
  sample: ["uid=alice,ou=people,dc=deitos,dc=network"]
modified:
  description: The DNs of entries that were, or in check mode would be, modified.
  returned: always
  type: list
  elements: str
  sample: ["cn=analysts,ou=groups,dc=deitos,dc=network"]
deleted:
  description: The DNs of entries that were, or in check mode would be, deleted.
  returned: always
  type: list
  elements: str
  sample: []
people:
  description: The numbers of all listed people who are present or disabled.
  returned: always
  type: dict
  sample: {alice: {uid: 27119, gid: 27119}}
groups:
  description: The numbers of all listed groups that are present.
  returned: always
  type: dict
  sample: {analysts: {gid: 20000}}
errors:
  description: The items that failed, and why.
  returned: on failure
  type: list
  elements: dict
  sample:
    - item: person bob
      msg: number 20001 belongs to uid=alice,ou=people,dc=deitos,dc=network
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.deitos.cluster.plugins.module_utils import ldap_session, people

PERSON_OPTIONS = {
    "name": {"type": "str", "required": True},
    "uid": {"type": "int"},
    "given_name": {"type": "str"},
    "surname": {"type": "str"},
    "mail": {"type": "str"},
    "groups": {"type": "list", "elements": "str", "default": []},
    "ssh_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "shell": {"type": "str"},
    "home": {"type": "str"},
    "type": {"type": "str", "choices": ["person", "service"], "default": "person"},
    "state": {
        "type": "str",
        "choices": ["present", "disabled", "absent"],
        "default": "present",
    },
}
GROUP_OPTIONS = {
    "name": {"type": "str", "required": True},
    "gid": {"type": "int"},
    "description": {"type": "str"},
    "members": {"type": "list", "elements": "str", "default": []},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}
ARGUMENTS = {
    **ldap_session.ARGUMENTS,
    "people_base": {"type": "str", "required": True},
    "groups_base": {"type": "str", "required": True},
    "people": {"type": "list", "elements": "dict", "default": [], "options": PERSON_OPTIONS},
    "groups": {"type": "list", "elements": "dict", "default": [], "options": GROUP_OPTIONS},
    "id_min": {"type": "int", "default": 20000},
    "id_max": {"type": "int", "default": 59999},
    "home_prefix": {"type": "path", "default": "/home"},
    "shell": {"type": "path", "default": "/bin/bash"},
    "exclusive": {"type": "bool", "default": False},
}


def read(session, base, filter_, attributes):
    """The entries directly below a base, which must exist."""
    ldap = ldap_session.ldap
    if not session.search(base, ldap.SCOPE_BASE, attributes=["1.1"]):
        raise ldap_session.DirectoryError(
            f"there is no entry {base}: create it first, or correct the base"
        )
    return session.search(base, ldap.SCOPE_ONELEVEL, filter_, attributes)


def carry_out(session, plan):
    """Make the changes of a plan; returns those that were made, and adds to its errors."""
    done, missing = [], set()
    for change in plan.changes:
        if missing and change.after.get("member"):
            # No membership for somebody whose entry could not be added.
            change.after["member"] = [
                dn
                for dn in change.after["member"]
                if dn not in missing or dn in change.before.get("member", [])
            ]
            if not change.differing():
                continue
        why = session.apply(change)
        if why:
            plan.errors.append({"item": change.item, "msg": f"{change.dn}: {why}"})
            if change.action == "added":
                missing.add(change.dn)
        else:
            done.append(change)
    return done


def main():
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_together=ldap_session.TOGETHER,
        supports_check_mode=True,
    )
    if ldap_session.LDAP_IMPORT_ERROR:
        module.fail_json(
            msg=missing_required_lib("python-ldap"), exception=ldap_session.LDAP_IMPORT_ERROR
        )
    params = module.params
    if not 0 < params["id_min"] <= params["id_max"]:
        module.fail_json(msg="id_min must be positive and not above id_max")
    options = people.Options(
        people_base=params["people_base"],
        groups_base=params["groups_base"],
        id_min=params["id_min"],
        id_max=params["id_max"],
        home_prefix=params["home_prefix"].rstrip("/"),
        shell=params["shell"],
        exclusive=params["exclusive"],
    )
    try:
        with ldap_session.Session(module) as session:
            plan = people.make_plan(
                params["people"],
                params["groups"],
                read(
                    session,
                    options.people_base,
                    "(objectClass=posixAccount)",
                    people.PERSON_ATTRIBUTES,
                ),
                read(
                    session,
                    options.groups_base,
                    "(objectClass=posixGroup)",
                    people.GROUP_ATTRIBUTES,
                ),
                options,
            )
            done = plan.changes if module.check_mode else carry_out(session, plan)
    except ldap_session.DirectoryError as error:
        module.fail_json(msg=str(error))

    result = {
        "changed": bool(done),
        "people": plan.people,
        "groups": plan.groups,
        "diff": [change.as_diff() for change in done],
    }
    for action in ("added", "modified", "deleted"):
        result[action] = [change.dn for change in done if change.action == action]
    if plan.errors:
        lines = "; ".join(f"{error['item']}: {error['msg']}" for error in plan.errors)
        module.fail_json(
            msg=f"{len(plan.errors)} of the items failed: {lines}", errors=plan.errors, **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
