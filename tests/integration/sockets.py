"""What listens on a machine, and what answers when somebody knocks."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import yaml
from labhosts import CA

DOCUMENTED = yaml.safe_load(Path(__file__).with_name("ports.yml").read_text(encoding="utf-8"))


@dataclass(frozen=True, order=True)
class Socket:
    """A port that a machine listens on."""

    host: str
    protocol: str
    address: str
    port: int
    user: str

    @property
    def loopback(self):
        address = ipaddress.ip_address(self.address)
        # The JVM's sockets are of both protocols: ::ffff:127.0.0.1.
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def numbers(ports):
    """Every number in a list of ports and of ranges first-last."""
    for item in ports:
        first, _, last = str(item).partition("-")
        yield from range(int(first), int(last or first) + 1)


def listening(cluster, host):
    """All sockets of a machine that listen."""
    machine = cluster.machine(host)
    lines = machine.check_output("ss -H -n -l -e --tcp --udp").splitlines()
    # People are not among what the directory lists, but are known by their number.
    uids = set(re.findall(r"\buid:(\d+)", "\n".join(lines)))
    known = machine.run(f"getent passwd {' '.join(sorted(uids))}").stdout.splitlines()
    names = dict(line.split(":")[2::-2] for line in known if uids)
    found = set()
    for line in lines:
        protocol, _state, _received, _sent, local, *rest = line.split()
        address, _, port = local.rpartition(":")
        address = address.strip("[]").split("%")[0].replace("*", "::")
        uid = re.search(r"\buid:(\d+)", " ".join(rest))
        user = names.get(uid.group(1), uid.group(1)) if uid else "root"
        found.add(Socket(host, protocol, address, int(port), user))
    return found


def entries_of(cluster, host):
    """The documented ports of a machine."""
    groups = {
        name
        for name, group in cluster.inventory.items()
        if host in group.get("hosts", []) or name == "all"
    }
    return [entry for entry in DOCUMENTED["ports"] if entry["group"] in groups]


def undocumented(cluster, host):
    """Sockets beyond loopback that are not on the list, or belong to somebody else."""
    allowed = {
        (protocol, port, entry.get("user"))
        for entry in entries_of(cluster, host)
        for protocol in entry.get("protocols", ["tcp"])
        for port in numbers(entry["ports"])
    }

    def unknown():
        return {
            socket
            for socket in listening(cluster, host)
            if not socket.loopback
            and (socket.protocol, socket.port, socket.user) not in allowed
            and (socket.protocol, socket.port, None) not in allowed
        }

    # A client that waits for a datagram is gone a moment later.
    found = unknown()
    return sorted(found & unknown()) if found else []


def addresses(cluster, protection, *, job=False):
    """(full name, port) of all documented sockets of one protection that always listen."""
    return [
        (f"{host}.{cluster.domain}", port)
        for host in cluster.everyone()
        for entry in entries_of(cluster, host)
        if entry["protection"] == protection and entry.get("job", False) == job
        for port in numbers(entry["ports"])
    ]


# Runs on a machine of the cluster, with the addresses to knock at on its standard input.
KNOCK = Path(__file__).with_name("knock.py")


def knock(machine, kind, places):
    """What each of the (host, port) answered to one kind of call, in their order."""
    request = json.dumps({"kind": kind, "places": places, "ca": CA})
    done = machine.run(
        f"printf %s {shlex.quote(request)} | python3 -c {shlex.quote(KNOCK.read_text())}"
    )
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)
