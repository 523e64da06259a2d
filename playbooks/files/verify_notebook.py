#!/usr/bin/env python3
"""Run one cell in a notebook on the cluster as the calling user and check the result.

Logs in at the hub with the Kerberos ticket in KRB5CCNAME, which is handed on; starts the user's
server if none runs, and a kernel on YARN; sums numbers with Spark, compares, and ends what it
started. Runs with JupyterHub's own Python. Prints what it did as JSON, and exits with 1 and the
reason when anything differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
import uuid

import requests
from requests_kerberos import OPTIONAL, HTTPKerberosAuth
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

NUMBERS = 100000
CELL = f"""
print(spark.sparkContext.applicationId)
spark.range({NUMBERS}).selectExpr("sum(id)").first()[0]
"""


class Visitor:
    """Somebody at the hub, with cookies."""

    def __init__(self, url, authority, wait):
        self.url, self.authority, self.wait = url, authority, wait
        self.web = requests.Session()
        self.web.verify = authority
        # No proxy and no other authority that the environment may name.
        self.web.trust_env = False

    def token(self, path):
        """What a page of this path must send along."""
        return next((c.value for c in self.web.cookies if (c.name, c.path) == ("_xsrf", path)), "")

    def ask(self, method, place, path, **more):
        """A request below /hub/ or /user/NAME/, which must succeed."""
        headers = {"X-XSRFToken": self.token(place), "Referer": f"{self.url}{place}home"}
        url = f"{self.url}{place}{path}"
        answer = self.web.request(method, url, headers=headers, timeout=self.wait, **more)
        if not answer.ok:
            words = answer.text if "json" in answer.headers.get("Content-Type", "") else ""
            sys.exit(f"{method} {place}{path}: HTTP {answer.status_code} {words[:2000]}")
        return answer

    def log_in(self):
        """Log in with the ticket; returns the user's name."""
        # TLS has told who the server is.
        self.web.auth = HTTPKerberosAuth(OPTIONAL, delegate=True)
        self.ask("GET", "/hub/", "spnego", allow_redirects=False)
        self.web.auth = None
        self.ask("GET", "/hub/", "home")
        return self.ask("GET", "/hub/", "api/user").json()["name"]

    def server(self, name):
        """What the hub says of the user's server, if there is one."""
        return self.ask("GET", "/hub/", f"api/users/{name}").json()["servers"].get("")

    def start(self, name):
        """Start the server and go there; returns whether it was not there."""
        if started := not self.server(name):
            self.ask("POST", "/hub/", f"api/users/{name}/server")
        deadline = time.monotonic() + self.wait
        while not (server := self.server(name) or {}).get("ready"):
            if time.monotonic() > deadline or not server:
                sys.exit("the server did not start; the hub's log has the reason")
            time.sleep(1)
        self.ask("GET", f"/user/{name}/", "lab")
        return started

    async def run(self, name, kernel, cell):
        """Run a cell; returns what it printed, and its value."""
        url = f"{self.url}/user/{name}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
        cookie = requests.cookies.get_cookie_header(self.web.cookies, requests.Request("GET", url))
        place = HTTPRequest(
            url.replace("https:", "wss:"), headers={"Cookie": cookie}, ca_certs=self.authority
        )
        channel = await websocket_connect(place, max_message_size=2**24)
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "session": uuid.uuid4().hex}
        header |= {"username": name, "version": "5.3", "date": "2026-01-01T00:00:00Z"}
        content = {"code": cell, "silent": False, "store_history": False, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await channel.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
        printed = value = ""
        while text := await channel.read_message():
            message = json.loads(text)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != number:
                continue
            if kind == "stream" and content["name"] == "stdout":
                printed += content["text"]
            elif kind == "execute_result":
                value = content["data"]["text/plain"]
            elif kind == "error":
                sys.exit(f"the cell failed: {content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                channel.close()
                return printed, value
        sys.exit("the kernel ended while the cell ran")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="the hub's address")
    parser.add_argument("--ca", required=True, help="the cluster's authority")
    parser.add_argument("--kernel", required=True, help="name of the kernel")
    parser.add_argument("--wait", type=int, default=300, help="seconds for each step")
    args = parser.parse_args()

    began = time.monotonic()
    visitor = Visitor(args.url, args.ca, args.wait)
    name = visitor.log_in()
    started = visitor.start(name)
    place = f"/user/{name}/"
    try:
        path = f"verify-{uuid.uuid4().hex}.ipynb"
        words = {"kernel": {"name": args.kernel}, "name": path, "path": path, "type": "notebook"}
        session = visitor.ask("POST", place, "api/sessions", json=words).json()
        try:
            cell = visitor.run(name, session["kernel"]["id"], CELL)
            printed, value = asyncio.run(asyncio.wait_for(cell, args.wait))
        finally:
            visitor.ask("DELETE", place, f"api/sessions/{session['id']}")
    finally:
        if started:
            visitor.ask("DELETE", "/hub/", f"api/users/{name}/server")
    if value != str(sum(range(NUMBERS))):
        sys.exit(f"the sum is {value!r}, not {sum(range(NUMBERS))}")
    application = re.search(r"application_\d+_\d+", printed)
    print(
        json.dumps(
            {
                "application": application.group() if application else None,
                "sum": int(value),
                "seconds": round(time.monotonic() - began, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
