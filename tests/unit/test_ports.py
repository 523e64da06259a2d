"""The table of ports that people read is the list that the tests go by."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
LISTED = yaml.safe_load((ROOT / "tests/integration/ports.yml").read_text(encoding="utf-8"))
ROW = re.compile(r"^\| (?P<groups>[\w, ]+) \| (?P<ports>[\d, \u2013/a-z]+) \|", re.M)


def documented():
    """{(group, protocol, first, last)} of the table under the heading Ports."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.partition("\n## Ports\n")[2].partition("\n## ")[0]
    found = set()
    for row in ROW.finditer(section):
        protocols = ("tcp", "udp") if "udp" in row["ports"] else ("tcp",)
        for first, last in re.findall(r"(\d+)(?:\u2013(\d+))?", row["ports"]):
            found |= {
                (group, protocol, int(first), int(last or first))
                for group in row["groups"].split(", ")
                for protocol in protocols
            }
    return found


def listed():
    """The same of ports.yml; SSH is the site's own."""
    return {
        (entry["group"], protocol, *(int(number) for number in (first, last or first)))
        for entry in LISTED["ports"]
        if entry["protection"] != "ssh"
        for ports in entry["ports"]
        for first, _, last in [str(ports).partition("-")]
        for protocol in entry.get("protocols", ["tcp"])
    }


def test_the_documented_table_is_the_tested_list():
    assert documented() == listed()
