"""People made for tests with the roles' own modules, and their ways in."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pexpect
from labhosts import INVENTORY, ROOT, SSH_CONFIG

NEW_PASSWORD = "Correct-horse-9-battery"


class People:
    """People made for these tests with the roles' own modules, and their ways in."""

    def __init__(self, cluster, directory):
        self.cluster = cluster
        self.key = directory / "key"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True
        )
        self.public = self.key.with_suffix(".pub").read_text().strip()
        self.passwords = {}

    def module(self, name, **parameters):
        """One task on the KDC, which is where these modules run."""
        play = [
            {
                "hosts": "kdc[0]" if name.startswith("kerberos") else "ldap[0]",
                "gather_facts": False,
                "tasks": [{"name": "Do", f"deitos.cluster.{name}": parameters}],
            }
        ]
        path = self.key.with_name("play.json")
        path.write_text(json.dumps(play))
        done = subprocess.run(
            ["ansible-playbook", "-i", str(INVENTORY), str(path)],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def set(self, states, groups=("twins",), group_state="present"):
        """Bring people into these states in the KDC and in LDAP, as the roles do it."""
        self.module(
            "kerberos_principal",
            principals=[
                {"name": name, "state": state, "initial_password": True, "policy": "people"}
                for name, state in states.items()
            ],
            flags={"requires_preauth": True, "allow_svr": False},
        )
        base = "dc=" + self.cluster.domain.replace(".", ",dc=")
        self.module(
            "ldap_directory",
            people_base=f"ou=people,{base}",
            groups_base=f"ou=groups,{base}",
            people=[
                {"name": name, "state": state, "ssh_keys": [self.public], "groups": list(groups)}
                for name, state in states.items()
            ],
            groups=[{"name": "twins", "state": group_state}],
        )

    def renew(self, name):
        """Somebody of the list as on the first day: with a first password, which is returned."""
        made = {"name": name, "initial_password": True, "policy": "people"}
        flags = {"requires_preauth": True, "allow_svr": False}
        self.module("kerberos_principal", principals=[{"name": name, "state": "absent"}])
        self.cluster.first("kdc").run(f"rm -f /var/lib/deitos/initial-passwords/{name}")
        self.module("kerberos_principal", principals=[made], flags=flags)
        return self.initial_password(name)

    def change(self, name, old, new):
        """Change a password as its owner does; returns the result of kpasswd."""
        lines = f"{old}\n{new}\n{new}\n"
        command = f"printf %s {shlex.quote(lines)} | kpasswd {name}"
        return self.cluster.first("edge").run(command)

    def initial_password(self, name):
        kdc = self.cluster.first("kdc")
        return kdc.check_output(f"cat /var/lib/deitos/initial-passwords/{name}").strip()

    def ssh_password(self, name, host, *answers):
        """Log in with a password, giving these answers; returns the output, or None if refused."""
        options = ["ControlPath=none", "PubkeyAuthentication=no", "NumberOfPasswordPrompts=1"]
        words = [word for option in options for word in ("-o", option)]
        child = pexpect.spawn(
            "ssh",
            ["-F", str(SSH_CONFIG), *words, "-l", name, host, "id -un; klist -f"],
            encoding="utf-8",
            timeout=30,
        )
        for answer in answers:
            child.expect(r"(?i)password: ?$")
            child.sendline(answer)
        child.expect(pexpect.EOF)
        child.close()
        return child.before if child.exitstatus == 0 else None

    def ssh_key(self, name, host):
        """Log in with the SSH key; returns the exit status."""
        options = ["ControlPath=none", "BatchMode=yes", "GSSAPIAuthentication=no"]
        words = [word for option in options for word in ("-o", option)]
        command = ["ssh", "-F", str(SSH_CONFIG), *words, "-i", str(self.key), "-l", name, host]
        done = subprocess.run(
            [*command, "id -un"],
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0 or done.stdout.strip() == name
        return done.returncode

    def kinit(self, name, password):
        """Ask for a ticket with a password; returns the result of kinit."""
        machine = self.cluster.first("edge")
        return machine.run(
            f"printf '%s\\n' {shlex.quote(password)} | kinit -c FILE:/tmp/krb5cc_kinit {name};"
            " status=$?; kdestroy -q -c FILE:/tmp/krb5cc_kinit; exit $status"
        )
