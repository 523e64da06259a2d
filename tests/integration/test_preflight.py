"""preflight on real machines: each fault of a host is named, and mending it is enough."""

from __future__ import annotations

import pytest
from siterun import run_site


def hosts_line(address):
    """Put the host's own name under another address, too."""
    line = f"echo {address} $(hostname -f)"
    return f"cp /etc/hosts /tmp/hosts && ({line}; cat /tmp/hosts) > /etc/hosts"


# How to break a machine, how to mend it, and what preflight must say of it in between.
FAULTS = {
    "local account": (
        # As by hand: useradd refuses a name that SSSD knows.
        "echo 'alice:x:997:997::/nonexistent:/bin/false' >> /etc/passwd",
        "sed -i '/^alice:x:997:/d' /etc/passwd",
        ["local account 'alice'", "hides the one of users.yml"],
    ),
    "loopback name": (
        hosts_line("127.0.1.1"),
        "cat /tmp/hosts > /etc/hosts",
        ["resolves to 127.0.1.1", "remove that line from /etc/hosts"],
    ),
    "wrong address": (
        hosts_line("192.0.2.7"),
        "cat /tmp/hosts > /etc/hosts",
        ["192.0.2.7, which is no address of this host"],
    ),
    "another operating system": (
        "cp --remove-destination $(readlink -f /etc/os-release) /etc/os-release"
        ' && sed -i s/^VERSION_ID=.*/VERSION_ID=\\"11\\"/ /etc/os-release',
        "ln -sf ../usr/lib/os-release /etc/os-release",
        ["'debian 11', verified is: debian 12", "cluster_preflight_allow_untested_os"],
    ),
    "another host name": (
        "hostname > /tmp/hostname && hostname other",
        "hostname $(cat /tmp/hostname)",
        ["the host calls itself 'other'", "hostnamectl set-hostname"],
    ),
}


def preflight(*options):
    return run_site("--limit", "edge", *options, playbook="playbooks/preflight.yml")


@pytest.mark.parametrize(("hurt", "mend", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_a_host_is_named(edge, hurt, mend, words):
    assert edge.run(hurt).rc == 0
    try:
        run = preflight()
    finally:
        edge.check_output(mend)
    assert run.status == "failed"
    ((_host, _task, message),) = run.failed
    for word in words:
        assert word in message
    assert message.count("\n- ") == 1


def test_a_new_host_without_room_or_release_is_refused(edge):
    run = preflight(
        "-e cluster_hadoop_version=9.9.9",
        "-e cluster_preflight_memory_mb=99999999",
        '-e \'{"cluster_preflight_disk_mb": {"/opt": 999999999}}\'',
    )
    ((_host, _task, message),) = run.failed
    assert "MiB of memory, expected 99999999" in message
    assert "free for /opt, expected 999999999" in message
    assert "hadoop-9.9.9.tar.gz is no file on this host" in message


def test_another_release_is_asked_for_on_a_host_that_has_the_rest():
    run = preflight("-e cluster_hive_version=9.9.9", "-e cluster_preflight_memory_mb=99999999")
    ((_host, _task, message),) = run.failed
    assert "apache-hive-9.9.9-bin.tar.gz is no file on this host" in message
    assert message.count("\n- ") == 1


def test_a_sound_cluster_passes_and_nothing_changes(cluster):
    run = run_site(playbook="playbooks/preflight.yml")
    assert run.status == "successful", run.failed
    assert run.changed == []
    hosts = cluster.inventory["_meta"]["hostvars"]
    assert all(run.tasks[host] <= 5 for host in hosts), run.tasks
