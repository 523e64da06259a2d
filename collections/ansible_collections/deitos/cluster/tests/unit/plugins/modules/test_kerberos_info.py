"""kerberos_info, against a real KDC database."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.modules import (
    kerberos_info,
    kerberos_policy,
    kerberos_principal,
)


@pytest.fixture
def realm(kdc, run_module):
    run_module(kerberos_policy, name="people", min_length=12, lockout_duration="15m")
    run_module(kerberos_principal, names=["dn/w1", "dn/w2", "nn/m1", "kadmin.local:  x", "a b"])
    run_module(
        kerberos_principal,
        name="alice",
        policy="people",
        password="wonderland-12",
        expires="2090-01-02T03:04:05Z",
        flags={"requires_preauth": True},
        state="disabled",
    )
    return kdc


def test_principals_by_name(realm, run_module, monkeypatch):
    monkeypatch.delattr("datetime.UTC", raising=False)  # hosts may have a Python before 3.11
    done = run_module(kerberos_info, check=True, principals=["alice", "nobody", "dn/w1@UNIT.TEST"])
    assert not done["changed"]
    assert list(done["principals"]) == ["alice@UNIT.TEST", "nobody@UNIT.TEST", "dn/w1@UNIT.TEST"]
    assert done["principals"]["nobody@UNIT.TEST"] is None
    alice = done["principals"]["alice@UNIT.TEST"]
    assert alice["expires"] == "2090-01-02T03:04:05+00:00"
    assert alice["password_expires"] is None
    assert alice["policy"] == "people"
    assert alice["flags"]["requires_preauth"]
    assert not alice["flags"]["allow_tix"]
    assert alice["keys"][0] == {"kvno": 1, "enctype": "aes256-cts-hmac-sha384-192"}
    assert alice["failures"] == 0
    assert alice["max_life"] == 86400


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["dn/*"], ["dn/w1", "dn/w2"]),
        (["dn/w?", "nn/*", "dn/*"], ["dn/w1", "dn/w2", "nn/m1"]),
        (["kadmin.local:*"], ["kadmin.local:  x"]),
        (["none*"], []),
        (["a *"], ["a b"]),
    ],
)
def test_principals_by_pattern(realm, run_module, patterns, names):
    done = run_module(kerberos_info, match=patterns)
    assert not done["failed"], done
    assert sorted(done["principals"]) == [f"{name}@UNIT.TEST" for name in names]


def test_policies(realm, run_module):
    done = run_module(kerberos_info, policies=["people", "none"])
    assert done["policies"]["none"] is None
    assert done["policies"]["people"]["min_length"] == 12
    assert done["policies"]["people"]["lockout_duration"] == 900


def test_keytabs_need_no_kdc(realm, run_module, tmp_path, monkeypatch):
    path, damaged = tmp_path / "a.keytab", tmp_path / "damaged"
    realm.ask("ktadd", "-norandkey", "-k", str(path), "dn/w1")
    damaged.write_text("x")
    monkeypatch.setenv("PATH", "/nonexistent")
    done = run_module(kerberos_info, keytabs=[str(path), str(tmp_path / "none")])
    assert done["keytabs"][str(tmp_path / "none")] is None
    assert done["keytabs"][str(path)][0] == {
        "principal": "dn/w1@UNIT.TEST",
        "kvno": 1,
        "enctype": "aes256-cts-hmac-sha384-192",
    }
    done = run_module(kerberos_info, keytabs=[str(damaged), str(path)])
    assert "does not begin like a keytab" in done["msg"]
    assert str(path) in done["keytabs"]


def test_bad_items_do_not_hide_the_good(realm, run_module):
    done = run_module(
        kerberos_info, principals=["a@b@c", "alice"], match=["-x", "dn/*"], policies=["a\nb"]
    )
    assert {error["name"] for error in done["errors"]} == {"a@b@c", "-x", "a\nb"}
    assert len(done["principals"]) == 3


def test_something_must_be_asked(run_module):
    assert run_module(kerberos_info)["failed"]
