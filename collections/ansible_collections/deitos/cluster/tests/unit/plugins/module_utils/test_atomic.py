"""Files are replaced whole, and owned before anyone can open them."""

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import atomic

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="changing owners needs root")


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_new_file_is_private_unless_said_otherwise(tmp_path):
    atomic.write_atomic(tmp_path / "a", b"x")
    atomic.write_atomic(tmp_path / "b", b"x", mode="0644")
    assert mode_of(tmp_path / "a") == 0o600
    assert mode_of(tmp_path / "b") == 0o644


def test_rewriting_keeps_what_is_not_named(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o640


@ROOT
def test_owner_and_setuid_survive_each_other(tmp_path):
    path = tmp_path / "a"
    atomic.write_atomic(path, b"x", owner="nobody", group="daemon", mode="6050")
    assert atomic.attributes(path) == {"owner": "nobody", "group": "daemon", "mode": "6050"}
    changes = atomic.set_attributes(path, owner="root", mode="6050")
    assert changes == {"owner": ("nobody", "root")}
    assert atomic.attributes(path) == {"owner": "root", "group": "daemon", "mode": "6050"}


def test_open_readers_keep_the_old_content(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        atomic.write_atomic(path, b"new")
        assert reader.read() == b"old"


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path):
    (tmp_path / "target").write_bytes(b"keep")
    (tmp_path / "link").symlink_to("target")
    atomic.write_atomic(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"keep"


def test_failure_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_unknown_names_are_a_change_to_report_and_an_error_to_write(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    assert atomic.attribute_changes(path, owner="nosuchuser")["owner"][1] == "nosuchuser"
    with pytest.raises(atomic.UnknownName, match="no user 'nosuchuser'"):
        atomic.write_atomic(path, b"y", owner="nosuchuser")
    assert path.read_bytes() == b"x"


def test_missing_path_changes_everything(tmp_path):
    changes = atomic.attribute_changes(tmp_path / "none", owner="root", mode="0700")
    assert changes == {"owner": (None, "root"), "mode": (None, "0700")}


@pytest.mark.parametrize("mode", ["0999", "rwx", "", "17777", "-1", 420])
def test_bad_modes_are_refused(mode):
    with pytest.raises(ValueError, match="mode"):
        atomic.parse_mode(mode)


def test_equal_attributes_are_no_change(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x")
    path.chmod(0o644)
    same = {"owner": os.getuid(), "group": str(os.getgid()), "mode": "644"}
    assert atomic.attribute_changes(path, **same) == {}
    assert atomic.set_attributes(path, **same) == {}
