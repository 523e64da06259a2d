"""The collection as a whole: nothing is forgotten in its lists, and what is built can be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))


def groups():
    return yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_in_the_readme_and_in_a_group(module):
    assert f"`{module}`" in (ROOT / "README.md").read_text()
    assert [name for name, members in groups().items() if module in members]


def test_groups_name_modules_that_exist():
    members = {one for group in groups().values() for one in group if isinstance(one, str)}
    assert members == set(MODULES)
    assert set(groups()["all"][0]["metadata"]["extend_group"]) == set(groups()) - {"all"}


def tool(name, *arguments, **environment):
    """The output of one of Ansible's programs."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(name)), *map(str, arguments)],
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_built_collection_installs_and_documents_itself(tmp_path):
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    environment = {
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
    }
    tool("ansible-galaxy", "collection", "build", ROOT, "--output-path", tmp_path, **environment)
    (archive,) = tmp_path.glob("deitos-cluster-*.tar.gz")
    tool(
        *("ansible-galaxy", "collection", "install", archive),
        *("--offline", "--collections-path", tmp_path / "collections"),
        **environment,
    )
    told = json.loads(
        tool(
            "ansible-doc", "--json", *(f"deitos.cluster.{name}" for name in MODULES), **environment
        )
    )
    for name in MODULES:
        page = told[f"deitos.cluster.{name}"]
        assert page["doc"]["filename"].startswith(str(tmp_path)), name
        assert page["doc"]["description"], name
        assert page["examples"], name
        assert page["return"], name
        assert {"check_mode", "diff_mode"} <= set(page["doc"]["attributes"]), name
