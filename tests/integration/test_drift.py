"""A converged site stays as it is; what drifted is shown by a check and repaired by a run."""

from __future__ import annotations

import pytest
from siterun import run_site

MOST_WORKER_TASKS = 40


def hosts_of(run):
    return {host for host, _task in run.changed}


def test_second_run_changes_nothing_and_is_short(cluster):
    run = run_site()
    assert (run.status, run.failed, run.changed) == ("successful", [], [])
    for worker in cluster.hosts("datanode"):
        assert run.tasks[worker] <= MOST_WORKER_TASKS, f"{worker} ran {run.tasks[worker]} tasks"


def test_check_of_a_converged_site_reports_nothing():
    run = run_site("--check", "--diff")
    assert (run.status, run.failed, run.changed) == ("successful", [], [])


@pytest.fixture
def drifted(cluster):
    """A deleted keytab, a configuration edited by hand, and a stopped daemon: a host each."""
    worker, master = cluster.hosts("datanode")[0], cluster.hosts("namenode")[0]
    other = cluster.hosts("nodemanager")[1]
    before = cluster.machine(master).check_output("cat /etc/hadoop/hdfs-site.xml")
    cluster.machine(worker).check_output("rm /etc/security/keytabs/yarn.keytab")
    cluster.machine(master).check_output(
        "sed -i 's|</configuration>|<property><name>dfs.by.hand</name><value>1</value>"
        "</property></configuration>|' /etc/hadoop/hdfs-site.xml"
    )
    cluster.machine(other).check_output("systemctl stop yarn-nodemanager")
    return worker, master, other, before


def test_drift_is_shown_and_repaired(cluster, drifted):
    worker, master, other, before = drifted
    check = run_site("--check", "--diff")
    assert (check.status, check.failed) == ("successful", [])
    assert hosts_of(check) == {worker, master, other}
    assert len([task for host, task in check.changed if host == other]) == 1
    assert not cluster.machine(worker).file("/etc/security/keytabs/yarn.keytab").exists
    assert not cluster.machine(other).service("yarn-nodemanager").is_running

    repair = run_site()
    assert (repair.status, repair.failed) == ("successful", [])
    assert hosts_of(repair) == {worker, master, other}
    assert cluster.machine(worker).file("/etc/security/keytabs/yarn.keytab").exists
    assert cluster.machine(master).check_output("cat /etc/hadoop/hdfs-site.xml") == before
    assert cluster.machine(other).service("yarn-nodemanager").is_running

    assert run_site("--check").changed == []
