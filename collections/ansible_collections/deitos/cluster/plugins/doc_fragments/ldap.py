# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation that the LDAP modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of how the directory server is reached."""

    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The server. The default is its local socket, where root needs no password.
    type: str
    default: ldapi:///
  bind:
    description:
      - V(external) is who the caller is on this host (with ldapi) or the name in O(client_cert)
        (over TLS), V(gssapi) is a Kerberos ticket.
    type: str
    choices: [external, gssapi]
    default: external
  start_tls:
    description: Whether to start TLS on an C(ldap://) connection before anything else is sent.
    type: bool
    default: false
  ca_path:
    description:
      - The certificates that vouch for the server; those of the operating system when not given.
        The certificate and its name are always verified.
    type: path
  client_cert:
    description:
      - A certificate to present to the server, in PEM, which must ask for one
        (C(olcTLSVerifyClient)).
    type: path
  client_key:
    description: The key of O(client_cert), in PEM.
    type: path
  keytab:
    description:
      - With O(bind=gssapi), get a ticket from this keytab into a private cache that is removed
        afterwards. Without it the caller's own ticket is used.
    type: path
  principal:
    description:
      - Whose key of O(keytab) to use; that of C(host/) and this host's name when not given.
    type: str
  timeout:
    description: How many seconds to wait for an answer of the server.
    type: int
    default: 30
requirements:
  - python-ldap (Debian C(python3-ldap)) on the host that runs the module
notes:
  - All work is done over one connection.
  - An item that fails does not hide the others. All good items are done, then the task fails and
    names each bad one with its reason.
"""

    ATTRIBUTES = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and says what would change without changing it.
    support: full
  diff_mode:
    description: Shows each entry that changes, with the attributes that differ.
    support: full
"""
