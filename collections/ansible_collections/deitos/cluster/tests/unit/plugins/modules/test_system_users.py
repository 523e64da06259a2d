"""system_users: what is missing is made with its number, and no number is ever stolen."""

from __future__ import annotations

import shlex

import pytest
from ansible_collections.deitos.cluster.plugins.modules import system_users

WANTED = {
    "groups": [{"name": "tls", "gid": 799}],
    "users": [{"name": "hdfs", "uid": 801, "groups": ["tls"], "description": 'HD:FS "x"'}],
}


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose sysusers does what it is told, in files of its own."""
    passwd, group = tmp_path / "passwd", tmp_path / "group"
    passwd.write_text("root:x:0:0:root:/root:/bin/bash\n")
    group.write_text("root:x:0:\n")
    monkeypatch.setattr(system_users, "PASSWD", str(passwd))
    monkeypatch.setattr(system_users, "GROUP", str(group))

    def sysusers(_module, command):
        for line in command[2:]:
            kind, name, value, *more = shlex.split(line)
            if kind == "g":
                group.write_text(f"{group.read_text()}{name}:x:{value}:\n")
            elif kind == "u":
                uid = value.split(":")[0]
                entry = f"{name}:x:{uid}:{uid}:{more[0]}:{more[1]}:/usr/sbin/nologin\n"
                passwd.write_text(passwd.read_text() + entry)
            else:
                lines = group.read_text().splitlines()
                lines = [f"{x},{name}" if x.startswith(f"{value}:") else x for x in lines]
                group.write_text("\n".join(lines).replace(":,", ":") + "\n")
        return 0, "", ""

    monkeypatch.setattr(system_users.AnsibleModule, "run_command", sysusers)
    monkeypatch.setattr(system_users.AnsibleModule, "get_bin_path", lambda _s, name, **_k: name)
    return tmp_path


def test_made_in_one_go(host, four_runs):
    done = four_runs(system_users, **WANTED)
    assert done["created"] == ["group tls (799)", "user hdfs (801)", "hdfs in tls"]
    assert "hdfs:x:801:801:HD FS x :/:/usr/sbin/nologin" in (host / "passwd").read_text()
    assert "hdfs:x:801:" in (host / "group").read_text()


def test_check_mode_makes_nothing(host, run_module):
    before = (host / "passwd").read_text()
    assert run_module(system_users, check=True, **WANTED)["changed"]
    assert (host / "passwd").read_text() == before


def test_a_lost_membership_comes_back(host, run_module):
    run_module(system_users, **WANTED)
    group = host / "group"
    group.write_text(group.read_text().replace("tls:x:799:hdfs", "tls:x:799:openldap"))
    assert run_module(system_users, **WANTED)["created"] == ["hdfs in tls"]
    assert "tls:x:799:openldap,hdfs" in group.read_text()


@pytest.mark.parametrize(
    ("passwd", "group", "says"),
    [
        ("hdfs:x:500:801::/:/x\n", "hdfs:x:801:\n", "has the number 500"),
        ("other:x:801:801::/:/x\n", "", "belongs to user other"),
        ("", "other:x:799:\n", "belongs to group other"),
        ("", "tls:x:12:\n", "group tls has the number 12"),
        ("hdfs:x:801:100::/:/x\n", "hdfs:x:801:\n", "primary group 100"),
    ],
)
def test_conflicts_stop_before_anything_is_made(host, run_module, passwd, group, says):
    with open(host / "passwd", "a") as file:
        file.write(passwd)
    with open(host / "group", "a") as file:
        file.write(group)
    before = (host / "group").read_text()
    for check in (True, False):
        result = run_module(system_users, check=check, **WANTED)
        assert result["failed"]
        assert says in result["msg"]
    assert (host / "group").read_text() == before


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"users": [{"name": "a b", "uid": 1}]}, "not a name"),
        ({"users": [{"name": "a", "uid": 5}, {"name": "b", "uid": 5}]}, "both to have"),
        ({"users": [{"name": "a", "uid": 5}, {"name": "a", "uid": 5}]}, "twice"),
        ({"users": [{"name": "a", "uid": 5, "groups": ["none"]}]}, "nowhere"),
    ],
)
def test_lists_that_make_no_sense(host, run_module, wanted, says):
    result = run_module(system_users, **wanted)
    assert result["failed"]
    assert says in result["msg"]


def test_a_number_that_sysusers_could_not_give(host, run_module, monkeypatch):
    def other_number(_module, _command):
        with open(host / "group", "a") as file:
            file.write("tls:x:998:\n")
        return 0, "", ""

    monkeypatch.setattr(system_users.AnsibleModule, "run_command", other_number)
    assert "has the number 998" in run_module(system_users, **WANTED)["msg"]


def test_a_failing_sysusers_is_told(host, run_module, monkeypatch):
    monkeypatch.setattr(system_users.AnsibleModule, "run_command", lambda *_a: (1, "", "disk full"))
    assert "disk full" in run_module(system_users, **WANTED)["msg"]
