#!/usr/bin/env python3
"""Time a cold converge of the lab against a run that changes nothing, in one go.

Prints both, their ratio, and what the machines hold in memory, each beside its limit on two
processors; a limit that is exceeded makes the exit status 1. The lab of its own is created for it
and destroyed afterwards; images and releases are cached. Before that, further benchmarks measure on
it what needs a converged lab.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAB = os.environ.get("TEST_LAB", "test") + "-bench"
# Cgroups of version 1 call them so, and those of version 2.
HELD = ("total_rss", "total_mapped_file", "anon", "file_mapped")


# What each figure may be at most on two processors: seconds, seconds and MiB.
LIMITS = {
    "cold converge": (660, "s"),
    "no-op converge": (75, "s"),
    "memory in use": (8 * 1024, "MiB"),
}
BENCHES = ("bench/hdfs_paths.py", "bench/spark_submit.py", "bench/notebooks.py")


def held(statistics):
    """MiB that a cgroup's memory.stat counts as its processes': anonymous and mapped pages."""
    counts = dict(line.split() for line in statistics.splitlines())
    anonymous, mapped = (int(counts[name]) for name in HELD if name in counts)
    return (anonymous + mapped) / 2**20


def memory():
    """MiB that the processes of all machines hold, as their cgroups count it.

    A page of a file that several machines map is one machine's; what is only cached is nobody's.
    """
    docker = ("docker", "ps", "--quiet", "--filter", f"label=network.deitos.lab={LAB}")
    place = "/sys/fs/cgroup"
    read = f"cat {place}/memory.stat 2>/dev/null || cat {place}/memory/memory.stat"
    return sum(
        held(printed("docker", "exec", container, "sh", "-c", read))
        for container in printed(*docker).split()
    )


def printed(*command):
    """What a command prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def report(up, cold, again, used):
    """(the lines to print, whether a limit is exceeded)."""
    lines = [f"machines up       {up:8.1f} s", f"ratio cold/no-op  {cold / again:8.2f}"]
    exceeded = False
    for (name, (limit, unit)), value in zip(LIMITS.items(), (cold, again, used), strict=True):
        verdict = "EXCEEDED" if value > limit else "kept"
        exceeded |= value > limit
        lines.append(f"{name:16}  {value:8.1f} {unit:3}  limit {limit:6} {unit:3}  {verdict}")
    return lines, exceeded


def run(*command, output=subprocess.DEVNULL):
    """Seconds that a command takes, on the lab of its own."""
    started = time.monotonic()
    environment = {**os.environ, "LAB": LAB}
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=output)
    return time.monotonic() - started


def main():
    lab, playbook = (sys.executable, "lab/lab.py"), ("ansible-playbook", "-i", "inventories/lab")
    run(*lab, "image")
    run(*lab, "down")
    try:
        up = run(*lab, "up")
        run(*playbook, "lab/container_executor/install.yml")
        cold = run(*playbook, "playbooks/site.yml")
        used = memory()
        again = run(*playbook, "playbooks/site.yml")
        lines, exceeded = report(up, cold, again, used)
        print(*lines, sep="\n", flush=True)
        for bench in BENCHES:
            run(sys.executable, bench, output=None)
    finally:
        run(*lab, "down")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
