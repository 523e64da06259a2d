"""The operations of docs/operations.md that are no part of a plain run, on the chain's cluster."""

from __future__ import annotations

import json

from siterun import run_site

HANDLERS = "dfs.datanode.handler.count"
OVERRIDE = json.dumps({"hdfs_site_overrides": {HANDLERS: 11}})
DEFERRED = json.dumps({"cluster_restart_policy": "deferred"})


def states(cluster, host):
    """{unit: state} of the daemons of a host."""
    return json.loads(
        cluster.machine(host).check_output(
            "ls /run/deitos/daemons | sed 's/[.].*//' | sort -u "
            "| xargs /usr/local/libexec/deitos/daemon-digest check"
        )
    )


def started(cluster, host, unit):
    return cluster.machine(host).check_output(f"systemctl show -P MainPID {unit}")


def kvno(cluster, host, principal):
    listing = cluster.machine(host).check_output("klist -kt /etc/security/keytabs/hdfs.keytab")
    return max(int(line.split()[0]) for line in listing.splitlines() if principal in line)


def test_deferred_restarts_wait_for_the_operator(converged):
    workers = converged.hosts("datanode")
    before = {host: started(converged, host, "hdfs-datanode") for host in workers}

    run = run_site("-e", f"'{OVERRIDE}'", "-e", f"'{DEFERRED}'")
    assert (run.status, run.failed) == ("successful", [])
    for host in workers:
        machine = converged.machine(host)
        assert HANDLERS in machine.check_output("cat /etc/hadoop/hdfs-site.xml")
        assert states(converged, host)["hdfs-datanode"] == "stale"
        assert started(converged, host, "hdfs-datanode") == before[host]

    run = run_site(playbook="playbooks/ops/restart.yml")
    assert (run.status, run.failed) == ("successful", [])
    for host in workers:
        assert states(converged, host)["hdfs-datanode"] == "fresh"
        assert started(converged, host, "hdfs-datanode") != before[host]

    run = run_site("-e", f"'{OVERRIDE}'")
    assert (run.status, run.failed, run.changed) == ("successful", [], [])

    run = run_site()
    assert (run.status, run.failed) == ("successful", [])


def test_new_keys_for_a_master_and_a_worker(converged):
    master, worker = converged.hosts("namenode")[0], converged.hosts("datanode")[0]
    before = {master: kvno(converged, master, "nn/"), worker: kvno(converged, worker, "dn/")}

    run = run_site("--limit", f"{master},{worker}", playbook="playbooks/ops/rotate_keys.yml")
    assert (run.status, run.failed) == ("successful", [])
    assert kvno(converged, master, "nn/") == before[master] + 1
    assert kvno(converged, worker, "dn/") == before[worker] + 1
    for host in (master, worker):
        assert set(states(converged, host).values()) == {"fresh"}, host

    verify = run_site(playbook="playbooks/verify.yml")
    assert (verify.status, verify.failed) == ("successful", [])
    assert run_site().changed == []
