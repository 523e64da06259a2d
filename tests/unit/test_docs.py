"""What the documents name is there: files, commands, variables, ports."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

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


def test_the_example_has_few_lines_to_edit():
    marks = [
        int(number)
        for path in (ROOT / "inventories/example").rglob("*.yml")
        for number in re.findall(r"# \((\d+)\)", path.read_text())
    ]
    assert 0 < len(marks) <= 10


def test_the_picture_is_well_formed_and_needs_nothing_else():
    text = (ROOT / "docs/topology.svg").read_text()
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    for word in ("<image", "<script", "href=", "@import"):
        assert word not in text
