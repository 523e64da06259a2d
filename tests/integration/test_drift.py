"""A converged site stays as it is; what drifted is shown by a check and repaired by a run."""

from __future__ import annotations

import pytest
from siterun import run_site

MOST_WORKER_TASKS = 40
KEYTAB = "/etc/security/keytabs/yarn.keytab"
SITE = "/etc/hadoop/hdfs-site.xml"
# Of role directory_client, and nothing runs from it.
PACKAGE = "sssd-tools"


def test_second_run_changes_nothing_and_is_short(cluster):
    run = run_site()
    assert (run.status, run.failed, run.changed) == ("successful", [], [])
    for worker in cluster.hosts("datanode"):
        assert run.tasks[worker] <= MOST_WORKER_TASKS, f"{worker} ran {run.tasks[worker]} tasks"


@pytest.fixture
def drifted(cluster):
    """A keytab and a package deleted, a configuration edited by hand, and a stopped daemon."""
    worker, master = cluster.hosts("datanode")[0], cluster.hosts("namenode")[0]
    other = cluster.hosts("nodemanager")[1]
    before = cluster.machine(master).check_output(f"cat {SITE}")
    cluster.machine(worker).check_output(f"rm {KEYTAB}")
    cluster.machine(worker).check_output(f"dpkg --purge {PACKAGE}")
    cluster.machine(master).check_output(
        "sed -i 's|</configuration>|<property><name>dfs.by.hand</name><value>1</value>"
        f"</property></configuration>|' {SITE}"
    )
    cluster.machine(other).check_output("systemctl stop yarn-nodemanager")
    return worker, master, other, before


def test_drift_is_shown_and_repaired_and_then_a_check_reports_nothing(cluster, drifted):
    worker, master, other, before = drifted
    keytab = (worker, "Have the keytabs")
    package = (worker, "Install packages (Debian)")
    config = (master, "Write the configuration of HDFS")
    daemon = (other, "Run the YARN daemons of this host on their current configuration")

    def verify(run):
        """It changed, or would change, what drifted and nothing else."""
        assert (run.status, run.failed) == ("successful", [])
        assert sorted(run.changed) == sorted([keytab, package, config, daemon])
        assert run.results[keytab]["changed_keytabs"] == [{"name": KEYTAB, "actions": ["write"]}]
        assert run.results[config]["changed_files"] == [SITE]
        assert run.results[daemon]["started"] == ["yarn-nodemanager"]
        assert not run.results[daemon]["restarted"] + run.results[daemon]["stopped"]

    check = run_site("--check", "--diff")
    verify(check)
    (diff,) = check.results[config]["diff"]
    lines = [set(diff[side].splitlines()) for side in ("before", "after")]
    assert lines[0] ^ lines[1] == {"dfs.by.hand = 1"}
    assert not cluster.machine(worker).file(KEYTAB).exists
    assert not cluster.machine(worker).package(PACKAGE).is_installed
    assert not cluster.machine(other).service("yarn-nodemanager").is_running

    verify(run_site())
    assert cluster.machine(worker).file(KEYTAB).exists
    assert cluster.machine(worker).package(PACKAGE).is_installed
    assert cluster.machine(master).check_output(f"cat {SITE}") == before
    assert cluster.machine(other).service("yarn-nodemanager").is_running

    check = run_site("--check", "--diff")
    assert (check.status, check.failed, check.changed) == ("successful", [], [])
