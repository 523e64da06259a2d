#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""The first configuration of slapd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: slapd_config
short_description: Create the configuration database of slapd once
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Makes the directory that slapd reads its configuration (C(cn=config)) from, out of LDIF, with
    C(slapadd), which refuses LDIF that slapd could not start on.
  - A configuration that is there is never touched; change it over LDAP with
    M(deitos.cluster.ldap_entries).
  - The directory appears whole or not at all, so that a run that is cut off leaves no half of one.
attributes:
  check_mode:
    description: Can run in C(check_mode) and says what would change without changing it.
    support: full
  diff_mode:
    description: Shows the LDIF that a new configuration is made of.
    support: full
options:
  directory:
    description: The configuration directory of slapd.
    type: path
    default: /etc/ldap/slapd.d
  ldif:
    description: All entries of the configuration. C(include) lines name further files.
    type: str
    required: true
  owner:
    description: The user that slapd runs as.
    type: str
    default: openldap
  group:
    description: The group that slapd runs as.
    type: str
    default: openldap
"""

EXAMPLES = r"""
- name: Create the configuration of slapd
  deitos.cluster.slapd_config:
    ldif: "{{ lookup('ansible.builtin.template', 'config.ldif.j2') }}"
"""

RETURN = r"""
directory:
  description: The configuration directory.
  returned: always
  type: str
  sample: /etc/ldap/slapd.d
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic

# The directory that a run which was cut off may leave.
PREFIX = ".slapd.d.new-"


def clean(parent):
    """Remove what earlier runs left."""
    for name in os.listdir(parent):
        if name.startswith(PREFIX):
            shutil.rmtree(os.path.join(parent, name))


def build(module, parent):
    """Make a configuration beside its place; returns its path."""
    new = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    slapadd = module.get_bin_path("slapadd", required=True, opt_dirs=["/usr/sbin"])
    status, out, error = module.run_command(
        [slapadd, "-n", "0", "-F", new], data=module.params["ldif"], binary_data=True
    )
    if status:
        shutil.rmtree(new)
        module.fail_json(msg=f"slapadd refuses the configuration: {(error or out).strip()}")
    uid, gid = atomic.uid_of(module.params["owner"]), atomic.gid_of(module.params["group"])
    for path, _directories, files in os.walk(new):
        os.chown(path, uid, gid)
        os.chmod(path, 0o700)
        for name in files:
            os.chown(os.path.join(path, name), uid, gid)
    return new


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/ldap/slapd.d"},
            "ldif": {"type": "str", "required": True},
            "owner": {"type": "str", "default": "openldap"},
            "group": {"type": "str", "default": "openldap"},
        },
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    if os.path.exists(os.path.join(directory, "cn=config.ldif")):
        module.exit_json(changed=False, directory=directory)
    if os.path.isdir(directory) and os.listdir(directory):
        module.fail_json(
            msg=f"{directory} has files but no cn=config.ldif: it is no configuration of slapd, or "
            "a broken one. Restore it from the backup, or move it away to start anew"
        )
    diff = {"before": "", "after": module.params["ldif"], "after_header": directory}
    if not module.check_mode:
        parent = os.path.dirname(directory.rstrip("/"))
        clean(parent)
        try:
            new = build(module, parent)
        except atomic.UnknownName as error:
            module.fail_json(msg=str(error))
        if os.path.isdir(directory):
            os.rmdir(directory)
        os.rename(new, directory)
    module.exit_json(changed=True, directory=directory, diff=diff)


if __name__ == "__main__":
    main()
