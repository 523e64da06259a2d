"""The lab's tool: names, what it refuses, and how it reads this computer's package sources."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


lab_tool = load("deitos_lab", ROOT / "lab/lab.py")
image = lab_tool.image


@pytest.fixture
def sources(tmp_path):
    """Calls sources({name: text}): what a computer with these files would use."""

    def read(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return image.host_sources(tmp_path)

    return read


def test_machines_are_those_of_the_inventory():
    inventory = yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text())
    hosts = {name for group in inventory["all"]["children"].values() for name in group["hosts"]}
    assert hosts == set(lab_tool.MACHINES)


@pytest.mark.parametrize(
    ("name", "domain", "container"),
    [("deitos", "deitos.network", "kdc1"), ("two", "two.two.network", "kdc1.two")],
)
def test_forward_and_reverse_names_agree(name, domain, container):
    lab = lab_tool.Lab(name)
    assert lab.domain == domain
    assert lab.container("kdc1") == container
    # What Docker's DNS answers for an address is <container>.<network>.
    assert f"{container}.{lab.network}" == lab.fqdn("kdc1")
    assert lab.machine(container) == "kdc1"


@pytest.mark.parametrize("name", ["deitos", "two"])
def test_the_inventory_knows_the_lab(name, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a cache"))
    monkeypatch.setenv("LAB", name)
    lab = lab_tool.Lab(name)
    names = "cluster_domain", "ansible_ssh_common_args", "ansible_control_path_dir"
    command = ["ansible", "-i", ROOT / "inventories/lab", "-m", "ansible.builtin.debug", "edge1"]
    found = {}
    for variable in names:
        done = subprocess.run(
            [*command, "-a", f"var={variable}"],
            env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        found |= json.loads(done.stdout.partition("=>")[2])
    assert found["cluster_domain"] == lab.domain
    assert shlex.split(found["ansible_ssh_common_args"]) == ["-F", str(lab.ssh_config)]
    assert found["ansible_control_path_dir"] == str(lab.state / "control")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "not part of lab two"),
        ({lab_tool.LABEL_LAB: "other"}, "not part of lab two"),
        ({lab_tool.LABEL_LAB: "two", lab_tool.LABEL_CHECKOUT: "/elsewhere"}, "checkout /elsewhere"),
    ],
)
def test_refuses_what_is_foreign(labels, words):
    container = {"Name": "/kdc1.two", "Config": {"Labels": labels}}
    with pytest.raises(lab_tool.LabError, match=words):
        lab_tool.Lab("two").must_own("container", container)


def test_knows_its_own():
    lab = lab_tool.Lab("two")
    lab.must_own("container", {"Name": "/kdc1.two", "Config": {"Labels": lab.labels}})
    lab.must_own("network", {"Name": "two.network", "Labels": lab.labels})


@pytest.mark.parametrize("name", ["", "Two", "2", "a b", "a.b", "../x", "-x"])
def test_a_name_is_a_dns_label(name):
    with pytest.raises(lab_tool.argparse.ArgumentTypeError):
        lab_tool.machine_name(name)


def test_ssh_pins_the_machines_own_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lab = lab_tool.Lab("two")
    lab.state.mkdir(parents=True)
    address = {"NetworkSettings": {"Networks": {"two.network": {"IPAddress": "10.0.0.7"}}}}
    monkeypatch.setattr(lab_tool.Lab, "containers", lambda self: {"kdc1": address})
    lab_tool.write_ssh_config(lab, {"kdc1": "ssh-ed25519 AAAA"})
    text = lab.ssh_config.read_text()
    assert "HostName 10.0.0.7" in text
    assert "StrictHostKeyChecking yes" in text
    assert (lab.state / "known_hosts").read_text() == "kdc1 ssh-ed25519 AAAA\n"


class Docker:
    """What Docker holds, and what lab.py asks it to do; containers run by the name of a machine."""

    def __init__(self, monkeypatch, lab, networks=(), **states):
        self.lab = lab
        self.networks = {name: dict(labels) for name, labels in networks}
        self.containers = {
            lab.container(machine): self.container(lab.container(machine), **state)
            for machine, state in states.items()
        }
        self.done = []
        monkeypatch.setattr(lab_tool, "docker", self.run)
        monkeypatch.setattr(lab_tool, "inspect", self.inspect)

    def container(self, name, status="running", network=None, labels=None):
        return {
            "Name": f"/{name}",
            "Config": {"Labels": labels or self.lab.labels, "Image": "machine:1"},
            "State": {"Running": status == "running", "Status": status},
            "NetworkSettings": {"Networks": {network or self.lab.network: {}}},
        }

    def inspect(self, kind, *names):
        if kind == "network":
            return [
                {"Name": name, "Labels": self.networks[name]}
                for name in names
                if name in self.networks
            ]
        return [self.containers[name] for name in names if name in self.containers]

    def run(self, *words, check=True, stdin=None):
        if words[:2] == ("ps", "-aq"):
            wanted = [word.removeprefix("label=").split("=", 1) for word in words if "=" in word]
            return "\n".join(
                name
                for name, item in self.containers.items()
                if all(item["Config"]["Labels"].get(key) == value for key, value in wanted)
            )
        self.done.append(" ".join(dict.fromkeys([*words[:2], words[-1]])))
        return ""


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """docker(networks=…, kdc1={…}): lab `two` as Docker holds it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return lambda **holds: Docker(monkeypatch, lab_tool.Lab("two"), **holds)


FOREIGN = {lab_tool.LABEL_LAB: "two", lab_tool.LABEL_CHECKOUT: "/elsewhere"}


@pytest.mark.parametrize("holds", ["network and machines", "network"])
def test_down_leaves_another_checkout_s_connections_alone(docker, monkeypatch, holds):
    machines = {"kdc1": {"labels": FOREIGN}} if "machines" in holds else {}
    found = docker(networks=[("two.network", FOREIGN)], **machines)
    connection = found.lab.state / "control/socket"
    connection.parent.mkdir(parents=True)
    connection.touch()
    ended = []
    monkeypatch.setattr(lab_tool, "close_connections", ended.append)
    with pytest.raises(lab_tool.LabError, match="checkout /elsewhere"):
        lab_tool.down(found.lab, [])
    assert (ended, found.done, connection.exists()) == ([], [], True)


def test_down_removes_its_own(docker):
    lab = lab_tool.Lab("two")
    found = docker(networks=[("two.network", lab.labels)], kdc1={}, edge1={"status": "exited"})
    (lab.state / "control").mkdir(parents=True)
    lab_tool.down(lab, ["edge1"])
    assert found.done == ["rm -fv edge1.two"]
    assert lab.state.exists()
    del found.containers["edge1.two"], found.done[:]
    lab_tool.down(lab, [])
    assert found.done == ["rm -fv kdc1.two", "network rm two.network"]
    assert not lab.state.exists()


def test_down_of_a_lab_of_which_only_the_network_is_left(docker):
    lab = lab_tool.Lab("two")
    found = docker(networks=[("two.network", lab.labels)])
    lab_tool.down(lab, [])
    assert found.done == ["network rm two.network"]


@pytest.mark.parametrize(
    ("state", "done"),
    [
        ({}, []),
        ({"status": "exited"}, ["start kdc1.two"]),
        ({"status": "created"}, ["start kdc1.two"]),
        ({"network": "bridge"}, ["rm -fv kdc1.two", "run --detach machine:1"]),
        (None, ["run --detach machine:1"]),
    ],
)
def test_a_half_made_machine_is_repaired(docker, state, done):
    found = docker(**({} if state is None else {"kdc1": state}))
    lab_tool.ensure_container(found.lab, "kdc1", "machine:1")
    assert found.done == done


def test_a_foreign_machine_or_network_is_not_used(docker):
    found = docker(networks=[("two.network", {})], kdc1={"labels": FOREIGN, "status": "exited"})
    with pytest.raises(lab_tool.LabError, match="checkout /elsewhere"):
        lab_tool.ensure_container(found.lab, "kdc1", "machine:1")
    with pytest.raises(lab_tool.LabError, match="not part of lab two"):
        lab_tool.ensure_network(found.lab)
    assert found.done == []


def test_a_missing_network_is_made_and_an_own_one_kept(docker, monkeypatch):
    monkeypatch.setattr(lab_tool, "outer_mtu", lambda: 1400)
    found = docker()
    lab_tool.ensure_network(found.lab)
    assert found.done == ["network create two.network"]
    found = docker(networks=[("two.network", found.lab.labels)])
    lab_tool.ensure_network(found.lab)
    assert found.done == []


def test_reads_one_line_sources(sources):
    found = sources(
        {
            "sources.list": "deb [signed-by=/x] http://mirror.test/debian/ bookworm main\n"
            "# deb http://old.test/debian bookworm main\n"
            "deb http://mirror.test/security bookworm-security main\n"
        }
    )
    assert found == [
        ("http://mirror.test/debian", ["bookworm"]),
        ("http://mirror.test/security", ["bookworm-security"]),
    ]


def test_reads_stanzas_and_leaves_out_what_is_not_debian(sources):
    found = sources(
        {
            "sources.list.d/debian.sources": "Types: deb\n# a comment\nURIs: http://m.test/debian\n"
            "Suites: bookworm bookworm-updates bookworm-backports\nComponents: main\n\n"
            "Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: bookworm\n",
            "sources.list.d/tool.list": "deb https://tool.test nodistro main\n",
        }
    )
    assert found == [("http://m.test/debian", ["bookworm", "bookworm-updates"])]


def test_no_debian_archive_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(image, "host_sources", list)
    with pytest.raises(image.ImageError, match=r"sources\.list"):
        image.apt_sources()


def test_the_recipe_follows_what_it_is_made_of(monkeypatch):
    before = image.recipe()
    assert image.recipe() == before
    monkeypatch.setattr(image, "apt_settings", lambda: 'Acquire::http::Proxy "http://p.test";\n')
    assert image.recipe() != before


def test_an_unfinished_build_leaves_no_image(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(image, "tag", lambda: "deitos-cluster/machine:test")
    monkeypatch.setattr(image, "exists", lambda name: False)
    monkeypatch.setattr(image, "load", lambda *arguments: made.append(arguments))

    def fail(root, log):
        (root / "half").write_text("")
        raise image.ImageError("the mirror went away")

    monkeypatch.setattr(image, "assemble", fail)
    with pytest.raises(image.ImageError, match="went away"):
        image.build(tmp_path, lambda text: None)
    assert not made
    assert not list(tmp_path.glob("image-*"))


def test_a_part_that_cannot_be_built_is_named_and_keeps_none_back(tmp_path, monkeypatch):
    for name in ("wheels", "releases", "model"):
        (tmp_path / name).mkdir()
        done = f"import pathlib; pathlib.Path({str(tmp_path / name)!r}, 'done').touch()"
        (tmp_path / name / "build.py").write_text("exit(3)" if name == "wheels" else done)
    built = []
    monkeypatch.setattr(lab_tool, "HERE", tmp_path)
    monkeypatch.setattr(lab_tool.image, "build", lambda *_arguments: built.append("image"))
    with pytest.raises(lab_tool.LabError, match="lab/wheels could not be built"):
        lab_tool.build()
    assert built == ["image"]
    assert (tmp_path / "releases/done").exists() and (tmp_path / "model/done").exists()
