"""preflight_host: each fault of a host is found, named and explained; a good host passes."""

from __future__ import annotations

import http.server
import socket
import threading
import time

import pytest
from ansible_collections.deitos.cluster.plugins.modules import preflight_host

NAME = "n1.example.org"


class Names:
    """A resolver of its own: {name: [addresses]} and {address: name}."""

    def __init__(self, monkeypatch, forward, reverse, local=("10.0.0.1",)):
        monkeypatch.setattr(preflight_host, "forward", lambda name: forward.get(name, []))
        monkeypatch.setattr(preflight_host, "reverse", lambda address: reverse.get(address, ""))
        monkeypatch.setattr(preflight_host, "is_local", lambda address: address in local)


GOOD = {"n1.example.org": ["10.0.0.1"], "kdc1.example.org": ["10.0.0.2"]}
BACK = {"10.0.0.1": "n1.example.org", "10.0.0.2": "kdc1.example.org"}


@pytest.mark.parametrize(
    ("forward", "back", "expected"),
    [
        ({}, {}, []),
        ({"n1.example.org": []}, {}, ["n1.example.org has no IPv4 address"]),
        ({"kdc1.example.org": []}, {}, ["kdc1.example.org has no IPv4 address"]),
        ({"n1.example.org": ["127.0.1.1"]}, {}, ["127.0.1.1", "remove that line from /etc/hosts"]),
        ({"kdc1.example.org": ["127.0.0.1"]}, {}, ["kdc1.example.org resolves to 127.0.0.1"]),
        (
            {"n1.example.org": ["10.0.0.9"]},
            {"10.0.0.9": "n1.example.org"},
            ["10.0.0.9, which is no address of this host"],
        ),
        ({}, {"10.0.0.1": "n1"}, ["10.0.0.1 of n1.example.org resolves back to 'n1'"]),
        ({}, {"10.0.0.2": ""}, ["10.0.0.2 of kdc1.example.org resolves back to ''"]),
    ],
)
def test_names(monkeypatch, forward, back, expected):
    Names(monkeypatch, {**GOOD, **forward}, {**BACK, **back})
    faults = preflight_host.all_name_faults(NAME, ["kdc1.example.org", NAME])
    assert len(faults) == (1 if expected else 0), faults
    for text in expected:
        assert text in faults[0]


def test_own_addresses_are_told_from_others():
    assert preflight_host.is_local("127.0.0.1")
    assert not preflight_host.is_local("192.0.2.1")


def test_a_name_of_nobody_has_no_address():
    assert preflight_host.forward("no-such-host.invalid") == []


@pytest.mark.parametrize("found", ["n1", "n1.example.org", "N1"])
def test_a_host_that_knows_its_name(found):
    assert preflight_host.host_name_faults(NAME, found) == []


def test_a_host_with_another_name():
    (fault,) = preflight_host.host_name_faults(NAME, "debian")
    assert "calls itself 'debian'" in fault
    assert "hostnamectl set-hostname n1.example.org" in fault


@pytest.mark.parametrize(("ahead", "word"), [(150, "ahead of"), (-61, "behind")])
def test_a_wrong_clock(ahead, word):
    (fault,) = preflight_host.clock_faults(1000.0, 60, now=1000.0 + ahead)
    assert f"{abs(ahead)} s {word} the controller's" in fault


def test_a_right_clock():
    for ahead in (-59, 0, 59, 119):
        assert preflight_host.clock_faults(1000.0, 60, now=1000.0 + ahead) == []
    assert preflight_host.clock_faults(None, 60) == []


def test_systems():
    debian = {"ID": "debian", "VERSION_ID": "12"}
    other = {"ID": "rocky", "VERSION_ID": "9.4"}
    assert preflight_host.system_faults(["debian 12"], False, debian) == ([], [])
    faults, warnings = preflight_host.system_faults(["debian 12"], False, other)
    assert "'rocky 9.4', verified is: debian 12" in faults[0]
    assert "cluster_preflight_allow_untested_os" in faults[0]
    assert warnings == []
    faults, warnings = preflight_host.system_faults(["debian 12"], True, other)
    assert faults == []
    assert "rocky 9.4" in warnings[0]


def test_os_release(tmp_path):
    path = tmp_path / "os-release"
    path.write_text('NAME="Debian GNU/Linux"\n# comment\nID=debian\nVERSION_ID="12"\n')
    found = preflight_host.os_release(path)
    assert (found["ID"], found["VERSION_ID"]) == ("debian", "12")


def test_python_and_init(tmp_path):
    assert preflight_host.python_faults((3, 9)) == []
    assert "Python is 3.7, expected 3.9" in preflight_host.python_faults((3, 7))[0]
    assert preflight_host.init_faults(tmp_path) == []
    assert "systemd is not the init" in preflight_host.init_faults(tmp_path / "none")[0]


def test_memory_disk_and_mounts(tmp_path):
    assert preflight_host.memory_faults(1) == []
    assert "expected 99999999" in preflight_host.memory_faults(99999999)[0]
    assert preflight_host.disk_faults({str(tmp_path / "not/yet"): 1}) == []
    (fault,) = preflight_host.disk_faults({"/opt/x": "999999999"})
    assert "free for /opt/x, expected 999999999" in fault
    assert preflight_host.mount_faults(["/proc"]) == []


def test_data_directories_may_lie_below_a_mount_point(monkeypatch):
    monkeypatch.setattr(preflight_host, "mount_points", lambda: {"/", "/data/1"})
    (fault,) = preflight_host.mount_faults(["/data/1", "/data/1/hdfs", "/data/2/hdfs"])
    assert fault.startswith("nothing is mounted on /data/2/hdfs, or above")


def test_a_disk_of_fstab_that_is_away_is_named_once(monkeypatch):
    away = {"/data/2/hdfs": "/data/2", "/data/2/yarn": "/data/2"}
    monkeypatch.setattr(preflight_host, "mount_points", lambda: {"/"})
    monkeypatch.setattr(preflight_host, "missing_mount", lambda path, mounted: away.get(path))
    (fault,) = preflight_host.missing_mount_faults(["/var/lib/hadoop", *away])
    assert fault.startswith("/etc/fstab has a file system for /data/2, and nothing is mounted")


def test_file_source(tmp_path):
    path = tmp_path / "a release.tar.gz"
    assert "is no file on this host" in preflight_host.source_faults(f"file://{path}")[0]
    path.write_text("")
    assert preflight_host.source_faults(f"file://{tmp_path}/a%20release.tar.gz") == []


class Mirror(http.server.BaseHTTPRequestHandler):
    """/there is there, /get-only knows no HEAD."""

    def do_HEAD(self):
        self.send_response({"/there": 200, "/get-only": 405}.get(self.path, 404))
        self.end_headers()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def mirror():
    server = http.server.HTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_http_sources(mirror):
    assert preflight_host.source_faults(f"{mirror}/there") == []
    assert preflight_host.source_faults(f"{mirror}/get-only") == []
    assert "the server says 404" in preflight_host.source_faults(f"{mirror}/gone")[0]


def test_a_mirror_that_nobody_serves():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "cannot be reached" in preflight_host.source_faults(f"http://127.0.0.1:{port}/x")[0]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, None),
        ({"hdfs": 801}, None),
        ({"hdfs": 998}, "hdfs has the number 998, expected 801"),
        ({"games": 801}, "the number 801 of the user hdfs belongs to the local user games"),
    ],
)
def test_numbers_of_service_users(found, expected):
    faults = preflight_host.account_faults("user", {"hdfs": 801}, found)
    assert [expected in fault for fault in faults] == ([True] if expected else [])


def test_people_hidden_by_local_accounts():
    faults = preflight_host.people_faults(
        ["alice", "debian", "staff"], {"debian": 1000}, {"staff": 50}
    )
    assert len(faults) == 2
    assert "'debian'" in faults[0]


def test_local_accounts_are_read_from_the_files(tmp_path):
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0:root:/root:/bin/bash\n+::::::\n\nhdfs:x:801:801::/:/sbin/nologin\n")
    assert preflight_host.local_accounts(path) == {"root": 0, "hdfs": 801}


GOOD_PARAMETERS = {"name": NAME, "check_names": False}
GONE = {"path": "/no/such/release", "url": "file:///no/such/file", "checksum": "sha512:ab12"}


@pytest.fixture
def _a_booted_host(monkeypatch):
    monkeypatch.setattr(preflight_host, "init_faults", list)


@pytest.mark.usefixtures("_a_booted_host")
@pytest.mark.parametrize("check", [False, True])
def test_a_good_host_changes_nothing(run_module, check):
    result = run_module(preflight_host, check=check, controller_time=time.time(), **GOOD_PARAMETERS)
    assert not result["failed"], result
    assert not result["changed"]


@pytest.mark.usefixtures("_a_booted_host")
def test_all_faults_come_in_one_message(run_module):
    result = run_module(
        preflight_host,
        **GOOD_PARAMETERS,
        controller_time=0,
        memory_mb=99999999,
        releases=[GONE],
    )
    assert result["failed"]
    assert len(result["faults"]) == 3
    assert result["msg"].startswith("n1.example.org is not fit for the cluster (3):\n- the clock")


@pytest.mark.usefixtures("_a_booted_host")
def test_an_installed_host_is_not_asked_for_room(run_module, tmp_path):
    result = run_module(
        preflight_host,
        **GOOD_PARAMETERS,
        memory_mb=99999999,
        disk_mb={"/": 999999999},
        installed=str(tmp_path),
    )
    assert not result["failed"], result


@pytest.mark.usefixtures("_a_booted_host")
def test_each_release_is_asked_for_until_it_is_installed(run_module, tmp_path):
    (tmp_path / "hadoop-3.4.2").mkdir()
    hadoop = {**GONE, "path": str(tmp_path / "hadoop-3.4.*"), "url": "file:///no/such/hadoop"}
    hive = {**GONE, "path": str(tmp_path / "hive-4.0.1"), "url": "file:///no/such/hive"}
    result = run_module(
        preflight_host, **GOOD_PARAMETERS, installed=str(tmp_path), releases=[hadoop, hive]
    )
    assert result["failed"]
    assert len(result["faults"]) == 1
    assert "file:///no/such/hive" in result["faults"][0]


def test_what_a_release_is_asked_for(tmp_path):
    there = tmp_path / "release.tar.gz"
    there.write_text("")
    release = {"path": str(tmp_path / "none"), "url": f"file://{there}", "checksum": "sha512:ab12"}
    assert preflight_host.release_faults(release) == []
    assert preflight_host.release_faults({**release, "url": "", "checksum": ""}) == []
    (fault,) = preflight_host.release_faults({**release, "checksum": f"sha512:file://{there}.sum"})
    assert f"file://{there}.sum is no file" in fault


@pytest.mark.usefixtures("_a_booted_host")
def test_what_is_installed_is_told_once(run_module, tmp_path):
    whole, broken = tmp_path / "hadoop-3.4.2", tmp_path / "hive-4.0.1"
    for directory in (whole, broken):
        directory.mkdir()
    (whole / ".release-ab12").touch()
    releases = [{**GONE, "path": str(tmp_path / "hadoop-*")}, {**GONE, "path": str(broken)}]
    facts = run_module(preflight_host, **GOOD_PARAMETERS, releases=releases)["ansible_facts"]
    assert facts["deitos_releases"] == [str(whole / ".release-ab12")]
    assert {"bash", "libc6"} <= set(facts["deitos_packages"])


@pytest.mark.parametrize(
    ("tool", "printed"),
    [
        ("dpkg-query", "installed bash|config-files slapd|installed libc6|installed libc6|"),
        ("rpm", "installed bash|installed libc6|"),
        ("true", ""),
    ],
)
def test_packages_that_are_installed(monkeypatch, tmp_path, tool, printed):
    """Not those of which configuration is left; once, whatever the number of architectures."""
    program = tmp_path / tool
    program.write_text("#!/bin/sh\nprintf '{}'\n".format(printed.replace("|", r"\n")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight_host.installed_packages() == (["bash", "libc6"] if printed else [])
