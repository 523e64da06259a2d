#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Entries of an LDAP directory, such as the configuration of slapd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ldap_entries
short_description: Manage a list of LDAP entries over one connection
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Adds what is missing of a list of entries and corrects what differs, in one call; made for
    C(cn=config) of slapd and for the few entries that a directory starts with.
  - Attributes that are named hold exactly the values given; others are left alone.
    C(objectClass) is only ever added to.
extends_documentation_fragment:
  - deitos.cluster.ldap
  - deitos.cluster.ldap.attributes
options:
  entries:
    description: The entries, parents before children. Removals are done last, children first.
    type: list
    elements: dict
    required: true
    suboptions:
      dn:
        description: The distinguished name.
        type: str
        required: true
      attributes:
        description:
          - Attribute names with a value or a list of values. An empty list removes the attribute.
          - Values that the server keeps in order carry their place, as in V({0}to * by * none).
        type: dict
        default: {}
      secrets:
        description:
          - Attributes as in O(entries[].attributes) whose values no log and no diff shall show.
            C(userPassword) and C(olcRootPW) are taken here alone.
        type: dict
        default: {}
      state:
        description: Whether the entry is there.
        type: str
        choices: [present, absent]
        default: present
"""

EXAMPLES = r"""
- name: Keep the limits and indexes of a database
  deitos.cluster.ldap_entries:
    entries:
      - dn: cn=config
        attributes: {olcIdleTimeout: 600}
      - dn: olcDatabase={1}mdb,cn=config
        attributes:
          olcDbIndex: [objectClass eq, uid eq]
"""

RETURN = r"""
added:
  description: The DNs of entries that were, or in check mode would be, added.
  returned: always
  type: list
  elements: str
  sample: ["ou=people,dc=deitos,dc=network"]
modified:
  description: The DNs of entries that were, or in check mode would be, modified.
  returned: always
  type: list
  elements: str
  sample: ["olcDatabase={1}mdb,cn=config"]
deleted:
  description: The DNs of entries that were, or in check mode would be, deleted.
  returned: always
  type: list
  elements: str
  sample: []
errors:
  description: The entries that failed, and why.
  returned: on failure
  type: list
  elements: dict
  sample: [{item: cn=config, msg: "Insufficient access"}]
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.deitos.cluster.plugins.module_utils import ldap_session
from ansible_collections.deitos.cluster.plugins.module_utils.ldap_session import Change, plain

ARGUMENTS = {
    **ldap_session.ARGUMENTS,
    "entries": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "dn": {"type": "str", "required": True},
            "attributes": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
    },
}
# What is never shown; `attributes` would show it in logs.
HIDDEN = {"userpassword", "olcrootpw"}


def text(value):
    """A value as LDAP writes it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return str(value)


def values_of(value):
    """One value or several, as a list of text."""
    if value is None:
        return []
    return [text(v) for v in value] if isinstance(value, list) else [text(value)]


def compare(item, found):
    """The change that an entry needs, if any.

    found: the attributes of the entry, or None when it is not there.
    """
    dn = item["dn"]
    if item["state"] == "absent":
        return Change(dn, dn, found) if found else None
    given = {**item["attributes"], **item["secrets"]}
    wanted = {name: values_of(value) for name, value in given.items()}
    if found is None:
        return Change(dn, dn, {}, {name: values for name, values in wanted.items() if values})
    spelling = {name.lower(): name for name in found}
    after = dict(found)
    for name, values in wanted.items():
        name = spelling.get(name.lower(), name)
        present = found.get(name, [])
        if name.lower() == "objectclass":
            known = {value.lower() for value in present}
            after[name] = present + [v for v in values if v.lower() not in known]
        elif sorted(present) != sorted(values):
            after[name] = values
    change = Change(dn, dn, found, after)
    return change if change.differing() else None


def misplaced(item):
    """Why an item is refused, if it is."""
    for name, value in item["attributes"].items():
        if plain(name) in HIDDEN and values_of(value):
            return f"give {name} under 'secrets': 'attributes' are shown in logs"
    return None


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
    present = [item for item in module.params["entries"] if item["state"] == "present"]
    absent = [item for item in module.params["entries"] if item["state"] == "absent"]
    done, errors, hidden = [], [], set(HIDDEN)
    try:
        with ldap_session.Session(module) as session:
            for item in present + absent[::-1]:
                why = misplaced(item)
                if why:
                    errors.append({"item": item["dn"], "msg": why})
                    continue
                hidden |= set(map(plain, item["secrets"]))
                names = ["*", *item["attributes"], *item["secrets"]]
                found = session.search(item["dn"], ldap_session.ldap.SCOPE_BASE, attributes=names)
                change = compare(item, found[0][1] if found else None)
                if change is None:
                    continue
                why = None if module.check_mode else session.apply(change, ordered=True)
                if why:
                    errors.append({"item": item["dn"], "msg": why})
                else:
                    done.append(change)
    except ldap_session.DirectoryError as error:
        module.fail_json(msg=str(error))
    result = {"changed": bool(done), "diff": [change.as_diff(hidden) for change in done]}
    for action in ("added", "modified", "deleted"):
        result[action] = [change.dn for change in done if change.action == action]
    if errors:
        lines = "; ".join(f"{error['item']}: {error['msg']}" for error in errors)
        module.fail_json(
            msg=f"{len(errors)} of the entries failed: {lines}", errors=errors, **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
