#!/usr/bin/env python3
"""Time a cold converge of the lab against a run that changes nothing, in one go.

Prints both, their ratio, and what the machines' processes hold in memory. The lab of its own
(named `bench`) is created for it and destroyed afterwards; images and releases are cached. Before
that, bench/hdfs_paths.py measures on it what needs a converged lab.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = dict(os.environ, LAB="bench")


def run(*command):
    """Run one command of the lab; how many seconds it took."""
    started = time.monotonic()
    subprocess.run(command, check=True, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def memory():
    """MiB of anonymous memory of all machines of the lab, as their cgroups count it."""
    names = subprocess.run(
        ["docker", "ps", "--filter", "label=network.deitos.lab=bench", "--format", "{{.Names}}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    total = 0
    for name in names:
        fields = subprocess.run(
            ["docker", "exec", name, "sh", "-c", "cat /proc/[0-9]*/smaps_rollup 2>/dev/null"],
            check=False,
            capture_output=True,
            text=True,
        ).stdout
        total += sum(
            int(line.split()[1]) for line in fields.splitlines() if line.startswith("Pss:")
        )
    return total / 1024


def main():
    lab = (sys.executable, "lab/lab.py")
    site = ("ansible-playbook", "-i", "inventories/lab", "playbooks/site.yml")
    run(*lab, "image")
    run(*lab, "down")
    try:
        up = run(*lab, "up")
        run("ansible-playbook", "-i", "inventories/lab", "lab/container_executor/install.yml")
        cold = run(*site)
        used = memory()
        again = run(*site)
        print(f"machines up       {up:8.1f} s")
        print(f"cold converge     {cold:8.1f} s")
        print(f"no-op converge    {again:8.1f} s")
        print(f"ratio cold/no-op  {cold / again:8.2f}")
        print(f"memory in use     {used:8.0f} MiB", flush=True)
        for name in ("bench/hdfs_paths.py", "bench/spark_submit.py"):
            subprocess.run((sys.executable, name), check=True, cwd=ROOT, env=ENVIRONMENT)
    finally:
        run(*lab, "down")


if __name__ == "__main__":
    main()
