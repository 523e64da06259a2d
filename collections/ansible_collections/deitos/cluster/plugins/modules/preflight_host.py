#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a host is fit for the cluster: every check in one call, every fault in one message."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_host
short_description: Check whether a host is fit for the cluster, before anything is touched
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Reads, and never changes, what a host must bring along (operating system, init, Python, clock,
    names, memory, disks, mounts, free account numbers, a way to the releases).
  - All faults of a host are reported in one failure, each with what was expected and what to do.
  - Tells which packages and releases are installed, so that no role has to ask for those again.
attributes:
  check_mode:
    description: The module only reads, so it does the same in check mode.
    support: full
  diff_mode:
    description: There is nothing to show, since nothing changes.
    support: none
  facts:
    description: Sets RV(ansible_facts.deitos_packages) and RV(ansible_facts.deitos_releases).
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  name:
    description: The full name of this host.
    type: str
    required: true
  names:
    description: Full names of other hosts that this host talks to.
    type: list
    elements: str
    default: []
  check_names:
    description:
      - Whether names must resolve now, forward and reverse. Turn it off where this project writes
        the hosts file, which it has not done yet on a new host.
    type: bool
    default: true
  controller_time:
    description: The controller's time, in seconds since 1970 (UTC). Not compared when not given.
    type: float
  clock_tolerance:
    description:
      - How many seconds this host's clock may be behind the controller's.
      - It may be ahead by twice as many, because a host that is slow to answer seems to be.
    type: int
    default: 60
  systems:
    description: The operating systems that are known to work, as C(ID VERSION_ID) of os-release.
    type: list
    elements: str
    default: []
  allow_untested_system:
    description: Whether another operating system is only warned of.
    type: bool
    default: false
  installed:
    description:
      - A path that a finished installation has made. Where it exists, O(memory_mb) and O(disk_mb)
        are not asked for any more, so that a full disk does not stop the daily work.
    type: path
  memory_mb:
    description: The least memory of a new host, in MiB.
    type: int
    default: 0
  disk_mb:
    description: The least free space of a new host, in MiB, by directory.
    type: dict
    default: {}
  releases:
    description:
      - Archives that this host must be able to fetch, each until it is installed, so that a mirror
        that is away does not stop the daily work.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: What the installed release has made, as a path or a shell pattern.
        type: str
        required: true
      url:
        description: The archive. None is asked for when empty.
        type: str
        required: true
      checksum:
        description: Its digest, or C(ALGORITHM:URL) of a file with it, which is asked for too.
        type: str
        required: true
  mount_points:
    description: Directories that must lie on another file system than the root's.
    type: list
    elements: path
    default: []
  directories:
    description: Directories that are refused below a mount point of C(/etc/fstab) at which nothing
      is mounted.
    type: list
    elements: path
    default: []
  service_users:
    description: Local users with the fixed numbers that they will get, or have.
    type: dict
    default: {}
  service_groups:
    description: Local groups with the fixed numbers that they will get, or have.
    type: dict
    default: {}
  people:
    description: Names of users and groups of the directory, which no local account may have.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: See that this host is fit for the cluster
  deitos.cluster.preflight_host:
    name: worker1.example.org
    names: [kdc1.example.org, master1.example.org]
    controller_time: "{{ now(fmt='%s') }}"
    systems: [debian 12]
    memory_mb: 2048
    disk_mb: {/opt: 2048, /var: 1024}
    installed: /opt/hadoop-3.4.2
    releases:
      - path: /opt/hadoop-3.4.2
        url: https://mirror.example.org/hadoop-3.4.2.tar.gz
        checksum: sha512:https://mirror.example.org/hadoop-3.4.2.tar.gz.sha512
    service_users: {hdfs: 801}
"""

RETURN = r"""
faults:
  description: What is wrong with this host; the module fails unless it is empty.
  returned: always
  type: list
  elements: str
  sample:
    - the clock is 312 s behind the controller's, expected at most 60 s; synchronise it by NTP
ansible_facts:
  description: What roles need not ask again.
  returned: success
  type: dict
  contains:
    deitos_packages:
      description: Names of the packages that are installed, as dpkg or rpm knows them.
      type: list
      elements: str
      sample: [adduser, apt]
    deitos_releases:
      description: Marks of complete installations of O(releases).
      type: list
      elements: str
      sample: [/opt/hadoop-3.4.2/.release-9f86d0…]
"""

import errno
import glob
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.deitos.cluster.plugins.module_utils.mounts import (
    missing_mount,
    mount_points,
    on_own_file_system,
)

LEAST_PYTHON = (3, 9)
RESOLVERS = 16


def os_release(path="/etc/os-release"):
    """The fields of os-release."""
    with open(path, encoding="utf-8") as lines:
        pairs = (line.strip().partition("=") for line in lines if "=" in line)
        return {key: value.strip("\"'") for key, _, value in pairs}


def system_faults(systems, allow_untested, release):
    """(faults, warnings) of the operating system."""
    found = f"{release.get('ID', 'unknown')} {release.get('VERSION_ID', '')}".strip()
    if not systems or found in systems:
        return [], []
    text = f"the operating system is '{found}', verified is: {', '.join(systems)}"
    if allow_untested:
        return [], [text]
    advice = "; to try it all the same, set cluster_preflight_allow_untested_os: true"
    return [text + advice], []


def python_faults(version=None):
    """Whether the modules can run here."""
    version = version or sys.version_info[:2]
    if tuple(version) >= LEAST_PYTHON:
        return []
    found, least = (".".join(map(str, numbers)) for numbers in (version, LEAST_PYTHON))
    return [f"Python is {found}, expected {least} or newer; set ansible_python_interpreter"]


def init_faults(directory="/run/systemd/system"):
    """Whether systemd runs this host."""
    if os.path.isdir(directory):
        return []
    return [
        "systemd is not the init of this host, and every daemon is a systemd unit; boot with it"
    ]


def clock_faults(controller_time, tolerance, now=None):
    """Whether this host's clock agrees with the controller's."""
    if controller_time is None:
        return []
    ahead = (time.time() if now is None else now) - controller_time
    if -tolerance <= ahead <= 2 * tolerance:
        return []
    where = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the controller's"
    return [
        (
            f"the clock is {where}, expected at most {tolerance} s, since Kerberos refuses more "
            "than 300; synchronise both by NTP"
        )
    ]


def forward(name):
    """The IPv4 addresses of a name; none when it has none. Hadoop is told to prefer IPv4."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(entry[4][0] for entry in found))


def reverse(address):
    """The canonical name of an address; empty when it has none."""
    try:
        return socket.gethostbyaddr(address)[0].lower().rstrip(".")
    except OSError:
        return ""


def is_local(address):
    """Whether an address belongs to this host: only then can a socket be bound to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def name_faults(name, own=False):
    """Whether a host's name and its addresses stand for each other, as seen from this host."""
    addresses = forward(name)
    advice = "mend it in DNS, or set base_manage_hosts_file: true"
    if not addresses:
        return [f"the name {name} has no IPv4 address here; {advice}"]
    faults = []
    for address in addresses:
        if ipaddress.ip_address(address).is_loopback:
            faults.append(
                f"the name {name} resolves to {address}, which other hosts cannot reach; remove "
                "that line from /etc/hosts"
            )
            continue
        if own and not is_local(address):
            faults.append(
                f"the own name {name} resolves to {address}, which is no address of this host; "
                f"{advice}"
            )
        found = reverse(address)
        if found != name:
            faults.append(
                f"the address {address} of {name} resolves back to '{found}', expected {name}, "
                f"since Kerberos services are known by that name; {advice}"
            )
    return faults


def all_name_faults(name, names):
    """The own name and the others', several at a time: a master asks for every worker."""
    others = [other for other in names if other != name]
    with ThreadPoolExecutor(RESOLVERS) as pool:
        found = [fault for faults in pool.map(name_faults, others) for fault in faults]
    return name_faults(name, own=True) + found


def host_name_faults(name, found=None):
    """Whether the host knows itself by the name that its keys are made for."""
    found = (socket.gethostname() if found is None else found).lower()
    if found in (name, name.partition(".")[0]):
        return []
    return [
        (
            f"the host calls itself '{found}', expected {name}: daemons derive their principal "
            f"from it; run: hostnamectl set-hostname {name}"
        )
    ]


def memory_faults(memory_mb):
    """Whether there is enough memory."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    if found >= memory_mb:
        return []
    return [
        (
            f"{found} MiB of memory, expected {memory_mb} (cluster_preflight_memory_mb); give the "
            "host more, or move daemons to other hosts"
        )
    ]


def existing_parent(path):
    """The path itself, or the nearest directory above it that is there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def disk_faults(disk_mb):
    """Whether each file system has enough free space."""
    faults = []
    for path, least in disk_mb.items():
        status = os.statvfs(existing_parent(path))
        free = status.f_bavail * status.f_frsize // 2**20
        if free < int(least):
            faults.append(
                f"{free} MiB free for {path}, expected {least} (cluster_preflight_disk_mb); make "
                "room or mount a larger disk"
            )
    return faults


def mount_faults(paths):
    """Whether something is mounted where data must go to a disk of its own."""
    mounted = mount_points() if paths else ()
    return [
        f"nothing is mounted on {path}, or above; mount its disk, or take it out of the host's "
        "directories"
        for path in paths
        if not on_own_file_system(path, mounted)
    ]


def missing_mount_faults(paths):
    """Whether disks that this host has are there for what belongs on them."""
    mounted = mount_points() if paths else ()
    missing = dict.fromkeys(missing_mount(path, mounted) for path in paths)
    return [
        f"/etc/fstab has a file system for {place}, and nothing is mounted there; mount it, or "
        "take what is below it out of the host's directories"
        for place in missing
        if place
    ]


def source_faults(url):
    """Whether a release can be fetched from here."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        path = unquote(parts.path)
        if os.path.isfile(path):
            return []
        return [f"the release source {url} is no file on this host; put it there, or set its URL"]
    try:
        open_url(url, method="HEAD", timeout=20).close()
    except HTTPError as error:
        # Some mirrors answer GET only; that it answers at all is what counts then.
        if error.code in (405, 501):
            return []
        why = f"the server says {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        why = str(getattr(error, "reason", None) or error)
    else:
        return []
    return [
        (
            f"the release source {url} cannot be reached ({why}); set its URL to a mirror that "
            "this host reaches, or to file:///…"
        )
    ]


def release_faults(release):
    """Whether a release can be fetched from here, unless it is installed already."""
    if glob.glob(release["path"]):
        return []
    checksum = release["checksum"].partition(":")[2]
    sources = [text for text in (release["url"], checksum) if "://" in text]
    return [fault for source in sources for fault in source_faults(source)]


def local_accounts(path):
    """{name: number} of /etc/passwd or /etc/group: what is local, whatever NSS adds to it."""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        fields = (line.strip().split(":") for line in lines)
        return {
            parts[0]: int(parts[2]) for parts in fields if len(parts) > 2 and parts[2].isdigit()
        }


def account_faults(kind, wanted, found):
    """Whether local accounts of services can have, or have, their fixed numbers."""
    owners = {number: name for name, number in found.items()}
    faults = []
    for name, number in wanted.items():
        number = int(number)
        if found.get(name, number) != number:
            faults.append(
                f"the local {kind} {name} has the number {found[name]}, expected {number} as on "
                f"every host; remove that {kind}, or renumber it and its files"
            )
        elif owners.get(number, name) != name:
            faults.append(
                f"the number {number} of the {kind} {name} belongs to the local {kind} "
                f"{owners[number]}; renumber that one"
            )
    return faults


def people_faults(people, users, groups):
    """Whether local accounts would hide the directory's."""
    return [
        f"there is a local account '{name}', which hides the one of users.yml; remove it here, or "
        "choose another name there"
        for name in people
        if name in users or name in groups
    ]


def installed_packages():
    """Names of the packages that are installed; none where neither dpkg nor rpm is."""
    queries = (
        ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n"),
        ("rpm", "--query", "--all", "--queryformat=installed %{NAME}\\n"),
    )
    for query in queries:
        if shutil.which(query[0]):
            lines = subprocess.run(query, check=True, stdout=subprocess.PIPE, text=True).stdout
            pairs = (line.split() for line in lines.splitlines())
            return sorted({name for status, name in pairs if status == "installed"})
    return []


def installed_releases(releases):
    """What role release leaves in the directories of those that are whole."""
    return sorted(mark for item in releases for mark in glob.glob(item["path"] + "/.release-*"))


def find_faults(params):
    """Every fault of this host, and what is only worth a warning."""
    faults, warnings = system_faults(
        params["systems"], params["allow_untested_system"], os_release()
    )
    faults += python_faults() + init_faults()
    faults += clock_faults(params["controller_time"], params["clock_tolerance"])
    if params["check_names"]:
        faults += host_name_faults(params["name"])
        faults += all_name_faults(params["name"], params["names"])
    if not (params["installed"] and os.path.exists(params["installed"])):
        faults += memory_faults(params["memory_mb"]) + disk_faults(params["disk_mb"])
    for release in params["releases"]:
        faults += release_faults(release)
    faults += mount_faults(params["mount_points"]) + missing_mount_faults(params["directories"])
    users, groups = local_accounts("/etc/passwd"), local_accounts("/etc/group")
    faults += account_faults("user", params["service_users"], users)
    faults += account_faults("group", params["service_groups"], groups)
    faults += people_faults(params["people"], users, groups)
    return faults, warnings


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "check_names": {"type": "bool", "default": True},
            "controller_time": {"type": "float"},
            "clock_tolerance": {"type": "int", "default": 60},
            "systems": {"type": "list", "elements": "str", "default": []},
            "allow_untested_system": {"type": "bool", "default": False},
            "installed": {"type": "path"},
            "memory_mb": {"type": "int", "default": 0},
            "disk_mb": {"type": "dict", "default": {}},
            "releases": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"required": True},
                    "url": {"required": True},
                    "checksum": {"required": True},
                },
            },
            "mount_points": {"type": "list", "elements": "path", "default": []},
            "directories": {"type": "list", "elements": "path", "default": []},
            "service_users": {"type": "dict", "default": {}},
            "service_groups": {"type": "dict", "default": {}},
            "people": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    faults, warnings = find_faults(module.params)
    for warning in warnings:
        module.warn(f"{module.params['name']}: {warning}")
    if faults:
        listed = "".join(f"\n- {fault}" for fault in faults)
        module.fail_json(
            msg=f"{module.params['name']} is not fit for the cluster ({len(faults)}):{listed}",
            faults=faults,
        )
    facts = {
        "deitos_packages": installed_packages(),
        "deitos_releases": installed_releases(module.params["releases"]),
    }
    module.exit_json(changed=False, faults=[], ansible_facts=facts)


if __name__ == "__main__":
    main()
