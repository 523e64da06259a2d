"""ldap_directory and ldap_entries on the real slapd: check, run, run again, check again."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KEYS = [
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFU3HpeZvLpuXJ4hkxz5pT0mQdPGOVR8Nc6BFbl9S5fK {i}"
    for i in range(2)
]
ANNA = {
    "name": "fr_anna",
    "given_name": "Änna",
    "surname": 'O\'Neill \\ Söhne, "Ltd"',
    "mail": "anna@example.org",
    "groups": ["fr_staff"],
    "ssh_keys": KEYS,
}
BERT = {"name": "fr_bert", "uid": 30000, "groups": ["fr_staff"], "shell": "/bin/sh"}
STAFF = {"name": "fr_staff", "gid": 30001, "description": "Everybody"}
CREW = {"name": "fr_crew", "members": ["fr_anna"]}
GONE = {"state": "absent"}

# Each step starts from what the one before it left: (name, people, groups).
STEPS = [
    ("add", [ANNA, BERT], [STAFF]),
    ("add a group with a member", [], [CREW]),
    ("change attributes", [{**ANNA, "mail": "a@example.org", "surname": "Neu"}], []),
    ("change keys", [{**ANNA, "ssh_keys": KEYS[1:]}], []),
    ("disable", [{**BERT, "state": "disabled"}], []),
    ("enable", [BERT], []),
    ("leave a group", [{**BERT, "groups": []}], []),
    ("join two groups", [{**BERT, "groups": ["fr_staff", "fr_crew"]}], []),
    ("become a service account", [{**BERT, "type": "service"}], []),
    ("change a description", [], [{**STAFF, "description": "All"}]),
    ("remove a person", [{"name": "fr_bert", **GONE}], []),
    ("remove a group", [{**ANNA, "groups": []}], [{"name": "fr_staff", **GONE}]),
    ("remove all", [{"name": "fr_anna", **GONE}], [{"name": "fr_crew", **GONE}]),
]


def play(cluster, tasks):
    """Run tasks on the LDAP host; returns the result of each by its name."""
    base = "dc=" + cluster.domain.replace(".", ",dc=")
    defaults = {"people_base": f"ou=people,{base}", "groups_base": f"ou=groups,{base}"}
    plays = [
        {
            "hosts": "ldap[0]",
            "gather_facts": False,
            "module_defaults": {"deitos.cluster.ldap_directory": defaults},
            "tasks": tasks,
        }
    ]
    done = subprocess.run(
        ["ansible-playbook", "-i", str(ROOT / "inventories/lab"), "/dev/stdin"],
        input=json.dumps(plays),
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        },
        capture_output=True,
        text=True,
    )
    assert done.stdout, done.stderr
    shown, _end = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    return {
        task["task"]["name"]: next(iter(task["hosts"].values()))
        for one in shown["plays"]
        for task in one["tasks"]
    }


def runs_of(name, **arguments):
    """The four tasks of one step."""
    return [
        {
            "name": f"{name}: {run}",
            "deitos.cluster.ldap_directory": arguments,
            "check_mode": run.startswith("check"),
            "diff": True,
            "ignore_errors": True,
        }
        for run in ("check", "run", "again", "check again")
    ]


def verify(results, step, changed=True):
    """What must hold of the four results of a step; returns that of the run."""
    foretold, done, again, checked = (
        results[f"{step}: {run}"] for run in ("check", "run", "again", "check again")
    )
    assert not done.get("failed"), done
    assert done["changed"] == changed, done
    for key in ("changed", "added", "modified", "deleted", "diff", "people", "groups"):
        assert foretold[key] == done[key], key
    assert not again["changed"], again
    assert not checked["changed"], checked
    return done


@pytest.fixture(scope="module")
def four_runs(cluster):
    """The results of all steps: {(step, run): result}."""
    clean = {
        "people": [{"name": name, **GONE} for name in ("fr_anna", "fr_bert")],
        "groups": [{"name": name, **GONE} for name in ("fr_staff", "fr_crew")],
    }
    tasks = [{"name": "clean", "deitos.cluster.ldap_directory": clean}]
    for name, people, groups in STEPS:
        tasks += runs_of(name, people=people, groups=groups)
    return play(cluster, tasks)


@pytest.mark.parametrize("step", [step[0] for step in STEPS])
def test_every_state_is_foretold_reached_and_kept(four_runs, step):
    verify(four_runs, step)


# In branches of their own, since what is not listed is removed: (name, people, groups, options).
ALONE = {"exclusive": True}
EXCLUSIVE = [
    ("all are new", [ANNA, BERT], [STAFF, CREW], ALONE),
    ("others stay unless all is listed", [BERT], [], {}),
    ("who is left out goes", [ANNA], [STAFF, CREW], ALONE),
    ("what is left out goes", [ANNA], [STAFF], ALONE),
    ("nothing listed, nothing left", [], [], ALONE),
]


@pytest.fixture(scope="module")
def exclusive(cluster):
    """The results of all of them, and of making and removing the branches."""
    base = "dc=" + cluster.domain.replace(".", ",dc=")
    bases = {kind: f"ou=fr_{kind},{base}" for kind in ("people", "groups")}
    branches = [
        {"dn": dn, "attributes": {"objectClass": ["organizationalUnit"], "ou": f"fr_{kind}"}}
        for kind, dn in bases.items()
    ]
    tasks = [{"name": "branches", "deitos.cluster.ldap_entries": {"entries": branches}}]
    where = {f"{kind}_base": dn for kind, dn in bases.items()}
    for name, people, groups, options in EXCLUSIVE:
        tasks += runs_of(name, people=people, groups=groups, **options, **where)
    gone = [{"dn": one["dn"], **GONE} for one in branches]
    tasks.append({"name": "no branches", "deitos.cluster.ldap_entries": {"entries": gone}})
    return play(cluster, tasks)


@pytest.mark.parametrize("step", [step[0] for step in EXCLUSIVE])
def test_only_who_claims_all_removes_others(exclusive, step):
    done = verify(exclusive, step, changed=not step.startswith("others stay"))
    # A person's private group goes along.
    deleted = {dn.split(",")[0] for dn in done["deleted"]}
    assert deleted == {
        "who is left out goes": {"uid=fr_bert", "cn=fr_bert"},
        "what is left out goes": {"cn=fr_crew"},
        "nothing listed, nothing left": {"uid=fr_anna", "cn=fr_anna", "cn=fr_staff"},
    }.get(step, set())


def test_branches_are_made_and_removed(exclusive):
    for name in ("branches", "no branches"):
        assert exclusive[name]["changed"], exclusive[name]


def test_what_is_left_over_is_nothing(cluster, four_runs):
    assert four_runs["remove all: run"]["deleted"]
    found = cluster.first("ldap").check_output("slapcat -n 1")
    assert "fr_" not in found


def test_numbers_stay_with_their_names(four_runs):
    first = four_runs["add: run"]["people"]
    assert first["fr_bert"] == {"uid": 30000, "gid": 30000}
    assert four_runs["change keys: run"]["people"]["fr_anna"] == first["fr_anna"]


def test_one_bad_item_does_not_hide_the_others(cluster):
    shown = play(
        cluster,
        [
            {
                "name": "mixed",
                "deitos.cluster.ldap_directory": {
                    "people": [
                        {"name": "fr_good"},
                        {"name": "fr_bad", "uid": 7, "groups": ["nowhere"]},
                        {"name": "fr_mail", "mail": "ä@example.org"},
                    ]
                },
                "ignore_errors": True,
            },
            {
                "name": "clean",
                "deitos.cluster.ldap_directory": {
                    "people": [{"name": n, **GONE} for n in ("fr_good", "fr_bad", "fr_mail")]
                },
            },
        ],
    )
    mixed = shown["mixed"]
    assert mixed["failed"]
    errors = {error["item"]: error["msg"] for error in mixed["errors"]}
    assert "nowhere" in errors["person fr_bad"]
    assert "Invalid syntax" in errors["person fr_mail"]
    assert any("uid=fr_good," in dn for dn in mixed["added"])
    assert not shown["clean"].get("failed")


def test_a_ticket_over_tls_may_read_but_not_write(cluster):
    host, realm = cluster.fqdn("ldap"), cluster.realm
    remote = {
        "uri": f"ldap://{host}",
        "bind": "gssapi",
        "keytab": "/etc/krb5.keytab",
        "principal": f"host/{host}@{realm}",
        "ca_path": "/etc/deitos/pki/ca.crt",
    }
    person = {"people": [{"name": "fr_remote"}]}
    shown = play(
        cluster,
        [
            {
                "name": name,
                "deitos.cluster.ldap_directory": {**remote, **person, **options},
                "check_mode": name == "check",
                "ignore_errors": True,
            }
            for name, options in (
                ("check", {"start_tls": True}),
                ("write", {"start_tls": True}),
                ("plain", {}),
                ("no key", {"start_tls": True, "principal": f"nobody@{realm}"}),
                ("wrong name", {"start_tls": True, "uri": "ldap://127.0.0.1"}),
            )
        ],
    )
    assert shown["check"]["changed"]
    assert "nsufficient access" in shown["write"]["msg"]
    assert "set start_tls" in shown["plain"]["msg"]
    assert "no ticket from the keytab" in shown["no key"]["msg"]
    assert "cannot use ldap://127.0.0.1" in shown["wrong name"]["msg"]
    left = cluster.first("ldap").run("ls -d /tmp/deitos-ldap-*")
    assert left.rc != 0, left.stdout


def test_drift_of_the_configuration_is_repaired(cluster):
    machine = cluster.first("ldap")
    wanted = {"dn": "cn=config", "attributes": {"olcIdleTimeout": 900}}
    task = {"deitos.cluster.ldap_entries": {"entries": [wanted]}, "diff": True}
    ldif = "dn: cn=config\nchangetype: modify\nreplace: olcIdleTimeout\nolcIdleTimeout: 7\n"
    machine.check_output(f"printf '{ldif}' | ldapmodify -Q -Y EXTERNAL -H ldapi:///")
    runs = {"check": True, "run": False, "again": False, "check again": True}
    shown = play(
        cluster, [{"name": name, "check_mode": check, **task} for name, check in runs.items()]
    )
    assert [shown[name]["changed"] for name in runs] == [True, True, False, False]
    assert shown["check"]["diff"][0]["before"] == "olcIdleTimeout: 7\n"
    assert shown["run"]["diff"] == shown["check"]["diff"]
