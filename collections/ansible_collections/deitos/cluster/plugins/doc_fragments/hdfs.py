# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation that the HDFS modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of how HDFS is reached."""

    DOCUMENTATION = r"""
options:
  endpoints:
    description:
      - The NameNodes' HTTPS addresses, such as V(https://nn1.example.org:9871). With several, the
        active one is found; a standby or a dead one leads to the next.
      - When not given, they are those that C(hdfs-site.xml) in O(conf_dir) names.
    type: list
    elements: str
  keytab:
    description: The keytab of who does the work, on the host where the module runs.
    type: path
    default: /etc/security/keytabs/hdfs.keytab
  principal:
    description: Whose key of O(keytab) to use. When not given, C(nn/) and the host's full name.
    type: str
  ca_path:
    description: The CA certificates that vouch for NameNodes and DataNodes. Certificates and the
      names in them are always verified.
    type: path
    default: /etc/deitos/pki/ca.crt
  conf_dir:
    description: Where C(hdfs-site.xml) is, when O(endpoints) is not given.
    type: path
    default: /etc/hadoop
  timeout:
    description: How many seconds to wait for a connection or an answer.
    type: int
    default: 60
  parallel:
    description: How many connections do the work side by side.
    type: int
    default: 4
requirements:
  - python-gssapi (Debian C(python3-gssapi)) on the host that runs the module
notes:
  - Works over WebHDFS with HTTPS and Kerberos. One login a call; no JVM is started.
  - The ticket lives in the module's memory. Nobody's credentials cache is read or written.
  - An item that fails does not hide the others. All good items are done, then the task fails and
    names each bad one with its reason.
  - Set the options above once with C(module_defaults) and the group C(deitos.cluster.hdfs).
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    description: Says what would change without changing it.
    support: full
  diff_mode:
    description: Shows each path that changes, with what differs.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
"""
