#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""End the running applications of some users."""

from __future__ import annotations

DOCUMENTATION = r"""
module: yarn_application
short_description: End applications on YARN
version_added: 0.1.0
author:
  - Deitos Cluster authors (@deitos)
description:
  - Kills every application of the users named that has not ended, over the ResourceManager's REST
    interface with HTTPS and Kerberos. Without one, nothing changes.
  - Whose O(keytab) it is must be an administrator of the queues.
extends_documentation_fragment:
  - deitos.cluster.https
  - deitos.cluster.yarn
attributes:
  check_mode:
    description: Tells which applications it would kill. A ResourceManager that does not answer,
      since a run would start it first, is then a warning.
    support: full
  diff_mode:
    description: Shows the applications of the users before and after.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  users:
    description: Whose applications to end.
    type: list
    elements: str
    required: true
  state:
    description: What becomes of their applications.
    type: str
    choices: [killed]
    default: killed
seealso:
  - module: deitos.cluster.yarn_info
"""

EXAMPLES = r"""
- name: End what people who have left still run
  deitos.cluster.yarn_application:
    users: [carol]
    endpoints: [https://rm1.example.org:8090]
    keytab: /etc/security/keytabs/yarn.keytab
"""

RETURN = r"""
applications:
  description: The applications that were ended, or would be in check mode.
  returned: always
  type: list
  elements: dict
  sample:
    - {id: application_1700000000000_0001, user: carol, name: word count, queue: root.default,
       state: RUNNING, final_status: UNDEFINED, type: MAPREDUCE, progress: 50.0}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import yarn
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem


class NoneActive(Problem):
    """No ResourceManager can be asked."""


def active(states):
    """The address of the active ResourceManager."""
    endpoint = yarn.active(states)
    if endpoint:
        return endpoint
    seen = "; ".join(f"{at}: {how.get('reason', how['state'])}" for at, how in states.items())
    raise NoneActive(f"no ResourceManager is active ({seen}): start one, or correct endpoints")


def unfinished(client, endpoint, users):
    """The applications of these users that have not ended."""
    answer = yarn.ask(client, endpoint, "apps", states=",".join(yarn.ACTIVE))
    return [found for found in yarn.applications(answer) if found["user"] in users]


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "users": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["killed"], "default": "killed"},
            **yarn.ARGUMENTS,
        },
        supports_check_mode=True,
    )
    found = []
    try:
        with yarn.connect(module) as (client, states):
            endpoint = active(states)
            found = unfinished(client, endpoint, set(module.params["users"]))
            if not module.check_mode:
                found = [app for app in found if yarn.kill(client, endpoint, app["id"])]
    except NoneActive as problem:
        if not module.check_mode:
            module.fail_json(msg=str(problem))
        module.warn(str(problem))
    except Problem as problem:
        module.fail_json(msg=str(problem))
    before = "".join(f"{app['id']} of {app['user']}\n" for app in found)
    module.exit_json(changed=bool(found), applications=found, diff={"before": before, "after": ""})


if __name__ == "__main__":
    main()
