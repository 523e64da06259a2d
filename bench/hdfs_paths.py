#!/usr/bin/env python3
"""Time 1,000 directories of HDFS with owner, mode and ACL, against one `hdfs dfs` process a path.

Runs on the lab named by LAB, which must be converged, and removes what it has made. The one process
makes the directory and nothing else: owner, mode and ACL would take three more. It is timed on a
sample of paths and reckoned up to all of them, which is said with the result.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/integration"))

from labhosts import Cluster  # noqa: E402
from modulerun import Step, on_lab  # noqa: E402

COUNT = 1000
SAMPLE = 12
TOP = "/tmp/bench_hdfs_paths"  # noqa: S108 a directory of HDFS
MODULE = "deitos.cluster."


def owner(number):
    """Directories belong to somebody else than who makes them."""
    return f"bench{number % 7}"


def by_module():
    """The task that makes it all so."""
    paths = [{"path": f"{TOP}/d{n}", "owner": owner(n)} for n in range(COUNT)]
    everybody = {"mode": "0750", "acl": ["user:alice:r-x"]}
    return Step(f"{MODULE}hdfs_path", {"paths": paths, **everybody})


def by_command(number):
    """The least that a playbook without the modules runs for one path."""
    return f"/opt/hadoop/bin/hdfs dfs -mkdir {TOP}/c{number}"


def main():
    cluster = Cluster()
    host = cluster.hosts("namenode")[0]
    # As a playbook without --diff: to print what a thousand paths were is not the modules' work.
    execute = on_lab(host, {"endpoints": [cluster.web()["namenode"]]}, diff=False)
    principal = f"nn/{cluster.fqdn('namenode')}"
    login = f"kinit -kt /etc/security/keytabs/hdfs.keytab {principal}"

    def shell(command):
        cache = "export KRB5CCNAME=FILE:/tmp/krb5cc_bench HADOOP_CONF_DIR=/etc/hadoop"
        return Step(
            "ansible.builtin.shell",
            {"cmd": f"{cache} && {command}", "executable": "/bin/bash"},
        )

    clear = Step(f"{MODULE}hdfs_path", {"path": TOP, "state": "absent", "recursive": True})
    sample = " && ".join(by_command(number) for number in range(SAMPLE))
    steps = [
        clear,
        by_module(),
        by_module(),
        shell(login),
        shell(f"{sample}; rc=$?; kdestroy -q; exit $rc"),
        clear,
    ]
    results = execute(steps)
    _clear, first, again, _login, commands, _end = results
    for result in results:
        if result["failed"]:
            sys.exit(f"the work was not done: {result['msg']}")
    if len(first["changed_paths"]) < COUNT:
        sys.exit("the work was not done")
    if again["changed"]:
        sys.exit("the second run has changed something")
    each = commands["seconds"] / SAMPLE
    print(f"{COUNT} directories with owner, mode and ACL, as a task on {host}:")
    print(f"  first run   {first['seconds']:7.1f} s")
    print(f"  second run  {again['seconds']:7.1f} s, nothing changed")
    print(f"  one `hdfs dfs` a path, its -mkdir alone: {each:.1f} s, on a sample of {SAMPLE};")
    ratio = each * COUNT / first["seconds"]
    print(f"  for {COUNT} that is {each * COUNT:.0f} s, ratio {ratio:.0f}")


if __name__ == "__main__":
    main()
