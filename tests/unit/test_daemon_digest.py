"""daemon-digest: what counts as a change of a daemon's inputs, and what does not."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles/base/files/daemon-digest"


@pytest.fixture
def tool(tmp_path, monkeypatch):
    loader = importlib.machinery.SourceFileLoader("daemon_digest", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "RECORDS", tmp_path / "records")
    return module


@pytest.fixture
def unit(tool, tmp_path, monkeypatch):
    """A unit `app` with inputs in tmp_path/in, whose files systemd would name."""
    (tmp_path / "in").mkdir()
    text = tmp_path / "app.service"
    text.write_text(
        "[Service]\nExecStartPre=+/x/daemon-digest record %N\n[X-Deitos]\n"
        f"Inputs={tmp_path}/in/a {tmp_path}/in/dir\nInputs={tmp_path}/in/link\n"
        f"ReloadInputs={tmp_path}/in/exclude\n"
    )
    properties = {"FragmentPath": str(text), "DropInPaths": "", "NeedDaemonReload": "no"}
    monkeypatch.setattr(tool, "show", lambda units: dict.fromkeys(units, properties))
    (tmp_path / "in/a").write_text("1")
    (tmp_path / "in/dir").mkdir()
    (tmp_path / "in/dir/b").write_text("1")
    (tmp_path / "release-1").mkdir()
    (tmp_path / "release-1/.release").write_text("sha256:1\n")
    (tmp_path / "release-2").mkdir()
    (tmp_path / "in/link").symlink_to("../release-1")
    tool.record("app")
    return properties


def state(tool, planned=None):
    return tool.explain(["app"], planned)["app"]


def test_nothing_recorded(tool, unit):
    tool.record_path("app").unlink()
    assert state(tool)["state"] == "unknown"
    tool.record_path("app").write_text("{broken")
    assert state(tool)["state"] == "unknown"


def test_fresh_after_touching_and_changing_modes(tool, unit, tmp_path):
    os.utime(tmp_path / "in/a", (1, 1))
    (tmp_path / "in/a").chmod(0o600)
    (tmp_path / "release-1/inside").write_text("a release counts by its name and archive")
    assert state(tool) == {"state": "fresh", "changed": [], "records": True}


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: (d / "in/a").write_text("2"), "in/a"),
        (lambda d: (d / "in/a").unlink(), "in/a"),
        (lambda d: (d / "in/dir/b").write_text("2"), "in/dir"),
        (lambda d: (d / "in/dir/new").write_text(""), "in/dir"),
        (lambda d: (d / "in/dir/b").rename(d / "in/dir/c"), "in/dir"),
        (lambda d: os.replace(_link(d, "../release-2"), d / "in/link"), "in/link"),
        (lambda d: (d / "release-1/.release").write_text("sha256:2\n"), "in/link"),
        (lambda d: (d / "app.service").write_text("[Service]\n"), "app.service"),
    ],
)
def test_stale_and_why(tool, unit, tmp_path, change, path):
    change(tmp_path)
    found = state(tool)
    assert found["state"] == "stale"
    assert str(tmp_path / path) in found["changed"]
    tool.record("app")
    assert state(tool)["state"] == "fresh"


def _link(directory, target):
    (directory / "new").symlink_to(target)
    return directory / "new"


def test_reload_inputs_need_a_reload_only(tool, unit, tmp_path):
    (tmp_path / "in/exclude").write_text("worker9")
    assert state(tool)["state"] == "reload"
    (tmp_path / "in/a").write_text("2")
    assert state(tool)["state"] == "stale"
    tool.record("app", reload_only=True)
    assert state(tool) == {"state": "stale", "changed": [str(tmp_path / "in/a")], "records": True}


def test_reload_before_any_start_records_nothing(tool, unit):
    tool.record_path("app").unlink()
    tool.record("app", reload_only=True)
    assert state(tool)["state"] == "unknown"


def test_drop_ins_count_and_runtime_settings_do_not(tool, unit, tmp_path):
    unit["DropInPaths"] = f"{tmp_path}/system.control/app.service.d/50-CPU.conf"
    assert state(tool)["state"] == "fresh"
    (tmp_path / "x.conf").write_text("[X-Deitos]\nInputs=\n")
    unit["DropInPaths"] = str(tmp_path / "x.conf")
    assert state(tool)["state"] == "stale"
    tool.record("app")
    (tmp_path / "in/a").write_text("no input any more")
    assert state(tool)["state"] == "fresh"


def test_a_unit_started_from_an_old_text_is_stale(tool, unit):
    unit["NeedDaemonReload"] = "yes"
    tool.record("app")
    unit["NeedDaemonReload"] = "no"
    assert state(tool)["state"] == "stale"


def test_records_are_private(tool, unit, tmp_path):
    assert (tmp_path / "records").stat().st_mode & 0o777 == 0o700
    assert tool.record_path("app").stat().st_mode & 0o777 == 0o600


def test_what_a_check_run_plans(tool, unit, tmp_path):
    a, b = str(tmp_path / "in/a"), str(tmp_path / "in/dir/b")
    recorded = tool.digest(a)
    assert state(tool, {a: "0" * 64})["state"] == "stale"
    assert state(tool, {a: "absent"})["state"] == "stale"
    assert state(tool, {b: "0" * 64})["changed"] == [str(tmp_path / "in/dir")]
    assert state(tool, {f"{tmp_path}/in/dir/new": "0" * 64})["state"] == "stale"
    # Drift that the run would repair needs no restart.
    (tmp_path / "in/a").write_text("by hand")
    assert state(tool)["state"] == "stale"
    assert state(tool, {a: recorded})["state"] == "fresh"
    (tmp_path / "in/a").unlink()
    assert state(tool, {a: None})["state"] == "fresh"
    assert state(tool, {"/etc/systemd/system/app.service.d/new.conf": "0" * 64})["state"] == "stale"


def keytab(*entries):
    data = b"\x05\x02"
    for name, time, version, key in entries:
        entry = struct.pack(">H", 1) + b"".join(
            struct.pack(">H", len(part)) + part for part in (b"REALM", name)
        )
        entry += struct.pack(">IIBHH", 1, time, version & 255, 18, len(key)) + key
        entry += struct.pack(">I", version)
        data += struct.pack(">i", len(entry)) + entry
    return data


def test_a_keytab_counts_by_its_keys(tool, unit, tmp_path):
    path = tmp_path / "in/a"
    path.write_bytes(keytab((b"nn", 100, 2, b"k" * 32), (b"HTTP", 100, 2, b"h" * 32)))
    tool.record("app")
    path.write_bytes(keytab((b"HTTP", 999, 2, b"h" * 32), (b"nn", 999, 2, b"k" * 32)))
    assert state(tool)["state"] == "fresh"
    path.write_bytes(keytab((b"HTTP", 999, 2, b"h" * 32), (b"nn", 999, 300, b"k" * 32)))
    assert state(tool)["state"] == "stale"
    path.write_bytes(keytab((b"HTTP", 999, 2, b"h" * 32), (b"nn", 999, 2, b"K" * 32)))
    assert state(tool)["state"] == "stale"
    path.write_bytes(b"\x05\x02\x00\x00\x00\x07broken")
    assert state(tool)["state"] == "stale"


def test_keytab_of_mit(tool, tmp_path):
    """Our reading of a keytab agrees on a hole and on a long version with the format."""
    data = keytab((b"a", 1, 300, b"x" * 16))
    hole = struct.pack(">i", -10) + b"\0" * 10
    entries = tool.keytab_entries(data[:2] + hole + data[2:])
    assert [(e[1], e[2], e[3]) for e in entries] == [(300, 18, b"x" * 16)]


def test_command_line(tmp_path):
    """Run for real, with a systemctl that knows one unit."""
    (tmp_path / "u.service").write_text("[X-Deitos]\nInputs=/etc/hostname\n")
    fake = tmp_path / "systemctl"
    fake.write_text(f"#!/bin/sh\necho FragmentPath={tmp_path}/u.service\necho DropInPaths=\n")
    fake.chmod(0o755)

    def run(*arguments, data=None):
        return subprocess.run(
            ["python3", SCRIPT, *arguments],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            input=data,
            check=False,
        )

    assert json.loads(run("check", "no-such-record").stdout) == {"no-such-record": "unknown"}
    explained = json.loads(run("explain", "--planned", "no-such-record", data="{}").stdout)
    assert explained["no-such-record"]["records"] is False
    assert "record UNIT" in run().stderr
    assert run("record").returncode != 0
    assert "not the name of a unit" in run("check", "../x").stderr
