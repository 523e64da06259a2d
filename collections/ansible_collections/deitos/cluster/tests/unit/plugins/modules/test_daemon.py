"""daemon: what runs is left alone, what must change is told and done, failures say why."""

from __future__ import annotations

import json

import pytest
from ansible_collections.deitos.cluster.plugins.modules import daemon

UP = {"ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
DOWN = {"ActiveState": "inactive", "SubState": "dead", "UnitFileState": "disabled"}


class Systemd:
    """A systemd of memory: units with their state, and how they stand to their inputs."""

    def __init__(self):
        self.units = {}
        self.inputs = {}
        self.broken = set()
        self.calls = []
        self.planned = None

    def add(self, name, state, inputs="fresh", changed=(), records=True, **properties):
        self.units[name] = {
            "LoadState": "loaded",
            "NeedDaemonReload": "no",
            "Result": "success",
            "ExecMainStatus": "0",
            "NRestarts": "0",
            **state,
            **properties,
        }
        self.inputs[name] = {"state": inputs, "changed": list(changed), "records": records}

    def run(self, command, data=None):
        tool, *arguments = command
        if tool == "journalctl":
            return 0, f"last words of {arguments[-1]}", ""
        if tool == daemon.DIGEST:
            self.planned = json.loads(data)
            return 0, json.dumps({n: self.inputs[n] for n in arguments[2:]}), ""
        verb, names = arguments[0], [a for a in arguments[1:] if not a.startswith("-")]
        if verb == "show":
            return 0, "\n\n".join(self.describe(n.removesuffix(".service")) for n in names), ""
        if verb == "is-enabled":
            return (0 if self.units[names[0]]["UnitFileState"] == "generated-on" else 1), "", ""
        if verb != "reset-failed":
            self.calls.append((verb, *names))
        code = 0
        for name in names:
            code = max(code, self.change(verb, name))
        if verb == "daemon-reload":
            for unit in self.units.values():
                unit["NeedDaemonReload"] = "no"
        return code, "", "Job failed." if code else ""

    def describe(self, name):
        found = self.units.get(name, {"LoadState": "not-found", **DOWN, "UnitFileState": ""})
        return "\n".join(f"{key}={value}" for key, value in found.items())

    def change(self, verb, name):
        unit = self.units[name]
        if verb in ("start", "restart"):
            if name in self.broken:
                unit.update(ActiveState="failed", SubState="failed", Result="exit-code")
                return 1
            unit.update(ActiveState="active", SubState="running")
            self.inputs[name].update(state="fresh", changed=[])
        elif verb == "stop":
            unit.update(ActiveState="inactive", SubState="dead")
        elif verb == "reload":
            self.inputs[name].update(state="fresh", changed=[])
        elif verb in ("enable", "disable"):
            unit["UnitFileState"] = f"{verb}d"
        return 0


@pytest.fixture
def systemd(monkeypatch, tmp_path):
    fake = Systemd()
    monkeypatch.setattr(daemon.AnsibleModule, "run_command", fake.run)
    monkeypatch.setattr(daemon.AnsibleModule, "get_bin_path", lambda _s, name, **_k: name)
    monkeypatch.setattr(daemon.os.path, "exists", lambda _path: True)
    monkeypatch.setattr(daemon, "UNIT_DIRECTORIES", (str(tmp_path),))
    return fake


@pytest.fixture
def call(run_module):
    def run(*names, check=False, **parameters):
        daemons = [n if isinstance(n, dict) else {"name": n} for n in names]
        return run_module(daemon, check=check, daemons=daemons, settle=0, **parameters)

    return run


@pytest.mark.parametrize(
    ("state", "inputs", "wanted", "key"),
    [
        (DOWN, "fresh", {}, "started"),
        ({**UP, "ActiveState": "failed"}, "fresh", {}, "started"),
        (UP, "stale", {}, "restarted"),
        (UP, "unknown", {}, "restarted"),
        (UP, "reload", {}, "reloaded"),
        (UP, "fresh", {"state": "stopped"}, "stopped"),
        (UP, "fresh", {"enabled": False}, None),
        ({**DOWN, "UnitFileState": "enabled"}, "fresh", {"state": "stopped"}, None),
    ],
)
def test_four_runs(systemd, four_runs, state, inputs, wanted, key):
    systemd.add("app", state, inputs)
    done = four_runs(daemon, daemons=[{"name": "app", **wanted}], settle=0)
    assert done["changed"] == (key is not None or wanted.get("enabled") is False)
    for name in ("started", "stopped", "restarted", "reloaded", "restart_needed"):
        assert done[name] == (["app"] if name == key else [])


def test_check_mode_calls_nothing_that_changes(systemd, call):
    systemd.add("down", DOWN)
    systemd.add("old", UP, "stale", ["/etc/a"])
    systemd.add("text", UP, NeedDaemonReload="yes")
    result = call("down", "old", "text", check=True)
    assert systemd.calls == []
    assert (result["started"], result["restarted"]) == (["down"], ["old"])
    assert result["reasons"] == {"old": ["/etc/a"]}


def test_each_kind_of_change_is_one_call(systemd, call):
    for name in ("a", "b"):
        systemd.add(name, DOWN)
    for name in ("c", "d"):
        systemd.add(name, UP, "stale")
    systemd.add("e", UP)
    call("a", "b", "c", "d", "e")
    assert systemd.calls == [("enable", "a", "b"), ("start", "a", "b"), ("restart", "c", "d")]


def test_deferred_restarts_are_only_told(systemd, call):
    systemd.add("old", UP, "stale", ["/etc/a"])
    systemd.add("down", DOWN, UnitFileState="enabled")
    systemd.add("lists", UP, "reload")
    result = call("old", "down", "lists", restart=False)
    assert result["restart_needed"] == ["old"]
    assert systemd.calls == [("start", "down"), ("reload", "lists")]
    assert not call("old", restart=False)["changed"]


def test_a_new_text_is_loaded_first(systemd, call):
    systemd.add("app", UP, "stale", NeedDaemonReload="yes")
    call("app")
    assert systemd.calls == [("daemon-reload",), ("restart", "app")]


def test_a_drop_in_that_systemd_overlooks(systemd, call, tmp_path):
    """In a directory that is newer than its cache."""
    directory = tmp_path / "app.service.d"
    directory.mkdir()
    (directory / "ours.conf").write_text("[Service]")
    (directory / "masked.conf").symlink_to("/dev/null")
    systemd.add("app", UP)
    assert call("app", check=True)["changed"]
    call("app")
    assert systemd.calls == [("daemon-reload",)]
    systemd.units["app"]["DropInPaths"] = f"{directory}/ours.conf"
    assert not call("app")["changed"]


def test_a_failed_start_tells_the_journal_and_what_to_do(systemd, call):
    systemd.add("good", DOWN)
    systemd.add("bad", DOWN)
    systemd.broken.add("bad")
    result = call("good", "bad")
    assert result["failed"]
    assert "last words of bad" in result["msg"]
    assert "last words of good" not in result["msg"]
    assert "exit-code" in result["msg"]
    assert "What to do" in result["msg"]


def test_a_unit_that_dies_at_once(systemd, run_module, monkeypatch):
    systemd.add("app", DOWN)
    monkeypatch.setattr(
        daemon.time, "sleep", lambda _s: systemd.units["app"].update(ActiveState="failed")
    )
    result = run_module(daemon, daemons=[{"name": "app"}], settle=1)
    assert result["failed"]
    assert "went down again" in result["msg"]


def test_a_unit_whose_condition_does_not_hold(systemd, run_module, monkeypatch):
    """systemctl start then succeeds, and nothing runs."""
    systemd.add("app", DOWN, ConditionResult="no")
    monkeypatch.setattr(systemd, "change", lambda _verb, _name: 0)
    result = run_module(daemon, daemons=[{"name": "app"}], settle=0.01)
    assert result["failed"]
    assert "Condition" in result["msg"]


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"LoadState": "masked"}, "unmask"),
        ({"LoadState": "bad-setting"}, "bad-setting"),
        ({"records": False, "inputs": "unknown"}, "ExecStartPre"),
    ],
)
def test_units_that_cannot_be_managed(systemd, call, properties, says):
    systemd.add("app", UP, **properties)
    result = call("app")
    assert result["failed"]
    assert says in result["msg"]
    assert systemd.calls in ([], [("daemon-reload",)])


def test_missing_units(systemd, call):
    assert call("none", check=True)["started"] == ["none"]
    result = call("none")
    assert result["failed"]
    assert "not-found" in result["msg"]
    gone = call({"name": "none", "state": "stopped", "enabled": False})
    assert not gone["failed"]
    assert not gone["changed"]


def test_what_a_check_run_plans_is_passed_on(systemd, call):
    systemd.add("app", UP)
    call("app", check=True, planned={"/etc/a": None})
    assert systemd.planned == {"/etc/a": None}
    call("app", planned={"/etc/a": None})
    assert systemd.planned == {}


def test_no_digest_tool(systemd, call, monkeypatch):
    monkeypatch.setattr(daemon.os.path, "exists", lambda _path: False)
    systemd.add("app", UP)
    assert call("app", check=True)["restarted"] == ["app"]
    assert "role 'base'" in call("app")["msg"]


def test_static_units_need_no_enabling(systemd, call):
    systemd.add("app", {**UP, "UnitFileState": "static"})
    assert not call("app")["changed"]


def test_units_that_cannot_record(systemd, call):
    """A timer has no process: it is restarted when systemd had not loaded its text."""
    systemd.add("nightly.timer", {**UP, "SubState": "waiting"}, records=False)
    assert not call("nightly.timer")["changed"]
    path = "/etc/systemd/system/nightly.timer"
    assert call("nightly.timer", check=True, planned={path: "x"})["reasons"] == {
        "nightly.timer": [path]
    }
    systemd.units["nightly.timer"]["NeedDaemonReload"] = "yes"
    for check in (True, False):
        assert call("nightly.timer", check=check)["restarted"] == ["nightly.timer"]
    assert systemd.calls == [("daemon-reload",), ("restart", "nightly.timer")]
    assert not call("nightly.timer")["changed"]


def test_a_unit_listed_twice(systemd, call):
    systemd.add("app", UP)
    assert "twice" in call("app", "app")["msg"]


def test_a_unit_that_writes_its_own_input_is_told(systemd, call, monkeypatch):
    systemd.add("app", UP, "stale", ["/var/own"])
    warned = []
    monkeypatch.setattr(daemon.AnsibleModule, "warn", lambda _s, text: warned.append(text))
    monkeypatch.setattr(systemd, "change", lambda _verb, _name: 0)
    call("app")
    assert "/var/own" in warned[0]
