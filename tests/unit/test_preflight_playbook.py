"""The playbook itself, on bad inventories: it stops at once, with all faults in one message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
ADMINS = [{"name": "cluster_admins"}]


def inventory(groups=None, hostvars=None, **values):
    """Three hosts, all of them this machine, with something changed."""
    mapping = {
        **{key: ["n1"] for key in ["ca", "kdc", "ldap", "secondarynamenode"]},
        **{key: ["n2"] for key in ["namenode", "resourcemanager", "historyserver", "edge"]},
        **{key: ["n3"] for key in ["datanode", "nodemanager"]},
        **(groups or {}),
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    return {
        "all": {
            "vars": {
                **local,
                "cluster_domain": "test.invalid",
                "cluster_groups": ADMINS,
                "cluster_hadoop_version": "0.0.0",
                **values,
            },
            "hosts": hostvars or {},
            "children": {name: {"hosts": dict.fromkeys(hosts)} for name, hosts in mapping.items()},
        }
    }


@pytest.fixture
def preflight(tmp_path):
    """Runs playbooks/preflight.yml on an inventory: (exit status, output)."""

    def run(content, *options):
        path = tmp_path / "hosts.yml"
        path.write_text(yaml.safe_dump(content))
        done = subprocess.run(
            [ANSIBLE_PLAYBOOK, "-i", path, ROOT / "playbooks/preflight.yml", *options],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "COLUMNS": "500"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout

    return run


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"groups": {"namenode": ["n1", "n2"]}},
            ["has 1 fault(s)", "group namenode: has 2 hosts (n1, n2)", "not supported yet"],
        ),
        ({"groups": {"kdc": []}}, ["has 1 fault(s)", "group kdc: has no hosts"]),
        ({"cluster_users": "alice"}, ["cluster_users is the text 'alice', expected a list"]),
        (
            {"hostvars": {"n3": {"rack": "rack1", "host_aliases": "web"}}},
            ["has 2 fault(s)", "host n3: rack", "host n3: host_aliases"],
        ),
        (
            {
                "groups": {"edge": ["Node_9"]},
                "cluster_realm": "Test",
                "cluster_restart_percent": 0,
                "cluster_users": [{"name": "hdfs"}, {"name": "bob", "groups": "analysts"}],
                "cluster_hdfs_directories": [{"path": "data", "mode": 493}],
            },
            [
                "has 7 fault(s)",
                "host Node_9",
                "cluster_realm is 'Test'",
                "cluster_restart_percent is 0",
                "cluster_users[hdfs]",
                "cluster_users[bob].groups",
                "cluster_hdfs_directories[data].mode",
                "cluster_hdfs_directories[data]: path must be absolute",
            ],
        ),
        (
            {
                "groups": {"llama": ["n2"]},
                "hostvars": {
                    "n1": {"base_time_servers": "ntp.example.org"},
                    "n3": {"hdfs_data_dirs": "/data/{{ disk }}", "disk": 1},
                },
                "hdfs_replication": "three",
                "yarn_nodemanager_memory_mb": "8G",
                "yarn_queues": [{"path": "root.default", "capacity": 90}],
                "llama_release_url": "https://mirror.example.org/llama.tar.gz",
            },
            [
                "has 6 fault(s)",
                "host n1: base_time_servers is the text 'ntp.example.org', expected a list",
                "host n3: hdfs_data_dirs is the text '/data/1', expected a list; write [/data/1]",
                "all hosts: hdfs_replication is the text 'three', expected a whole number",
                "all hosts: yarn_nodemanager_memory_mb is the text '8G', expected a whole number",
                "yarn_queues: the capacities below root add up to 90, not to 100",
                "host n2: llama_release_checksum is not set, and group llama needs it",
            ],
        ),
    ],
)
def test_an_inventory_with_faults_is_refused_before_any_host_is_asked(preflight, changes, words):
    status, output = preflight(inventory(**changes))
    assert status == 2, output
    for word in words:
        assert word in output
    assert "nothing was touched" in output
    assert "Gather the few facts" not in output
    assert output.count("fatal:") == 1


def test_values_that_follow_from_facts_or_defaults_of_roles_are_left_to_the_roles(preflight):
    content = inventory(
        cluster_preflight_systems=["plan9 4"],  # where the run ends, beyond the inventory
        yarn_nodemanager_memory_mb="{{ (ansible_facts['memtotal_mb'] * 0.8) | int }}",
        yarn_nodemanager_vcores="{{ ansible_facts['processor_vcpus'] }}",
        hdfs_data_dirs=["{{ hdfs_name_dirs | first | dirname }}/data"],
        hdfs_site_overrides={"dfs.blocksize": "{{ yarn_map_memory_mb * 2 ** 20 }}"},
        hdfs_replication="{{ groups['datanode'] | length }}",
        hdfs_excluded_hosts="{{ groups['datanode'] | difference(['n3']) }}",
    )
    status, output = preflight(content)
    assert status == 2, output
    assert "fault(s); nothing was touched" not in output
    assert "is not fit for the cluster" in output


def test_a_host_with_faults_is_refused_with_all_of_them(preflight):
    """Neither the KDC nor the masters are in the run, and the topology is whole all the same."""
    content = inventory(
        cluster_preflight_systems=["plan9 4"],
        cluster_preflight_memory_mb=99999999,
        cluster_hadoop_url="file:///no/such/release.tar.gz",
        cluster_users=[{"name": "etl", "type": "service", "keytab_hosts": ["n3", "edge"]}],
        hdfs_data_dirs=["/no/disk/hdfs"],
        hdfs_data_mount_required=True,
        yarn_local_dirs=["/no/disk/yarn"],
    )
    status, output = preflight(content, "--limit", "n3")
    assert status == 2, output
    assert "fault(s); nothing was touched" not in output
    assert "n3.test.invalid is not fit for the cluster" in output
    for word in (
        "verified is: plan9 4",
        "the host calls itself",
        "the name n3.test.invalid has no IPv4 address",
        "the name n1.test.invalid has no IPv4 address",
        "MiB of memory, expected 99999999",
        "file:///no/such/release.tar.gz is no file on this host",
        "nothing is mounted on /no/disk/hdfs, or above",
    ):
        assert word in output, output
