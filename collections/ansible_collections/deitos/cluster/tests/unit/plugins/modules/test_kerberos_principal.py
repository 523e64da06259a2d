"""kerberos_principal, against a real KDC."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.modules import kerberos_policy, kerberos_principal


def attributes(kdc, name):
    return re.search(r"Attributes:(.*)", kdc.ask("getprinc", name)).group(1).split()


def versions(kdc, name):
    return set(map(int, re.findall(r"\nKey: vno (\d+)", kdc.ask("getprinc", name))))


def reasons(done):
    assert done["failed"], done
    return {error["name"]: error["msg"] for error in done["errors"]}


def actions(done):
    return {one["name"].partition("@")[0]: one["actions"] for one in done["changed_principals"]}


# --- create, change, remove ---


def test_a_random_key(kdc, four_runs):
    done = four_runs(kerberos_principal, name="nn/master1.example")
    assert done["changed_principals"] == [
        {"name": "nn/master1.example@UNIT.TEST", "actions": ["create"]}
    ]
    told = kdc.ask("getprinc", "nn/master1.example")
    assert re.findall(r"Key: vno 1, (\S+)", told) == [
        "aes256-cts-hmac-sha384-192",
        "aes256-cts-hmac-sha1-96",
        "aes128-cts-hmac-sha1-96",
    ]


def test_all_options_at_once(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="people")
    four_runs(
        kerberos_principal,
        name="alice",
        policy="people",
        max_life="10h",
        max_renewable_life="3d",
        expires="2090-01-02T03:04:05Z",
        password_expires="2031-12-31",
        flags={"requires_preauth": True, "allow_forwardable": False, "ok_as_delegate": "yes"},
    )
    told = kdc.ask("getprinc", "alice")
    for line in (
        "Maximum ticket life: 0 days 10:00:00",
        "Maximum renewable life: 3 days 00:00:00",
        "Policy: people",
    ):
        assert line in told
    assert re.search(r"\nExpiration date: .*Jan 02 03:04:05 \S+ 2090", told)
    assert re.search(r"Password expiration date: .*Dec 31 00:00:00 \S+ 2031", told)
    assert set(attributes(kdc, "alice")) == {
        "REQUIRES_PRE_AUTH",
        "DISALLOW_FORWARDABLE",
        "OK_AS_DELEGATE",
    }


def test_only_what_differs_is_changed(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="people")
    run_module(kerberos_principal, name="a", policy="people", max_life="10h", expires="2031-01-01")
    done = four_runs(
        kerberos_principal, name="a", policy="", max_life="10h", flags={"allow_svr": False}
    )
    assert done["diff"] == {
        "before": "principal a@UNIT.TEST\n  flag allow_svr: True\n  policy: people\n",
        "after": "principal a@UNIT.TEST\n  flag allow_svr: False\n  policy: none\n",
    }
    assert "2031" in kdc.ask("getprinc", "a")


def test_drift_is_repaired_and_keys_stay(kdc, run_module, four_runs):
    wanted = {"name": "a", "flags": {"requires_preauth": True}, "max_life": "5h"}
    run_module(kerberos_principal, **wanted)
    kdc.ask("modprinc", "-requires_preauth", "-allow_tix", "-maxlife", "1h", "a")
    assert actions(four_runs(kerberos_principal, **wanted)) == {"a": ["enable"]}
    assert attributes(kdc, "a") == ["REQUIRES_PRE_AUTH"]
    assert versions(kdc, "a") == {1}


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("expires", "never", r"\nExpiration date: \[never\]"),
        ("password_expires", "never", r"Password expiration date: \[never\]"),
        ("max_life", "unlimited", r"ticket life: 0 days 00:00:00"),
        ("max_renewable_life", "unlimited", r"renewable life: 0 days 00:00:00"),
    ],
)
def test_limits_can_be_lifted(kdc, run_module, four_runs, option, value, told):
    first = "2031-01-01" if "expires" in option else "1h"
    run_module(kerberos_principal, name="a", **{option: first})
    assert four_runs(kerberos_principal, name="a", **{option: value})["changed"]
    assert re.search(told, kdc.ask("getprinc", "a"))


@pytest.mark.parametrize("flag", sorted(kerberos_principal.check_flags.__globals__["ATTRIBUTES"]))
@pytest.mark.parametrize("value", [True, False])
def test_every_flag(kdc, run_module, four_runs, flag, value):
    state = "disabled" if flag == "allow_tix" and not value else "present"
    run_module(kerberos_principal, name="a")
    kdc.ask("modprinc", ("-" if value else "+") + flag, "a")
    assert four_runs(kerberos_principal, name="a", state=state, flags={flag: value})["changed"]


def test_a_disabled_principal_gets_no_ticket(kdc, run_module, four_runs):
    kdc.start()
    alice = {"name": "alice", "password": "wonderland"}
    run_module(kerberos_principal, **alice)
    assert kdc.login("alice", "wonderland") == ""
    assert actions(four_runs(kerberos_principal, **alice, state="disabled")) == {
        "alice": ["disable"]
    }
    assert "revoked" in kdc.login("alice", "wonderland")
    assert actions(four_runs(kerberos_principal, **alice)) == {"alice": ["enable"]}
    assert kdc.login("alice", "wonderland") == ""


def test_disabled_from_the_first(kdc, four_runs):
    assert actions(four_runs(kerberos_principal, name="carol", state="disabled")) == {
        "carol": ["create"]
    }
    assert attributes(kdc, "carol") == ["DISALLOW_ALL_TIX"]


def test_a_principal_is_removed_once(kdc, run_module, four_runs):
    run_module(kerberos_principal, name="a")
    assert actions(four_runs(kerberos_principal, name="a", state="absent")) == {"a": ["remove"]}
    assert "does not exist" in kdc.ask("getprinc", "a")


def test_check_mode_creates_nothing(kdc, run_module, tmp_path):
    done = run_module(
        kerberos_principal,
        check=True,
        name="a",
        initial_password=True,
        initial_password_directory=str(tmp_path / "first"),
    )
    assert done["changed"]
    assert "does not exist" in kdc.ask("getprinc", "a")
    assert not (tmp_path / "first").exists()


def test_a_list_with_defaults_from_the_task(kdc, run_module, four_runs):
    run_module(kerberos_principal, name="old")
    done = four_runs(
        kerberos_principal,
        max_life="10h",
        flags={"requires_preauth": True},
        principals=[
            {"name": "a"},
            {"name": "b", "max_life": "1h", "flags": {}},
            {"name": "c@UNIT.TEST", "state": "disabled"},
            {"name": "old", "state": "absent"},
        ],
    )
    assert [one["name"] for one in done["changed_principals"]] == [
        "a@UNIT.TEST",
        "b@UNIT.TEST",
        "c@UNIT.TEST",
        "old@UNIT.TEST",
    ]
    assert "life: 0 days 10:00:00" in kdc.ask("getprinc", "a")
    assert "life: 0 days 01:00:00" in kdc.ask("getprinc", "b")
    assert attributes(kdc, "b") == []


def test_many_alike(kdc, four_runs):
    names = [f"dn/worker{number}.example" for number in range(300)]
    done = four_runs(kerberos_principal, names=names)
    assert len(done["changed_principals"]) == 300
    assert set(names) < {line.partition("@")[0] for line in kdc.ask("listprincs").splitlines()}


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        'q"u""ote',
        r"back\\slash",
        r"s\/lash",
        r"a\@t",
        "zoé/münchen",
        "-randkey",
        "$(touch pwned)",
        "a;delprinc K/M",
        "!true",
        "ノード/三",
        "x" * 900,
    ],
)
def test_names_of_all_sorts(kdc, four_runs, name):
    before = kdc.ask("listprincs")
    assert len(four_runs(kerberos_principal, name=name)["changed_principals"]) == 1
    assert four_runs(kerberos_principal, name=name, max_life="1h")["changed"]
    assert four_runs(kerberos_principal, name=name, state="absent")["changed"]
    assert kdc.ask("listprincs") == before


def test_bad_items_do_not_hide_the_good(kdc, run_module):
    run_module(kerberos_policy, name="people", min_length=12)
    done = run_module(
        kerberos_principal,
        principals=[
            {"name": "first"},
            {"name": "policy", "policy": "peopel"},
            {"name": "a@b@c"},
            {"name": "new\nline"},
            {"name": "short", "password": "short", "policy": "people"},
            {"name": "flag", "flags": {"requires_preauht": True}},
            {"name": "flagvalue", "flags": {"allow_svr": "maybe"}},
            {"name": "tix", "flags": {"allow_tix": False}},
            {"name": "when", "expires": "tomorrow"},
            {"name": "life", "max_life": "long"},
            {"name": "empty", "password": ""},
            {"name": "newline", "password": "a\nb"},
            {"name": "both", "password": "secret-of-both", "initial_password": True},
            {"name": "age", "password": "secret-of-age", "max_key_age": "1d"},
            {"name": "twice"},
            {"name": "twice@UNIT.TEST"},
            {"name": "x" * 5000},
            {},
            {"name": "last"},
        ],
    )
    told = reasons(done)
    assert list(actions(done)) == ["first", "twice", "last"]
    assert "does not exist" not in kdc.ask("getprinc", "last")
    expected = {
        "policy@UNIT.TEST": "policy 'peopel' does not exist",
        "a@b@c": "bare '@'",
        "new\nline": "control character",
        "short@UNIT.TEST": "Password is too short",
        "flag": "unknown flag 'requires_preauht'; known are: allow_dup_skey",
        "flagvalue": "must be true or false, not 'maybe'",
        "tix": "contradict",
        "when": "is not 'never' nor a time",
        "life": "not a duration",
        "empty": "the password is empty",
        "newline": "the password contains the control character",
        "both": "exclude each other",
        "age": "for random keys",
        "twice@UNIT.TEST": "more than once",
        "": "name is empty",
        "x" * 5000 + "@UNIT.TEST": "longer than",
    }
    for name, reason in expected.items():
        assert reason in told.pop(name), name
    assert not told
    assert "secret-of" not in str(done)


def test_a_policy_made_by_an_earlier_task_is_no_error_in_check_mode(kdc, run_module):
    wanted = {"name": "a", "policy": "people"}
    assert run_module(kerberos_principal, check=True, **wanted)["changed"]
    assert "policy 'people' does not exist" in run_module(kerberos_principal, **wanted)["msg"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "K/M", "state": "absent"},
        {"name": "K/M", "state": "disabled"},
        {"name": "K/M", "rotate": True},
        {"name": "K/M", "password": "x", "update_password": "always"},
        {"name": "krbtgt/UNIT.TEST@UNIT.TEST", "state": "absent"},
        {"name": "krbtgt/UNIT.TEST", "state": "disabled"},
    ],
)
def test_the_realm_itself_is_not_at_stake(kdc, run_module, parameters):
    before = kdc.ask("getprinc", parameters["name"])
    assert reasons(run_module(kerberos_principal, **parameters))
    assert kdc.ask("getprinc", parameters["name"]) == before


def test_several_at_once_and_logins_meanwhile(kdc, tmp_path):
    # The database is one file, which kadmin.local, kadmind and the KDC lock in turn.
    kdc.start()
    kdc.ask("addprinc", "-pw", "wonderland", "+requires_preauth", "alice")
    collections = next(path for path in Path(__file__).parents if path.name == "collections")
    command = [sys.executable, "-m", kerberos_principal.__name__]
    running = []
    for number in range(4):
        names = [f"svc{number}/h{one}" for one in range(400)]
        running.append(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(collections)},
            )
        )
        running[-1].stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {"names": names}}))
        running[-1].stdin.close()
    for _login in range(5):
        assert kdc.login("alice", "wonderland") == ""
        assert "FAILED" in kdc.login("alice", "wrong")
    for process in running:
        with process.stdout:
            done = json.loads(process.stdout.read())
        process.wait()
        assert not done.get("failed"), done["msg"]
        assert len(done["changed_principals"]) == 400
    assert kdc.ask("listprincs", "svc*").count("svc") == 1600


# --- passwords ---


@pytest.mark.parametrize(
    "password", ["plain", 'q"uo""te', "back\\slash", " spaces ", "pä$$(id)`x`", "-randkey", "三"]
)
def test_a_password_as_it_was_given(kdc, run_module, four_runs, password):
    kdc.start()
    four_runs(kerberos_principal, name="a", password=password)
    assert kdc.login("a", password) == ""
    assert "FAILED" in kdc.login("a", password + "x")


def test_a_password_is_set_on_creation_only(kdc, run_module, four_runs):
    kdc.start()
    run_module(kerberos_principal, name="a", password="first-password")
    assert not four_runs(kerberos_principal, name="a", password="other-password")["changed"]
    assert kdc.login("a", "first-password") == ""


def test_a_password_is_changed_when_it_differs(kdc, run_module, four_runs):
    kdc.start()
    wanted = {"name": "a", "update_password": "always"}
    assert four_runs(kerberos_principal, **wanted, password="first")["changed"]
    done = four_runs(kerberos_principal, **wanted, password="second")
    assert actions(done) == {"a": ["password"]}
    assert done["diff"]["after"] == "principal a@UNIT.TEST\n  key version: 2\n"
    assert kdc.login("a", "second") == ""
    assert "FAILED" in kdc.login("a", "first")
    # A comparison is not a login: nothing may count as a failure.
    assert "Failed password attempts: 0" in kdc.ask("getprinc", "a")


def test_a_password_in_place_of_a_random_key(kdc, run_module, four_runs):
    kdc.start()
    run_module(kerberos_principal, name="a")
    four_runs(kerberos_principal, name="a", password="a-password", update_password="always")
    assert kdc.login("a", "a-password") == ""


def test_a_password_that_policy_refuses_changes_nothing(kdc, run_module):
    run_module(kerberos_policy, name="people", min_length=12)
    run_module(kerberos_principal, name="a", policy="people")
    done = run_module(kerberos_principal, name="a", password="short", update_password="always")
    assert "too short" in reasons(done)["a@UNIT.TEST"]
    assert not done["changed"]
    assert versions(kdc, "a") == {1}


def test_a_refused_password_hides_nothing_that_was_done(kdc, run_module):
    run_module(kerberos_policy, name="people", min_length=12)
    run_module(kerberos_principal, name="a", policy="people", max_life="1h")
    done = run_module(
        kerberos_principal,
        name="a",
        max_life="2h",
        password="short",
        update_password="always",
        password_expires="2031-12-31",
    )
    assert "too short" in reasons(done)["a@UNIT.TEST"]
    assert actions(done) == {"a": ["modify"]}
    assert done["diff"] == {
        "before": "principal a@UNIT.TEST\n  max_life: 1h\n",
        "after": "principal a@UNIT.TEST\n  max_life: 2h\n",
    }
    # What belongs to the new password does not hit the old one.
    assert "Password expiration date: [never]" in kdc.ask("getprinc", "a")


def test_a_new_password_is_judged_by_the_new_policy(kdc, run_module, four_runs):
    run_module(kerberos_policy, policies=[{"name": "strict", "min_length": 30}, {"name": "lax"}])
    run_module(kerberos_principal, name="a", policy="strict")
    wanted = {"name": "a", "policy": "lax", "password": "short", "update_password": "always"}
    assert actions(four_runs(kerberos_principal, **wanted)) == {"a": ["modify", "password"]}


def test_a_password_for_a_principal_without_keys(kdc, four_runs):
    kdc.start()
    kdc.ask("addprinc", "-nokey", "a")
    wanted = {"name": "a", "password": "a-password", "update_password": "always"}
    assert actions(four_runs(kerberos_principal, **wanted)) == {"a": ["password"]}
    assert kdc.login("a", "a-password") == ""


@pytest.fixture
def people(tmp_path):
    """The options for people, with a directory of the test's own."""
    return {
        "initial_password": True,
        "initial_password_directory": str(tmp_path / "deitos/first"),
    }


def test_a_first_password_lies_on_the_kdc_alone(kdc, four_runs, people, tmp_path):
    kdc.start()
    done = four_runs(kerberos_principal, name="alice", **people)
    directory, path = tmp_path / "deitos/first", tmp_path / "deitos/first/alice"
    assert done["initial_passwords"] == [{"name": "alice@UNIT.TEST", "path": str(path)}]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    password = path.read_text().strip()
    assert len(password) == 20
    assert password not in str(done)
    assert attributes(kdc, "alice") == ["REQUIRES_PWCHANGE"]
    # It is good for one thing only: to be changed.
    assert "Enter new password" in kdc.login("alice", password)
    assert "FAILED" in kdc.login("alice", password)


def test_a_first_password_can_be_changed_by_its_owner(kdc, run_module, four_runs, people, tmp_path):
    kdc.start()
    run_module(kerberos_principal, name="alice", **people)
    first = (tmp_path / "deitos/first/alice").read_text().strip()
    new = "my own new password"
    kdc.command("kinit", "-c", f"FILE:{tmp_path}/cc", "alice", data=f"{first}\n{new}\n{new}\n")
    assert kdc.login("alice", new) == ""
    # Nothing of that is drift.
    assert not four_runs(kerberos_principal, name="alice", **people)["changed"]
    assert kdc.login("alice", new) == ""


def test_first_passwords_fit_the_policy(kdc, run_module, people, tmp_path):
    run_module(kerberos_policy, name="strict", min_length=40, min_classes=4)
    done = run_module(
        kerberos_principal, names=[f"p{n}" for n in range(30)], policy="strict", **people
    )
    assert not done["failed"], done["msg"]
    passwords = {path.read_text() for path in (tmp_path / "deitos/first").iterdir()}
    assert len(passwords) == 30
    assert {len(password) for password in passwords} == {41}


def test_a_failed_creation_leaves_no_password(kdc, run_module, people, tmp_path):
    run_module(kerberos_policy, name="impossible", min_classes=5)
    done = run_module(kerberos_principal, name="alice", policy="impossible", **people)
    assert "classes" in reasons(done)["alice@UNIT.TEST"]
    assert list((tmp_path / "deitos/first").iterdir()) == []
    assert done["initial_passwords"] == []


def test_the_password_file_goes_with_the_principal(kdc, run_module, four_runs, people, tmp_path):
    run_module(kerberos_principal, names=["alice", "bob/admin", "../x", ".y"], **people)
    files = {path.name for path in (tmp_path / "deitos/first").iterdir()}
    assert files == {"alice", "bob%2Fadmin", "%2E.%2Fx", "%2Ey"}
    four_runs(kerberos_principal, name="alice", state="absent", **people)
    assert not (tmp_path / "deitos/first/alice").exists()


def test_a_principal_too_long_for_a_file_is_removed(kdc, run_module, four_runs, people):
    run_module(kerberos_principal, name="alice", **people)
    run_module(kerberos_principal, name="x" * 300)
    assert four_runs(kerberos_principal, name="x" * 300, state="absent", **people)["changed"]


def test_an_open_directory_gets_no_password(kdc, run_module, people, tmp_path):
    (tmp_path / "deitos/first").mkdir(parents=True, mode=0o755)
    done = run_module(kerberos_principal, name="alice", **people)
    assert "open to others" in reasons(done)["alice@UNIT.TEST"]
    assert "does not exist" in kdc.ask("getprinc", "alice")


def test_a_forgotten_password_is_replaced_on_request(kdc, run_module, people, tmp_path):
    run_module(kerberos_principal, name="alice", password="forgotten")
    done = run_module(kerberos_principal, name="alice", rotate=True, **people)
    assert actions(done) == {"alice": ["password", "modify"]}
    assert (tmp_path / "deitos/first/alice").exists()
    assert attributes(kdc, "alice") == ["REQUIRES_PWCHANGE"]


@pytest.mark.parametrize("policy", ["", "people"])
def test_a_renewed_first_password_must_be_changed_too(kdc, run_module, people, tmp_path, policy):
    kdc.start()
    run_module(kerberos_policy, name="people", max_life="90d")
    alice = {"name": "alice", "policy": policy, **people}
    run_module(kerberos_principal, **alice)
    first = (tmp_path / "deitos/first/alice").read_text().strip()
    done = run_module(kerberos_principal, rotate=True, keep_old_keys=False, **alice)
    second = (tmp_path / "deitos/first/alice").read_text().strip()
    assert first != second
    assert "flag" not in done["diff"]["after"]
    assert attributes(kdc, "alice") == ["REQUIRES_PWCHANGE"]
    assert "Enter new password" in kdc.login("alice", second)


def test_a_first_password_that_is_refused_leaves_the_old_one(kdc, run_module, people, tmp_path):
    kdc.start()
    run_module(kerberos_principal, name="alice", **people)
    first = (tmp_path / "deitos/first/alice").read_text()
    run_module(kerberos_policy, name="impossible", min_classes=5)
    kdc.ask("modprinc", "-policy", "impossible", "alice")
    done = run_module(kerberos_principal, name="alice", rotate=True, **people)
    assert "classes" in reasons(done)["alice@UNIT.TEST"]
    assert not done["changed"] and done["initial_passwords"] == []
    assert [path.name for path in (tmp_path / "deitos/first").iterdir()] == ["alice"]
    assert (tmp_path / "deitos/first/alice").read_text() == first
    assert "Enter new password" in kdc.login("alice", first.strip())


def test_first_passwords_fit_a_policy_that_is_not_named(kdc, run_module, people, tmp_path):
    run_module(
        kerberos_policy,
        policies=[{"name": "default", "min_length": 40}, {"name": "own", "min_length": 50}],
    )
    assert not run_module(kerberos_principal, name="alice", **people)["failed"]
    assert len((tmp_path / "deitos/first/alice").read_text().strip()) == 40
    kdc.ask("modprinc", "-policy", "own", "alice")
    assert not run_module(kerberos_principal, name="alice", rotate=True, **people)["failed"]
    assert len((tmp_path / "deitos/first/alice").read_text().strip()) == 50


def test_a_password_file_that_cannot_be_written_is_one_item_s_fault(kdc, run_module, people):
    name = "x" * 300
    done = run_module(kerberos_principal, names=["alice", name, "bob"], **people)
    assert "File name too long" in reasons(done)[f"{name}@UNIT.TEST"]
    assert list(actions(done)) == ["alice", "bob"]
    assert "does not exist" in kdc.ask("getprinc", name)


def test_a_file_in_the_place_of_the_directory_for_passwords(kdc, run_module, people, tmp_path):
    (tmp_path / "deitos").mkdir()
    (tmp_path / "deitos/first").touch()
    done = run_module(
        kerberos_principal,
        initial_password_directory=people["initial_password_directory"],
        principals=[{"name": "alice", "initial_password": True}, {"name": "svc"}],
    )
    assert "File exists" in reasons(done)["alice@UNIT.TEST"]
    assert actions(done) == {"svc": ["create"]}


# --- kadmin breaks off ---


def test_what_was_done_before_kadmin_broke_off_is_told(kdc, run_module, breaking):
    names = ["a", "b", "c", "d"]
    # The realm, what there is of four, and two that are made.
    done = run_module(kerberos_principal, names=names, **breaking(1 + 4 + 2))
    assert "ended before its time" in done["msg"]
    assert done["changed"]
    assert actions(done) == {"a": ["create"], "b": ["create"]}
    assert "principal b@UNIT.TEST" in done["diff"]["after"]
    assert list(actions(run_module(kerberos_principal, names=names))) == ["c", "d"]


def test_no_first_password_is_lost_when_kadmin_breaks_off(
    kdc, run_module, breaking, people, tmp_path
):
    names = ["a", "b", "c", "d"]
    # One line more, for the default policy.
    done = run_module(kerberos_principal, names=names, **people, **breaking(1 + 4 + 1 + 2))
    assert [one["name"] for one in done["initial_passwords"]] == ["a@UNIT.TEST", "b@UNIT.TEST"]
    first = tmp_path / "deitos/first"
    # Whether the KDC has taken the others' cannot be known.
    assert {path.name for path in first.iterdir()} == {"a", "b", "c~new", "d~new"}
    assert not run_module(kerberos_principal, names=names, **people)["failed"]
    assert {path.name for path in first.iterdir()} == set(names)


# --- keys ---


@pytest.mark.parametrize(
    "secret", [{"rotate": True}, {"password": "other", "update_password": "always"}]
)
def test_what_a_new_key_undoes_is_given_again(kdc, run_module, secret):
    run_module(kerberos_policy, name="people", max_life="90d")
    wanted = {
        "name": "a",
        "policy": "people",
        "password_expires": "2031-12-31",
        "flags": {"needchange": True},
    }
    run_module(kerberos_principal, **wanted)
    before = kdc.ask("getprinc", "a")
    foretold = run_module(kerberos_principal, check=True, **wanted, **secret)
    done = run_module(kerberos_principal, **wanted, **secret)
    assert done["diff"]["after"] == "principal a@UNIT.TEST\n  key version: 2\n"
    assert done["diff"] == foretold["diff"]
    assert attributes(kdc, "a") == ["REQUIRES_PWCHANGE"]
    expiry = re.compile("Password expiration date: .*")
    assert expiry.search(kdc.ask("getprinc", "a")).group() == expiry.search(before).group()
    assert not run_module(kerberos_principal, **wanted)["changed"]


def test_a_new_policy_does_not_undo_when_the_password_expires(kdc, run_module, four_runs):
    run_module(kerberos_policy, name="people", max_life="90d")
    wanted = {"name": "a", "password_expires": "2031-12-31"}
    run_module(kerberos_principal, **wanted)
    done = four_runs(kerberos_principal, **wanted, policy="people")
    assert done["diff"]["after"] == "principal a@UNIT.TEST\n  policy: people\n"
    assert "2031" in kdc.ask("getprinc", "a")


def test_a_flag_that_a_new_password_ends_is_shown(kdc, run_module):
    run_module(kerberos_principal, name="a", flags={"needchange": True})
    done = run_module(kerberos_principal, name="a", rotate=True)
    assert actions(done) == {"a": ["keys"]}
    assert "flag needchange: False" in done["diff"]["after"]
    assert attributes(kdc, "a") == []


def test_keys_are_changed_on_request_and_old_tickets_live(kdc, run_module):
    run_module(kerberos_principal, name="svc")
    foretold = run_module(kerberos_principal, check=True, name="svc", rotate=True)
    assert actions(foretold) == {"svc": ["keys"]}
    assert versions(kdc, "svc") == {1}
    assert actions(run_module(kerberos_principal, name="svc", rotate=True)) == {"svc": ["keys"]}
    assert versions(kdc, "svc") == {1, 2}
    run_module(kerberos_principal, name="svc", rotate=True, keep_old_keys=False)
    assert versions(kdc, "svc") == {3}


def test_old_keys_are_purged_once(kdc, run_module, four_runs):
    run_module(kerberos_principal, name="svc")
    run_module(kerberos_principal, name="svc", rotate=True)
    done = four_runs(kerberos_principal, name="svc", purge_old_keys=True)
    assert actions(done) == {"svc": ["purge"]}
    assert versions(kdc, "svc") == {2}


def test_keys_are_changed_when_too_old(kdc, run_module, four_runs, monkeypatch):
    run_module(kerberos_principal, name="svc")
    wanted = {"name": "svc", "max_key_age": "30d"}
    assert not four_runs(kerberos_principal, **wanted)["changed"]
    now = kerberos_principal.time.time()
    monkeypatch.setattr(kerberos_principal.time, "time", lambda: now + 31 * 86400)
    assert actions(run_module(kerberos_principal, **wanted)) == {"svc": ["keys"]}
    assert versions(kdc, "svc") == {1, 2}


def test_a_principal_without_keys_gets_some(kdc, four_runs):
    kdc.ask("addprinc", "-nokey", "svc")
    assert actions(four_runs(kerberos_principal, name="svc")) == {"svc": ["keys"]}
    assert versions(kdc, "svc")


def test_a_locked_person_is_unlocked_once(kdc, run_module, four_runs):
    kdc.start()
    run_module(kerberos_policy, name="people", max_failures=2)
    alice = {
        "name": "alice",
        "password": "wonderland",
        "policy": "people",
        "flags": {"requires_preauth": True},
    }
    run_module(kerberos_principal, **alice)
    for _try in range(3):
        kdc.login("alice", "wrong")
    assert "revoked" in kdc.login("alice", "wonderland")
    assert not four_runs(kerberos_principal, **alice)["changed"]
    done = four_runs(kerberos_principal, **alice, unlock=True)
    assert actions(done) == {"alice": ["unlock"]}
    assert kdc.login("alice", "wonderland") == ""


# --- remote ---


def test_over_the_network_with_a_keytab(kdc, remote, four_runs, tmp_path, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/callers")
    assert four_runs(kerberos_policy, name="people", min_length=9, **remote)["changed"]
    assert four_runs(kerberos_principal, name="a b", policy="people", **remote)["changed"]
    four_runs(kerberos_principal, name="bob", password='p"w d', update_password="always", **remote)
    assert kdc.login("bob", 'p"w d') == ""
    assert four_runs(kerberos_principal, name="a b", state="absent", **remote)["changed"]
    assert not (tmp_path / "callers").exists()


def test_over_the_network_with_a_credentials_cache(remote_by_cache, four_runs):
    assert four_runs(kerberos_principal, name="svc", **remote_by_cache)["changed"]


def test_an_administrator_without_rights_is_told_so(kdc, remote, run_module):
    kdc.grant(f"other@{kdc.realm} *")
    done = run_module(kerberos_principal, name="svc", realm=kdc.realm, **remote)
    assert "privilege" in done["msg"]


def test_an_administrator_of_some_principals_alone(kdc, remote, run_module):
    kdc.grant(f"admin@{kdc.realm} *e host/*@{kdc.realm}")
    done = run_module(kerberos_principal, names=["host/a", "alice"], **remote)
    assert actions(done) == {"host/a": ["create"]}
    assert "privilege" in reasons(done)["alice@UNIT.TEST"]


def test_a_server_that_is_not_there(kdc, remote, run_module):
    kdc.stop()
    done = run_module(kerberos_principal, name="svc", **remote)
    assert done["failed"]
    assert "kadmin ended before its time" in done["msg"]


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"name": "a", "names": ["b"]},
        {"names": ["a"], "principals": []},
        {"name": "a", "admin_server": "k"},
        {"name": "a", "admin_server": "k", "admin_keytab": "/x"},
        {"name": "a", "state": "locked"},
    ],
)
def test_options_that_do_not_fit(run_module, parameters):
    assert run_module(kerberos_principal, **parameters)["failed"]
