#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""The database of an MIT KDC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kerberos_database
short_description: Create the database and master key of an MIT KDC once
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Creates the database of a realm and its stash file with C(kdb5_util), under a random master
    password that is made on this host, handed over on standard input, and kept nowhere.
  - A database that is there is never written to; it is opened with its stash file, and one that
    cannot be opened, or has been lost, is an error.
  - The database is made beside its place and moved there last, so that a run that is cut off is
    finished by the next one.
attributes:
  check_mode:
    description: Can run in C(check_mode) and says what would change without changing it.
    support: full
  diff_mode:
    description: Tells that the database is created. Never shows a secret.
    support: full
options:
  realm:
    description: The realm. Its enctypes and lifetimes come from C(kdc.conf), which must be there.
    type: str
    required: true
  database:
    description: The path of the database, as C(kdc.conf) has it.
    type: path
    default: /var/lib/krb5kdc/principal
  stash:
    description: The path of the stash file, as C(kdc.conf) has it.
    type: path
    default: /etc/krb5kdc/stash
  kdb5_util_path:
    description: The program to use instead of C(kdb5_util) from the path.
    type: path
notes:
  - E(KRB5_CONFIG) and E(KRB5_KDC_PROFILE) of the task's environment are honoured.
"""

EXAMPLES = r"""
- name: Create the realm's database
  deitos.cluster.kerberos_database:
    realm: DEITOS.NETWORK
"""

RETURN = r"""
created:
  description: Whether the database was, or in check mode would be, created.
  returned: always
  type: bool
  sample: false
"""

import os
import secrets
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic

# What db2 keeps beside its file. The file itself is moved last: it is what says "finished".
COMPANIONS = (".kadm5.lock", ".kadm5", ".ok")


class Refused(Exception):
    """What is found must not be written over; the text says what to do."""


class Database:
    """The files of a database, and the place beside it where a new one is made."""

    def __init__(self, database, stash):
        self.database, self.stash = database, stash
        self.work = os.path.join(os.path.dirname(database), ".deitos-new")
        self.new = os.path.join(self.work, "principal")
        self.new_stash = os.path.join(self.work, "stash")
        self.complete = os.path.join(self.work, "complete")

    def exists(self):
        return os.path.exists(self.database)

    def check_absent(self):
        """Refuse when something tells that there has been a database here."""
        if os.path.exists(self.complete):
            return
        paths = [self.stash] + [self.database + suffix for suffix in COMPANIONS]
        left = [path for path in paths if os.path.exists(path)]
        if left:
            raise Refused(
                f"{self.database} is missing, but {', '.join(left)} tells of a database that was "
                "there. A new one would give every principal another key: restore the database "
                "from its backup (kdb5_util load), or, to start a new realm, move these files away"
            )

    def move_in(self):
        """Put a complete new database in its place; may be cut off and called again."""
        if os.path.exists(self.new_stash):
            with open(self.new_stash, "rb") as file:
                atomic.write_atomic(self.stash, file.read(), "root", "root", "0600")
        for suffix in (*COMPANIONS, ""):
            if os.path.exists(self.new + suffix):
                os.replace(self.new + suffix, self.database + suffix)
        shutil.rmtree(self.work)


def run(module, arguments, data=None):
    """Run kdb5_util; returns its exit status and what it said."""
    path = module.params["kdb5_util_path"] or module.get_bin_path(
        "kdb5_util", required=True, opt_dirs=["/usr/sbin"]
    )
    status, out, error = module.run_command(
        [path, "-r", module.params["realm"], *arguments], data=data, binary_data=True
    )
    return status, (error or out).strip()


def create(module, database):
    """Make a new database in its working place."""
    shutil.rmtree(database.work, ignore_errors=True)
    os.mkdir(database.work, 0o700)
    password = secrets.token_urlsafe(64)
    status, said = run(
        module,
        ["-d", database.new, "-sf", database.new_stash, "create", "-s"],
        # Asked for twice.
        data=f"{password}\n{password}\n",
    )
    if status:
        raise Refused(f"kdb5_util cannot create the database: {said.replace(password, '***')}")
    atomic.write_atomic(database.complete, b"")


def main():
    module = AnsibleModule(
        argument_spec={
            "realm": {"type": "str", "required": True},
            "database": {"type": "path", "default": "/var/lib/krb5kdc/principal"},
            "stash": {"type": "path", "default": "/etc/krb5kdc/stash"},
            "kdb5_util_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    database = Database(params["database"], params["stash"])
    try:
        if database.exists():
            status, said = run(module, ["list_mkeys"])
            if status:
                raise Refused(
                    f"the database {database.database} is there, but cannot be opened with the "
                    f"stash file {database.stash}: {said}. It is not written over: restore both "
                    "from one backup"
                )
            if not module.check_mode:
                # A run that was cut off at the very end.
                shutil.rmtree(database.work, ignore_errors=True)
            module.exit_json(changed=False, created=False)
        database.check_absent()
        if not module.check_mode:
            if not os.path.exists(database.complete):
                create(module, database)
            database.move_in()
    except Refused as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=True,
        created=True,
        diff={"before": "", "after": f"database of {params['realm']} in {database.database}\n"},
    )


if __name__ == "__main__":
    main()
