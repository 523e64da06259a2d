"""kerberos_policy, against a real KDC database."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.modules import kerberos_policy

STRICT = {
    "max_life": "90d",
    "min_life": "1h",
    "min_length": 12,
    "min_classes": 3,
    "history": 5,
    "max_failures": 5,
    "failure_count_interval": "15m",
    "lockout_duration": "unlimited",
    "allowed_keysalts": ["aes256-cts:normal", "aes128-cts:normal"],
}


def test_a_policy_with_everything(kdc, four_runs):
    done = four_runs(kerberos_policy, name="strict", **STRICT)
    assert done["changed_policies"] == [{"name": "strict", "actions": ["create"]}]
    told = kdc.ask("getpol", "strict")
    for line in (
        "Maximum password life: 90 days 00:00:00",
        "Minimum password life: 0 days 01:00:00",
        "Minimum password length: 12",
        "Minimum number of password character classes: 3",
        "Number of old keys kept: 5",
        "Maximum password failures before lockout: 5",
        "Password failure count reset interval: 0 days 00:15:00",
        "Password lockout duration: 0 days 00:00:00",
        "Allowed key/salt types: aes256-cts:normal,aes128-cts:normal",
    ):
        assert line in told


def test_only_what_differs_is_changed(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="p", **STRICT)
    done = four_runs(kerberos_policy, name="p", min_length=8, max_life="unlimited")
    assert done["changed_policies"] == [{"name": "p", "actions": ["modify"]}]
    assert done["diff"] == {
        "before": "policy p\n  max_life: 90d\n  min_length: 12\n",
        "after": "policy p\n  max_life: unlimited\n  min_length: 8\n",
    }
    assert "Minimum number of password character classes: 3" in kdc.ask("getpol", "p")


def test_drift_is_repaired(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="p", **STRICT)
    kdc.ask("modpol", "-maxfailure", "0", "p")
    assert four_runs(kerberos_policy, name="p", **STRICT)["changed"]
    assert "failures before lockout: 5" in kdc.ask("getpol", "p")


def test_all_keysalts_again(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="p", **STRICT)
    assert four_runs(kerberos_policy, name="p", allowed_keysalts=[])["changed"]
    assert "Allowed key" not in kdc.ask("getpol", "p")


def test_a_policy_is_removed_once(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="p")
    done = four_runs(kerberos_policy, name="p", state="absent")
    assert done["changed_policies"] == [{"name": "p", "actions": ["remove"]}]
    assert "does not exist" in kdc.ask("getpol", "p")


def test_a_list_with_defaults_from_the_task(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="legacy")
    done = four_runs(
        kerberos_policy,
        min_length=10,
        policies=[
            {"name": "people"},
            {"name": "services", "min_length": 32},
            {"name": 'odd "one" $(id)'},
            {"name": "legacy", "state": "absent"},
        ],
    )
    assert [one["actions"] for one in done["changed_policies"]] == [["create"]] * 3 + [["remove"]]
    assert "length: 10" in kdc.ask("getpol", "people")
    assert "length: 32" in kdc.ask("getpol", "services")
    assert 'odd "one" $(id)' in kdc.ask("listpols")


def test_check_mode_creates_nothing(kdc, run_module):
    assert run_module(kerberos_policy, check=True, name="p")["changed"]
    assert "does not exist" in kdc.ask("getpol", "p")


def test_bad_items_do_not_hide_the_good(kdc, run_module):
    done = run_module(
        kerberos_policy,
        policies=[
            {"name": "classes", "min_classes": 9},
            {"name": "good", "min_length": 9},
            {"name": "life", "max_life": "soon"},
            {"name": "new\nline"},
            {"name": "zoé"},
            {"name": "keysalt", "allowed_keysalts": ["a,b"]},
            {"name": "unknown", "allowed_keysalts": ["rot13:normal"]},
            {},
        ],
    )
    assert done["failed"]
    assert done["changed_policies"] == [{"name": "good", "actions": ["create"]}]
    assert "length: 9" in kdc.ask("getpol", "good")
    reasons = {error["name"]: error["msg"] for error in done["errors"]}
    assert reasons.pop("classes") == "min_classes must be from 1 to 5, not 9"
    assert "'soon' is not a duration" in reasons.pop("life")
    assert "control character '\\n'" in reasons.pop("new\nline")
    assert "Illegal policy name" in reasons.pop("zoé")
    assert "'a,b' is not a key and salt type" in reasons.pop("keysalt")
    assert "'rot13:normal' is not a key and salt type" in reasons.pop("unknown")
    assert "name is empty" in reasons.pop("")
    assert not reasons
    assert "policy 'classes': min_classes must be from 1 to 5, not 9" in done["msg"]


def test_a_policy_listed_twice_is_an_error(kdc, run_module):
    done = run_module(
        kerberos_policy,
        policies=[{"name": "p", "min_length": 8}, {"name": "p", "state": "absent"}],
    )
    assert done["errors"] == [{"name": "p", "msg": "it is listed more than once"}]
    assert done["changed_policies"] == [{"name": "p", "actions": ["create"]}]
    assert "length: 8" in kdc.ask("getpol", "p")


def test_what_was_done_before_kadmin_broke_off_is_told(kdc, run_module, breaking):
    policies = [{"name": name} for name in ("a", "b", "c", "d")]
    # What there is of four, and two that are made.
    done = run_module(kerberos_policy, policies=policies, **breaking(4 + 2))
    assert "ended before its time" in done["msg"]
    assert done["changed"]
    assert [one["name"] for one in done["changed_policies"]] == ["a", "b"]
    assert kdc.ask("listpols").split() == ["a", "b"]


def test_a_missing_database_is_one_clear_error(kdc, run_module):
    for file in kdc.root.glob("principal*"):
        file.unlink()
    done = run_module(kerberos_policy, name="p")
    assert done["failed"]
    assert "No such file" in done["msg"]


@pytest.mark.parametrize(
    "parameters", [{}, {"name": "a", "policies": []}, {"name": "a", "admin_keytab": "/x"}]
)
def test_options_that_do_not_fit(run_module, parameters):
    assert run_module(kerberos_policy, **parameters)["failed"]
