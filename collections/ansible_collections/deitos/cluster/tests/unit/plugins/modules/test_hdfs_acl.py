"""hdfs_acl on ACLs in memory: what it asks for, and what it says. The lab has a real HDFS."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_entries, hdfs_mode, webhdfs
from ansible_collections.deitos.cluster.plugins.modules import hdfs_acl

sys.path.insert(0, str(Path(__file__).parents[1] / "module_utils"))
from in_memory import InMemory


class Memory(InMemory):
    """Paths with ACLs; entries are kept complete, as hdfs_entries has them."""

    def __init__(self):
        self.acls = {"/": hdfs_entries.logical("755")}
        self.files = set()
        self.requests = []
        self.fail_on = None

    def _mode(self, path):
        bits = {entry.key: entry.bits for entry in self.acls[path]}
        middle = bits.get((False, "mask", ""), bits[False, "group", ""])
        return f"{bits[False, 'user', '']}{middle}{bits[False, 'other', '']}"

    def status(self, path):
        if path not in self.acls:
            return None
        return {
            "type": "FILE" if path in self.files else "DIRECTORY",
            "permission": self._mode(path),
            "aclBit": len(self.acls[path]) > hdfs_entries.BASE,
            "owner": "hdfs",
            "group": "hdfs",
            "childrenNum": len(self.listing(path)),
        }

    def listing(self, path):
        return {
            child.rsplit("/", 1)[1]: self.status(child)
            for child in self.acls
            if child != "/" and webhdfs.parent_of(child) == path
        }

    def acls_of(self, paths):
        return self.map(self.acl, paths)

    def acl(self, path):
        self.requests.append(("GETACLSTATUS", path))
        extended = any(not entry.default and entry.type == "mask" for entry in self.acls[path])
        kept = [
            str(entry)
            for entry in self.acls[path]
            if entry.default or (entry.name or (extended and entry.type == "group"))
        ]
        return {"permission": self._mode(path), "entries": kept}

    def put(self, path, op, aclspec=None):
        self.requests.append((op, path))
        if self.fail_on == path:
            raise webhdfs.PermissionDenied("HDFS refuses")
        now = self.acls[path]
        if op == "REMOVEDEFAULTACL":
            self.acls[path] = hdfs_entries.strip_default(now)
        else:
            assert op == "SETACL"
            given = hdfs_entries.parse([aclspec])
            kept = [] if any(entry.default for entry in given) else [e for e in now if e.default]
            self.acls[path] = hdfs_entries.ordered([*given, *kept])


@pytest.fixture
def hdfs(monkeypatch):
    hdfs = Memory()
    hdfs.acls["/d"] = hdfs_entries.logical("750")
    hdfs.acls["/d/f"] = hdfs_entries.logical("640")
    hdfs.files.add("/d/f")
    monkeypatch.setattr(webhdfs, "connect", lambda _module: hdfs)
    return hdfs


def shown(hdfs, path):
    return [str(entry) for entry in hdfs.acls[path]]


def test_an_entry_and_its_diff(hdfs, four_runs):
    done = four_runs(hdfs_acl, path="/d", entries=["user:a:rwx", "mask::r-x"])
    assert shown(hdfs, "/d") == ["user::rwx", "user:a:rwx", "group::r-x", "mask::r-x", "other::---"]
    assert done["diff"][0]["before"] == "user::rwx\ngroup::r-x\nother::---\n"
    assert "user:a:rwx\t#effective:r-x\n" in done["diff"][0]["after"]
    assert done["acls"][0]["effective"] == {"user:a": "r-x", "group:": "r-x"}


def test_a_path_without_an_acl_is_not_asked_for_it(hdfs, run_module):
    run_module(hdfs_acl, check=True, path="/d", entries=["user:a:rwx"])
    assert hdfs.requests == []


def test_default_entries_that_nobody_lists_go(hdfs, four_runs):
    hdfs.acls["/d"] = hdfs_entries.merge(
        hdfs.acls["/d"], hdfs_entries.parse(["user:a:rwx", "default:user:a:rwx"])
    )
    four_runs(hdfs_acl, path="/d", state="exact", entries=["user:b:r--"])
    assert shown(hdfs, "/d") == ["user::rwx", "user:b:r--", "group::r-x", "mask::r-x", "other::---"]
    assert [op for op, _path in hdfs.requests if op != "GETACLSTATUS"] == [
        "REMOVEDEFAULTACL",
        "SETACL",
    ]


def test_only_the_default_entries_are_removed(hdfs, four_runs):
    hdfs.acls["/d"] = hdfs_entries.merge(
        hdfs.acls["/d"], hdfs_entries.parse(["default:user:a:rwx"])
    )
    four_runs(hdfs_acl, path="/d", state="no_default")
    assert shown(hdfs, "/d") == ["user::rwx", "group::r-x", "other::---"]
    assert "SETACL" not in [op for op, _path in hdfs.requests]


def test_recursion_gives_files_no_default_entries(hdfs, four_runs):
    done = four_runs(
        hdfs_acl, path="/d", entries=["user:a:rX", "default:user:a:rX"], recursive=True
    )
    assert done["changed_paths"] == ["/d", "/d/f"]
    assert "user:a:r--" in shown(hdfs, "/d/f") and "user:a:r-x" in shown(hdfs, "/d")
    assert not any(entry.startswith("default:") for entry in shown(hdfs, "/d/f"))


def test_a_path_to_come_counts_as_a_change_in_check_mode_only(hdfs, run_module):
    options = {"path": "/later", "entries": ["user:a:r--"]}
    foretold = run_module(hdfs_acl, check=True, **options)
    assert foretold["changed_paths"] == ["/later"] and not foretold["failed"]
    assert run_module(hdfs_acl, **options)["msg"].startswith("/later: there is no such path")
    stripped = run_module(hdfs_acl, check=True, path="/later", state="stripped")
    assert not stripped["changed"] and not stripped["failed"]


def test_one_failure_hides_no_other(hdfs, run_module):
    hdfs.fail_on = "/d"
    hdfs.acls["/e"] = hdfs_entries.logical("700")
    result = run_module(
        hdfs_acl,
        entries=["user:a:r--"],
        acls=[{"path": "/d"}, {"path": "/e"}, {"path": "/none"}, {"path": "x"}],
    )
    assert result["failed"] and result["changed_paths"] == ["/e"]
    assert sorted(error["path"] for error in result["errors"]) == ["/d", "/none", "x"]
    assert [acl["path"] for acl in result["acls"]] == ["/e"]


@pytest.mark.parametrize("check", [True, False])
def test_returned_acls_are_those_of_the_end(hdfs, run_module, check):
    hdfs.acls["/d/f"] = hdfs_entries.merge(hdfs.acls["/d/f"], hdfs_entries.parse(["user:b:rwx"]))
    acls = [
        {"path": "/d/f", "state": "stripped"},
        {"path": "/d", "entries": ["user:a:rwx"], "recursive": True},
    ]
    result = run_module(hdfs_acl, check=check, acls=acls)
    found = {acl["path"]: acl["entries"] for acl in result["acls"]}
    assert "user:a:rwx" in found["/d/f"] and "user:a:rwx" in found["/d"]
    if not check:
        assert found == {path: shown(hdfs, path) for path in found}


def test_an_acl_that_another_item_failed_to_change_is_not_told(hdfs, run_module):
    hdfs.fail_on = "/d/f"
    acls = [
        {"path": "/d/f", "state": "exact"},
        {"path": "/d", "entries": ["user:a:rwx"], "recursive": True},
    ]
    result = run_module(hdfs_acl, acls=acls)
    assert result["failed"] and result["acls"] == []


def test_the_mode_of_the_fake_is_what_a_status_means(hdfs):
    hdfs.acls["/d"] = hdfs_entries.merge(hdfs.acls["/d"], hdfs_entries.parse(["user:a:rwx"]))
    assert hdfs_mode.mode_of(hdfs.status("/d"), hdfs.acl("/d")) == 0o750
