"""The two lists of requirements agree with each other and with what the project uses."""

import json
import re
from pathlib import Path

import ansible_collections
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CARRIED = Path(next(path for path in ansible_collections.__path__ if "site-packages" in path))
COLLECTIONS = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
OURS = {"ansible.builtin", "deitos.cluster"}


@pytest.mark.parametrize("wanted", COLLECTIONS, ids=lambda item: item["name"])
def test_same_version_as_the_ansible_package_carries(wanted):
    manifest = CARRIED.joinpath(*wanted["name"].split("."), "MANIFEST.json")
    assert json.loads(manifest.read_text())["collection_info"]["version"] == wanted["version"]


def test_every_collection_in_use_is_listed_and_no_other():
    manifests = CARRIED.glob("*/*/MANIFEST.json")
    carried = {f"{path.parts[-3]}.{path.parts[-2]}" for path in manifests}
    used = set()
    for folder in ("roles", "playbooks", "lab", "molecule"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".yml", ".j2"):
                used |= set(re.findall(r"\b([a-z]+\.[a-z]+)\.[a-z]", path.read_text()))
    assert used & carried - OURS == {item["name"] for item in COLLECTIONS}


def test_every_package_is_pinned():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    loose = [line for line in lines if line and not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)]
    assert not loose
