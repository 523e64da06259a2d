"""kernel_settings: what differs is written, what is not this system's to set is skipped."""

from __future__ import annotations

import errno

import pytest
from ansible_collections.deitos.cluster.plugins.modules import kernel_settings


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm/swappiness").write_text("60\n")
    (tmp_path / "vm/range").write_text("1\t2\n")
    (tmp_path / "thp").write_text("always [madvise] never\n")
    monkeypatch.setattr(kernel_settings, "ROOT", str(tmp_path))
    return tmp_path


def test_what_differs_is_set(kernel, four_runs):
    done = four_runs(kernel_settings, sysctl={"vm.swappiness": 1, "vm.range": "1 2"})
    assert done["changed_settings"] == ["vm.swappiness"]
    assert (kernel / "vm/swappiness").read_text() == "1"


def test_check_mode_writes_nothing(kernel, run_module):
    assert run_module(kernel_settings, check=True, sysctl={"vm.swappiness": 1})["changed"]
    assert (kernel / "vm/swappiness").read_text() == "60\n"


def test_the_chosen_one_is_compared(kernel, run_module):
    path = str(kernel / "thp")
    assert not run_module(kernel_settings, files={path: "madvise"})["changed"]
    assert run_module(kernel_settings, files={path: "never"})["changed"]
    assert (kernel / "thp").read_text() == "never"


def test_settings_of_other_systems_are_skipped(kernel, run_module):
    result = run_module(kernel_settings, sysctl={"vm.no_such": 1})
    assert result["skipped_settings"] == {"vm.no_such": "not on this system"}
    assert not result["changed"]


def test_read_only_is_skipped_in_both_modes(kernel, run_module, monkeypatch):
    monkeypatch.setattr(kernel_settings.os, "access", lambda *_a: False)
    for check in (True, False):
        result = run_module(kernel_settings, check=check, sysctl={"vm.swappiness": 1})
        assert result["skipped_settings"] == {"vm.swappiness": "read-only"}
        assert not result["changed"]


def test_a_refused_value_is_an_error_that_names_it(kernel, run_module, monkeypatch):
    def refuse(*_a):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(kernel_settings, "write", refuse)
    result = run_module(kernel_settings, sysctl={"vm.swappiness": "many"})
    assert result["failed"]
    assert "vm.swappiness: " in result["msg"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "vm swappiness", "vm;x"])
def test_names_that_leave_the_tree(kernel, run_module, name):
    assert run_module(kernel_settings, sysctl={name: 1})["failed"]
