#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Kernel settings of the running system, all in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_settings
short_description: Set kernel parameters of the running system, all in one call
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Compares the values below C(/proc/sys) and C(/sys) with those wanted, and writes what differs.
    What outlives a restart of the machine is for files in C(/etc/sysctl.d) and C(/etc/tmpfiles.d).
  - A setting that this system does not have, or that is read-only as in a container, is skipped and
    named in the result, since it is then not this system's to set.
attributes:
  check_mode:
    description: Reports what would be set.
    support: full
  diff_mode:
    description: Shows the values that differ.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  sysctl:
    description: Values by name, as C(sysctl) has them.
    type: dict
    default: {}
  files:
    description: Values by path below C(/sys). Where the file offers a choice, such as
      C(always madvise [never]), the chosen one is compared.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Settle the kernel for a storage server
  deitos.cluster.kernel_settings:
    sysctl:
      vm.swappiness: 1
      net.core.somaxconn: 4096
    files:
      /sys/kernel/mm/transparent_hugepage/defrag: never
"""

RETURN = r"""
changed_settings:
  description: What was, or in check mode would be, set.
  returned: always
  type: list
  elements: str
  sample: [vm.swappiness]
skipped_settings:
  description: What this system does not have or does not let be set, with the reason.
  returned: always
  type: dict
  sample: {net.core.somaxconn: read-only}
"""

import errno
import os
import re

from ansible.module_utils.basic import AnsibleModule

ROOT = "/proc/sys"


def path_of(name):
    """The file of a sysctl name: slashes may stand for dots, as in names of interfaces."""
    if not re.fullmatch(r"[A-Za-z0-9_./-]+", name) or ".." in name:
        raise ValueError(f"{name!r} is not the name of a kernel parameter")
    return os.path.join(ROOT, name if "/" in name else name.replace(".", "/"))


def read(path):
    """The value now; of a choice, the chosen one."""
    with open(path, encoding="utf-8") as file:
        text = " ".join(file.read().split())
    chosen = re.search(r"\[(\S+)\]", text)
    return chosen[1] if chosen else text


def write(path, value):
    """Set a value; the reason when this system does not let it be set."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(value)
    except OSError as error:
        if error.errno == errno.EROFS:
            return "read-only"
        raise
    return None


def main():
    module = AnsibleModule(
        argument_spec={
            "sysctl": {"type": "dict", "default": {}},
            "files": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    before, after, skipped = {}, {}, {}
    name = ""
    try:
        wanted = {name: (path_of(name), value) for name, value in module.params["sysctl"].items()}
        wanted.update({path: (path, value) for path, value in module.params["files"].items()})
        for name, (path, value) in wanted.items():
            value = " ".join(str(value).split())
            try:
                found = read(path)
            except FileNotFoundError:
                skipped[name] = "not on this system"
                continue
            if found == value:
                continue
            # access() also knows of read-only file systems.
            reason = None if os.access(path, os.W_OK) else "read-only"
            if not reason and not module.check_mode:
                reason = write(path, value)
            if reason:
                skipped[name] = reason
            else:
                before[name], after[name] = found, value
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{name}: {error}")
    module.exit_json(
        changed=bool(after),
        changed_settings=list(after),
        skipped_settings=skipped,
        diff={"before": before, "after": after},
    )


if __name__ == "__main__":
    main()
