"""What the documents name is there: files, commands, variables, ports."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import preflight
import pytest
import topology
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
DEFAULTS = {
    name
    for path in (ROOT / "roles").glob("*/defaults/main.yml")
    for name in yaml.safe_load(path.read_text())
}
# A variable of a role starts with one of these; so do a few words that are none.
PREFIXES = tuple(f"{role.name}_" for role in ROLES)
NO_VARIABLES = {"cluster_admins"}


@pytest.fixture(params=DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def document(request):
    return request.param


def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            assert (document.parent / target).exists(), target


def test_playbooks_exist(document):
    for name in re.findall(r"\b(playbooks/[\w/]+\.yml)\b", document.read_text()):
        assert (ROOT / name).exists(), name


def test_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in re.findall(r"`make ([a-z -]+)", document.read_text()):
        assert set(words.split()) <= targets, words


def test_variables_exist(document):
    names = set(re.findall(r"`([a-z][a-z0-9_]+)[:`]", document.read_text()))
    unknown = {name for name in names if name.startswith(PREFIXES)} - DEFAULTS - NO_VARIABLES
    assert unknown == set()


def test_every_port_of_hadoop_is_documented():
    text = (ROOT / "docs/architecture.md").read_text()
    for role in ("hdfs", "yarn", "hive"):
        settings = (ROOT / f"roles/{role}/vars/main.yml").read_text()
        ports = set(re.findall(r"(?<![\d.])(?:[\w\"}')]|0\.0\.0\.0):(\d{4,5})\b", settings))
        ports |= set(re.findall(r"\.port: (\d{4,5})\b", settings))
        assert ports, role
        for port in ports:
            assert re.search(rf"\b{port}\b", text), f"port {port} of role {role}"


def test_every_group_is_documented():
    text = (ROOT / "roles/cluster/README.md").read_text()
    for name in topology.DAEMONS:
        assert f"| `{name}` |" in text


EXAMPLE = ROOT / "inventories/example"
MARK = re.compile(r" # \((\d+)\)")


def example_of(directory):
    """Ansible's own view of an inventory: its groups, and the variables of each host."""
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", directory, "--list"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    hostvars = found.pop("_meta")["hostvars"]

    def members(name):
        group = found.get(name, {})
        inner = [host for child in group.get("children", []) for host in members(child)]
        return list(dict.fromkeys([*group.get("hosts", []), *inner]))

    return {name: members(name) for name in found}, hostvars


def test_the_example_names_the_lines_to_edit_and_they_are_few():
    _groups, hostvars = example_of(EXAMPLE)
    texts = set(hostvars) | {"base_manage_hosts_file"}
    for own in hostvars.values():
        texts |= {own["ansible_host"], own["ansible_user"], own["cluster_domain"]}
    marks = []
    for path in sorted(EXAMPLE.rglob("*.yml"), key=lambda path: path.name != "hosts.yml"):
        for line in path.read_text().splitlines():
            code = line.split("#")[0]
            if path.name == "users.yml":  # people and their addresses: no lines of machines
                code = "" if "mail:" in code else code
            needed = any(re.search(rf"\b{re.escape(text)}\b", code) for text in texts)
            assert needed == bool(MARK.search(line)), f"{path.name}: {line}"
            marks += MARK.findall(line)
    assert marks == [str(number) for number in range(1, len(marks) + 1)]
    assert 0 < len(marks) <= 10


def test_edited_there_alone_the_example_is_another_site(tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    for path in (tmp_path / "mine").rglob("*.yml"):
        lines = [
            re.sub(r"\bnode(\d)", r"srv-\1.dc", line).replace("192.0.2.", "10.1.1.")
            if MARK.search(line)
            else line
            for line in path.read_text().splitlines(keepends=True)
        ]
        path.write_text("".join(lines))
    groups, hostvars = example_of(tmp_path / "mine")
    before, _hostvars = example_of(EXAMPLE)
    renamed = {
        name: [re.sub("node(.)", r"srv-\1.dc", host) for host in hosts]
        for name, hosts in before.items()
    }
    assert groups == renamed
    assert {own["ansible_host"] for own in hostvars.values()} == {
        f"10.1.1.{n}" for n in range(11, 15)
    }
    assert preflight.topology_faults(groups, topology.group_limits(groups), "example.org") == []


def test_the_picture_is_well_formed_and_needs_nothing_else():
    text = (ROOT / "docs/topology.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    for word in ("<image", "<script", "href=", "@import"):
        assert word not in text
