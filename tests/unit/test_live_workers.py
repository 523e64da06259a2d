"""How many workers a run waits for, whichever hosts --limit leaves to it."""

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
WORKERS = [f"worker{number}" for number in (1, 2, 3)]

# The plays of ops/start_storage.yml and ops/start_compute.yml, without the daemons.
PLAYBOOK = [
    {
        "hosts": "datanode",
        "gather_facts": False,
        "tasks": [
            {"debug": {"msg": "a DataNode"}, "register": "hdfs_daemon_result"},
            {"debug": {"msg": "a NodeManager"}, "register": "yarn_daemon_result"},
        ],
    },
    {
        "hosts": "namenode",
        "gather_facts": False,
        "vars_files": [
            f"{ROOT}/roles/{role}/{part}/main.yml"
            for role in ("hdfs", "yarn")
            for part in ("defaults", "vars")
        ],
        "tasks": [
            {
                "copy": {
                    "dest": "{{ found }}",
                    "content": "{{ [hdfs_live_datanodes, yarn_live_nodemanagers] }}",
                }
            }
        ],
    },
]


@pytest.fixture
def expected(tmp_path):
    """Runs the plays with a --limit: how many DataNodes and NodeManagers must be live."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {"namenode": ["master1"], "datanode": WORKERS, "nodemanager": WORKERS}
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump(PLAYBOOK))

    def run(*options):
        content = {
            "all": {
                "vars": {**local, "found": str(tmp_path / "found")},
                "children": {
                    name: {"hosts": dict.fromkeys(hosts)} for name, hosts in groups.items()
                },
            }
        }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(content))
        subprocess.run(
            [ANSIBLE_PLAYBOOK, "-i", "hosts.yml", "playbook.yml", *options],
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
def test_only_workers_of_this_run_are_waited_for(expected, tmp_path, limit, workers):
    (tmp_path / "left").write_text("master1\nworker2\n")
    assert expected(*(["--limit", limit] if limit else [])) == [workers, workers]


def test_drained_workers_and_the_site_s_part_are_not_waited_for(expected):
    drained = {"hdfs_excluded_hosts": WORKERS[:1], "yarn_excluded_hosts": WORKERS[:2]}
    assert expected("--extra-vars", json.dumps(drained)) == [2, 1]
    part = {"hdfs_live_percent": 50, "yarn_live_percent": 10}
    assert expected("--extra-vars", json.dumps(part)) == [2, 1]
