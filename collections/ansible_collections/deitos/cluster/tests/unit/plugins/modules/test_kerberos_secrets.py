"""A whole playbook with -vvvv: no password and no key shows in its output, in the command lines
and environments of what it starts, or in the KDC's log.

Also the one proof that the modules work the way a user runs them.
"""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

import pytest
import yaml
from ansible_collections.deitos.cluster.plugins.module_utils import keytab as codec

COLLECTIONS = str(Path(__file__).resolve().parents[7])
PASSWORDS = [f"Sesame-{number}-öffne dich" for number in range(40)]

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    group/deitos.cluster.kerberos:
      realm: UNIT.TEST
  tasks:
    - name: Policy
      deitos.cluster.kerberos_policy:
        name: people
        min_length: 10
    - name: People
      deitos.cluster.kerberos_principal:
        policy: people
        update_password: always
        principals: "{{ people }}"
    - name: New people
      deitos.cluster.kerberos_principal:
        names: [alice, bob]
        initial_password: true
        initial_password_directory: "{{ root }}/first"
    - name: Services
      deitos.cluster.kerberos_principal:
        names: "{{ keytabs | map(attribute='principals') | flatten }}"
    - name: Report
      deitos.cluster.kerberos_keytab:
        state: report
        keytabs: "{{ keytabs }}"
        host_certificate: "{{ certificate }}"
      register: report
    - name: Issue
      deitos.cluster.kerberos_keytab:
        state: issue
        ca_path: "{{ ca }}"
        hosts:
          - name: h1.example
            certificate: "{{ report.certificate }}"
            fingerprints: "{{ report.fingerprints }}"
            keytabs: "{{ keytabs }}"
      register: issue
    - name: Present
      deitos.cluster.kerberos_keytab:
        keytabs: "{{ keytabs }}"
        sealed: "{{ issue.sealed['h1.example'] | default(omit) }}"
        host_key: "{{ key }}"
        host_certificate: "{{ certificate }}"
"""


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Records the command line and environment of every program that a module starts: the file."""
    programs, record = tmp_path / "programs", tmp_path / "started"
    programs.mkdir()
    for name in ("kadmin.local", "kadmin", "openssl"):
        real = shutil.which(name)
        if real:  # the KDC's absence is the kdc fixture's to tell
            (programs / name).write_text(
                f'#!/bin/sh\n{{ echo {name} "$@"; env; }} >> {record}\nexec {real} "$@"\n'
            )
            (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return record


@pytest.fixture
def play(kdc, authority, playbook, tmp_path):
    """Calls play(admin, *options): the output of ansible-playbook, in all detail, with the
    options that lead to the KDC."""
    key, certificate = authority.issue("h1.example", ["h1.example"])
    variables = {
        "root": str(tmp_path),
        "people": [
            {"name": f"person{number}", "password": password}
            for number, password in enumerate(PASSWORDS)
        ],
        "keytabs": [
            {
                "path": str(tmp_path / "h1.keytab"),
                "principals": ["host/h1.example", "HTTP/h1.example"],
                "owner": str(os.getuid()),
            }
        ],
        "key": str(key),
        "certificate": str(certificate),
        "ca": str(authority.certificate),
    }

    def run(admin, *options):
        (content,) = yaml.safe_load(PLAYBOOK)
        content["module_defaults"]["group/deitos.cluster.kerberos"] |= admin
        return playbook([content], variables, *options)

    return run


@pytest.fixture(params=["kadmin.local", "kadmin"])
def admin(request, kdc, watch):
    """The options that lead to the KDC: to its database or to its kadmind."""
    if request.param == "kadmin":
        return request.getfixturevalue("remote")
    kdc.start()
    return {}


def test_no_secret_is_seen_anywhere(kdc, watch, admin, play, tmp_path):
    first, again, checked = play(admin), play(admin), play(admin, "--check")
    assert "changed=5 " in first  # report and issue never are
    assert "changed=0 " in again
    assert "changed=0 " in checked
    secrets = [password.encode() for password in PASSWORDS]
    files = list((tmp_path / "first").iterdir())
    assert len(files) == 2
    secrets += [file.read_bytes().strip() for file in files]
    for entry in codec.decode((tmp_path / "h1.keytab").read_bytes()):
        secrets += [
            entry.key,
            entry.key.hex().encode(),
            base64.b64encode(entry.key).rstrip(b"="),
        ]
    logs = b"".join(path.read_bytes() for path in kdc.root.glob("*.log"))
    started = watch.read_bytes()
    for place in (first.encode(), again.encode(), checked.encode(), logs, started):
        for secret in secrets:
            assert secret not in place
    # The watch and the log have seen what they were for.
    if admin:
        assert b"\nkadmin -r UNIT.TEST -s " in started
        assert b"kadm5_create_principal, person7@UNIT.TEST, success" in logs
        assert b"kadm5_get_principal_keys, person7@UNIT.TEST, success" in logs
    else:
        assert b"\nkadmin.local -r UNIT.TEST\n" in started
    assert b"\nopenssl cms -encrypt" in started
    assert b"\nopenssl cms -decrypt" in started
    assert "person7@UNIT.TEST" in first
