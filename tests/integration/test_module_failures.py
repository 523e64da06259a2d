"""What the HDFS modules say when the real services refuse, each beside the same task that works."""

from __future__ import annotations

import pytest
from modulerun import Step, on_lab

MODULE = "deitos.cluster.hdfs_path"
HDFS = "HADOOP_CONF_DIR=/etc/hadoop /opt/hadoop/bin/hdfs"
TOP = "/hdfs_failures"
KEYTABS = "/etc/security/keytabs"
# Some authority that Debian trusts and that has not signed anything here.
STRANGER = "/etc/ssl/certs/ISRG_Root_X1.pem"


def refusals(cluster):
    """{what is wrong: (the options that make it so, what the message says)}"""
    url = cluster.web()["namenode"]
    host = cluster.fqdn("namenode")
    dead = f"https://{host}:9"
    return {
        "no keytab": ({"keytab": "/nowhere/hdfs.keytab"}, "there is no keytab /nowhere"),
        "no key": ({"principal": f"nn/other.{cluster.domain}"}, "has no key of nn/other"),
        "no permission": (
            {"keytab": f"{KEYTABS}/yarn.keytab", "principal": f"rm/{host}"},
            f"HDFS refuses rm/{host}",
        ),
        "another authority": ({"ca_path": STRANGER}, "is refused"),
        "no authority": ({"ca_path": "/nowhere.crt"}, "there is no CA certificate /nowhere.crt"),
        "another name": ({"endpoints": ["https://127.0.0.1:9871"]}, "127.0.0.1"),
        "no TLS": ({"endpoints": [url.replace("https:", "http:")]}, "is not an https:// URL"),
        "nobody there": ({"endpoints": [dead]}, "nobody listens at"),
        "nobody there, twice": ({"endpoints": [dead, dead]}, "no NameNode can be used"),
        "unknown to the KDC": (
            {"endpoints": [f"https://none.{cluster.domain}:9871"]},
            f"the KDC knows no principal HTTP/none.{cluster.domain}",
        ),
    }


@pytest.fixture(scope="module")
def lab(cluster):
    """Run steps on the NameNode's host."""
    return on_lab(cluster.hosts("namenode")[0], {"endpoints": [cluster.web()["namenode"]]})


@pytest.fixture(scope="module")
def answers(cluster, lab):
    """{what is wrong: the result}, and of the task that works, before and after them."""
    wanted = {"path": TOP, "owner": "alice", "mode": "0700"}
    wrong = {name: options for name, (options, _says) in refusals(cluster).items()}
    steps = [
        Step(MODULE, {"path": TOP, "state": "absent"}),
        *(Step(MODULE, {**wanted, **options}) for options in wrong.values()),
        Step(MODULE, wanted),
        Step(MODULE, {"path": TOP, "state": "absent"}),
    ]
    _clear, *refused, done, end = lab(steps)
    return {**dict(zip(wrong, refused)), "works": done, "end": end}


@pytest.mark.parametrize(
    "fault",
    [
        "no keytab",
        "no key",
        "no permission",
        "another authority",
        "no authority",
        "another name",
        "no TLS",
        "nobody there",
        "nobody there, twice",
        "unknown to the KDC",
    ],
)
def test_the_reason_is_told(cluster, answers, fault):
    assert answers[fault]["failed"], answers[fault]
    assert refusals(cluster)[fault][1] in answers[fault]["msg"]
    assert not answers[fault]["changed"]
    # It was this that was wrong: what had been refused was then done.
    for name in ("works", "end"):
        assert not answers[name]["failed"] and answers[name]["changed"], answers[name]


def test_a_dead_namenode_leads_to_the_other(cluster, lab):
    endpoints = [f"https://{cluster.fqdn('namenode')}:9", cluster.web()["namenode"]]
    (found,) = lab([Step(MODULE, {"path": "/", "endpoints": endpoints})])
    assert not found["failed"] and not found["changed"], found


def test_safe_mode(cluster, lab, daemon_key):
    root = daemon_key("namenode", "hdfs", "nn")
    wanted = {"path": f"{TOP}/safe"}
    root.ok(f"{HDFS} dfsadmin -safemode enter")
    try:
        foretold, refused = lab([Step(MODULE, wanted, check) for check in (True, False)])
    finally:
        root.ok(f"{HDFS} dfsadmin -safemode leave")
    assert not foretold["failed"] and foretold["changed"]
    assert refused["failed"] and "the NameNode is in safe mode" in refused["msg"]
    done, end = lab(
        [
            Step(MODULE, wanted),
            Step(MODULE, {"path": TOP, "state": "absent", "recursive": True}),
        ]
    )
    assert done["changed"] and end["changed"], (done, end)
