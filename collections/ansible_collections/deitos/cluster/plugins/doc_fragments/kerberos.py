# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation that the Kerberos modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of how the KDC's database is reached."""

    DOCUMENTATION = r"""
options:
  realm:
    description:
      - The realm to manage; the default realm of the host's C(krb5.conf) when not given.
    type: str
  admin_server:
    description:
      - Talk to this kadmind (C(host) or C(host:port)) with C(kadmin) instead of opening the
        database with C(kadmin.local).
      - Needs O(admin_keytab) with O(admin_principal), or O(admin_ccache). There is no way to give
        a password.
      - What C(kadm5.acl) on the KDC grants the administrator is what can be done. Reading keys, for
        keytabs and to compare passwords, takes the letters C(i) and C(e), and C(*) is without C(e).
    type: str
  admin_principal:
    description:
      - The administrator's principal in O(admin_keytab).
    type: str
  admin_keytab:
    description:
      - A keytab of the administrator. The ticket lives in the memory of C(kadmin) only; no
        credentials cache of anybody is read or written.
    type: path
  admin_ccache:
    description:
      - A credentials cache that holds a ticket for C(kadmin/admin), instead of a keytab.
    type: str
  kadmin_path:
    description:
      - The program to use instead of C(kadmin.local) (or C(kadmin)) from the path.
    type: path
notes:
  - The names and passwords of the whole list go to one C(kadmin.local) process on its standard
    input, so that none is seen in a process list.
  - E(KRB5_CONFIG) and E(KRB5_KDC_PROFILE) of the task's environment are honoured.
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
    description: Says what has changed, or would change, item by item. Never shows a secret.
    support: full
"""
