"""host_files: the wanted paths come about, truthfully reported, and nothing else is touched."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import mounts
from ansible_collections.deitos.cluster.plugins.modules import host_files

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def item(path, **parameters):
    return {"path": str(path), **ME, **parameters}


def test_many_kinds_in_one_call(tmp_path, four_runs):
    old = tmp_path / "old"
    old.write_text("x")
    files = [
        item(tmp_path / "d", state="directory", mode="0750"),
        item(tmp_path / "d/sub", state="directory"),
        item(tmp_path / "d/conf", content="a=1\n", mode="0640"),
        item(tmp_path / "d/current", state="link", target="conf"),
        item(tmp_path / "d/key", state="secret", bytes=48),
        item(old, state="absent"),
    ]
    done = four_runs(host_files, files=files)
    assert done["changed_paths"] == [f["path"] for f in files]
    assert mode_of(tmp_path / "d") == 0o750
    assert mode_of(tmp_path / "d/sub") == 0o755
    assert (tmp_path / "d/conf").read_text() == "a=1\n"
    assert mode_of(tmp_path / "d/conf") == 0o640
    assert os.readlink(tmp_path / "d/current") == "conf"
    assert len((tmp_path / "d/key").read_bytes()) == 96
    assert mode_of(tmp_path / "d/key") == 0o400
    assert not old.exists()


def test_check_mode_touches_nothing(tmp_path, run_module):
    files = [item(tmp_path / "a/b", state="directory"), item(tmp_path / "a/b/c", content="x")]
    assert run_module(host_files, check=True, files=files)["changed"]
    assert os.listdir(tmp_path) == []


def test_drift_of_content_and_mode_is_repaired(tmp_path, run_module, four_runs):
    path = tmp_path / "a"
    wanted = [item(path, content="right\n", mode="0600")]
    run_module(host_files, files=wanted)
    path.write_text("wrong\n")
    path.chmod(0o666)
    done = four_runs(host_files, files=wanted)
    assert path.read_text() == "right\n"
    assert mode_of(path) == 0o600
    assert [d["before"] for d in done["diff"]] == ["wrong\n", {"mode": "0666"}]


def test_a_secret_is_made_once_and_never_shown(tmp_path, run_module):
    path = tmp_path / "secret"
    wanted = [item(path, state="secret")]
    first = run_module(host_files, files=wanted)
    secret = path.read_text()
    assert secret not in str(first)
    path.chmod(0o444)
    second = run_module(host_files, files=wanted)
    assert second["changed"]
    assert path.read_text() == secret
    assert mode_of(path) == 0o400
    assert secret not in str(second)


def test_two_secrets_differ(tmp_path, run_module):
    run_module(host_files, files=[item(tmp_path / n, state="secret") for n in "ab"])
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


def test_sensitive_content_stays_out_of_the_result(tmp_path, run_module):
    (tmp_path / "a").write_text("before-word")
    result = run_module(
        host_files, files=[item(tmp_path / "a", content="after-word", sensitive=True)]
    )
    assert result["changed"]
    assert "word" not in str(result)


def test_only_attributes_without_content(tmp_path, run_module, four_runs):
    path = tmp_path / "a"
    missing = run_module(host_files, files=[item(path)])
    assert missing["failed"]
    assert "no such file" in missing["msg"]
    path.write_text("kept")
    path.chmod(0o600)
    four_runs(host_files, files=[item(path, mode="0640")])
    assert path.read_text() == "kept"
    assert mode_of(path) == 0o640


def test_names_that_an_earlier_task_would_make(tmp_path, run_module):
    path = tmp_path / "a"
    path.write_text("x")
    files = [{"path": str(path), "content": "x", "owner": "nosuchuser", "group": "nosuchgroup"}]
    foretold = run_module(host_files, check=True, files=files)
    assert not foretold["failed"]
    assert foretold["changed"]
    real = run_module(host_files, files=[item(tmp_path / "first", content="y"), *files])
    assert real["failed"]
    assert "no user 'nosuchuser'" in real["msg"]
    assert not (tmp_path / "first").exists(), "nothing may be touched before names are known"


def test_parents_that_an_earlier_task_would_make(tmp_path, run_module):
    files = [item(tmp_path / "none/a", content="x")]
    assert run_module(host_files, check=True, files=files)["changed"]
    real = run_module(host_files, files=files)
    assert real["failed"]
    assert "none" in real["msg"]


def test_links_are_retargeted_and_replace_files(tmp_path, four_runs):
    (tmp_path / "v1").mkdir()
    (tmp_path / "v2").mkdir()
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "file").write_text("x")
    four_runs(
        host_files,
        files=[
            item(tmp_path / "current", state="link", target="v2"),
            item(tmp_path / "file", state="link", target="v1"),
        ],
    )
    assert os.readlink(tmp_path / "current") == "v2"
    assert os.listdir(tmp_path / "v1") == []
    assert sorted(os.listdir(tmp_path)) == ["current", "file", "v1", "v2"]


def test_a_link_in_place_of_a_file_is_replaced_not_followed(tmp_path, four_runs):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "a").symlink_to("target")
    four_runs(host_files, files=[item(tmp_path / "a", content="new")])
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"state": "absent"}, "not empty"),
        ({"content": "x"}, "directory is in the way"),
        ({"state": "link", "target": "x"}, "directory is in the way"),
        ({"state": "link"}, "needs a target"),
        ({"state": "secret", "bytes": 4}, "can be guessed"),
        ({"content": {"a": 1}}, "must be text, not a dict"),
        ({"content": "x", "validate": "true"}, "'%s'"),
        ({"content": "x", "mode": "rw"}, "octal"),
    ],
)
def test_refusals_name_the_path_and_the_reason(tmp_path, run_module, wanted, says):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/inside").write_text("x")
    result = run_module(host_files, files=[item(tmp_path / "d", **wanted)])
    assert result["failed"]
    assert result["msg"].startswith(str(tmp_path / "d"))
    assert says in result["msg"]
    assert (tmp_path / "d/inside").read_text() == "x"


def test_relative_and_repeated_paths_are_refused(tmp_path, run_module):
    assert "absolute" in run_module(host_files, files=[item("etc/a", content="")])["msg"]
    twice = [item(tmp_path / "a", content="1"), item(tmp_path / "a", content="2")]
    assert "listed twice" in run_module(host_files, files=twice)["msg"]
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("mounted", "accepted"), [("data/1/hdfs", True), ("data/1", True), ("data/2", False)]
)
def test_a_data_directory_lies_on_a_disk_of_its_own(
    tmp_path, run_module, monkeypatch, mounted, accepted
):
    monkeypatch.setattr(host_files, "mount_points", lambda: {"/", str(tmp_path / mounted)})
    (tmp_path / "data/1").mkdir(parents=True)
    wanted = item(tmp_path / "data/1/hdfs", state="directory", mount_point=True)
    result = run_module(host_files, files=[wanted])
    assert result["failed"] is not accepted
    assert accepted or "nothing is mounted here, or above" in result["msg"]
    assert (tmp_path / "data/1/hdfs").exists() is accepted


def test_a_mounted_directory_is_accepted(run_module):
    found = {"path": "/proc", "state": "directory", "mount_point": True, "mode": "0555"}
    assert not run_module(host_files, check=True, files=[found])["failed"]


def test_a_directory_is_not_made_below_a_disk_that_should_be_mounted(
    tmp_path, run_module, monkeypatch
):
    """Whatever the item says: fstab says it."""
    table = tmp_path / "fstab"
    table.write_text(
        "# comment\nUUID=1 / ext4 defaults 0 1\nUUID=2 none swap sw 0 0\n"
        f"UUID=3 {tmp_path}/data/1 xfs defaults,nofail 0 2\n"
        f"UUID=4 {tmp_path}/data/2/ xfs defaults 0 2\n"
        f"UUID=5 {tmp_path}/data/3 xfs noauto 0 2\n"
    )
    mounted = {"/", f"{tmp_path}/data/2"}
    for disk, missing in ((1, f"{tmp_path}/data/1"), (2, None), (3, None), (4, None)):
        path = tmp_path / f"data/{disk}/yarn"
        assert mounts.missing_mount(path, mounted, table) == missing
    assert mounts.missing_mount(tmp_path, mounted, tmp_path / "no-fstab") is None

    missing = functools.partial(mounts.missing_mount, table=table)
    monkeypatch.setattr(host_files, "missing_mount", missing)
    result = run_module(host_files, files=[item(tmp_path / "data/1/yarn", state="directory")])
    assert result["failed"]
    assert f"/etc/fstab has a file system for {tmp_path}/data/1" in result["msg"]
    assert not (tmp_path / "data").exists()


def test_mount_table_with_blanks(tmp_path):
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 / /data/my\\040disk rw - ext4 /dev/sda rw\n")
    assert mounts.mount_points(table) == {"/data/my disk"}


def test_a_file_is_validated_before_it_is_put_in_place(tmp_path, run_module, four_runs):
    path = tmp_path / "a"
    path.write_text("good")
    bad = run_module(host_files, files=[item(path, content="bad", validate="grep -q good %s")])
    assert bad["failed"]
    assert "refuses" in bad["msg"]
    assert path.read_text() == "good"
    four_runs(host_files, files=[item(path, content="good 2", validate="grep -q good %s")])


def test_what_was_done_before_a_failure_is_told(tmp_path, run_module):
    (tmp_path / "dir").mkdir()
    result = run_module(
        host_files, files=[item(tmp_path / "a", content="x"), item(tmp_path / "dir", content="x")]
    )
    assert result["failed"]
    assert result["changed"]
    assert result["changed_paths"] == [str(tmp_path / "a")]


def test_planned_digests_in_check_mode_only(tmp_path, run_module):
    path = Path(tmp_path / "a")
    files = [item(path, content="x")]
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert run_module(host_files, check=True, files=files)["planned"] == {str(path): digest}
    assert "planned" not in run_module(host_files, files=files)
