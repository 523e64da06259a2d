# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation that the YARN modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of how YARN is reached."""

    DOCUMENTATION = r"""
options:
  endpoints:
    description: The ResourceManagers' HTTPS addresses, such as V(https://rm1.example.org:8090).
      With several, the active one is found.
    type: list
    elements: str
    required: true
  keytab:
    description: The keytab of who asks, on the host where the module runs.
    type: path
    required: true
  principal:
    description: Whose key of O(keytab) to use; the first one's when not given.
    type: str
  ca_path:
    description: The CA certificates that vouch for the servers. Certificates and the names in them
      are always verified.
    type: path
    default: /etc/deitos/pki/ca.crt
  timeout:
    description: How many seconds to wait for a connection or an answer.
    type: int
    default: 30
requirements:
  - python-gssapi (Debian C(python3-gssapi)) on the host that runs the module
notes:
  - The ticket lives in the module's memory. Nobody's credentials cache is read or written.
"""
