"""Every fault of an inventory has one message that names its place, and a good one has none."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import preflight
import pytest
import queues
import topology
import yaml
from ansible.errors import AnsibleUndefinedVariable
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/cluster"
SPEC = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())
OPTIONS = SPEC["argument_specs"]["preflight"]["options"]
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
DOMAIN = "example.org"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFU3HpeZvLpuXJ4hkxz5pT0mQdPGOVR8Nc6BFbl9S5fK a@b"

GROUPS = {
    "all": ["k1", "m1", "w1", "w2", "e1"],
    "ungrouped": [],
    "ca": ["k1"],
    "kdc": ["k1"],
    "ldap": ["k1"],
    "namenode": ["m1"],
    "secondarynamenode": ["m1"],
    "resourcemanager": ["m1"],
    "historyserver": ["m1"],
    "datanode": ["w1", "w2"],
    "nodemanager": ["w1", "w2"],
    "edge": ["e1"],
    "rack__default_rack": ["k1", "m1", "w1", "w2", "e1"],
}
VALUES = {
    "cluster_domain": DOMAIN,
    "cluster_realm": "EXAMPLE.ORG",
    "cluster_admin_group": "admins",
    "cluster_restart_policy": "rolling",
    "cluster_restart_percent": 20,
    "cluster_nameservice": "deitos",
    "cluster_hadoop_version": "3.4.2",
    "cluster_hadoop_url": "https://mirror.example.org/hadoop-3.4.2.tar.gz",
    "cluster_hadoop_checksum": "sha512:" + "a1" * 64,
    "cluster_groups": [{"name": "admins", "gid": 20000}, {"name": "analysts"}],
    "cluster_users": [
        {"name": "alice", "uid": 20001, "groups": ["analysts", "admins"], "ssh_keys": [KEY]},
        {"name": "etl", "type": "service", "keytab_hosts": ["edge", "w1"]},
        {"name": "carol", "state": "disabled", "mail": "carol@example.org", "shell": "/bin/sh"},
    ],
    "cluster_hdfs_directories": [
        {
            "path": "/data/team",
            "owner": "hdfs",
            "group": "analysts",
            "mode": "0750",
            "acl": [
                "default:group:analysts:r-x",
                "user:alice:rwx",
                "mask::rwx",
                "default:mask::r-x",
            ],
        }
    ],
}


def faults_of(groups=None, values=None, hostvars=None):
    """All faults, as role cluster's preflight puts them together."""
    groups = {**GROUPS, **(groups or {})}
    values = {**copy.deepcopy(VALUES), **(values or {})}
    hosts = groups["all"]
    services = DEFAULTS["cluster_service_users"], DEFAULTS["cluster_service_groups"]
    users, teams = values["cluster_users"], values["cluster_groups"]
    return [
        *preflight.topology_faults(
            groups, topology.group_limits(groups), str(values["cluster_domain"])
        ),
        *preflight.host_value_faults(
            {host: (hostvars or {}).get(host, {}) for host in hosts}, hosts, groups, DOMAIN
        ),
        *preflight.type_faults(values, OPTIONS),
        *preflight.site_faults(values),
        *preflight.users_faults(users, teams, groups, *services, values["cluster_admin_group"]),
        *preflight.directories_faults(values["cluster_hdfs_directories"], users, teams, *services),
    ]


def user(entry=None, **keys):
    return {
        "values": {
            "cluster_users": [*VALUES["cluster_users"], {"name": "dora", **(entry or {}), **keys}]
        }
    }


def group(**keys):
    return {"values": {"cluster_groups": [*VALUES["cluster_groups"], {"name": "team", **keys}]}}


def directory(**keys):
    entry = {"path": "/data/x", "owner": "hdfs", "group": "hdfs", "mode": "0755", **keys}
    return {"values": {"cluster_hdfs_directories": [entry]}}


def renamed(name):
    """The edge host under another name."""
    return {"groups": {"all": ["k1", "m1", "w1", "w2", name], "edge": [name]}}


def value(**values):
    return {"values": values}


def workers(**hostvars):
    return {"hostvars": hostvars}


# What is wrong, and the words that its one message must contain.
BAD = {
    # The mapping of hosts to groups.
    "no kdc": ({"groups": {"kdc": []}}, ["group kdc: has no hosts", "exactly 1", "add a host"]),
    "no ca": ({"groups": {"ca": []}}, ["group ca: has no hosts"]),
    "no secondary without HA": (
        {"groups": {"secondarynamenode": []}},
        ["group secondarynamenode: has no hosts", "exactly 1"],
    ),
    "no worker": (
        {"groups": {"datanode": [], "datanodes": ["w1", "w2"]}},
        ["group datanode", "at least 1", "'datanodes': is it meant?"],
    ),
    "two namenodes": (
        {"groups": {"namenode": ["m1", "w1"]}},
        ["group namenode: has 2 hosts (m1, w1)", "high availability", "not supported yet"],
    ),
    "two kdcs": ({"groups": {"kdc": ["k1", "m1"]}}, ["group kdc: has 2 hosts", "not supported"]),
    "two backup hosts": ({"groups": {"backup": ["k1", "e1"]}}, ["group backup", "at most 1"]),
    "host in no group": ({"groups": {"edge": []}}, ["host e1: is in no group", "edge"]),
    "notebooks where nobody logs in": (
        {"groups": {"jupyter": ["m1"], "spark_history": ["m1"]}},
        ["host m1: is in group jupyter and not in edge", "add it there"],
    ),
    "notebooks without Spark": (
        {"groups": {"jupyter": ["e1"]}},
        ["group jupyter: has 1 host", "group spark_history none"],
    ),
    "planned daemon": ({"groups": {"zookeeper": ["m1"]}}, ["group zookeeper", "does not deploy"]),
    # Names of hosts.
    "underscore": (renamed("edge_1"), ["host edge_1", "underscore", "edge-1"]),
    "capitals": (renamed("Edge1"), ["host Edge1", "capitals", "edge1"]),
    "localhost": (renamed("localhost"), ["host localhost", "every machine's own name"]),
    "address": (renamed("10.0.0.5"), ["host 10.0.0.5", "ansible_host"]),
    "long name": (renamed("e" * 60), ["has 72 characters", "at most 64"]),
    "same name twice": (
        {"groups": {"all": [*GROUPS["all"], "e1.example.org"], "edge": ["e1", "e1.example.org"]}},
        ["hosts e1, e1.example.org", "keep one name"],
    ),
    # Values of hosts.
    "rack without slash": (workers(w1={"rack": "rack1"}), ["host w1: rack", "'rack1'", "/rack1"]),
    "rack of another type": (workers(w1={"rack": 1}), ["host w1: rack", "the number 1"]),
    "racks of two depths": (
        workers(w1={"rack": "/hall1/rack1"}, w2={"rack": "/rack1"}),
        ["racks of one depth", "w1 (/hall1/rack1)", "w2 (/rack1)"],
    ),
    "aliases as text": (
        workers(e1={"host_aliases": "portal"}),
        ["host e1: host_aliases", "expected a list", "[portal]"],
    ),
    "alias that is no name": (workers(e1={"host_aliases": ["a b"]}), ["host e1", "'a b'"]),
    "alias of two hosts": (
        workers(e1={"host_aliases": ["web"]}, m1={"host_aliases": ["web"]}),
        ["m1, e1", "web"],
    ),
    "alias that is a host": (
        workers(e1={"host_aliases": ["m1.example.org"]}),
        ["m1.example.org, which is a host"],
    ),
    # The site.
    "realm in lower case": (value(cluster_realm="example.org"), ["cluster_realm", "capitals"]),
    "realm with underscore": (value(cluster_realm="MY_REALM"), ["cluster_realm", "'MY_REALM'"]),
    "domain of one part": (value(cluster_domain="lab"), ["cluster_domain is 'lab'", "two or more"]),
    "domain with underscore": (
        value(cluster_domain="my_lab.org"),
        ["cluster_domain", "my_lab.org"],
    ),
    "domain of digits": (
        value(cluster_domain="10.0"),
        ["cluster_domain is '10.0'", "not a domain"],
    ),
    "nameservice as URI": (
        value(cluster_nameservice="hdfs://x"),
        ["cluster_nameservice", "one word"],
    ),
    "weak enctype": (value(cluster_enctypes=["rc4-hmac"]), ["cluster_enctypes[0]", "'rc4-hmac'"]),
    "no enctype": (value(cluster_enctypes=[]), ["cluster_enctypes is empty"]),
    "no restarts": (value(cluster_restart_percent=0), ["cluster_restart_percent is 0", "1 to 100"]),
    "restarts beyond all": (
        value(cluster_restart_percent=101),
        ["cluster_restart_percent is 101", "1 to 100"],
    ),
    "percent as word": (
        value(cluster_restart_percent="half"),
        ["cluster_restart_percent", "a whole number"],
    ),
    "restart policy": (
        value(cluster_restart_policy="later"),
        ["cluster_restart_policy", "rolling, deferred"],
    ),
    "version as number": (
        value(cluster_hadoop_version=3.4),
        ["cluster_hadoop_version", "put it in quotes"],
    ),
    "version": (
        value(cluster_hadoop_version="latest"),
        ["cluster_hadoop_version is 'latest'", "3.4.2"],
    ),
    "URL scheme": (value(cluster_hadoop_url="ftp://m/x"), ["cluster_hadoop_url", "'ftp'", "https"]),
    "URL without host": (value(cluster_hadoop_url="https:///x"), ["cluster_hadoop_url", "no host"]),
    "file with two slashes": (value(cluster_hadoop_url="file://srv/x"), ["three slashes"]),
    "checksum without algorithm": (
        value(cluster_hadoop_checksum="ab" * 64),
        ["cluster_hadoop_checksum", "no strong algorithm", "sha512:"],
    ),
    "weak checksum": (value(cluster_hadoop_checksum="md5:" + "ab" * 16), ["no strong algorithm"]),
    "short checksum": (value(cluster_hadoop_checksum="sha512:abc"), ["is not one of sha512"]),
    "unknown admin group": (
        value(cluster_admin_group="bosses"),
        ["cluster_admin_group is 'bosses'", "cluster_groups"],
    ),
    "users as dictionary": (
        value(cluster_users={"alice": {}}, cluster_hdfs_directories=[]),
        ["cluster_users is a dictionary, expected a list"],
    ),
    "flag as word": (
        value(cluster_preflight_allow_untested_os="perhaps"),
        ["cluster_preflight_allow_untested_os", "true or false"],
    ),
    # People and groups.
    "user twice": (
        value(cluster_users=[*VALUES["cluster_users"], {"name": "alice"}]),
        ["cluster_users: has 'alice' more than once"],
    ),
    "group twice": (group(name="analysts"), ["cluster_groups: has 'analysts' more than once"]),
    "uid twice": (user(uid=20001), ["[alice], cluster_users[dora]: share the number 20001"]),
    "uid and gid": (user(uid=20000), ["cluster_groups[admins]: share the number 20000"]),
    "gid twice": (group(gid=20000), ["cluster_groups[team]", "share the number 20000"]),
    "system uid": (user(uid=801), ["cluster_users[dora]: uid 801", "20000 up"]),
    "uid of containers": (user(uid=65534), ["uid 65534"]),
    "service's name": (user(name="hdfs"), ["cluster_users[hdfs]", "local user"]),
    "root": (user(name="root"), ["cluster_users[root]", "local user"]),
    "local group": (group(name="users"), ["cluster_groups[users]", "local group"]),
    "group named as user": (group(name="alice"), ["cluster_groups[alice]", "group of its own"]),
    "capital user": (user(name="Dora"), ["cluster_users[Dora]: not a user name"]),
    "principal as user": (user(name="dora/admin"), ["cluster_users[dora/admin]: not a user name"]),
    "mail as user": (user(name="dora@x.org"), ["not a user name"]),
    "user without a name": (
        value(cluster_users=[{"uid": 20009}], cluster_hdfs_directories=[]),
        ["lacks 'name'", "add it"],
    ),
    "unknown group": (user(groups=["admin"]), ["cluster_users[dora]", "'admin'", "add it there"]),
    "groups as text": (user(groups="analysts"), ["cluster_users[dora].groups", "[analysts]"]),
    "absent group": (
        value(
            cluster_groups=[{"name": "admins"}, {"name": "analysts", "state": "absent"}],
            cluster_hdfs_directories=[],
        ),
        ["cluster_users[alice]", "'analysts'"],
    ),
    "keytab of a person": (user(keytab_hosts=["edge"]), ["[dora]: a person", "type: service"]),
    "keytab nowhere": (
        user(type="service", keytab_hosts=["edge7"]),
        ["cluster_users[dora]: keytab_hosts has 'edge7'", "neither a host nor a group"],
    ),
    "unknown state": (user(state="gone"), ["cluster_users[dora].state", "disabled"]),
    "unknown type": (user(type="robot"), ["cluster_users[dora].type", "person, service"]),
    "unknown key": (user(ssh_key=KEY), ["unknown key 'ssh_key'", "'ssh_keys'?"]),
    "password": (user(password="x"), ["cluster_users[dora] has an unknown key 'password'"]),
    "private key": (user(ssh_keys=["-----BEGIN OPENSSH PRIVATE KEY-----"]), ["is a PRIVATE key"]),
    "damaged key": (user(ssh_keys=[KEY.replace("AAAAC3", "AAAC3")]), ["ssh_keys[0] has a"]),
    "key of another type": (user(ssh_keys=[KEY.replace("ed25519", "rsa")]), ["another type"]),
    "no key": (user(ssh_keys=["id_ed25519.pub"]), ["ssh_keys[0] is not a public SSH key"]),
    "mail": (user(mail="dora"), ["cluster_users[dora]: mail is 'dora'"]),
    "shell": (user({"shell": "bash"}), ["cluster_users[dora]: shell is 'bash'", "/bin/bash"]),
    # Directories on HDFS.
    "relative path": (directory(path="data/x"), ["cluster_hdfs_directories[data/x]", "absolute"]),
    "path with dots": (directory(path="/data/../user"), ["must be absolute", "'..'"]),
    "mode as number": (
        directory(mode=488),
        ["cluster_hdfs_directories[/data/x].mode", "put it in quotes"],
    ),
    "mode as letters": (directory(mode="rwxr-x---"), ["mode is 'rwxr-x---'", "octal"]),
    "mode beyond octal": (directory(mode="0788"), ["mode is '0788'"]),
    "owner nobody knows": (directory(owner="dora"), ["owner 'dora'", "cluster_users"]),
    "group nobody knows": (directory(group="interns"), ["group 'interns'", "cluster_groups"]),
    "ACL syntax": (directory(acl=["group:analysts=rwx"]), ["acl has 'group:analysts=rwx'"]),
    "ACL in place of mode": (directory(acl=["group::r-x"]), ["acl has 'group::r-x'", "mode"]),
    "ACL for nobody": (directory(acl=["user:dora:r-x"]), ["user 'dora' is not known"]),
    "directory twice": (
        value(
            cluster_hdfs_directories=[*VALUES["cluster_hdfs_directories"], {"path": "/data/team/"}]
        ),
        ["cluster_hdfs_directories: has /data/team more than once"],
    ),
}


def test_a_good_inventory_has_no_fault():
    assert faults_of() == []


@pytest.mark.parametrize("lab", ["lab", "example"])
def test_our_own_inventories_have_no_fault(lab):
    directory = ROOT / "inventories" / lab
    inventory = InventoryManager(DataLoader(), [str(directory / "hosts.yml")])
    values = yaml.safe_load((directory / "group_vars/all/users.yml").read_text())
    everything = {**{name: [] for name in GROUPS}, **inventory.get_groups_dict()}
    hostvars = {name: host.get_vars() for name, host in inventory.hosts.items()}
    chosen = {"cluster_admin_group": DEFAULTS["cluster_admin_group"], **values}
    assert faults_of(everything, chosen, hostvars) == []


@pytest.mark.parametrize(("change", "words"), BAD.values(), ids=BAD.keys())
def test_each_fault_has_one_message(change, words):
    faults = faults_of(**change)
    assert len(faults) == 1, faults
    for word in words:
        assert word in faults[0]


def test_a_host_may_be_in_another_domain():
    assert faults_of(**renamed("e1.other.net")) == []


def test_faults_are_found_together():
    changes = [
        renamed("edge_1"),
        value(cluster_restart_percent=0),
        user(uid=801),
        directory(mode="9"),
    ]
    merged = {"groups": {}, "values": {}}
    for change in changes:
        for key, part in change.items():
            merged[key].update(part)
    assert len(faults_of(**merged)) == len(changes)


def test_numbers_and_flags_of_the_command_line_are_text():
    values = {"cluster_restart_percent": "20", "cluster_preflight_allow_untested_os": "true"}
    assert faults_of(values=values) == []


def test_an_empty_inventory():
    (fault,) = preflight.topology_faults({"all": []}, {}, DOMAIN)
    assert "no host" in fault


SPECS = preflight.role_specs(ROOT / "roles")


class Own(dict):
    """A host's variables, one of which needs a fact that is not known yet."""

    def __getitem__(self, name):
        if super().__getitem__(name) == "{{ unknown }}":
            raise AnsibleUndefinedVariable("'unknown' is undefined")
        return super().__getitem__(name)


def role_faults(groups=None, **hostvars):
    """What is said of the variables of a cluster of these hosts and w1, w2."""
    hosts = {"w1": {}, "w2": {}, **hostvars}
    own = {host: Own(variables) for host, variables in hosts.items()}
    return preflight.role_faults(own, list(hosts), groups or {}, SPECS, {"cluster_users"})


@pytest.mark.parametrize(
    ("name", "wrong", "words"),
    [
        ("hdfs_replication", "three", "the text 'three', expected a whole number"),
        ("hdfs_replication", 2.5, "the number 2.5, expected a whole number"),
        ("yarn_nodemanager_memory_mb", "8G", "the text '8G', expected a whole number"),
        ("hdfs_data_dirs", "/data/1", "the text '/data/1', expected a list; write [/data/1]"),
        ("hdfs_home_mode", 448, "the number 448, expected text; put it in quotes"),
        ("yarn_am_resource_percent", "half", "expected a number"),
        ("base_manage_hosts_file", "perhaps", "expected true or false"),
        ("base_time_servers", "ntp.example.org", "expected a list; write [ntp.example.org]"),
        ("pki_renew_days", "month", "expected a whole number"),
        ("yarn_application_https_policy", "ALWAYS", "expected one of: NONE, LENIENT, STRICT"),
        ("cluster_postgresql_hosts", "db.example.org", "expected a list"),
        ("jupyter_groups", "analysts", "expected a list; write [analysts]"),
    ],
)
def test_every_role_s_variables_have_the_type_that_it_says(name, wrong, words):
    (fault,) = role_faults(w2={name: wrong})
    assert fault.startswith(f"host w2: {name} is ")
    assert words in fault


def test_a_fault_names_its_hosts_once():
    wrong = {"hdfs_replication": "three"}
    many = {f"w{number}": wrong for number in range(1, 7)}
    (fault,) = role_faults(w1=wrong, w2=wrong)
    assert fault.startswith("all hosts: hdfs_replication")
    (fault,) = role_faults(**many, m1={})
    assert fault.startswith("hosts w1, w2, w3 and 3 more: hdfs_replication")


def test_parts_of_a_value_are_judged_too():
    queues = [{"path": "root.a", "capacity": "much", "submitters": "*"}]
    faults = role_faults(w1={"yarn_queues": queues})
    assert len(faults) == 2
    assert "host w1: yarn_queues[root.a] has an unknown key 'submitters'" in faults[0]
    assert "host w1: yarn_queues[root.a].capacity" in faults[1]


def test_good_values_other_names_and_what_is_not_known_yet_are_left_alone():
    fine = {
        "hdfs_replication": "2",  # as from the command line
        "yarn_am_resource_percent": 1,
        "hdfs_data_dirs": ["/data/1"],
        "yarn_nodemanager_memory_mb": "{{ unknown }}",
        "base_journal_max_use": None,
        "site_of_my_own": 5,
        "cluster_users": "judged with its default",
    }
    assert role_faults(w1=fine) == []


def test_a_role_named_like_a_group_gets_what_it_requires():
    groups = {"llama": ["w1"]}
    release = {"llama_release_url": "https://mirror.example.org/llama.tar.gz"}
    (fault,) = role_faults(groups, w1=release)
    assert fault.startswith("host w1: llama_release_checksum is not set, and group llama needs it")
    assert role_faults(groups, w1={**release, "llama_release_checksum": "{{ unknown }}"}) == []
    assert len(role_faults(groups)) == 2


def test_a_text_in_place_of_a_dictionary_is_not_shown():
    (fault,) = role_faults(w1={"core_site_overrides": "fs.s3a.secret.key: hunter2"})
    assert fault == "host w1: core_site_overrides is a text, expected a dictionary"


def test_every_type_of_a_spec_can_be_judged():
    def kinds(options):
        for option in options.values():
            yield option["type"]
            yield option.get("elements", "raw")
            yield from kinds(option.get("options", {}))

    entries = [entry for role in SPECS.values() for entry in role.values()]
    assert {kind for entry in entries for kind in kinds(entry.get("options", {}))} <= set(
        preflight.TYPES
    )


def test_the_names_of_overrides_are_those_that_roles_read():
    read = set()
    for path in (ROOT / "roles").glob("*/defaults/main.yml"):
        read |= set(re.findall(r"{{ (\w+_overrides) \| default", path.read_text()))
    assert read == set(preflight.OVERRIDES)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "uid", "gid", "groups", "path", "mode", "acl", "state", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(
    name=st.sampled_from(["hdfs_replication", "hdfs_data_dirs", "yarn_queues", "jupyter_kernels"]),
    wrong=ANYTHING,
)
def test_no_value_of_a_role_makes_the_checks_themselves_fail(name, wrong):
    for fault in [*role_faults(w1={name: wrong}), *queues.queue_faults({"w": {name: wrong}}, "w")]:
        assert isinstance(fault, str)


@given(name=st.sampled_from(sorted(VALUES)), wrong=ANYTHING)
def test_no_value_makes_the_checks_themselves_fail(name, wrong):
    for fault in faults_of(values={name: wrong}):
        assert isinstance(fault, str)
