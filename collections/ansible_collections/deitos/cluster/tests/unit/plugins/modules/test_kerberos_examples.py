"""The examples of the documentation are run, not only read."""

from __future__ import annotations

import os

import jinja2
import yaml
from ansible_collections.deitos.cluster.plugins.modules import (
    kerberos_info,
    kerberos_keytab,
    kerberos_policy,
    kerberos_principal,
)


def examples(module):
    """{module's name and arguments of each task}."""
    for task in yaml.safe_load(module.EXAMPLES):
        name = f"deitos.cluster.{module.__name__.rpartition('.')[2]}"
        assert task["name"]
        if name in task:
            yield task[name]


def test_policies(kdc, run_module):
    for arguments in examples(kerberos_policy):
        done = run_module(kerberos_policy, **arguments)
        assert not done["failed"], done
    assert {"people", "services"} <= set(kdc.ask("listpols").split())


def test_principals(kdc, run_module, tmp_path):
    run_module(kerberos_policy, name="people")
    run_module(kerberos_principal, names=["dave", "HTTP/master1.example.org"])
    for arguments in examples(kerberos_principal):
        if "password" in arguments:
            arguments["password"] = "made-up for the test"
        done = run_module(
            kerberos_principal, initial_password_directory=str(tmp_path / "first"), **arguments
        )
        assert not done["failed"], done
    assert set(os.listdir(tmp_path / "first")) == {"alice", "bob", "carol"}
    assert "does not exist" in kdc.ask("getprinc", "dave")
    assert "Number of keys: 6" in kdc.ask("getprinc", "HTTP/master1.example.org")


def test_keytabs(kdc, run_module, authority, tmp_path):
    name = "worker1.example.org"
    key, certificate = authority.issue(name, [name])
    keytabs = [
        {
            "path": str(tmp_path / "krb5.keytab"),
            "principals": [f"host/{name}"],
            "owner": str(os.getuid()),
        }
    ]
    run_module(kerberos_principal, name=f"host/{name}")
    report, issue, present = examples(kerberos_keytab)
    told = run_module(
        kerberos_keytab,
        **report | {"keytabs": keytabs, "host_certificate": str(certificate)},
    )
    (host,) = issue["hosts"]
    host |= {
        "certificate": told["certificate"],
        "fingerprints": told["fingerprints"],
        "keytabs": keytabs,
    }
    issued = run_module(kerberos_keytab, ca_path=str(authority.certificate), **issue)
    done = run_module(
        kerberos_keytab,
        host_key=str(key),
        host_certificate=str(certificate),
        **present | {"keytabs": keytabs, "sealed": issued["sealed"][name]},
    )
    assert done["changed_keytabs"] == [{"name": keytabs[0]["path"], "actions": ["write"]}]


def test_info(kdc, run_module, tmp_path):
    names = ["dn/worker1", "dn/worker2", "alice"]
    run_module(kerberos_principal, names=names)
    keytab = str(tmp_path / "krb5.keytab")
    kdc.ask("ktadd", "-norandkey", "-k", keytab, "dn/worker1")
    database, file = examples(kerberos_info)
    found = run_module(kerberos_info, **database)
    assert not found["failed"], found
    assert set(found["principals"]) == {f"{name}@{kdc.realm}" for name in names}
    (insist,) = (
        task["ansible.builtin.assert"]["that"]
        for task in yaml.safe_load(kerberos_info.EXAMPLES)
        if "ansible.builtin.assert" in task
    )
    condition = insist.replace("EXAMPLE.ORG", kdc.realm)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    assert environment.compile_expression(condition)(kerberos=found) is True
    held = run_module(kerberos_info, **file | {"keytabs": [keytab]})
    assert not held["failed"], held
    assert held["keytabs"][keytab]
