"""What expressions of the roles come to: workers to wait for, good disks, the setuid helper."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
WORKERS = ["worker1", "worker2", "worker3"]
INVENTORY = {
    name: {"hosts": dict.fromkeys(hosts)}
    for name, hosts in {
        "namenode": ["master1"],
        "datanode": WORKERS,
        "nodemanager": WORKERS,
    }.items()
}
# The plays of ops/start_storage.yml and ops/start_compute.yml, without the daemons.
PLAYBOOK = """
- hosts: datanode
  gather_facts: false
  tasks:
    - {debug: {msg: a DataNode}, register: hdfs_daemon_result}
    - {debug: {msg: a NodeManager}, register: yarn_daemon_result}
- hosts: namenode
  gather_facts: false
  vars_files:
    - "{{ source }}/cluster/defaults/main.yml"
    - "{{ source }}/hadoop/vars/main.yml"
    - "{{ source }}/hdfs/defaults/main.yml"
    - "{{ source }}/hdfs/vars/main.yml"
    - "{{ source }}/yarn/defaults/main.yml"
    - "{{ source }}/yarn/vars/main.yml"
  tasks:
    - copy: {dest: "{{ playbook_dir }}/found", content: "{{ wanted }}"}
"""
LIVE = "{{ [hdfs_live_datanodes, yarn_live_nodemanagers] }}"
HEALTH = "{{ yarn_daemons.nodemanager.until }}"
MINIMUM = "yarn.nodemanager.disk-health-checker.min-healthy-disks"


@pytest.fixture
def rendered(tmp_path):
    """What an expression of the roles means on the master, with these variables and options."""
    (tmp_path / "playbook.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": INVENTORY}}))

    def run(wanted, *options, **values):
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        values = {**local, "source": str(ROOT / "roles"), "wanted": wanted, **values}
        (tmp_path / "values.json").write_text(json.dumps(values))
        words = ["-i", "hosts.yml", "--extra-vars", "@values.json", "playbook.yml", *options]
        subprocess.run(
            [ANSIBLE_PLAYBOOK, *words],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )
        return json.loads((tmp_path / "found").read_text())

    return run


@pytest.mark.parametrize(
    ("limit", "workers"),
    [
        (None, 3),
        ("all:!worker3", 2),
        ("master1,worker1,~worker[23]", 3),
        ("@left", 1),
        ("namenode", 0),
    ],
)
def test_only_workers_of_the_run_are_waited_for(rendered, tmp_path, limit, workers):
    (tmp_path / "left").write_text("master1\nworker2\n")
    assert rendered(LIVE, *(["--limit", limit] if limit else [])) == [workers, workers]


@pytest.mark.parametrize(
    "values",
    [
        {"hdfs_excluded_hosts": WORKERS[:1], "yarn_excluded_hosts": WORKERS[:2]},
        {"hdfs_live_percent": 50, "yarn_live_percent": 10},
    ],
)
def test_drained_workers_and_more_than_the_site_asks_are_not_waited_for(rendered, values):
    assert rendered(LIVE, **values) == [2, 1]


@pytest.mark.parametrize(
    ("local", "logs", "overrides", "bad"),
    [
        (1, 1, {}, (0, 0)),
        (12, 4, {}, (9, 3)),
        (3, 2, {}, (2, 1)),
        (10, 10, {MINIMUM: "0.9"}, (1, 1)),
        (4, 4, {MINIMUM: None}, (3, 3)),
    ],
)
def test_a_node_manager_is_well_with_as_many_bad_disks_as_yarn_tolerates(
    rendered, local, logs, overrides, bad
):
    conditions = rendered(
        HEALTH,
        yarn_local_dirs=[f"/data/{number}/local" for number in range(local)],
        yarn_log_dirs=[f"/data/{number}/logs" for number in range(logs)],
        yarn_site_overrides=overrides,
    )
    found = {item["attribute"]: float(item["at_most"]) for item in conditions}
    assert found == {"BadLocalDirs": bad[0], "BadLogDirs": bad[1]}


def test_a_node_manager_keeps_the_helper_of_its_release_when_the_link_points_to_another(rendered):
    wanted = {
        "release": "{{ hadoop_release_directory }}",
        "helper": "{{ yarn_nodemanager_setuid_files }}",
        "setting": "{{ yarn_site_nodemanager['yarn.nodemanager.linux-container-executor.path'] }}",
        "configuration": "{{ yarn_container_executor_config }}",
        "inputs": "{{ yarn_daemons.nodemanager.inputs }}",
    }
    found = rendered(wanted, cluster_hadoop_version="9.9")
    program = "/opt/hadoop-9.9/bin/container-executor"
    assert found["release"] == "/opt/hadoop-9.9"
    assert found["helper"] == [{"path": program, "owner": "root", "group": "yarn", "mode": "6050"}]
    assert found["setting"] == program
    assert found["configuration"] == "/opt/hadoop-9.9/etc/hadoop/container-executor.cfg"
    assert found["configuration"] in found["inputs"]
