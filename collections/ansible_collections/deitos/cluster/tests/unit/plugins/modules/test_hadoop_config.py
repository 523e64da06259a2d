"""hadoop_config: files come out of data, secrets stay on the host, errors name the property."""

from __future__ import annotations

import os
import stat
import subprocess

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hadoop_xml
from ansible_collections.deitos.cluster.plugins.modules import hadoop_config

ME = {"owner": str(os.getuid()), "group": str(os.getgid())}


@pytest.fixture
def configure(tmp_path, run_module):
    def call(*files, check=False, **parameters):
        return run_module(
            hadoop_config,
            check=check,
            directory=str(tmp_path),
            files=list(files),
            **{**ME, **parameters},
        )

    return call


def values(path):
    return {n: p.value for n, p in hadoop_xml.parse_xml(path.read_bytes()).items()}


def test_files_are_made_from_their_layers(tmp_path, four_runs):
    done = four_runs(
        hadoop_config,
        directory=str(tmp_path),
        files=[
            {
                "name": "hdfs-site.xml",
                "defaults": {"dfs.replication": 3, "dfs.a": "x"},
                "computed": {"dfs.b": [1, 2], "dfs.permissions.enabled": True},
                "overrides": {"dfs.replication": 2, "dfs.a": None},
                "final": ["dfs.b"],
            },
            {"name": "log4j.properties", "computed": {"log4j.rootLogger": "INFO, RFA"}},
        ],
        **ME,
    )
    assert values(tmp_path / "hdfs-site.xml") == {
        "dfs.replication": "2",
        "dfs.b": "1,2",
        "dfs.permissions.enabled": "true",
    }
    assert "log4j.rootLogger=INFO, RFA\n" in (tmp_path / "log4j.properties").read_text()
    assert done["changed_files"] == [
        str(tmp_path / "hdfs-site.xml"),
        str(tmp_path / "log4j.properties"),
    ]
    assert os.stat(tmp_path / "hdfs-site.xml").st_mode & 0o777 == 0o644


def test_the_diff_shows_only_properties(tmp_path, configure):
    configure({"name": "a.xml", "computed": {"x": 1, "y": "same"}})
    result = configure({"name": "a.xml", "computed": {"x": 2, "y": "same"}})
    assert result["diff"][0]["before"] == "x = 1\ny = same\n"
    assert result["diff"][0]["after"] == "x = 2\ny = same\n"


def test_only_changed_files_are_named(tmp_path, configure):
    configure({"name": "a.xml", "computed": {"x": 1}}, {"name": "b.xml"})
    result = configure({"name": "a.xml", "computed": {"x": 1}}, {"name": "b.xml", "final": []})
    assert not result["changed"]
    (tmp_path / "b.xml").write_text("<configuration>")
    result = configure({"name": "a.xml", "computed": {"x": 1}}, {"name": "b.xml"})
    assert result["changed_files"] == [str(tmp_path / "b.xml")]
    assert "not well-formed" in result["diff"][0]["before"]


def test_a_changed_comment_is_drift_too(tmp_path, configure):
    configure({"name": "a.xml", "computed": {"x": 1}})
    path = tmp_path / "a.xml"
    path.write_text(path.read_text().replace("Written by", "Changed by"))
    result = configure({"name": "a.xml", "computed": {"x": 1}})
    assert result["changed"]
    assert "comments" in result["diff"][0]["before"]


class TestSecrets:
    @pytest.fixture
    def secret(self, tmp_path):
        path = tmp_path / "password"
        path.write_text("hunter2\n")
        return path

    def wanted(self, secret, **parameters):
        return {
            "name": "ssl-server.xml",
            "mode": "0640",
            "secrets": {"ssl.server.keystore.password": str(secret)},
            **parameters,
        }

    def test_read_on_the_host_and_never_returned(self, tmp_path, configure, secret):
        first = configure(self.wanted(secret))
        path = tmp_path / "ssl-server.xml"
        assert values(path) == {"ssl.server.keystore.password": "hunter2"}
        secret.write_text("swordfish")
        second = configure(self.wanted(secret))
        assert "hunter2" not in str(first) + str(second)
        assert "swordfish" not in str(second)
        assert second["diff"][0]["before"] != second["diff"][0]["after"]
        assert not configure(self.wanted(secret))["changed"]

    @pytest.mark.parametrize("name", ["some.password", "javax.jdo.option.ConnectionPassword"])
    def test_what_a_foreign_file_held_is_masked(self, tmp_path, configure, name):
        (tmp_path / "a.xml").write_text(
            f"<configuration><property><name>{name}</name><value>leak</value></property>"
            "</configuration>"
        )
        assert "leak" not in str(configure({"name": "a.xml", "computed": {"x": 1}}))

    @pytest.mark.parametrize("name", ["a.xml", "a.properties"])
    @pytest.mark.parametrize("after", [{}, {"of.no.telling.name": "open"}])
    def test_what_was_a_secret_stays_masked(self, configure, secret, name, after):
        secrets = {"of.no.telling.name": str(secret)}
        assert not configure({"name": name, "mode": "0640", "secrets": secrets})["failed"]
        result = configure({"name": name, "mode": "0640", "computed": after})
        assert result["changed"] and "hunter2" not in str(result)

    def test_the_file_may_not_be_world_readable(self, configure, secret):
        result = configure(self.wanted(secret, mode="0644"))
        assert result["failed"]
        assert "must not let others in" in result["msg"]

    def test_a_missing_secret(self, tmp_path, configure):
        wanted = self.wanted(tmp_path / "none")
        foretold = configure(wanted, check=True)
        assert foretold["changed"]
        assert foretold["planned"] == {str(tmp_path / "ssl-server.xml"): None}
        result = configure(wanted)
        assert result["failed"]
        assert "ssl.server.keystore.password" in result["msg"]
        assert "does not exist" in result["msg"]


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ({"computed": {"dfs.http.policy": "HTTPS"}}, "dfs.http.policy"),
        ({"computed": {"a.b": "{{ x }}"}}, "unrendered"),
        ({"computed": {"a.b": {"c": 1}}}, "not {'c': 1}"),
        ({"final": ["a.b"]}, "has no value"),
        ({"name": "b.properties", "final": ["a"], "computed": {"a": 1}}, "final"),
        ({"name": "good.xml"}, "listed twice"),
    ],
)
def test_one_wrong_file_and_nothing_is_written(tmp_path, configure, file, says):
    wrong = {"name": "wrong.xml", **file}
    result = configure({"name": "good.xml"}, wrong)
    assert result["failed"]
    assert result["msg"].startswith(wrong["name"])
    assert says in result["msg"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", ["missing/a.xml", "directory"])
def test_one_file_that_cannot_be_and_nothing_is_written(tmp_path, configure, wrong):
    (tmp_path / "directory").mkdir()
    result = configure({"name": "good.xml"}, {"name": wrong})
    assert result["failed"] and wrong.split("/")[0] in result["msg"]
    assert result["changed_files"] == [] and not result["changed"]
    assert os.listdir(tmp_path) == ["directory"]
    assert configure({"name": "missing/a.xml"}, check=True)["changed"]


def test_unknown_group_in_check_mode_only(tmp_path, configure):
    assert configure({"name": "a.xml"}, check=True, group="nosuchgroup")["changed"]
    assert "no group 'nosuchgroup'" in configure({"name": "a.xml"}, group="nosuchgroup")["msg"]


def test_attributes_are_repaired_without_rewriting(tmp_path, configure):
    configure({"name": "a.xml"})
    path = tmp_path / "a.xml"
    before = path.stat()
    path.chmod(0o666)
    result = configure({"name": "a.xml"})
    assert result["diff"][0]["before"] == {"mode": "0666"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.stat().st_ino == before.st_ino


def test_xml_parser_of_the_system_agrees(tmp_path, configure):
    configure({"name": "a.xml", "computed": {"x": "a<b & \u00e9\r\n\t'\""}})
    code = (
        "import sys,xml.dom.minidom as m;"
        "print(ascii(m.parse(sys.argv[1]).getElementsByTagName('value')[0].firstChild.data))"
    )
    done = subprocess.run(
        ["python3", "-c", code, tmp_path / "a.xml"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ascii("a<b & \u00e9\r\n\t'\"")
