# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation of the modules that ask a Hadoop daemon over HTTPS with Kerberos."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of who asks, and whom to trust."""

    DOCUMENTATION = r"""
options:
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
requirements:
  - python-gssapi (Debian C(python3-gssapi)) on the host that runs the module
notes:
  - The ticket lives in the module's memory. Nobody's credentials cache is read or written.
"""
