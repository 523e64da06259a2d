"""Who HiveServer2 may act for, unless a site says otherwise."""

from __future__ import annotations

from pathlib import Path

import yaml
from jinja2.nativetypes import NativeEnvironment

DEFAULTS = Path(__file__).resolve().parents[2] / "roles/cluster/defaults/main.yml"


def test_hiveserver2_acts_for_no_administrators():
    chosen = (
        NativeEnvironment()
        .from_string(yaml.safe_load(DEFAULTS.read_text())["cluster_hive_groups"])
        .render(
            cluster_groups=[{"name": "cluster_admins"}, {"name": "analysts"}, {"name": "interns"}],
            cluster_admin_group="cluster_admins",
        )
    )
    assert chosen == ["analysts", "interns"]
