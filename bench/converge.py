#!/usr/bin/env python3
"""Time a cold converge of the lab against a run that changes nothing, in one go.

    bench/converge.py [lab | notebooks]     which of the inventories

Prints both, their ratio, and what the machines hold in memory, each beside its limit on two
processors; a limit that is exceeded makes the exit status 1. The lab of its own (named `bench`) is
created for it and destroyed afterwards; images, releases and wheels are cached. Before that,
further benchmarks measure on it what needs a converged lab.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Cgroups of version 1 call them so, and those of version 2.
HELD = ("total_rss", "total_mapped_file", "anon", "file_mapped")


@dataclass(frozen=True)
class Site:
    """What is converged, in seconds and MiB at most, and measured afterwards."""

    cold: int
    again: int
    memory: int
    needs: tuple[tuple[str, ...], ...] = ()
    benches: tuple[str, ...] = ()


SITES = {
    "lab": Site(660, 75, 8 * 1024, benches=("bench/hdfs_paths.py", "bench/spark_submit.py")),
    "notebooks": Site(
        *(780, 90, 14 * 1024),
        needs=(
            ("lab/wheels/build.py", "jupyterhub", "deitos-python-kernel", "llama"),
            ("tests/integration/tiny_gguf.py",),
        ),
        benches=("bench/notebooks.py",),
    ),
}


def held(statistics):
    """MiB that a cgroup's memory.stat counts as its processes': anonymous and mapped pages."""
    counts = dict(line.split() for line in statistics.splitlines())
    anonymous, mapped = (int(counts[name]) for name in HELD if name in counts)
    return (anonymous + mapped) / 2**20


def memory():
    """MiB that the processes of all machines hold, as their cgroups count it.

    A page of a file that several machines map is one machine's; what is only cached is nobody's.
    """
    docker = ("docker", "ps", "--quiet", "--filter", "label=network.deitos.lab=bench")
    place = "/sys/fs/cgroup"
    read = f"cat {place}/memory.stat 2>/dev/null || cat {place}/memory/memory.stat"
    return sum(
        held(printed("docker", "exec", container, "sh", "-c", read))
        for container in printed(*docker).split()
    )


def printed(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(site, up, cold, again, used):
    """(the lines to print, whether a limit is exceeded)."""
    figures = [
        ("cold converge", cold, "s", site.cold),
        ("no-op converge", again, "s", site.again),
        ("memory in use", used, "MiB", site.memory),
    ]
    lines = [f"machines up       {up:8.1f} s", f"ratio cold/no-op  {cold / again:8.2f}"]
    for name, value, unit, limit in figures:
        verdict = "EXCEEDED" if value > limit else "kept"
        lines.append(f"{name:16}  {value:8.1f} {unit:3}  limit {limit:6} {unit:3}  {verdict}")
    return lines, any(value > limit for _name, value, _unit, limit in figures)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("inventory", nargs="?", choices=SITES, default="lab")
    name = parser.parse_args().inventory
    inventory, site = f"inventories/{name}", SITES[name]
    environment = {**os.environ, "LAB": "bench", "LAB_INVENTORY": inventory}

    def run(*command, output=subprocess.DEVNULL):
        started = time.monotonic()
        subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=output)
        return time.monotonic() - started

    lab = (sys.executable, "lab/lab.py")
    playbook = ("ansible-playbook", "-i", inventory)
    for command in site.needs:
        run(sys.executable, *command)
    run(*lab, "image")
    run(*lab, "down")
    try:
        up = run(*lab, "up")
        run(*playbook, "lab/container_executor/install.yml")
        cold = run(*playbook, "playbooks/site.yml")
        used = memory()
        again = run(*playbook, "playbooks/site.yml")
        lines, exceeded = report(site, up, cold, again, used)
        print(f"inventories/{name}", *lines, sep="\n", flush=True)
        for bench in site.benches:
            run(sys.executable, bench, output=None)
    finally:
        run(*lab, "down")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
