"""Build the lab's machine image: a minimal Debian that boots systemd in a container.

The image's tag carries a digest of all that goes into it (this file, the package list, the
mirrors and the certificate authorities of the computer it is built on), and the tag is set only
on a finished image: a tag that exists is always whole and the one meant.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = "deitos-cluster/machine"
LABEL = "network.deitos.image"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
SITE_CAS = Path("/usr/local/share/ca-certificates")
# Units that make no sense without hardware, or fail in a container.
MASKED = (
    "console-getty.service",
    "getty.target",
    "getty-static.service",
    "systemd-firstboot.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-udev-trigger.service",
    "systemd-udevd.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "dev-hugepages.mount",
)
# PID 1. On cgroup v2 Docker mounts the machine's own part of the hierarchy read-only.
INIT = """\
#!/bin/sh
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -o remount,rw /sys/fs/cgroup
fi
exec /lib/systemd/systemd
"""
# Host keys are born in the machine, never in the image.
HOST_KEYS = """\
[Unit]
Description=Create this machine's SSH host keys
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""


class ImageError(Exception):
    """The image cannot be built; the text says why."""


def packages(kind: str) -> list[str]:
    """The names that packages.txt lists as `include` or `download`."""
    lines = (line.split() for line in (HERE / "packages.txt").read_text().splitlines())
    return [words[1] for words in lines if words and words[0] == kind]


def host_sources(root: Path = Path("/etc/apt")) -> list[tuple[str, list[str]]]:
    """Debian's archives that this computer uses, as (address, suites)."""
    found = []
    for path in sorted(root.glob("sources.list.d/*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", "\n".join(lines), re.M))
            if fields.get("Enabled", "yes") != "no" and "deb" in fields.get("Types", "").split():
                for address in fields.get("URIs", "").split():
                    found.append((address, fields.get("Suites", "").split()))
    for path in [root / "sources.list", *sorted(root.glob("sources.list.d/*.list"))]:
        text = path.read_text() if path.exists() else ""
        for address, suite in re.findall(r"^deb\s+(?:\[.*?\]\s*)?(\S+)\s+(\S+)", text, re.M):
            found.append((address, [suite]))
    ours = re.compile(rf"{SUITE}(-updates|-security)?$")
    return [
        (address.rstrip("/"), kept)
        for address, suites in found
        if (kept := [suite for suite in suites if ours.match(suite)])
    ]


def apt_sources() -> str:
    """The machines' sources.list."""
    sources = host_sources()
    if not any(SUITE in suites for _, suites in sources):
        raise ImageError(
            f"this computer's apt sources name no archive of Debian {SUITE}: add one to"
            " /etc/apt/sources.list (the lab's machines take theirs from there)"
        )
    lines = [f"deb {address} {suite} main" for address, suites in sources for suite in suites]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def apt_settings() -> str:
    """This computer's proxy and date checks, so that apt works in the machines as it does here."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True)
    wanted = r'^(Acquire::(?:https?::Proxy|Check-Date|Check-Valid-Until) "[^"]+";)$'
    return "".join(f"{line}\n" for line in re.findall(wanted, dump.stdout, re.M))


def recipe() -> str:
    """A digest of all that decides what the image holds."""
    digest = hashlib.sha256()
    parts = [apt_sources().encode(), apt_settings().encode(), CA_BUNDLE.read_bytes()]
    for path in (Path(__file__), HERE / "packages.txt"):
        parts.append(path.read_bytes())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:12]


def tag() -> str:
    """The name of the image that this recipe makes."""
    return f"{REPOSITORY}:{recipe()}"


def exists(name: str) -> bool:
    """Whether Docker has this image."""
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True).returncode == 0


def run(*command: str, log: Path) -> None:
    """Run a step of the build; its output goes to the log, its end into the error."""
    with log.open("a") as stream:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    if result.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise ImageError(f"{' '.join(command)[:200]} failed; the end of {log}:\n{last}")


def write(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    """Put a file into the image."""
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)


def settle(root: Path) -> None:
    """What makes the tree the image of many machines, none of which exists yet."""
    (root / "etc/machine-id").write_text("")
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    write(root, "usr/local/sbin/lab-init", INIT, 0o755)
    write(root, "etc/systemd/system/ssh-host-keys.service", HOST_KEYS)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    (wants / "ssh-host-keys.service").symlink_to("/etc/systemd/system/ssh-host-keys.service")
    # Keys only, as on any machine worth the name; people get passwords through Kerberos and PAM.
    write(root, "etc/ssh/sshd_config.d/10-lab.conf", "PermitRootLogin prohibit-password\n")
    for path in ("etc/hostname", "etc/resolv.conf"):
        (root / path).unlink(missing_ok=True)


def trust(root: Path) -> None:
    """The certificate authorities of this computer: behind a site's proxy apt needs them."""
    target = root / "usr/local/share/ca-certificates"
    target.mkdir(parents=True, exist_ok=True)
    for path in SITE_CAS.glob("**/*.crt"):
        shutil.copy(path, target / path.name)


def build(cache: Path, say) -> str:
    """Make the image if it is missing, and return its name."""
    name = tag()
    if exists(name):
        return name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if exists(name):
            return name
        say(f"building the image {name} (about two minutes, once)")
        for leftover in cache.glob("image-*.tmp"):
            shutil.rmtree(leftover)
        root = Path(tempfile.mkdtemp(prefix="image-", suffix=".tmp", dir=cache))
        root.chmod(0o755)
        try:
            assemble(root, cache / "image.log")
            load(root, name, cache / "image.log")
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return name


def assemble(root: Path, log: Path) -> None:
    """Fill the tree."""
    log.write_text("")
    address = next(address for address, suites in host_sources() if SUITE in suites)
    options = ("--variant=minbase", f"--keyring={KEYRING}")
    include = f"--include={','.join(packages('include'))}"
    run("debootstrap", *options, include, SUITE, str(root), address, log=log)
    write(root, "etc/apt/sources.list", apt_sources())
    write(root, "etc/apt/apt.conf.d/90lab", apt_settings())
    trust(root)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    chroot = ("chroot", str(root), "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
    run(*chroot, "update-ca-certificates", log=log)
    run(*chroot, "apt-get", "update", "-q", log=log)
    run(*chroot, "apt-get", "upgrade", "-qy", log=log)
    run(*chroot, "apt-get", "clean", log=log)
    download = ("apt-get", "install", "-qy", "--download-only", "--no-install-recommends")
    run(*chroot, *download, *packages("download"), log=log)
    settle(root)


def load(root: Path, name: str, log: Path) -> None:
    """Give the tree to Docker."""
    changes = [
        'CMD ["/usr/local/sbin/lab-init"]',
        "ENV container=docker",
        f"LABEL {LABEL}={name}",
    ]
    options = [word for change in changes for word in ("--change", change)]
    pack = ["tar", "--numeric-owner", "--one-file-system", "-C", str(root), "-c", "."]
    with (
        log.open("a") as stream,
        subprocess.Popen(pack, stdout=subprocess.PIPE, stderr=stream) as archive,
    ):
        loaded = subprocess.run(
            ["docker", "import", *options, "-"],
            stdin=archive.stdout,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )
    if archive.returncode or loaded.returncode:
        last = log.read_text(errors="replace").splitlines()[-1]
        raise ImageError(f"docker import failed: {last}")
    # Named last: an interrupted import leaves an image without a name.
    run("docker", "tag", loaded.stdout.strip(), name, log=log)
