"""yarn_info: the words it makes of YARN's answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import spnego, yarn
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from ansible_collections.deitos.cluster.plugins.modules import yarn_info

sys.path.insert(0, str(Path(__file__).parents[1] / "module_utils"))
from https_server import Login, Server, kerberized


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b'{"RemoteException": {"message": "no scheduler"}}', "HTTP 500 about metrics.*sched"),
        (403, b'{"RemoteException": {"message": "not you"}}', "refuses somebody.*not you"),
        (200, b"<html>Welcome</html>", "without JSON.*Welcome"),
    ],
)
def test_an_answer_that_is_an_error(authority, status, body, reason):
    key, certificate = authority.issue("rm", ["localhost"])
    server = Server(key, certificate, kerberized(lambda _request: (status, [], body)))
    client = spnego.Client(Login(), str(authority.certificate), timeout=5)
    with client, pytest.raises(Problem, match=reason):
        yarn.ask(client, server.url, "metrics")
    server.stop()


def test_nodes():
    node = {
        "nodeHostName": "w1",
        "state": "RUNNING",
        "rack": "/r1",
        "numContainers": 2,
        "usedMemoryMB": 1,
        "availMemoryMB": 3,
        "version": "3.4.2",
        "healthReport": "",
    }
    assert yarn_info.nodes({"nodes": {"node": [node]}})["w1"]["available_mb"] == 3
    # As YARN says it when there is none.
    assert yarn_info.nodes({"nodes": None}) == yarn_info.nodes({"nodes": {}}) == {}


def test_queues_of_the_capacity_scheduler():
    leaf = {"queueName": "b", "queuePath": "root.a.b", "state": "STOPPED", "absoluteCapacity": 25.0}
    inner = {"queueName": "a", "queuePath": "root.a", "queues": {"queue": [leaf]}}
    info = {"type": "capacityScheduler", "capacity": 100.0, "queues": {"queue": [inner]}}
    found = yarn_info.queues({"scheduler": {"schedulerInfo": {**info, "queueName": "root"}}})
    assert list(found) == ["root", "root.a", "root.a.b"]
    assert found["root.a.b"]["state"] == "STOPPED" and found["root.a.b"]["capacity"] == 25.0
    assert found["root"]["capacity"] == 100.0


def test_queues_that_have_names_only():
    leaf = {"queueName": "b"}
    info = {"rootQueue": {"queueName": "root", "queues": {"queue": [leaf]}}}
    assert list(yarn_info.queues({"scheduler": {"schedulerInfo": info}})) == ["root", "root.b"]


def test_applications():
    app = {
        "id": "application_1_1",
        "user": "alice",
        "name": "x",
        "queue": "root.default",
        "state": "RUNNING",
        "finalStatus": "UNDEFINED",
        "applicationType": "SPARK",
        "progress": 10.0,
    }
    assert yarn.applications({"apps": {"app": [app]}})[0]["type"] == "SPARK"
    assert yarn.applications({"apps": None}) == []
