#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Ask Hive's metastore, and wait until it answers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: metastore_info
short_description: Ask Hive's metastore what it holds, and wait until it answers
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Calls a metastore as its clients do, over Thrift with SASL GSSAPI and encryption, and returns
    the names of its databases. An answer shows that the metastore and its database both work.
  - A metastore that is still starting is waited for. What waiting cannot mend (a bad keytab, a
    wrong clock, a caller who is refused, a server that does not encrypt) fails at once.
attributes:
  check_mode:
    description:
      - Asks once, does not wait and does not fail when nobody answers, since an earlier task of the
        same run might be what starts the metastore. That is said as a warning.
    support: full
  diff_mode:
    description: Changes nothing, so has nothing to show.
    support: none
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  host:
    description: The metastore's full host name, as in its principal.
    type: str
    required: true
  port:
    description: The metastore's port.
    type: int
    default: 9083
  service:
    description: The first part of the metastore's principal.
    type: str
    default: hive
  keytab:
    description: The keytab of who asks, on the host where the module runs.
    type: path
    required: true
  principal:
    description: Whose key of O(keytab) to use; the first one's when not given.
    type: str
  timeout:
    description: How many seconds to wait for an answer.
    type: int
    default: 300
  delay:
    description: How many seconds there are between two attempts.
    type: float
    default: 2
  request_timeout:
    description: How many seconds one attempt may take.
    type: int
    default: 10
requirements:
  - python-gssapi (Debian C(python3-gssapi)) on the host that runs the module
notes:
  - The ticket lives in the module's memory. Nobody's credentials cache is read or written.
"""

EXAMPLES = r"""
- name: Wait until the metastore answers
  deitos.cluster.metastore_info:
    host: hive1.example.org
    keytab: /etc/security/keytabs/hive.keytab
    principal: hive/hive1.example.org
    timeout: 120
"""

RETURN = r"""
databases:
  description: The names of the databases that the caller may see.
  returned: always
  type: list
  elements: str
  sample: [default, sales]
met:
  description: Whether the metastore answered.
  returned: always
  type: bool
  sample: true
attempts:
  description: How many attempts it took.
  returned: always
  type: int
  sample: 3
elapsed:
  description: How many seconds it took.
  returned: always
  type: float
  sample: 4.2
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import spnego, thrift_sasl
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

# What may pass by itself while the metastore, or the KDC, is starting.
PASSING = (spnego.Unreachable, spnego.KdcUnreachable)


def databases(params):
    """The names of all databases."""
    login = spnego.Login(params["keytab"], params["principal"])
    place = (params["host"], params["port"], params["service"])
    with thrift_sasl.Client(*place, login, params["request_timeout"]) as client:
        return client.call("get_all_databases")


def wait(params, ask, once, clock=time.monotonic, sleep=time.sleep):
    """Ask until there is an answer, the time is over or, with `once`, one time."""
    start = clock()
    result = {"changed": False, "databases": [], "met": False, "attempts": 0, "problem": None}
    while True:
        result["attempts"] += 1
        try:
            result["databases"] = sorted(ask(params))
            result["met"], result["problem"] = True, None
        except PASSING as problem:
            result["problem"] = str(problem)
        result["elapsed"] = round(clock() - start, 2)
        if result["met"] or once or result["elapsed"] + params["delay"] > params["timeout"]:
            return result
        sleep(params["delay"])


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 9083},
            "service": {"type": "str", "default": "hive"},
            "keytab": {"type": "path", "required": True, "no_log": False},
            "principal": {"type": "str"},
            "timeout": {"type": "int", "default": 300},
            "delay": {"type": "float", "default": 2},
            "request_timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    spnego.require(module)
    try:
        result = wait(module.params, databases, once=module.check_mode)
    except Problem as problem:
        result = {"databases": [], "met": False, "attempts": 1, "elapsed": 0, "problem": problem}
        if not module.check_mode:
            result.pop("problem")
            module.fail_json(msg=str(problem), **result)
    problem = result.pop("problem")
    if not result["met"]:
        if not module.check_mode:
            module.fail_json(
                msg=f"no answer after {result['elapsed']:g} s"
                f" ({result['attempts']} attempts): {problem}",
                **result,
            )
        module.warn(f"no answer now: {problem}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
