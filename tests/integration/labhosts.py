"""The converged lab, as the suites see it: machines over SSH, users with tickets, URLs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[2]
LAB = os.environ.get("LAB") or "deitos"
# Which hosts a scenario has, and what they are.
INVENTORY = ROOT / (os.environ.get("LAB_INVENTORY") or "inventories/lab")
STATE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deitos-cluster/labs" / LAB
)
SSH_CONFIG = STATE / "ssh_config"
CA = "/etc/deitos/pki/ca.crt"
# One connection a machine, which all commands share.
SOCKETS = tempfile.TemporaryDirectory(prefix="labhosts-")


class Cluster:
    """The inventory, and one SSH connection a machine."""

    def __init__(self, inventory=INVENTORY):
        listing = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-inventory")),
                "-i",
                str(inventory),
                "--list",
            ],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        self.inventory = json.loads(listing.stdout)
        self.domain = "deitos.network" if LAB == "deitos" else f"{LAB}.{LAB}.network"
        self.realm = self.domain.upper()

    def hosts(self, group):
        """The inventory names in a group."""
        return self.inventory[group]["hosts"]

    def everyone(self):
        """The inventory names of all machines."""
        return sorted({h for group in self.inventory.values() for h in group.get("hosts", [])})

    def fqdn(self, group):
        """The full name of a group's first host."""
        return f"{self.hosts(group)[0]}.{self.domain}"

    @cache  # noqa: B019 one cluster a run
    def machine(self, name):
        """A connection to one host, by its inventory name."""
        return testinfra.get_host(
            f"ssh://{name}",
            ssh_config=str(SSH_CONFIG),
            controlpath=f"{SOCKETS.name}/{name}",
        )

    def first(self, group):
        """A connection to a group's first host."""
        return self.machine(self.hosts(group)[0])

    def web(self):
        """The HTTPS address of each daemon with a web UI."""
        ports = {
            "namenode": 9871,
            "secondarynamenode": 9869,
            "datanode": 9865,
            "resourcemanager": 8090,
            "nodemanager": 8044,
            "historyserver": 19890,
            "hiveserver2": 10002,
        }
        return {group: f"https://{self.fqdn(group)}:{port}" for group, port in ports.items()}


class Session:
    """A user's shell on a machine, with a ticket cache of its own (or without a ticket)."""

    def __init__(self, machine, user, name=None):
        self.machine = machine
        self.user = user
        self.cache = f"/tmp/krb5cc_test_{name or user}"

    def run(self, command, stdin=None):
        """Run a shell command as the user; returns rc, stdout and stderr."""
        inner = f"cd /tmp && export KRB5CCNAME=FILE:{self.cache} && {command}"
        # ssh keeps 255 for its own failures.
        inner = f"( {inner} ); code=$?; exit $((code == 255 ? 254 : code))"
        outer = f"runuser -u {self.user} -- bash -c {shlex.quote(inner)}"
        if stdin is not None:
            outer = f"printf %s {shlex.quote(stdin)} | {outer}"
        return self.machine.run(outer)

    def ok(self, command, stdin=None):
        """Run a command that must succeed; returns what it printed."""
        done = self.run(command, stdin)
        assert done.rc == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def login(self, principal, keytab):
        """Get a ticket from a keytab."""
        self.ok(f"kinit -kt {keytab} {principal}")
        return self

    def curl(self, url, *options, negotiate=True):
        """Fetch a URL with the certificate verified; returns status and body."""
        auth = "--negotiate -u :" if negotiate else ""
        words = " ".join(shlex.quote(option) for option in options)
        done = self.run(
            f"curl -sS --cacert {CA} {auth} {words} -w '\\n%{{http_code}}' {shlex.quote(url)}"
        )
        body, _, status = done.stdout.rpartition("\n")
        return SimpleNamespace(
            status=int(status or 0), body=body, error=done.stderr, json=lambda: json.loads(body)
        )


@contextlib.contextmanager
def names_resolve():
    """Here, for programs of these tests, the names of the lab's hosts mean what they do there."""
    stanzas = re.findall(r"^Host \S+ (\S+)\n\s+HostName (\S+)", SSH_CONFIG.read_text(), re.M)
    lab, known = dict(stanzas), socket.getaddrinfo

    def resolve(host, *words, **more):
        name = host.decode() if isinstance(host, bytes) else host
        return known(lab.get(name, host), *words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield lab


def report(cluster, session, application):
    """What the ResourceManager knows of an application, as this user may see it."""
    url = f"{cluster.web()['resourcemanager']}/ws/v1/cluster/apps/{application}"
    answer = session.curl(url)
    return answer.json()["app"] if answer.status == 200 else {}


def wait(what, probe, seconds=90, delay=1):
    """Ask until the answer is something; returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(delay)
    return answer


def account(cluster, user):
    """A service account's session on the edge, with a ticket from its keytab."""
    session = Session(cluster.first("edge"), user)
    return session.login(user, f"/etc/security/keytabs/{user}.keytab")
