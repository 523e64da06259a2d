#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Tell what principals and policies an MIT Kerberos KDC has, and what is in keytabs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kerberos_info
short_description: Tell what principals and policies an MIT KDC has, and what is in keytabs
version_added: 0.1.0
description:
  - Reads principals and policies of an MIT Kerberos realm, and keytabs of the host it runs on, for
    assertions and for choices in playbooks. Never tells a key.
  - The KDC is asked only when O(principals), O(match) or O(policies) is given.
author:
  - Deitos Cluster authors (@deitos)
extends_documentation_fragment:
  - deitos.cluster.kerberos
attributes:
  check_mode:
    description: Changes nothing, so it does the same in C(check_mode).
    support: full
  diff_mode:
    description: There is never a difference to show.
    support: none
requirements:
  - kadmin.local (Debian package krb5-admin-server), or kadmin (krb5-user) for a remote KDC
options:
  principals:
    description: Principals to tell of, by name. One that does not exist is told as null.
    type: list
    elements: str
  match:
    description:
      - Patterns of principals to tell of, as C(listprincs) takes them, with C(*), C(?) and C([]),
        such as V(dn/*). A pattern without C(@) is for principals of the realm.
      - Each is asked for by a process of its own, with the pattern on its command line.
    type: list
    elements: str
  policies:
    description: Policies to tell of, by name. One that does not exist is told as null.
    type: list
    elements: str
  keytabs:
    description: Keytab files of this host to tell of. One that does not exist is told as null.
    type: list
    elements: path
seealso:
  - module: deitos.cluster.kerberos_principal
  - module: deitos.cluster.kerberos_keytab
"""

EXAMPLES = r"""
- name: Read all DataNodes' principals, and alice
  deitos.cluster.kerberos_info:
    match: ["dn/*"]
    principals: [alice]
  register: kerberos

- name: See that alice is not locked out
  ansible.builtin.assert:
    that: kerberos.principals['alice@EXAMPLE.ORG'].failures < 5

- name: See what the host's keytab holds
  deitos.cluster.kerberos_info:
    keytabs: [/etc/krb5.keytab]
"""

RETURN = r"""
principals:
  description:
    - The principals by their full names. Durations are in seconds, V(0) for no limit of their own;
      times are in ISO 8601 and UTC, null for never.
  returned: always
  type: dict
  sample:
    alice@EXAMPLE.ORG:
      expires: null
      password_expires: '2026-12-31T00:00:00+00:00'
      last_password_change: '2026-10-01T08:15:30+00:00'
      max_life: 86400
      max_renewable_life: 604800
      policy: people
      flags: {requires_preauth: true, allow_tix: true}
      failures: 0
      kvno: 2
      keys:
        - {kvno: 2, enctype: aes256-cts-hmac-sha384-192}
policies:
  description: The policies by name, with the options of M(deitos.cluster.kerberos_policy).
  returned: always
  type: dict
  sample:
    people: {min_length: 12, max_failures: 5, failure_count_interval: 900}
keytabs:
  description: What each keytab holds, as principal, version and encryption type.
  returned: always
  type: dict
  sample:
    /etc/krb5.keytab:
      - {principal: host/worker1.example.org@EXAMPLE.ORG, kvno: 1, enctype: aes128-cts-hmac-sha1-96}
errors:
  description: The items that could not be read, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - name: /etc/krb5.keytab
      msg: "it cannot be read: it does not begin like a keytab of version 0x502"
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ADMIN_ARGUMENTS,
    ADMIN_CONSTRAINTS,
    ItemError,
    Kadmin,
    KadminError,
    Principal,
    admin_argv,
    check_text,
    complaint,
)
from ansible_collections.deitos.cluster.plugins.module_utils.keytab import (
    ENCTYPES,
    KeytabError,
    decode,
)
from ansible_collections.deitos.cluster.plugins.module_utils.report import Report

TIMES = ("expires", "password_expires", "last_password_change")


def shown_time(epoch):
    """ISO 8601, or None for never."""
    if not epoch:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(epoch))


def shown_principal(found):
    """A principal for the result, or None."""
    if found is None:
        return None
    shown = {key: value for key, value in found.items() if key not in ("name", "keys")}
    shown.update((key, shown_time(found[key])) for key in TIMES)
    shown["keys"] = [
        {"kvno": key["kvno"], "enctype": ENCTYPES.get(key["enctype"], str(key["enctype"]))}
        for key in found["keys"]
    ]
    return shown


def matching(module, argv, pattern):
    """The names that a pattern stands for.

    Asked in a process of its own: the answer is names line by line, and one might look like a
    prompt.
    """
    check_text(pattern, "the pattern")
    if pattern.startswith("-"):
        raise ItemError("a pattern cannot begin with '-'")
    code, out, err = module.run_command([*argv, "list_principals", pattern])
    if code or err.strip():
        raise ItemError(complaint(err or out))
    return [Principal.parse(line) for line in out.splitlines()]


def read_kdc(module, report):
    """Principals and policies."""
    params = module.params
    argv = admin_argv(params, module.get_bin_path)
    wanted = []
    for pattern in params["match"] or []:
        with report.item(pattern):
            wanted += matching(module, argv, pattern)
    with Kadmin(argv) as kadmin:
        for name in params["principals"] or []:
            with report.item(name):
                wanted.append(Principal.parse(name, kadmin.default_realm))
        names = []
        for name in params["policies"] or []:
            with report.item(name):
                names.append(check_text(name, "the policy's name"))
        for principal, found in kadmin.get_principals(wanted).items():
            with report.item(principal.full):
                if isinstance(found, ItemError):
                    raise found
                report.extra["principals"][principal.full] = shown_principal(found)
        for name, found in kadmin.get_policies(names).items():
            with report.item(name):
                if isinstance(found, ItemError):
                    raise found
                report.extra["policies"][name] = found and {
                    key: value for key, value in found.items() if key != "name"
                }


def read_keytab(path):
    """A keytab for the result, or None."""
    try:
        data = atomic.read(path)
        entries = None if data is None else decode(data)
    except (OSError, KeytabError) as error:
        raise ItemError(f"it cannot be read: {error}") from None
    if entries is None:
        return None
    return [
        {
            "principal": entry.principal.full,
            "kvno": entry.kvno,
            "enctype": ENCTYPES.get(entry.enctype, str(entry.enctype)),
        }
        for entry in entries
    ]


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "principals": {"type": "list", "elements": "str"},
            "match": {"type": "list", "elements": "str"},
            "policies": {"type": "list", "elements": "str"},
            "keytabs": {"type": "list", "elements": "path", "no_log": False},
            **ADMIN_ARGUMENTS,
        },
        mutually_exclusive=ADMIN_CONSTRAINTS["mutually_exclusive"],
        required_by=ADMIN_CONSTRAINTS["required_by"],
        required_one_of=[("principals", "match", "policies", "keytabs")],
        supports_check_mode=True,
    )
    report = Report(module, "item")
    report.extra.update(principals={}, policies={}, keytabs={})
    for path in module.params["keytabs"] or []:
        with report.item(path):
            report.extra["keytabs"][path] = read_keytab(path)
    try:
        if any(module.params[option] for option in ("principals", "match", "policies")):
            read_kdc(module, report)
    except KadminError as error:
        report.fail(str(error))
    report.exit()


if __name__ == "__main__":
    main()
