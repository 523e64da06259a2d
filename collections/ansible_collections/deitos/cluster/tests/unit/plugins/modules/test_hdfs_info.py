"""hdfs_info: a path that cannot be read hides no other. The lab has a real HDFS."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.modules import hdfs_info

sys.path.insert(0, str(Path(__file__).parents[1] / "module_utils"))
from in_memory import InMemory


class Memory(InMemory):
    """An HDFS with two directories, one of them closed, whose NameNodes say nothing."""

    endpoints = ()

    def listing(self, path):
        raise AssertionError(f"{path} is not worth a listing")

    def status(self, path):
        if path == "/closed":
            raise Problem("HDFS refuses")
        if path != "/open":
            return None
        names = {"type": "DIRECTORY", "owner": "a", "group": "b", "permission": "750"}
        return {**names, "length": 0, "replication": 0, "modificationTime": 1500}


@pytest.fixture
def hdfs(monkeypatch):
    monkeypatch.setattr(hdfs_info, "connect", lambda _module: Memory())


def test_a_bad_path_hides_no_other(hdfs, run_module):
    result = run_module(hdfs_info, paths=["relative", "/open", "/closed", "/none"])
    assert result["failed"] and "relative: the path must be absolute" in result["msg"]
    assert [error["path"] for error in result["errors"]] == ["relative", "/closed"]
    assert list(result["paths"]) == ["/open"] and result["paths"]["/open"]["modified"] == 1
