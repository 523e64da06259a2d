"""A person at the hub, as the suites see one: cookies, the hub's API, her server's, and kernels.

It speaks to JupyterHub as a browser does, over TLS verified against the cluster's authority.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

import httpx2
from labhosts import CA, names_resolve, wait
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

PORT = 8443
# A busy machine takes its time: these say when to give up, not how long it should take.
SPAWN = 180
KERNEL = 240
CELL = 300


class Hub:
    """The hub of a lab."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.machine = cluster.first("jupyter")
        self.fqdn = cluster.fqdn("jupyter")
        self.url = f"https://{self.fqdn}:{PORT}"
        self.trust = ssl.create_default_context(cadata=self.machine.file(CA).content_string)

    def visitor(self, name=None):
        """Somebody with no cookie."""
        return Person(self, name)


class Person:
    """Somebody's browser: cookies, and requests with them."""

    def __init__(self, hub, name):
        self.hub = hub
        self.name = name
        self.web = httpx2.Client(verify=hub.trust, timeout=SPAWN, base_url=hub.url)

    # --- The hub ---------------------------------------------------------------------------------

    def get(self, path, **more):
        """A page, as a browser asks for it."""
        return self.web.get(path, **more)

    def cookie(self, name, path):
        """The value of a cookie."""
        return next((c.value for c in self.web.cookies.jar if (c.name, c.path) == (name, path)), "")

    def login(self, password):
        """Fill in the form; returns the answer, whose status is 302 for who may come in."""
        self.get("/hub/login")
        words = {"username": self.name, "password": password}
        words["_xsrf"] = self.cookie("_xsrf", "/hub/")
        return self.web.post("/hub/login", params={"next": "/hub/home"}, data=words)

    def negotiate(self, session, *options):
        """Log in with a ticket of a session on a host; its cookies become this person's."""
        jar = f"{session.cache}.cookies"
        answer = session.curl(f"{self.hub.url}/hub/spnego", "-c", jar, *options)
        for line in session.ok(f"cat {jar}; rm -f {jar}").splitlines():
            fields = line.removeprefix("#HttpOnly_").split("\t")
            if len(fields) == 7:
                self.keep(fields)
        return answer

    def keep(self, fields):
        """Take a line of curl's cookies."""
        _domain, _sub, path, _secure, _expires, name, value = fields
        self.web.cookies.set(name, value, domain=self.hub.fqdn, path=path)

    def token(self):
        """What a page of the hub must send along, so that no other site can."""
        self.get("/hub/home")
        return self.cookie("_xsrf", "/hub/")

    def ask(self, method, path, body=None):
        """A request to the hub's API."""
        headers = {"X-XSRFToken": self.token(), "Referer": f"{self.hub.url}/hub/home"}
        return self.web.request(method, f"/hub/api{path}", json=body, headers=headers)

    # --- Her server ------------------------------------------------------------------------------

    @property
    def base(self):
        return f"/user/{self.name}"

    def spawn(self):
        """Start the server, unless it runs, and go there."""
        answer = self.ask("POST", f"/users/{self.name}/server")
        running = answer.status_code == 400 and "already" in answer.text
        assert running or answer.status_code in (201, 202), answer.text
        wait("the server", self.ready, SPAWN)
        return self.enter()

    def ready(self):
        """Whether the hub calls her server ready; the reason, where it failed."""
        answer = self.ask("GET", f"/users/{self.name}")
        server = answer.json().get("servers", {}).get("", {})
        return server.get("ready")

    def enter(self):
        """Get the server's own cookies."""
        answer = self.web.get(f"{self.base}/api/status", follow_redirects=True)
        page = self.web.get(f"{self.base}/lab", follow_redirects=True)
        assert page.status_code == 200, (answer.status_code, page.status_code, page.url)
        return self

    def stop(self):
        """Stop the server, if it runs."""
        answer = self.ask("DELETE", f"/users/{self.name}/server")
        assert answer.status_code in (202, 204, 400, 404), answer.text
        wait("the end of the server", lambda: not self.running(), SPAWN)

    def running(self):
        """Whether the hub knows of a server of hers, ready or not, or on its way."""
        known = self.ask("GET", f"/users/{self.name}").json()
        return bool(known.get("server") or known.get("pending"))

    def api(self, method, path, body=None, base=None):
        """A request to a server's API; her own, unless another's path is given."""
        base = base or self.base
        headers = {"X-XSRFToken": self.cookie("_xsrf", f"{self.base}/")}
        return self.web.request(method, f"{base}/api{path}", json=body, headers=headers)

    def well(self, method, path, body=None):
        """The same, where it must succeed; returns what the answer holds."""
        answer = self.api(method, path, body)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def socket(self, path, **query):
        """A websocket of her server, or of another's when the path begins with /user/."""
        path = path if path.startswith("/user/") else self.base + path
        url = f"{self.hub.url}{path}?{urlencode(query)}"
        request = self.web.build_request("GET", url)
        place = urlsplit(url)
        return connect(
            url.replace("https:", "wss:"),
            sock=socket.create_connection((place.hostname, place.port), 30),
            ssl=self.hub.trust,
            server_hostname=place.hostname,
            additional_headers={
                "Cookie": request.headers.get("Cookie", ""),
                "Origin": self.hub.url,
            },
            max_size=None,
            open_timeout=60,
        )

    def put(self, path, notebook):
        """Keep a notebook in her home."""
        self.well("PUT", f"/contents/{path}", {"type": "notebook", "content": notebook})

    @contextlib.contextmanager
    def kernel(self, spec, path="tests.ipynb"):
        """A kernel for a notebook, as JupyterLab starts it; gone in the end."""
        kernel = Kernel(self, self.session(spec, path))
        try:
            yield kernel
        finally:
            kernel.end()

    def ask_session(self, spec, path):
        """The answer to JupyterLab's request for a notebook's session."""
        words = {"kernel": {"name": spec}, "name": path, "path": path, "type": "notebook"}
        return self.web.post(
            f"{self.base}/api/sessions",
            json=words,
            headers={"X-XSRFToken": self.cookie("_xsrf", f"{self.base}/")},
            timeout=KERNEL,
        )

    def session(self, spec, path="tests.ipynb"):
        """A notebook's session, whose kernel has been started."""
        answer = self.ask_session(spec, path)
        assert answer.status_code == 201, f"{answer.status_code}: {answer.text}"
        return answer.json()

    @contextlib.contextmanager
    def terminal(self):
        """A terminal of her server."""
        name = self.well("POST", "/terminals", {})["name"]
        with self.socket(f"/terminals/websocket/{name}") as channel:
            yield Terminal(channel)
        self.api("DELETE", f"/terminals/{name}")


@dataclass
class Ran:
    """What came of a cell."""

    status: str = "none"
    outputs: list[dict] = field(default_factory=list)

    @property
    def printed(self):
        """What it wrote on standard output."""
        return "".join(o["text"] for o in self.outputs if (o["kind"], o.get("name")) == PRINTED)

    @property
    def value(self):
        """The text of the last line's value."""
        return next((o["data"]["text/plain"] for o in self.outputs if o["kind"] == RESULT), None)

    @property
    def error(self):
        """What it failed with, and everything it said."""
        errors = (o for o in self.outputs if o["kind"] == "error")
        said = "".join(f"{e['ename']}: {e['evalue']}\n" for e in errors)
        return said + "".join(o.get("text", "") for o in self.outputs)


PRINTED = ("stream", "stdout")
RESULT = "execute_result"


class Kernel:
    """A kernel, spoken to over its server's websocket."""

    def __init__(self, person, session):
        self.person = person
        self.session = session
        self.id = session["kernel"]["id"]
        self.name = uuid.uuid4().hex
        self.statuses = []
        self.way = contextlib.ExitStack()
        self.channel = None
        self.open()

    def open(self):
        """Connect, and see that it answers."""
        self.connect()
        wait("the kernel", self.answers, KERNEL)

    def connect(self):
        self.way.close()
        way = self.person.socket(f"/api/kernels/{self.id}/channels", session_id=self.name)
        self.channel = self.way.enter_context(way)

    def answers(self):
        """Whether the kernel says what it is; connects anew where the server hung up."""
        wanted = "kernel_info_reply"
        try:
            asked = self.send("kernel_info_request", {})
            return wanted in {m["msg_type"] for m in self.listen(10, asked, until={wanted})}
        except ConnectionClosed:
            self.connect()
            return False

    def send(self, kind, content, channel="shell"):
        """Send a message; returns its number."""
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": kind, "username": "", "session": self.name}
        header |= {"version": "5.3", "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.channel.send(json.dumps({**message, "channel": channel, "buffers": []}))
        return number

    def listen(self, seconds, number=None, until=()):
        """Messages, those that answer one of ours, until one of a kind comes or time is up."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                text = self.channel.recv(timeout=left)
            except TimeoutError:
                return
            if not isinstance(text, str):
                continue
            message = json.loads(text)
            if message["msg_type"] == "status":
                self.statuses.append(message["content"]["execution_state"])
            if number and message["parent_header"].get("msg_id") != number:
                continue
            yield message
            if message["msg_type"] in until:
                return

    def run(self, source, seconds=CELL, interrupt=False):
        """Run a cell, to its reply and the kernel's rest; or interrupt it when it has printed."""
        ran = Ran()
        words = {"code": source, "silent": False, "store_history": True, "allow_stdin": False}
        number = self.send(
            "execute_request", {**words, "user_expressions": {}, "stop_on_error": True}
        )
        idle = False
        for message in self.listen(seconds, number):
            kind, content = message["msg_type"], message["content"]
            if kind == "execute_reply":
                ran.status = content["status"]
            elif kind == "status":
                idle = content["execution_state"] == "idle"
            elif kind in ("stream", "execute_result", "display_data", "error"):
                ran.outputs.append({"kind": kind, **content})
                if interrupt and ran.printed:
                    interrupt = False
                    self.person.well("POST", f"/kernels/{self.id}/interrupt")
            if idle and ran.status != "none":
                return ran
        raise AssertionError(f"no end within {seconds} s of: {source}\n{ran}")

    def ok(self, source):
        """Run a cell that must succeed; returns what it printed, or its value."""
        ran = self.run(source)
        assert ran.status == "ok", f"{source}\n{ran.error}"
        return ran.printed or ran.value

    def state(self):
        """What the server says of it; nothing once the server forgot it."""
        answer = self.person.api("GET", f"/kernels/{self.id}")
        return answer.json()["execution_state"] if answer.status_code == 200 else None

    def hears(self, states, seconds=KERNEL):
        """Wait until the server tells the notebook of one of these states."""
        deadline = time.monotonic() + seconds
        while not set(self.statuses) & set(states):
            assert time.monotonic() < deadline, self.statuses
            try:
                for _message in self.listen(5):
                    pass
            except ConnectionClosed:
                break
        return self.statuses

    def restart(self):
        """Restart it, as the notebook's button does."""
        answer = self.person.web.post(
            f"{self.person.base}/api/kernels/{self.id}/restart",
            headers={"X-XSRFToken": self.person.cookie("_xsrf", f"{self.person.base}/")},
            timeout=KERNEL,
        )
        assert answer.status_code == 200, answer.text
        self.statuses.clear()
        self.open()

    def end(self):
        """Close the notebook and end its kernel."""
        self.way.close()
        self.person.api("DELETE", f"/sessions/{self.session['id']}")


class Terminal:
    """A shell in a terminal of a server."""

    def __init__(self, channel):
        self.channel = channel
        self.channel.send(json.dumps(["set_size", 200, 500, 2000, 4000]))

    def run(self, command, *typed, seconds=CELL):
        """Type a command and lines for it, wait for its end; returns rc and what was shown."""
        mark = uuid.uuid4().hex
        line = f"{command}; printf '%s=%s.\\n' {mark} $?\r"
        for text in (line, *(f"{words}\r" for words in typed)):
            self.channel.send(json.dumps(["stdin", text]))
        seen, deadline = "", time.monotonic() + seconds
        while not (end := re.search(rf"{mark}=(\d+)\.", seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"no end within {seconds} s of: {command}\n{seen}"
            with contextlib.suppress(TimeoutError):
                kind, *words = json.loads(self.channel.recv(timeout=left))
                seen += words[0] if kind == "stdout" else ""
        return SimpleNamespace(rc=int(end[1]), out=plain(seen[: end.start()]))


def plain(text):
    """A terminal's text without its colours."""
    return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|\][^\x07]*\x07)", "", text).replace("\r", "")


def notebook(path):
    """A notebook's cells of code, by their names."""
    cells = json.loads(path.read_text())["cells"]
    return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}


@contextlib.contextmanager
def at_hub(cluster):
    """The hub, while the lab's names resolve here."""
    with names_resolve():
        yield Hub(cluster)
