#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Read a Hadoop daemon's own state, and wait until it is as wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: jmx_info
short_description: Read a Hadoop daemon's own state, and wait until it is as wanted
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Reads the C(/jmx) servlet of a Hadoop daemon over HTTPS with Kerberos.
  - With O(until), asks again and again until every condition holds. A daemon that is still
    starting (nobody listens yet, no answer, an error page) is waited for.
  - What waiting cannot mend (a bad keytab, a certificate that is not to be trusted, a wrong clock,
    no permission) fails at once.
  - Where C(hadoop.security.instrumentation.requires.admin) is on, whose O(keytab) it is must be an
    administrator.
extends_documentation_fragment:
  - deitos.cluster.https
attributes:
  check_mode:
    description:
      - Reads once, does not wait and does not fail when the daemon is down or the conditions do
        not hold, since an earlier task of the same run might be what starts it.
      - What was found is in RV(met) and RV(unmet), and said as a warning.
    support: full
  diff_mode:
    description: Changes nothing, so has nothing to show.
    support: none
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  url:
    description: The daemon's HTTPS address, with or without C(/jmx) at its end.
    type: str
    required: true
  until:
    description: What must hold, all of it. Without conditions one reading is enough.
    type: list
    elements: dict
    default: []
    suboptions:
      bean:
        description: The bean's full name.
        type: str
        required: true
      attribute:
        description: The attribute's name; C(name.part) for a part of a composite one.
        type: str
        required: true
      equals:
        description: The value must be this one. A number in quotes is as good as a number.
        type: raw
      at_least:
        description: The value must be this number or more.
        type: float
      at_most:
        description: The value must be this number or less.
        type: float
  beans:
    description:
      - The names of beans to return besides those of O(until). A name may have V(*) in its
        properties, as in V(java.lang:type=GarbageCollector,name=*).
    type: list
    elements: str
    default: []
  timeout:
    description: How many seconds to wait for the conditions.
    type: int
    default: 300
  delay:
    description: How many seconds there are between two readings.
    type: float
    default: 2
  request_timeout:
    description: How many seconds one reading may take.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Wait until HDFS takes changes and has its DataNodes
  deitos.cluster.jmx_info:
    url: https://nn1.example.org:9871
    keytab: /etc/security/keytabs/hdfs.keytab
    principal: nn/nn1.example.org
    until:
      - {bean: "Hadoop:service=NameNode,name=NameNodeInfo", attribute: Safemode, equals: ""}
      - bean: Hadoop:service=NameNode,name=FSNamesystemState
        attribute: NumLiveDataNodes
        at_least: 3
    timeout: 600

- name: See how much of the heap a ResourceManager uses
  deitos.cluster.jmx_info:
    url: https://rm1.example.org:8090
    keytab: /etc/security/keytabs/yarn.keytab
    beans: ["java.lang:type=Memory"]
  register: memory
"""

RETURN = r"""
beans:
  description: The beans that were asked for, by name, as they were read last.
  returned: always
  type: dict
  sample:
    "Hadoop:service=NameNode,name=NameNodeStatus": {State: active, SecurityEnabled: true}
met:
  description: Whether every condition held.
  returned: always
  type: bool
  sample: true
unmet:
  description: The conditions that did not hold, each with what was seen.
  returned: always
  type: list
  elements: str
  sample: ["Hadoop:service=NameNode,name=FSNamesystemState NumLiveDataNodes is 1, not at least 2"]
attempts:
  description: How many readings it took.
  returned: always
  type: int
  sample: 3
elapsed:
  description: How many seconds it took.
  returned: always
  type: float
  sample: 4.2
"""

import json
import time
import urllib.parse

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import spnego
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

MISSING = object()
COMPARISONS = ("equals", "at_least", "at_most")
# What may pass by itself while a daemon, or the KDC, is starting.
PASSING = (spnego.Unreachable, spnego.KdcUnreachable)


class NotReady(spnego.Unreachable):
    """The server answers, but not with its beans yet."""


class Forbidden(Problem):
    """The server knows the caller, and does not let it read."""


def find(bean, attribute):
    """An attribute's value, or a part's ('HeapMemoryUsage.used'); MISSING when there is none."""
    if attribute in bean:
        return bean[attribute]
    name, _, part = attribute.rpartition(".")
    value = find(bean, name) if name else MISSING
    return value[part] if isinstance(value, dict) and part in value else MISSING


def number(value):
    """The number that a value is, or says; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def same(seen, wanted):
    """Whether two values are equal, however YAML or a template has typed the wanted one."""
    if seen == wanted and isinstance(seen, bool) == isinstance(wanted, bool):
        return True
    if isinstance(seen, bool) or isinstance(wanted, bool):
        return str(seen).lower() == str(wanted).lower()
    if number(seen) is not None and number(seen) == number(wanted):
        return True
    return isinstance(wanted, str) and not isinstance(seen, (dict, list)) and str(seen) == wanted


def unmet(condition, beans):
    """What is wrong with one condition, in words; None when it holds."""
    name, attribute = condition["bean"], condition["attribute"]
    if name not in beans:
        return f"{name} is not there"
    seen = find(beans[name], attribute)
    if seen is MISSING:
        return f"{name} has no attribute {attribute}"
    told = f"{name} {attribute} is {json.dumps(seen)}"
    if condition["equals"] is not None and not same(seen, condition["equals"]):
        return f"{told}, not {json.dumps(condition['equals'])}"
    for key, words, holds in (
        ("at_least", "at least", lambda value, limit: value >= limit),
        ("at_most", "at most", lambda value, limit: value <= limit),
    ):
        limit = condition[key]
        if limit is not None and (number(seen) is None or not holds(number(seen), limit)):
            return f"{told}, not {words} {limit:g}"
    return None


class Daemon:
    """One daemon's beans."""

    def __init__(self, params):
        url = params["url"].rstrip("/")
        self.url = url if url.endswith("/jmx") else f"{url}/jmx"
        self.names = list(
            dict.fromkeys([item["bean"] for item in params["until"]] + params["beans"])
        )
        self.client = spnego.Client(
            spnego.Login(params["keytab"], params["principal"]),
            params["ca_path"],
            params["request_timeout"],
        )

    def read(self):
        """{name: bean} of all the beans asked for, or of every bean when none was."""
        found = {}
        for name in self.names or [None]:
            found.update({bean["name"]: bean for bean in self._ask(name)})
        return found

    def _ask(self, name):
        url = f"{self.url}?{urllib.parse.urlencode({'qry': name})}" if name else self.url
        response = self.client.request("GET", url, repeat=True)
        if response.status == 403:
            raise Forbidden(
                f"{self.url} refuses {self.client.login.who}: where"
                " hadoop.security.instrumentation.requires.admin is on, only administrators of"
                f" the daemon read it ({response.text()})"
            )
        if response.status != 200:
            raise NotReady(f"{self.url} answered HTTP {response.status}: {response.text()}")
        try:
            return json.loads(response.body)["beans"]
        except (ValueError, KeyError):
            raise NotReady(f"{self.url} answered without beans: {response.text()}") from None


def watch(params, daemon, once, clock=time.monotonic, sleep=time.sleep):
    """Read until the conditions hold, the time is over or, with `once`, one time."""
    start = clock()
    result = {"beans": {}, "met": False, "attempts": 0, "error": None}
    while True:
        result["attempts"] += 1
        try:
            result["beans"] = daemon.read()
            result["unmet"] = [
                text for item in params["until"] if (text := unmet(item, result["beans"]))
            ]
            result["met"] = not result["unmet"]
            result["error"] = None
        except PASSING as problem:
            result["error"] = problem
        result["elapsed"] = round(clock() - start, 2)
        if result["met"] or once or result["elapsed"] + params["delay"] > params["timeout"]:
            return result
        sleep(params["delay"])


def message(params, result):
    """What to tell when the conditions do not hold."""
    if result["error"] and "unmet" not in result:
        return str(result["error"])
    text = "; ".join(result["unmet"])
    if result["error"]:
        text += f" (last seen, then: {result['error']})"
    return f"{params['url']}: {text}"


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            **spnego.ARGUMENTS,
            "until": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "bean": {"type": "str", "required": True},
                    "attribute": {"type": "str", "required": True},
                    "equals": {"type": "raw"},
                    "at_least": {"type": "float"},
                    "at_most": {"type": "float"},
                },
                "required_one_of": [COMPARISONS],
            },
            "beans": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 300},
            "delay": {"type": "float", "default": 2},
            "request_timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    spnego.require(module)
    empty = {"changed": False, "beans": {}, "met": False, "unmet": [], "attempts": 0, "elapsed": 0}
    try:
        daemon = Daemon(module.params)
        # Without conditions there is still the daemon itself to wait for.
        result = watch(module.params, daemon, once=module.check_mode)
    except Problem as problem:
        if not module.check_mode:
            module.fail_json(msg=str(problem), **empty)
        module.warn(f"not read in check mode: {problem}")
        module.exit_json(**empty)
    returned = {"changed": False, **result}
    returned.setdefault("unmet", [])
    returned.pop("error")
    if not result["met"]:
        text = message(module.params, result)
        if not module.check_mode:
            module.fail_json(
                msg=f"not as wanted after {result['elapsed']:g} s"
                f" ({result['attempts']} readings): {text}",
                **returned,
            )
        module.warn(f"not as wanted now: {text}")
    module.exit_json(**returned)


if __name__ == "__main__":
    main()
