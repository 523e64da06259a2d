# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""The ResourceManager's REST interface, over HTTPS with Kerberos."""

from __future__ import annotations

import contextlib
import json
import urllib.parse

from ansible_collections.deitos.cluster.plugins.module_utils import spnego
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

API = "/ws/v1/cluster"
# The states in which an application holds, or will hold, something of the cluster.
ACTIVE = ("NEW", "NEW_SAVING", "SUBMITTED", "ACCEPTED", "RUNNING")

ARGUMENTS = {
    "endpoints": {"type": "list", "elements": "str", "required": True},
    **spnego.ARGUMENTS,
    "timeout": {"type": "int", "default": 30},
}


@contextlib.contextmanager
def connect(module):
    """A client that a module's options describe, and the state of each ResourceManager."""
    spnego.require(module)
    params = module.params
    login = spnego.Login(params["keytab"], params["principal"])
    with spnego.Client(login, params["ca_path"], params["timeout"]) as client:
        endpoints = [endpoint.rstrip("/") for endpoint in params["endpoints"]]
        yield client, resourcemanagers(client, endpoints)


def active(states):
    """The address of the active ResourceManager; None when there is none."""
    return next((at for at, found in states.items() if found["state"] == "active"), None)


def ask(client, endpoint, what, **query):
    """One answer of a ResourceManager's REST interface."""
    url = f"{endpoint}{API}/{what}"
    if query:
        url += f"?{urllib.parse.urlencode(query)}"
    response = client.request("GET", url, headers={"Accept": "application/json"}, repeat=True)
    if response.status == 403:
        raise Problem(f"{endpoint} refuses {client.login.who}: {response.text()}")
    if response.status != 200:
        raise Problem(
            f"{endpoint} answered HTTP {response.status} about {what}, see its log:"
            f" {response.text()}"
        )
    try:
        return json.loads(response.body)
    except ValueError:
        raise Problem(
            f"{endpoint} answered without JSON, is it a ResourceManager?: {response.text()}"
        ) from None


def resourcemanagers(client, endpoints):
    """{endpoint: {state, …}} of all ResourceManagers."""
    found = {}
    for endpoint in endpoints:
        try:
            info = ask(client, endpoint, "info")["clusterInfo"]
        except (Problem, KeyError) as problem:
            found[endpoint] = {"state": "unreachable", "reason": str(problem)}
        else:
            found[endpoint] = {
                "state": info["haState"].lower(),
                "version": info["resourceManagerVersion"],
            }
    return found


def applications(answer):
    """The applications, in our words."""
    return [
        {
            "id": app["id"],
            "user": app["user"],
            "name": app["name"],
            "queue": app["queue"],
            "state": app["state"],
            "final_status": app["finalStatus"],
            "type": app["applicationType"],
            "progress": app["progress"],
        }
        for app in (answer.get("apps") or {}).get("app", [])
    ]


def kill(client, endpoint, application):
    """Ask for an application's end; whether it was still there to be ended."""
    response = client.request(
        "PUT",
        f"{endpoint}{API}/apps/{application}/state",
        body=json.dumps({"state": "KILLED"}).encode(),
        headers={"Accept": "application/json", "Content-Type": "application/json"},
        repeat=True,
    )
    if response.status == 403:
        raise Problem(
            f"{endpoint} does not let {client.login.who} kill {application}: use the key of its "
            "owner or of an administrator of its queue"
        )
    if response.status not in (200, 202, 404):
        raise Problem(f"{endpoint} answered HTTP {response.status}: {response.text()}")
    return response.status != 404
