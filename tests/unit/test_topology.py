"""What the inventory implies: names, keytabs, principals, batches."""

from __future__ import annotations

import pytest
import topology

REALM = "EXAMPLE.ORG"
GROUPS = {
    "all": ["kdc1", "m1", "w1", "w2", "w3"],
    "kdc": ["kdc1"],
    "ldap": ["kdc1"],
    "namenode": ["m1"],
    "resourcemanager": ["m1"],
    "datanode": ["w1", "w2", "w3"],
    "rack_a": ["w2"],
    "rack_b": ["w1", "w3", "m1"],
}


def test_fqdn_leaves_full_names_alone():
    assert topology.fqdn(["w1", "w2.other.net"], "example.org") == [
        "w1.example.org",
        "w2.other.net",
    ]


def test_base_dn():
    assert topology.base_dn("lab.example.org") == "dc=lab,dc=example,dc=org"


def test_every_host_has_a_key_of_its_own():
    keytabs = topology.keytabs("e1.example.org", REALM, ["edge"])
    assert [k["principals"] for k in keytabs] == [["host/e1.example.org@EXAMPLE.ORG"]]


def test_keytab_holds_the_services_of_its_user_and_http_once():
    keytabs = topology.keytabs(
        "m1.example.org",
        REALM,
        ["namenode", "secondarynamenode", "resourcemanager"],
        aliases=["hdfs.example.org"],
    )
    by_user = {k["owner"]: k["principals"] for k in keytabs}
    assert by_user["hdfs"] == [
        "HTTP/hdfs.example.org@EXAMPLE.ORG",
        "HTTP/m1.example.org@EXAMPLE.ORG",
        "nn/m1.example.org@EXAMPLE.ORG",
        "sn/m1.example.org@EXAMPLE.ORG",
    ]
    assert "rm/m1.example.org@EXAMPLE.ORG" in by_user["yarn"]
    assert all(k["mode"] == "0400" for k in keytabs)


def test_what_accepts_tickets_for_its_pages_alone_has_a_key_for_them():
    keytabs = topology.keytabs("e1.example.org", REALM, ["edge", "jupyter"], aliases=["notebooks"])
    assert keytabs[1]["path"] == "/etc/security/keytabs/jupyter.keytab"
    assert keytabs[1]["principals"] == [
        "HTTP/e1.example.org@EXAMPLE.ORG",
        "HTTP/notebooks@EXAMPLE.ORG",
    ]


def test_principals_are_listed_once_though_keytabs_share_them():
    found = topology.service_principals(["m1"], GROUPS, "example.org", REALM)
    assert found.count("HTTP/m1.example.org@EXAMPLE.ORG") == 1
    assert set(found) == {
        "host/m1.example.org@EXAMPLE.ORG",
        "nn/m1.example.org@EXAMPLE.ORG",
        "rm/m1.example.org@EXAMPLE.ORG",
        "HTTP/m1.example.org@EXAMPLE.ORG",
    }


@pytest.mark.parametrize(
    ("percent", "sizes"), [(1, [1, 1, 1]), (34, [1, 1, 1]), (67, [1, 2]), (100, [1, 2])]
)
def test_batches_stay_in_their_rack_and_below_the_limit(percent, sizes):
    batches = topology.rack_batches("datanode", GROUPS, percent)
    assert batches == {"hosts": ["w2", "w1", "w3"], "sizes": sizes}


def test_hosts_without_a_rack_come_last():
    batches = topology.rack_batches("namenode", {"namenode": ["m1"]}, 20)
    assert batches == {"hosts": ["m1"], "sizes": [1]}


USERS = [
    {"name": "alice", "groups": ["staff"]},
    {"name": "report", "type": "service", "keytab_hosts": ["w1", "namenode"]},
    {"name": "gone", "type": "service", "state": "absent", "keytab_hosts": ["all"]},
    {"name": "carol", "state": "disabled"},
]


def host_keytabs(hosts, **options):
    hostvars = {host: {} for host in GROUPS["all"]} | {"w2": {"host_aliases": ["files.org"]}}
    return topology.host_keytabs(hosts, GROUPS, "example.org", REALM, hostvars, **options)


def test_keytabs_of_a_host_do_not_depend_on_the_others():
    every = host_keytabs(GROUPS["all"])
    assert [host["name"] for host in every] == [f"{h}.example.org" for h in GROUPS["all"]]
    for index, host in enumerate(GROUPS["all"]):
        assert host_keytabs([host]) == [every[index]]


def test_aliases_of_each_host_count_for_itself():
    first, second = host_keytabs(["w1", "w2"])
    assert "HTTP/files.org@EXAMPLE.ORG" not in first["keytabs"][1]["principals"]
    assert "HTTP/files.org@EXAMPLE.ORG" in second["keytabs"][1]["principals"]


def test_owners_with_known_numbers_are_numbers():
    (host,) = host_keytabs(["kdc1"], ids=[{"name": "openldap", "uid": 7}])
    assert [(k["owner"], k["group"]) for k in host["keytabs"]] == [("root", "root"), ("7", "7")]


def test_keytabs_of_accounts_go_to_the_hosts_and_groups_named():
    found = {
        host["name"]: [keytab["path"] for keytab in host["keytabs"]]
        for host in host_keytabs(GROUPS["all"], accounts=USERS)
    }
    path = "/etc/security/keytabs/report.keytab"
    assert {name: paths for name, paths in found.items() if paths} == {
        "w1.example.org": [path],
        "m1.example.org": [path],
    }


def test_reports_are_joined_in_order():
    requests = [{"name": "a", "keytabs": []}, {"name": "b", "keytabs": []}]
    reports = [{"certificate": c, "fingerprints": {c: []}, "changed": False} for c in "ab"]
    joined = topology.with_reports(requests, reports)
    assert [(j["name"], j["certificate"], j["fingerprints"]) for j in joined] == [
        ("a", "a", {"a": []}),
        ("b", "b", {"b": []}),
    ]
    with pytest.raises(ValueError, match="argument"):
        topology.with_reports(requests, reports[:1])


def test_people_have_passwords_and_accounts_have_keys():
    found = {principal["name"]: principal for principal in topology.user_principals(USERS)}
    assert found["alice"]["initial_password"]
    assert found["alice"]["policy"] == "people"
    assert found["alice"]["flags"] == {"requires_preauth": True, "allow_svr": False}
    assert "initial_password" not in found["report"]
    assert found["report"]["policy"] == ""
    assert found["carol"]["state"] == "disabled"
    assert found["gone"]["state"] == "absent"


def test_the_directory_gets_what_is_for_it():
    assert topology.directory_people(USERS)[1] == {"name": "report", "type": "service"}
