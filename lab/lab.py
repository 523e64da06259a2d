#!/usr/bin/env python3
"""The lab: machines that boot systemd in containers, reached over SSH like any others.

    lab.py up [MACHINE...]      start them (all five unless named); repairs what is half-made
    lab.py down [MACHINE...]    remove them, and with the last one all that belongs to the lab
    lab.py status               what runs where
    lab.py ssh MACHINE [COMMAND...]
    lab.py image                build the machines' image
    lab.py build                that image, and what machines install: releases and a small model

LAB in the environment names the lab (default: deitos), so that several stand side by side. Lab
`deitos` is the domain deitos.network; any other lab L is L.L.network.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent
sys.path.insert(0, str(HERE / "image"))

import build as image  # noqa: E402  it lies beside its package list, not on the path

MACHINES = ("kdc1", "master1", "worker1", "worker2", "edge1")
LABEL_LAB = "network.deitos.lab"
LABEL_CHECKOUT = "network.deitos.checkout"
RELEASES_IN_MACHINE = "/var/cache/deitos/releases"
# What systemd needs to be PID 1; a machine is not --privileged.
SYSTEMD = (
    *("--cap-add", "SYS_ADMIN", "--cgroupns", "private", "--stop-signal", "SIGRTMIN+3"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--tmpfs", "/run", "--tmpfs", "/run/lock"),
)
BOOT_SECONDS = 90


class LabError(Exception):
    """The lab cannot do what was asked; the text says why and what to do."""


def cache() -> Path:
    """Where everything lies that is not part of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deitos-cluster"


def say(text: str) -> None:
    """Tell the user what is going on."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def docker(*arguments: str, check: bool = True, stdin: str | None = None) -> str:
    """Run docker and return what it printed."""
    result = subprocess.run(
        ["docker", *arguments], input=stdin or "", capture_output=True, text=True
    )
    if check and result.returncode != 0:
        raise LabError(f"docker {' '.join(arguments)[:200]}: {result.stderr.strip()}")
    return result.stdout.strip()


def inspect(kind: str, *names: str) -> list[dict]:
    """What Docker knows of these containers or networks; those that do not exist are left out."""
    if not names:
        return []
    command = ["docker", kind, "inspect", *names]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0 and not re.search(r"No such|not found", result.stderr):
        raise LabError(f"docker {kind} inspect: {result.stderr.strip()}")
    return json.loads(result.stdout or "[]")


def outer_mtu() -> int:
    """The largest packet that leaves this computer whole; Docker would assume 1500."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return int(Path(f"/sys/class/net/{fields[0]}/mtu").read_text())
    return 1500


@dataclass(frozen=True)
class Lab:
    """A lab's names; everything follows from its own."""

    name: str

    @property
    def network(self) -> str:
        return f"{self.name}.network"

    @property
    def domain(self) -> str:
        return self.network if self.name == "deitos" else f"{self.name}.{self.network}"

    @property
    def state(self) -> Path:
        return cache() / "labs" / self.name

    @property
    def ssh_config(self) -> Path:
        return self.state / "ssh_config"

    @property
    def key(self) -> Path:
        return self.state / "id_ed25519"

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL_LAB: self.name, LABEL_CHECKOUT: str(CHECKOUT)}

    def container(self, machine: str) -> str:
        """Docker's reverse DNS answers <container>.<network>: this name makes that the FQDN."""
        return machine if self.name == "deitos" else f"{machine}.{self.name}"

    def machine(self, container: str) -> str:
        return container.removesuffix(f".{self.name}")

    def fqdn(self, machine: str) -> str:
        return f"{machine}.{self.domain}"

    @contextlib.contextmanager
    def locked(self):
        """One command at a time changes a lab."""
        locks = cache() / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / self.name).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def label_options(self) -> list[str]:
        return [word for pair in self.labels.items() for word in ("--label", "=".join(pair))]

    def must_own(self, kind: str, thing: dict) -> None:
        """Refuse to touch what another lab, another checkout or another tool made."""
        name = thing["Name"].lstrip("/")
        labels = (thing.get("Config") or thing).get("Labels") or {}
        if labels.get(LABEL_LAB) != self.name:
            raise LabError(
                f"a {kind} named {name} exists and is not part of lab {self.name}:"
                f" remove it (docker {kind} rm {name}) or choose another lab (LAB=name)"
            )
        if labels.get(LABEL_CHECKOUT) != str(CHECKOUT):
            raise LabError(
                f"lab {self.name} belongs to the checkout {labels.get(LABEL_CHECKOUT)}:"
                " destroy it there or choose another lab (LAB=name)"
            )

    def containers(self) -> dict[str, dict]:
        """This lab's machines, running or not, by machine name."""
        filters = [f"label={LABEL_LAB}={self.name}", f"label={LABEL_CHECKOUT}={CHECKOUT}"]
        options = [word for item in filters for word in ("--filter", item)]
        found = inspect("container", *docker("ps", "-aq", *options).split())
        return {self.machine(item["Name"].lstrip("/")): item for item in found}


def ensure_network(lab: Lab) -> None:
    """The network, whose name is the DNS domain."""
    for network in inspect("network", lab.network):
        lab.must_own("network", network)
        return
    mtu = f"com.docker.network.driver.mtu={outer_mtu()}"
    docker("network", "create", *lab.label_options(), "--opt", mtu, lab.network)


def ensure_container(lab: Lab, machine: str, image_name: str) -> None:
    """One machine, created if it is missing, started if it is not."""
    for container in inspect("container", lab.container(machine)):
        lab.must_own("container", container)
        if lab.network not in container["NetworkSettings"]["Networks"]:
            say(f"{machine} is not on the network {lab.network}: making it anew")
            docker("rm", "-fv", lab.container(machine))
            break
        if container["Config"]["Image"] != image_name:
            say(f"{machine} runs an older image; `make destroy` first if you want the new one")
        if not container["State"]["Running"]:
            say(f"{machine} was {container['State']['Status']}: starting it")
            docker("start", lab.container(machine))
        return
    docker(
        *("run", "--detach", "--name", lab.container(machine), "--hostname", lab.fqdn(machine)),
        *("--network", lab.network, "--network-alias", lab.fqdn(machine)),
        *("--network-alias", machine, "--dns-search", lab.domain),
        *lab.label_options(),
        *SYSTEMD,
        *("--volume", f"{cache() / 'releases'}:{RELEASES_IN_MACHINE}:ro"),
        image_name,
    )


def wait_for_boot(lab: Lab, machine: str) -> None:
    """Until systemd calls the machine running."""
    deadline = time.monotonic() + BOOT_SECONDS
    state = ""
    while time.monotonic() < deadline:
        state = docker(
            "exec", lab.container(machine), "systemctl", "is-system-running", check=False
        )
        if state == "running":
            return
        if state == "degraded":
            failed = docker("exec", lab.container(machine), "systemctl", "--failed", "--plain")
            say(f"{machine} is up, with failed units:\n{failed}")
            return
        time.sleep(0.3)
    raise LabError(
        f"{machine} is not up after {BOOT_SECONDS} s (systemd says {state or 'nothing'}):"
        f" see `docker logs {lab.container(machine)}` and `make destroy` to start over"
    )


def admit(lab: Lab, machine: str) -> str:
    """Let this lab's key in, and return the machine's own host key."""
    script = "umask 077 && mkdir -p /root/.ssh && cat > /root/.ssh/authorized_keys"
    public = lab.key.with_suffix(".pub").read_text()
    docker("exec", "-i", lab.container(machine), "sh", "-c", script, stdin=public)
    key = "/etc/ssh/ssh_host_ed25519_key.pub"
    return " ".join(docker("exec", lab.container(machine), "cat", key).split()[:2])


def ensure_key(lab: Lab) -> None:
    """The key of this lab, born here, used nowhere else."""
    lab.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not lab.key.exists() or not lab.key.with_suffix(".pub").exists():
        lab.key.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {lab.name}"]
        subprocess.run([*command, "-f", str(lab.key)], check=True, stdin=subprocess.DEVNULL)


def replace(path: Path, text: str) -> None:
    """Write a file whole."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def write_ssh_config(lab: Lab, host_keys: dict[str, str]) -> None:
    """How ssh and Ansible reach the machines: pinned keys, nothing taken on trust."""
    known = "".join(f"{machine} {key}\n" for machine, key in sorted(host_keys.items()))
    replace(lab.state / "known_hosts", known)
    stanzas = []
    for machine, container in sorted(lab.containers().items()):
        address = container["NetworkSettings"]["Networks"][lab.network]["IPAddress"]
        if machine in host_keys:
            stanzas.append(
                f"Host {machine} {lab.fqdn(machine)}\n"
                f"    HostName {address}\n    HostKeyAlias {machine}\n"
            )
    stanzas.append(
        "Host *\n"
        "    User root\n"
        f'    IdentityFile "{lab.key}"\n'
        "    IdentitiesOnly yes\n"
        f'    UserKnownHostsFile "{lab.state / "known_hosts"}"\n'
        "    GlobalKnownHostsFile none\n"
        "    StrictHostKeyChecking yes\n"
        "    LogLevel ERROR\n"
    )
    replace(lab.ssh_config, "\n".join(stanzas))
    (lab.state / "control").mkdir(exist_ok=True, mode=0o700)


def close_connections(lab: Lab) -> None:
    """End Ansible's kept connections: a machine made anew may get an old one's address."""
    for socket in lab.state.glob("control/*"):
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"]
        subprocess.run(command, capture_output=True)
        socket.unlink(missing_ok=True)


def up(lab: Lab, machines: list[str]) -> None:
    """Start machines."""
    started = time.monotonic()
    image_name = image.build(cache(), say)
    with lab.locked(), concurrent.futures.ThreadPoolExecutor(len(MACHINES)) as pool:
        (cache() / "releases").mkdir(parents=True, exist_ok=True)
        ensure_key(lab)
        ensure_network(lab)
        list(pool.map(lambda machine: ensure_container(lab, machine, image_name), machines))
        running = [name for name, item in lab.containers().items() if item["State"]["Running"]]
        list(pool.map(lambda machine: wait_for_boot(lab, machine), running))
        host_keys = dict(zip(running, pool.map(lambda name: admit(lab, name), running)))
        write_ssh_config(lab, host_keys)
    say(f"{lab.name}: {' '.join(sorted(running))} up ({time.monotonic() - started:.0f} s)")


def down(lab: Lab, machines: list[str]) -> None:
    """Remove machines, and with the last one the network, key and addresses."""
    with lab.locked():
        networks = inspect("network", lab.network)
        # Before anything else: the state of a lab goes by its name, whichever checkout has it.
        for network in networks:
            lab.must_own("network", network)
        found = lab.containers()
        going = [name for name in found if not machines or name in machines]
        if lab.state.exists():
            close_connections(lab)
        if going:
            docker("rm", "-fv", *(lab.container(name) for name in going))
        if len(going) == len(found):
            if networks:
                docker("network", "rm", lab.network)
            shutil.rmtree(lab.state, ignore_errors=True)
    say(f"{lab.name}: removed {' '.join(sorted(going)) or 'nothing: no machine of it was here'}")


def status(lab: Lab) -> None:
    """What runs where."""
    found = lab.containers()
    if not found:
        raise LabError(f"lab {lab.name} is not up (make cluster, or lab/lab.py up)")
    for machine, container in sorted(found.items()):
        state = container["State"]["Status"]
        if state == "running":
            state = docker("exec", container["Id"], "systemctl", "is-system-running", check=False)
        networks = container["NetworkSettings"]["Networks"]
        address = networks.get(lab.network, {}).get("IPAddress", "")
        print(f"{machine:10} {lab.fqdn(machine):32} {address:16} {state}")


def ssh(lab: Lab, machine: str, command: list[str]) -> None:
    """Become a shell on a machine."""
    if not lab.ssh_config.exists():
        raise LabError(f"lab {lab.name} is not up (make cluster, or lab/lab.py up)")
    os.execvp("ssh", ["ssh", "-F", str(lab.ssh_config), machine, *command])


def build() -> None:
    """Make what is missing of what the machines install, and the image that they start from."""
    out = cache() / "releases"

    def run(builder: str, *arguments: str) -> None:
        command = [sys.executable, str(HERE / builder / "build.py"), *arguments]
        # The builders say on standard error what they do; what they made is no concern here.
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
            raise LabError(f"lab/{builder} could not be built; its lines above say why")

    # Side by side: one downloads while another compiles.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        parts = [
            pool.submit(run, "wheels", "--out", str(out)),
            pool.submit(run, "releases", "--out", str(out)),
            pool.submit(run, "model", str(out / "tiny.gguf")),
            pool.submit(image.build, cache(), say),
        ]
    for part in parts:
        part.result()


def machine_name(text: str) -> str:
    """A machine's short name, as an argument."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a machine's name is a lower-case DNS label")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("up", "down"):
        commands.add_parser(name).add_argument("machines", nargs="*", type=machine_name)
    for name in ("status", "image", "build"):
        commands.add_parser(name)
    shell = commands.add_parser("ssh")
    shell.add_argument("machine", type=machine_name)
    shell.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    lab = Lab(os.environ.get("LAB") or "deitos")
    try:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", lab.name):
            raise LabError(f"LAB={lab.name}: a lab's name is a lower-case DNS label")
        match arguments.command:
            case "up":
                up(lab, arguments.machines or list(MACHINES))
            case "down":
                down(lab, arguments.machines)
            case "status":
                status(lab)
            case "ssh":
                ssh(lab, arguments.machine, arguments.words)
            case "image":
                print(image.build(cache(), say))
            case "build":
                build()
    except (LabError, image.ImageError) as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
