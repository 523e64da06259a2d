#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Manage password policies of an MIT Kerberos KDC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kerberos_policy
short_description: Manage password policies of an MIT Kerberos KDC
version_added: 0.1.0
description:
  - Creates, changes and removes the password and lockout policies of an MIT Kerberos realm.
  - Takes one policy (O(name)) or many (O(policies)) and does them all in one C(kadmin.local).
  - An option that is not given is left as it is; on a new policy the KDC's default applies.
  - A removed policy may still be named by principals, which then have no policy until one of that
    name exists again. That is how MIT Kerberos has it.
author:
  - Deitos Cluster authors (@deitos)
extends_documentation_fragment:
  - deitos.cluster.kerberos
  - deitos.cluster.kerberos.attributes
requirements:
  - kadmin.local (Debian package krb5-admin-server), or kadmin (krb5-user) for a remote KDC
options:
  policies:
    description:
      - Many policies in one call. Each takes the options below; what it does not give is taken
        from the same option of the task.
    type: list
    elements: dict
    suboptions:
      name:
        description: The policy's name.
        type: str
      state:
        description: Whether the policy shall exist.
        type: str
        choices: [present, absent]
      max_life:
        description: How long a password is good, such as V(90d); V(unlimited) for ever.
        type: str
      min_life:
        description: How soon a password may be changed again, such as V(1h).
        type: str
      min_length:
        description: The fewest characters of a password.
        type: int
      min_classes:
        description:
          - The fewest classes of characters in a password, V(1) to V(5), of lower case, upper case,
            digits, punctuation and all others.
        type: int
      history:
        description: How many passwords are remembered, this one included, and cannot be reused.
        type: int
      max_failures:
        description: Wrong passwords before the principal is locked; V(0) never locks.
        type: int
      failure_count_interval:
        description: Time without a failure after which the count starts anew, such as V(15m).
        type: str
      lockout_duration:
        description: How long a lock holds, such as V(15m); V(unlimited) until unlocked.
        type: str
      allowed_keysalts:
        description:
          - The key and salt types keys of these principals may have, such as
            V(aes256-cts-hmac-sha384-192:normal). An empty list allows all that the KDC has.
        type: list
        elements: str
  name:
    description: The one policy to manage.
    type: str
  state:
    description: Whether the policy shall exist. The default is V(present).
    type: str
    choices: [present, absent]
  max_life:
    description: How long a password is good, such as V(90d); V(unlimited) for ever.
    type: str
  min_life:
    description: How soon a password may be changed again, such as V(1h).
    type: str
  min_length:
    description: The fewest characters of a password.
    type: int
  min_classes:
    description:
      - The fewest classes of characters in a password, V(1) to V(5), of lower case, upper case,
        digits, punctuation and all others.
    type: int
  history:
    description: How many passwords are remembered, this one included, and cannot be reused.
    type: int
  max_failures:
    description: Wrong passwords before the principal is locked; V(0) never locks.
    type: int
  failure_count_interval:
    description: Time without a failure after which the count starts anew, such as V(15m).
    type: str
  lockout_duration:
    description: How long a lock holds, such as V(15m); V(unlimited) until unlocked.
    type: str
  allowed_keysalts:
    description:
      - The key and salt types keys of these principals may have, such as
        V(aes256-cts-hmac-sha384-192:normal). An empty list allows all that the KDC has.
    type: list
    elements: str
seealso:
  - module: deitos.cluster.kerberos_principal
"""

EXAMPLES = r"""
- name: Lock people out after five wrong passwords
  deitos.cluster.kerberos_policy:
    name: people
    min_length: 12
    min_classes: 3
    history: 5
    max_failures: 5
    failure_count_interval: 15m
    lockout_duration: 15m

- name: Have the realm's policies, and not the old one
  deitos.cluster.kerberos_policy:
    policies:
      - name: people
        min_length: 12
        max_failures: 5
      - name: services
        min_length: 32
      - name: legacy
        state: absent
"""

RETURN = r"""
changed_policies:
  description: The policies that were (in check mode would be) created, changed or removed.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The policy's name.
      type: str
    actions:
      description: What was done.
      type: list
      elements: str
  sample:
    - name: people
      actions: [create]
errors:
  description: The items that failed, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - name: people
      msg: min_classes must be from 1 to 5, not 9
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ADMIN_ARGUMENTS,
    ADMIN_CONSTRAINTS,
    ItemError,
    Kadmin,
    KadminError,
    admin_argv,
    check_text,
    command_line,
    complaint,
    format_interval,
    parse_interval,
)
from ansible_collections.deitos.cluster.plugins.module_utils.report import Report, merge

POLICY_ARGUMENTS = {
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"]},
    "max_life": {"type": "str"},
    "min_life": {"type": "str"},
    "min_length": {"type": "int"},
    "min_classes": {"type": "int"},
    "history": {"type": "int"},
    "max_failures": {"type": "int"},
    "failure_count_interval": {"type": "str"},
    "lockout_duration": {"type": "str"},
    "allowed_keysalts": {"type": "list", "elements": "str", "no_log": False},
}

# option: (kadmin's word, smallest, largest); intervals are in seconds
NUMBERS = {
    "max_life": ("-maxlife", 0, 2**31 - 1),
    "min_life": ("-minlife", 0, 2**31 - 1),
    "min_length": ("-minlength", 1, 2**31 - 1),
    "min_classes": ("-minclasses", 1, 5),
    "history": ("-history", 1, 2**31 - 1),
    "max_failures": ("-maxfailure", 0, 2**31 - 1),
    "failure_count_interval": ("-failurecountinterval", 0, 2**31 - 1),
    "lockout_duration": ("-lockoutduration", 0, 2**31 - 1),
}
# The KDC stores any text as an allowed type; a typo would show at the next change of a password.
ENCTYPES = {
    *("aes256-cts-hmac-sha384-192", "aes256-sha2", "aes128-cts-hmac-sha256-128", "aes128-sha2"),
    *("aes256-cts-hmac-sha1-96", "aes256-cts", "aes256-sha1"),
    *("aes128-cts-hmac-sha1-96", "aes128-cts", "aes128-sha1"),
    *("camellia256-cts-cmac", "camellia256-cts", "camellia128-cts-cmac", "camellia128-cts"),
    *("des3-cbc-sha1", "des3-hmac-sha1", "des3-cbc-sha1-kd"),
    *("arcfour-hmac", "rc4-hmac", "arcfour-hmac-md5"),
}
SALTS = {"normal", "norealm", "onlyrealm", "special"}
INTERVALS = ("max_life", "min_life", "failure_count_interval", "lockout_duration")


def wanted_policy(item):
    """The item's options as the numbers that the KDC stores."""
    check_text(item["name"], "the policy's name")
    wanted = {}
    for option, (_word, low, high) in NUMBERS.items():
        value = item[option]
        if value is None:
            continue
        if option in INTERVALS:
            value = parse_interval(value)
        if not low <= value <= high:
            raise ItemError(f"{option} must be from {low} to {high}, not {value}")
        wanted[option] = value
    if item["allowed_keysalts"] is not None:
        for keysalt in item["allowed_keysalts"]:
            enctype, _colon, salt = keysalt.partition(":")
            if enctype not in ENCTYPES or salt not in SALTS | {""}:
                raise ItemError(
                    f"allowed_keysalts: '{keysalt}' is not a key and salt type such as "
                    "'aes256-cts-hmac-sha384-192:normal'"
                )
        wanted["allowed_keysalts"] = item["allowed_keysalts"]
    return wanted


def arguments(values):
    """kadmin's words for these options."""
    words = []
    for option, value in values.items():
        if option == "allowed_keysalts":
            words += ["-allowedkeysalts", ",".join(value) or "-"]
        elif option in INTERVALS:
            words += [NUMBERS[option][0], f"{value}s"]
        else:
            words += [NUMBERS[option][0], str(value)]
    return words


def shown(values):
    """Options as a person reads them, for the diff."""
    return {
        option: format_interval(value) if option in INTERVALS else value
        for option, value in values.items()
        if option != "name"
    }


def plan(item, wanted, current):
    """(action, kadmin's words, before, after) or None when all is as it should be."""
    if item["state"] == "absent":
        if current is None:
            return None
        return "remove", ["delete_policy", "-force", item["name"]], shown(current), None
    if current is None:
        words = ["add_policy", *arguments(wanted), item["name"]]
        return "create", words, None, shown(wanted)
    changes = {key: value for key, value in wanted.items() if current[key] != value}
    if not changes:
        return None
    before = {key: current[key] for key in changes}
    return (
        "modify",
        ["modify_policy", *arguments(changes), item["name"]],
        shown(before),
        shown(changes),
    )


def reconcile(module, report, items):
    """Read all policies, then change what differs."""
    with Kadmin(admin_argv(module.params, module.get_bin_path)) as kadmin:
        wanted = {}
        for item in items:
            with report.item(item["name"]):
                if item["name"] in wanted:
                    raise ItemError("it is listed more than once")
                wanted[item["name"]] = (item, wanted_policy(item))
        current = kadmin.get_policies(wanted)
        steps = []
        for name, (item, options) in wanted.items():
            with report.item(name):
                if isinstance(current[name], ItemError):
                    raise current[name]
                step = plan(item, options, current[name])
                if step:
                    command_line(step[1])
                    steps.append((name, step))
        if module.check_mode:
            answers, broken = [""] * len(steps), None
        else:
            answers, broken = kadmin.attempt([words for _name, (_action, words, _b, _a) in steps])
        for (name, (action, _words, before, after)), answer in zip(steps, answers):
            with report.item(name):
                # kadmin says nothing when a policy was done.
                if answer.strip():
                    raise ItemError(complaint(answer))
                report.change(name, [action], before, after)
        if broken:
            raise broken


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "policies": {"type": "list", "elements": "dict", "options": POLICY_ARGUMENTS},
            **POLICY_ARGUMENTS,
            **ADMIN_ARGUMENTS,
        },
        mutually_exclusive=[("name", "policies"), *ADMIN_CONSTRAINTS["mutually_exclusive"]],
        required_one_of=[("name", "policies")],
        required_by=ADMIN_CONSTRAINTS["required_by"],
        supports_check_mode=True,
    )
    report = Report(module, "policy", "changed_policies")
    try:
        items = merge(module.params, "policies", POLICY_ARGUMENTS, {"state": "present"})
        reconcile(module, report, items)
    except KadminError as error:
        report.fail(str(error))
    report.exit()


if __name__ == "__main__":
    main()
