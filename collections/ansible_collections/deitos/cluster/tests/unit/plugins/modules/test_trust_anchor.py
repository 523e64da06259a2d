"""trust_anchor: the bundles are what counts, and they are rebuilt only when they lack something."""

from __future__ import annotations

import base64
import os

import pytest
from ansible_collections.deitos.cluster.plugins.modules import trust_anchor


def pem(der):
    body = base64.b64encode(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A system whose tools collect what is in the directory into the bundles."""

    class System:
        directory = tmp_path / "anchors"
        bundle = tmp_path / "bundle.crt"
        java = tmp_path / "cacerts"
        content = pem(b"first authority")

        def __init__(self):
            self.calls = []

        def parameters(self):
            return {
                "name": "our-ca",
                "content": self.content,
                "directory": str(self.directory),
                "bundle": str(self.bundle),
                "java_keystore": str(self.java),
                "commands": ["update", "update --fresh"],
            }

        def run(self, command):
            self.calls.append(" ".join(command))
            files = sorted(self.directory.iterdir())
            self.bundle.write_text(pem(b"a public one") + "".join(f.read_text() for f in files))
            # As on Debian: Java's store is filled anew only for names the tool did not know.
            if self.java.exists() and "--fresh" in command:
                self.java.write_bytes(b"JKS" + b"".join(map(self.der, files)))
            return 0, "done", ""

        @staticmethod
        def der(path):
            return b"x" + trust_anchor.decode(path.read_text())[0]

    found = System()
    found.directory.mkdir()
    found.bundle.write_text(pem(b"a public one"))
    found.java.write_bytes(b"JKS")
    monkeypatch.setattr(
        trust_anchor.AnsibleModule, "run_command", lambda _s, command: found.run(command)
    )
    monkeypatch.setattr(trust_anchor.atomic, "uid_of", lambda _owner: os.getuid())
    monkeypatch.setattr(trust_anchor.atomic, "gid_of", lambda _group: os.getgid())
    return found


def test_trusted_once(system, four_runs):
    four_runs(trust_anchor, **system.parameters())
    assert system.calls == ["update", "update --fresh"]
    assert (system.directory / "our-ca.crt").read_text() == system.content


def test_a_host_without_java(system, four_runs):
    system.java.unlink()
    four_runs(trust_anchor, **system.parameters())
    assert system.calls == ["update"]


def test_an_update_that_was_killed_is_made_up_for(system, run_module):
    (system.directory / "our-ca.crt").write_text(system.content)
    (system.directory / "our-ca.crt").chmod(0o644)
    result = run_module(trust_anchor, **system.parameters())
    assert result["changed"]
    assert result["missing"] == [str(system.bundle), str(system.java)]
    assert not run_module(trust_anchor, **system.parameters())["changed"]


def test_another_certificate_of_the_same_name(system, run_module):
    run_module(trust_anchor, **system.parameters())
    system.content = pem(b"second authority")
    assert run_module(trust_anchor, **system.parameters())["changed"]
    assert pem(b"second authority") in system.bundle.read_text()
    assert b"second authority" in system.java.read_bytes()


def test_each_certificate_of_a_chain_has_its_file(system, four_runs):
    system.content = pem(b"root") + pem(b"middle")
    four_runs(trust_anchor, **system.parameters())
    assert sorted(os.listdir(system.directory)) == ["our-ca-2.crt", "our-ca.crt"]


def test_mode_only(system, run_module):
    run_module(trust_anchor, **system.parameters())
    (system.directory / "our-ca.crt").chmod(0o600)
    system.calls.clear()
    assert run_module(trust_anchor, **system.parameters())["changed"]
    assert system.calls == []


def test_a_tool_that_does_not_help(system, run_module, monkeypatch):
    monkeypatch.setattr(
        trust_anchor.AnsibleModule, "run_command", lambda _s, _command: (1, "", "no space")
    )
    result = run_module(trust_anchor, **system.parameters())
    assert result["failed"]
    assert "no space" in result["msg"]


@pytest.mark.parametrize("content", ["", "junk", "-----BEGIN CERTIFICATE-----\nAAA"])
def test_no_certificate(system, run_module, content):
    system.content = content
    assert "not certificates" in run_module(trust_anchor, **system.parameters())["msg"]
