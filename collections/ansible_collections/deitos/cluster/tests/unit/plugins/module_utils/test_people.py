"""What ldap_directory decides: a small directory in memory stands for the server."""

from __future__ import annotations

import random

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import people
from ansible_collections.deitos.cluster.plugins.module_utils.ldap_session import (
    Change,
    modifications,
)

PEOPLE = "ou=people,dc=example,dc=org"
GROUPS = "ou=groups,dc=example,dc=org"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFU3HpeZvLpuXJ4hkxz5pT0mQdPGOVR8Nc6BFbl9S5fK"


class Directory:
    """Entries by DN, changed by carrying out plans."""

    def __init__(self):
        self.entries = {}

    def below(self, base):
        return [
            (dn, {name: list(values) for name, values in entry.items()})
            for dn, entry in self.entries.items()
            if dn.endswith("," + base)
        ]

    def plan(self, wanted=(), groups=(), **options):
        settings = {"people_base": PEOPLE, "groups_base": GROUPS, "id_min": 20000}
        return people.make_plan(
            [dict(item) for item in wanted],
            [dict(item) for item in groups],
            self.below(PEOPLE),
            self.below(GROUPS),
            people.Options(**{**settings, "id_max": 59999, **options}),
        )

    def apply(self, *args, **options):
        plan = self.plan(*args, **options)
        for change in plan.changes:
            # As a server would refuse it.
            assert (change.dn in self.entries) == bool(change.before)
            for member in change.after.get("member", []):
                if member not in change.before.get("member", []):
                    assert member in self.entries
            if change.after:
                self.entries[change.dn] = {n: v for n, v in change.after.items() if v}
            else:
                del self.entries[change.dn]
        return plan

    def person(self, name):
        return self.entries[f"uid={name},{PEOPLE}"]

    def group(self, name):
        return self.entries[f"cn={name},{GROUPS}"]

    def members(self, name):
        return [dn.split(",")[0][4:] for dn in self.group(name).get("member", [])]


@pytest.fixture
def directory():
    return Directory()


def messages(plan):
    return {error["item"]: error["msg"] for error in plan.errors}


def test_a_new_person_has_a_private_group_of_the_same_number(directory):
    plan = directory.apply([{"name": "alice", "given_name": "Alice", "surname": "Liddell"}])
    number = directory.person("alice")["uidNumber"][0]
    assert directory.person("alice") == {
        "objectClass": people.PERSON_CLASSES,
        "uid": ["alice"],
        "cn": ["Alice Liddell"],
        "sn": ["Liddell"],
        "givenName": ["Alice"],
        "employeeType": ["person"],
        "uidNumber": [number],
        "gidNumber": [number],
        "homeDirectory": ["/home/alice"],
        "loginShell": ["/bin/bash"],
    }
    assert directory.group("alice")["gidNumber"] == [number]
    assert plan.people == {"alice": {"uid": int(number), "gid": int(number)}}
    assert 20000 <= int(number) <= 59999


def test_again_changes_nothing(directory):
    wanted = [
        {"name": "alice", "groups": ["staff"], "ssh_keys": [KEY, KEY + " two"], "mail": "a@b.org"},
        {"name": "bob", "state": "disabled", "groups": ["staff", "admins"]},
    ]
    groups = [{"name": "staff", "description": "All"}, {"name": "admins", "members": ["alice"]}]
    directory.apply(wanted, groups)
    assert directory.plan(wanted, groups).changes == []
    assert directory.plan(wanted[::-1], groups[::-1]).changes == []
    assert directory.members("admins") == ["bob", "alice"]


def test_numbers_follow_from_names_not_from_the_order():
    names = [f"user{i}" for i in range(300)]
    results = []
    for seed in (1, 2):
        directory = Directory()
        shuffled = names[:]
        random.Random(seed).shuffle(shuffled)
        # A narrow range, so that many names want the same number.
        plan = directory.apply([{"name": n} for n in shuffled], id_min=100, id_max=450)
        results.append(plan.people)
        assert len({ids["uid"] for ids in plan.people.values()}) == 300
    assert results[0] == results[1]


def test_a_number_is_kept_and_not_given_to_another(directory):
    first = directory.apply([{"name": "alice"}], id_min=100, id_max=101).people["alice"]["uid"]
    plan = directory.apply([{"name": "bob"}, {"name": "alice"}], id_min=100, id_max=101)
    assert plan.people["alice"]["uid"] == first
    assert plan.people["bob"]["uid"] == 201 - first
    plan = directory.apply([{"name": "carol"}], id_min=100, id_max=101)
    assert "no number between 100 and 101 is free" in messages(plan)["person carol"]


def test_people_and_groups_share_one_number_space(directory):
    plan = directory.apply(
        [{"name": "alice", "uid": 20001}, {"name": "bob", "uid": 20002}],
        [{"name": "staff", "gid": 20001}],
    )
    assert "number 20001 belongs to another item of the list" in messages(plan)["group staff"]
    assert sorted(plan.people) == ["alice", "bob"]


def test_the_number_of_an_entry_is_never_changed(directory):
    directory.apply([{"name": "alice", "uid": 20001}], [{"name": "staff", "gid": 21000}])
    plan = directory.apply([{"name": "alice", "uid": 20002}], [{"name": "staff", "gid": 21001}])
    assert plan.changes == []
    assert "has number 20001 in the directory, not 20002" in messages(plan)["person alice"]
    assert "has number 21000 in the directory, not 21001" in messages(plan)["group staff"]


def test_a_number_of_somebody_else_is_refused(directory):
    directory.apply([{"name": "alice", "uid": 20001}])
    plan = directory.plan([{"name": "bob", "uid": 20001}, {"name": "carol"}])
    assert f"number 20001 belongs to uid=alice,{PEOPLE}" in messages(plan)["person bob"]
    assert [c.item for c in plan.changes] == ["person carol", "private group carol"]


def test_disabling_and_enabling(directory):
    member = {"name": "alice", "groups": ["staff"]}
    groups = [{"name": "staff"}]
    directory.apply([member], groups)
    assert "shadowExpire" not in directory.person("alice")
    plan = directory.apply([{**member, "state": "disabled"}], groups)
    assert [change.differing() for change in plan.changes] == [["shadowExpire"]]
    assert directory.person("alice")["shadowExpire"] == ["1"]
    assert directory.members("staff") == ["alice"]
    directory.apply([member], groups)
    assert "shadowExpire" not in directory.person("alice")


def test_absent_removes_person_private_group_and_memberships(directory):
    directory.apply(
        [{"name": "alice", "groups": ["staff"]}, {"name": "bob", "groups": ["staff"]}],
        [{"name": "staff"}],
    )
    plan = directory.apply([{"name": "alice", "state": "absent"}])
    assert sorted(directory.entries) == sorted(
        [f"uid=bob,{PEOPLE}", f"cn=bob,{GROUPS}", f"cn=staff,{GROUPS}"]
    )
    assert directory.members("staff") == ["bob"]
    assert [change.item for change in plan.changes][-1] == "person alice"
    assert directory.plan([{"name": "alice", "state": "absent"}]).changes == []


def test_what_is_left_out_of_the_list_is_removed_from_the_entry(directory):
    directory.apply(
        [{"name": "alice", "mail": "a@example.org", "ssh_keys": [KEY], "groups": ["staff"]}],
        [{"name": "staff", "description": "All"}],
    )
    directory.apply([{"name": "alice"}], [{"name": "staff"}])
    assert not {"mail", "sshPublicKey"} & set(directory.person("alice"))
    assert "description" not in directory.group("staff")
    assert directory.members("staff") == []


def test_other_attributes_and_classes_stay(directory):
    directory.apply([{"name": "alice"}])
    directory.person("alice")["telephoneNumber"] = ["+1 555"]
    directory.person("alice")["objectClass"] = ["top", "INETORGPERSON", "posixAccount"]
    plan = directory.apply([{"name": "alice"}])
    assert directory.person("alice")["telephoneNumber"] == ["+1 555"]
    assert directory.person("alice")["objectClass"] == [
        "top",
        "INETORGPERSON",
        "posixAccount",
        "shadowAccount",
        "ldapPublicKey",
    ]
    assert len(plan.changes) == 1


def test_unlisted_entries_and_members_stay(directory):
    directory.apply([{"name": "alice", "groups": ["staff"]}], [{"name": "staff"}])
    directory.apply([{"name": "bob", "groups": ["staff"]}], [{"name": "staff"}])
    assert directory.members("staff") == ["alice", "bob"]
    # Another spelling of a DN is the same member.
    directory.group("staff")["member"] = [f"UID=alice, {PEOPLE}", f"uid=bob,{PEOPLE}"]
    again = directory.plan([{"name": "alice", "groups": ["staff"]}], [{"name": "staff"}])
    assert again.changes == []


def test_exclusive_removes_what_is_not_listed(directory):
    wanted = [{"name": "alice", "groups": ["staff"]}]
    directory.apply([*wanted, {"name": "bob", "groups": ["staff", "old"]}], [{"name": "staff"}])
    directory.apply([*wanted, {"name": "bob", "groups": ["old"]}], [{"name": "old"}])
    directory.group("staff")["member"].append(f"uid=ghost,{PEOPLE}")
    directory.apply(wanted, [{"name": "staff"}], exclusive=True)
    assert sorted(directory.entries) == sorted(
        [f"uid=alice,{PEOPLE}", f"cn=alice,{GROUPS}", f"cn=staff,{GROUPS}"]
    )
    assert directory.members("staff") == ["alice"]


def test_exclusive_spares_a_listed_item_with_a_fault(directory):
    directory.apply([{"name": "alice", "uid": 20001}], [{"name": "staff", "gid": 21000}])
    plan = directory.plan(
        [{"name": "alice", "uid": 7}], [{"name": "staff", "gid": 8}], exclusive=True
    )
    assert sorted(messages(plan)) == ["group staff", "person alice"]
    assert plan.changes == []


def test_a_run_cut_off_anywhere_is_finished_by_the_next(directory):
    wanted = [{"name": "alice", "groups": ["staff"]}, {"name": "bob", "groups": ["staff"]}]
    groups = [{"name": "staff"}]
    steps = len(directory.plan(wanted, groups).changes)
    complete = Directory()
    complete.apply(wanted, groups)
    for step in range(steps):
        partial = Directory()
        for change in partial.plan(wanted, groups).changes[:step]:
            partial.entries[change.dn] = change.after
        plan = partial.apply(wanted, groups)
        assert plan.errors == []
        assert partial.entries == complete.entries


@pytest.mark.parametrize(
    ("wanted", "groups", "item", "words"),
    [
        ([{"name": "Alice"}], [], "person Alice", "not a POSIX name"),
        ([{"name": "a,ou=x"}], [], "person a,ou=x", "not a POSIX name"),
        ([{"name": "x" * 33}], [], "person " + "x" * 33, "not a POSIX name"),
        ([{"name": "a"}, {"name": "a"}], [], "person a", "listed twice"),
        ([{"name": "a", "shell": "bash"}], [], "person a", "absolute path"),
        ([{"name": "a", "ssh_keys": ["hello"]}], [], "person a", "OpenSSH public key"),
        ([{"name": "a", "ssh_keys": [KEY + "\nx"]}], [], "person a", "OpenSSH public key"),
        ([{"name": "a", "ssh_keys": ['command="x" ' + KEY]}], [], "person a", "without options"),
        ([{"name": "a", "groups": ["nope"]}], [], "person a", "neither listed nor"),
        ([{"name": "a"}, {"name": "b", "groups": ["a"]}], [], "person b", "private group"),
        ([{"name": "a"}], [{"name": "a"}], "group a", "another name"),
        ([], [{"name": "g", "members": ["ghost"]}], "group g", "is no person"),
        (
            [{"name": "a", "groups": ["g"]}],
            [{"name": "g", "state": "absent"}],
            "person a",
            "which the list removes",
        ),
    ],
)
def test_a_fault_names_its_item_and_hides_no_other(directory, wanted, groups, item, words):
    plan = directory.apply([*wanted, {"name": "sound"}], groups)
    assert words in messages(plan)[item]
    assert "sound" in plan.people


def test_a_foreign_group_of_a_persons_name_is_not_taken_over(directory):
    directory.apply([{"name": "alice", "uid": 20001}])
    directory.group("alice")["gidNumber"] = ["30000"]
    plan = directory.plan([{"name": "alice"}])
    assert "rename or remove that group" in messages(plan)["person alice"]
    assert plan.changes == []


def test_a_large_group_sends_only_what_differs():
    before = {"member": [f"uid=u{i}" for i in range(1000)], "description": ["x"]}
    after = {"member": [*before["member"][1:], "uid=new"], "description": []}
    assert modifications(Change("group g", "cn=g", before, after)) == [
        (1, "member", [b"uid=u0"]),
        (0, "member", [b"uid=new"]),
        (2, "description", None),
    ]


def test_the_diff_shows_what_differs_only():
    change = Change("person a", "uid=a", {"uid": ["a"], "mail": ["x"]}, {"uid": ["a"], "sn": ["y"]})
    diff = change.as_diff()
    assert (diff["before"], diff["after"]) == ("mail: x\n", "sn: y\n")
