#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What a YARN is like: its ResourceManagers, nodes, queues and applications."""

from __future__ import annotations

DOCUMENTATION = r"""
module: yarn_info
short_description: Read the state of YARN
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Tells which ResourceManager is active, what its nodes and queues are like and, when asked, which
    applications it has, over its REST interface with HTTPS and Kerberos.
  - For assertions, and for playbooks that must decide something. Changes nothing.
  - Who is no administrator of the queues does not see others' applications.
extends_documentation_fragment:
  - deitos.cluster.https
  - deitos.cluster.yarn
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
  application_states:
    description: Tell about applications in these states, such as V(RUNNING) or V(ACCEPTED).
    type: list
    elements: str
    choices: [NEW, NEW_SAVING, SUBMITTED, ACCEPTED, RUNNING, FINISHED, FAILED, KILLED]
    default: []
seealso:
  - module: deitos.cluster.jmx_info
  - module: deitos.cluster.hdfs_info
  - module: deitos.cluster.yarn_application
"""

EXAMPLES = r"""
- name: Look at YARN
  deitos.cluster.yarn_info:
    endpoints: [https://rm1.example.org:8090]
    keytab: /etc/security/keytabs/yarn.keytab
    application_states: [RUNNING]
  register: yarn

- name: Insist that every node works and nothing runs
  ansible.builtin.assert:
    that:
      - yarn.metrics.lostNodes == 0 and yarn.metrics.unhealthyNodes == 0
      - yarn.applications | length == 0
"""

RETURN = r"""
resourcemanagers:
  description: Each ResourceManager's state, by its address; V(unreachable) and the reason when it
    does not answer.
  returned: always
  type: dict
  sample:
    https://rm1.example.org:8090: {state: active, version: 3.4.2}
metrics:
  description: The active ResourceManager's cluster metrics, in YARN's own words.
  returned: always
  type: dict
  sample: {activeNodes: 2, lostNodes: 0, unhealthyNodes: 0, totalMB: 8192, appsRunning: 1}
nodes:
  description: Its nodes, by their host names.
  returned: always
  type: dict
  sample:
    worker1.example.org:
      state: RUNNING
      rack: /rack1
      containers: 2
      used_mb: 2048
      available_mb: 6144
      version: 3.4.2
      health: ""
queues:
  description: The queues, by their full names.
  returned: always
  type: dict
  sample:
    root.default: {state: RUNNING, capacity: 100.0, maximum_capacity: 100.0, used: 0.0,
                   applications: 0}
applications:
  description: The applications in O(application_states).
  returned: always
  type: list
  elements: dict
  sample:
    - {id: application_1700000000000_0001, user: alice, name: word count, queue: root.default,
       state: RUNNING, final_status: UNDEFINED, type: MAPREDUCE, progress: 50.0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.module_utils.yarn import (
    ARGUMENTS,
    active,
    applications,
    ask,
    connect,
)

STATES = [
    "NEW",
    "NEW_SAVING",
    "SUBMITTED",
    "ACCEPTED",
    "RUNNING",
    "FINISHED",
    "FAILED",
    "KILLED",
]


def nodes(answer):
    """{host: words} of the nodes."""
    return {
        node["nodeHostName"]: {
            "state": node["state"],
            "rack": node["rack"],
            "containers": node["numContainers"],
            "used_mb": node["usedMemoryMB"],
            "available_mb": node["availMemoryMB"],
            "version": node.get("version", ""),
            "health": node.get("healthReport", ""),
        }
        for node in (answer.get("nodes") or {}).get("node", [])
    }


def queues(answer):
    """{full name: words} of all queues below the root, whatever the scheduler."""
    found = {}

    def walk(queue, above):
        name = queue.get("queuePath") or ".".join([*above, queue.get("queueName", "root")])
        found[name] = {
            "state": queue.get("state", "RUNNING"),
            "capacity": queue.get("absoluteCapacity", queue.get("capacity")),
            "maximum_capacity": queue.get("absoluteMaxCapacity", queue.get("maxCapacity")),
            "used": queue.get("absoluteUsedCapacity", queue.get("usedCapacity")),
            "applications": queue.get("numApplications", 0),
        }
        for inner in (queue.get("queues") or {}).get("queue", []):
            walk(inner, name.split("."))

    info = answer["scheduler"]["schedulerInfo"]
    walk(info.get("rootQueue", info), [])
    return found


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "application_states": {
                "type": "list",
                "elements": "str",
                "choices": STATES,
                "default": [],
            },
            **ARGUMENTS,
        },
        supports_check_mode=True,
    )
    params = module.params
    result = {
        "changed": False,
        "resourcemanagers": {},
        "metrics": {},
        "nodes": {},
        "queues": {},
        "applications": [],
    }
    try:
        with connect(module) as (client, result["resourcemanagers"]):
            endpoint = active(result["resourcemanagers"])
            if endpoint:
                metrics = ask(client, endpoint, "metrics")["clusterMetrics"]
                # The rest repeats these by resource type, over pages.
                result["metrics"] = {
                    key: value for key, value in metrics.items() if not isinstance(value, dict)
                }
                result["nodes"] = nodes(ask(client, endpoint, "nodes"))
                result["queues"] = queues(ask(client, endpoint, "scheduler"))
                if params["application_states"]:
                    states = ",".join(params["application_states"])
                    answer = ask(client, endpoint, "apps", states=states)
                    result["applications"] = applications(answer)
    except Problem as problem:
        module.fail_json(msg=str(problem), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
