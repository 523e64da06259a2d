"""A NameNode that lost its metadata is an error that says what to do, never a new namespace."""

from __future__ import annotations

import pytest
from siterun import run_site

NAME_DIRS = "/var/lib/hadoop/hdfs/name1 /var/lib/hadoop/hdfs/name2"
START = "playbooks/ops/start_storage.yml"


@pytest.fixture
def lost(cluster):
    """A stopped NameNode whose name directories are empty; everything is put back."""
    machine = cluster.first("namenode")
    machine.check_output("systemctl stop hdfs-namenode")
    machine.check_output(f"for d in {NAME_DIRS}; do mv $d/current $d.kept; done")
    yield machine
    machine.check_output(f"for d in {NAME_DIRS}; do rm -rf $d/*; mv $d.kept $d/current; done")
    again = run_site(playbook=START)
    assert (again.status, again.failed) == ("successful", [])


def failure(run):
    """The host and the message of the only failed task."""
    assert run.status == "failed"
    [(host, _task, message)] = run.failed
    return host, message


def test_lost_metadata_is_not_formatted_over(cluster, lost):
    host, message = failure(run_site(playbook=START))
    assert host == cluster.hosts("namenode")[0]
    for worker in cluster.hosts("datanode"):
        assert worker in message
    for word in ("hold blocks", "fsimage", "-importCheckpoint"):
        assert word in message
    assert lost.check_output(f"find {NAME_DIRS} -mindepth 1") == ""

    # Asking only some DataNodes is not enough.
    first, *others = cluster.hosts("datanode")
    host, message = failure(run_site("--limit", f"{host},{first}", playbook=START))
    assert "could not be asked" in message
    for worker in others:
        assert worker in message
    assert lost.check_output(f"find {NAME_DIRS} -mindepth 1") == ""


def test_a_disk_that_is_not_mounted_is_not_written(cluster):
    worker = cluster.hosts("datanode")[0]
    run = run_site(
        "--check",
        "--limit",
        worker,
        "-e",
        "hdfs_data_mount_required=true",
        playbook="playbooks/storage.yml",
    )
    host, message = failure(run)
    assert host == worker
    assert "/var/lib/hadoop/hdfs/data1" in message
    assert "mount" in message
