"""hdfs_info and yarn_info against the lab."""

from __future__ import annotations

import pytest
from modulerun import Step, on_lab

KEYTABS = "/etc/security/keytabs"


@pytest.fixture(scope="module")
def answers(cluster):
    """What both say, from the hosts of their daemons."""
    hdfs = Step("deitos.cluster.hdfs_info", {"paths": ["/", "/tmp", "/no/such"], "usage": True})
    host = cluster.hosts("namenode")[0]
    found = on_lab(host, {"endpoints": [cluster.web()["namenode"]]})([hdfs])
    fqdn = cluster.fqdn("resourcemanager")
    yarn = {
        "endpoints": [cluster.web()["resourcemanager"], f"https://{fqdn}:9"],
        "keytab": f"{KEYTABS}/yarn.keytab",
        "principal": f"rm/{fqdn}",
        "application_states": ["RUNNING", "FINISHED"],
    }
    host = cluster.hosts("resourcemanager")[0]
    return found + on_lab(host, {})([Step("deitos.cluster.yarn_info", yarn)])


def test_hdfs(cluster, answers):
    hdfs = answers[0]
    assert not hdfs["failed"] and not hdfs["changed"]
    assert hdfs["namenodes"] == {cluster.web()["namenode"]: {"state": "active"}}
    assert hdfs["health"]["live_datanodes"] == len(cluster.hosts("datanode"))
    assert hdfs["health"]["missing_blocks"] == 0 and hdfs["health"]["safe_mode"] is False
    assert set(hdfs["paths"]) == {"/", "/tmp"}
    assert hdfs["paths"]["/tmp"]["mode"] == "1777"
    assert hdfs["paths"]["/"]["usage"]["directories"] > 3


def test_yarn(cluster, answers):
    yarn = answers[1]
    assert not yarn["failed"] and not yarn["changed"]
    states = [found["state"] for found in yarn["resourcemanagers"].values()]
    assert states == ["active", "unreachable"]
    hosts = {f"{name}.{cluster.domain}" for name in cluster.hosts("nodemanager")}
    assert set(yarn["nodes"]) == hosts
    assert {node["state"] for node in yarn["nodes"].values()} == {"RUNNING"}
    assert yarn["queues"]["root"]["state"] == "RUNNING"
    assert yarn["metrics"]["activeNodes"] == len(hosts)
