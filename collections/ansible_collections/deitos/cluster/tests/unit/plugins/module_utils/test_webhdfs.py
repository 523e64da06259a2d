"""WebHDFS: the active NameNode, DataNodes over TLS, clear errors, few requests, safe order."""

from __future__ import annotations

import concurrent.futures
import json
import re
import sys
import threading
from pathlib import Path

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import report, spnego, webhdfs
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

sys.path.insert(0, str(Path(__file__).parent))
from https_server import Login, Server, kerberized


def remote(kind, message, status=403):
    """An error answer of WebHDFS."""
    body = {"RemoteException": {"exception": kind, "javaClassName": kind, "message": message}}
    return status, [], json.dumps(body).encode()


@pytest.mark.parametrize(
    ("kind", "message", "problem", "told"),
    [
        ("AccessControlException", "Permission denied: user=x", webhdfs.PermissionDenied, "me"),
        ("AuthorizationException", "may not impersonate", webhdfs.PermissionDenied, "keytab"),
        ("StandbyException", "not supported in state standby", webhdfs.Standby, "nn1"),
        ("SafeModeException", "Cannot create /x.", webhdfs.SafeMode, "safemode get"),
        ("RetriableException", "Name node is in safe mode.", webhdfs.SafeMode, "safe mode"),
        ("FileNotFoundException", "File does not exist: /x", webhdfs.NotFound, "again (File"),
        ("SnapshotException", "/x has snapshots", webhdfs.RemoteProblem, "delete the snapshots"),
        ("IOException", "no space", webhdfs.RemoteProblem, "no space (the log of nn1 says more)"),
        ("NSQuotaExceededException", "quota=1", webhdfs.QuotaExceeded, "name_quota"),
        ("DSQuotaExceededException", "quota=1", webhdfs.QuotaExceeded, "space_quota"),
        ("AclException", "Invalid ACL", webhdfs.RemoteProblem, "AclException: Invalid ACL"),
    ],
)
def test_what_the_namenode_says(kind, message, problem, told):
    status, _headers, body = remote(kind, message)
    found = webhdfs.remote_problem(status, body, "me", "nn1")
    assert type(found) is problem and told in str(found)


def test_an_answer_that_is_not_webhdfs():
    found = webhdfs.remote_problem(502, b"<html>Bad gateway</html>", "me", "nn1")
    assert "nn1 answered HTTP 502" in str(found)


def test_a_java_stack_is_not_told():
    message = "The quota is exceeded\n\tat org.apache.Some.method(Some.java:1)\n\tat x.Y$Z.m(Y:2)"
    assert webhdfs.told(message) == "The quota is exceeded"


class Node:
    """A NameNode that is what `state` says, and knows one directory."""

    def __init__(self, state="active"):
        self.state = state

    def __call__(self, request):
        if self.state == "standby":
            return remote("StandbyException", "Operation is not supported in state standby")
        if self.state == "silent":
            return None, [], b""
        if "op=GETACLSTATUS" in request.path:
            if "/none" in request.path:
                return remote("FileNotFoundException", "File does not exist", 404)
            (group,) = re.findall(r"/d(\d+)\?", request.path)
            return 200, [], json.dumps({"AclStatus": {"group": group}}).encode()
        if "op=MKDIRS" in request.path:
            return 200, [], b'{"boolean": true}'
        return 200, [], b'{"FileStatus": {"type": "DIRECTORY"}}'


@pytest.fixture
def cluster(authority):
    """Calls cluster(*nodes): an HDFS of these NameNodes, and their servers."""
    started = []

    def start(*nodes):
        key, certificate = authority.issue("nn", ["localhost"])
        servers = [Server(key, certificate, kerberized(node)) for node in nodes]
        started.extend(servers)
        client = spnego.Client(Login(), str(authority.certificate), timeout=5)
        hdfs = webhdfs.WebHdfs([server.url for server in servers], client, 2)
        return hdfs, servers

    yield start
    for server in started:
        server.stop()


def test_a_standby_leads_to_the_other_which_is_then_kept(cluster):
    hdfs, (standby, active) = cluster(Node("standby"), Node())
    for _ in range(3):
        assert hdfs.status("/x")["type"] == "DIRECTORY"
    assert len(standby.seen) == 1 and len(active.seen) == 3


def test_a_failover_in_the_middle(cluster):
    first, second = Node(), Node("standby")
    hdfs, _servers = cluster(first, second)
    hdfs.status("/x")
    first.state, second.state = "standby", "active"
    assert hdfs.put("/x", "MKDIRS") == {"boolean": True}


def test_a_dead_namenode_leads_to_the_other(cluster):
    hdfs, (dead, _active) = cluster(Node(), Node())
    dead.stop()
    assert hdfs.put("/x", "MKDIRS") == {"boolean": True}


def test_only_standbys(cluster):
    hdfs, _servers = cluster(Node("standby"), Node("standby"))
    with pytest.raises(webhdfs.Standby, match="haadmin"):
        hdfs.status("/x")


def test_all_dead(cluster):
    hdfs, servers = cluster(Node(), Node())
    for server in servers:
        server.stop()
    with pytest.raises(spnego.Unreachable, match=r"no NameNode can be used: .*;"):
        hdfs.status("/x")


def test_what_may_have_been_done_is_not_done_again_elsewhere(cluster):
    hdfs, (_silent, other) = cluster(Node("silent"), Node())
    with pytest.raises(spnego.Interrupted):
        hdfs.put("/x", "CREATESNAPSHOT", snapshotname="s")
    assert other.seen == []
    assert hdfs.put("/x", "MKDIRS") == {"boolean": True}


def test_many_acls_are_asked_for_at_once(cluster):
    hdfs, (server,) = cluster(Node())
    hdfs.status("/")
    paths = [f"/a b/d{n}" for n in range(200)]
    paths[70] = "/none"
    found = hdfs.acls_of(paths)
    assert isinstance(found.pop(70), webhdfs.NotFound)
    assert [acl["group"] for acl in found] == [str(n) for n in range(200) if n != 70]
    # Once each, and once more what had gone wrong; on connections that are then used on.
    assert len(server.seen) == 1 + 200 + 1 and server.connections <= 3
    assert hdfs.status("/") and server.connections <= 3


def test_further_connections_go_on_with_the_tls_session_of_the_first(cluster):
    both = threading.Barrier(2, timeout=10)

    class Meeting(Node):
        def __call__(self, request):
            if "op=MKDIRS" in request.path:
                # So that two connections are needed at once.
                both.wait()
            return super().__call__(request)

    hdfs, (server,) = cluster(Meeting())
    hdfs.status("/")
    hdfs.map(lambda path: hdfs.put(path, "MKDIRS"), ["/a", "/b"])
    login, *others = server.seen
    assert not login.resumed and any(request.resumed for request in others)


def test_many_acls_without_a_login_yet(cluster):
    hdfs, (_standby, _active) = cluster(Node("standby"), Node())
    assert [acl["group"] for acl in hdfs.acls_of(["/d1", "/d2"])] == ["1", "2"]


def test_many_acls_of_a_server_that_hangs_up(cluster):
    class Forgetful(Node):
        asked = 0

        def __call__(self, request):
            self.asked += 1
            # Twice after an answer, and once before one.
            if self.asked in (5, 9):
                request.close_connection = True
            return (None, [], b"") if self.asked == 40 else super().__call__(request)

    hdfs, (_server,) = cluster(Forgetful())
    hdfs.status("/")
    found = hdfs.acls_of([f"/d{n}" for n in range(100)])
    assert [acl["group"] for acl in found] == [str(n) for n in range(100)]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Header: %x\r\n\r\n%b",
        b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%b",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 200_000 + b"\r\nContent-Length: %d\r\n\r\n%b",
    ],
    ids=["in chunks", "until it hangs up", "of an older protocol", "endless headers"],
)
def test_many_acls_in_answers_of_another_form(cluster, answer):
    class Odd(Node):
        def __call__(self, request):
            status, headers, body = super().__call__(request)
            if "op=GETACLSTATUS" not in request.path:
                return status, headers, body
            request.wfile.write(answer % (len(body), body))
            return None, [], b""

    hdfs, _servers = cluster(Odd())
    hdfs.status("/x")
    found = hdfs.acls_of(["/d1", "/d2", "/d3"])
    if b"X-Long" in answer:
        assert all("header line" in str(problem) for problem in found)
    else:
        assert [acl["group"] for acl in found] == ["1", "2", "3"]


def test_many_acls_after_a_failover(cluster):
    first, second = Node(), Node("standby")
    hdfs, _servers = cluster(first, second)
    hdfs.status("/x")
    first.state, second.state = "standby", "active"
    found = hdfs.acls_of([f"/d{n}" for n in range(50)])
    assert [acl["group"] for acl in found] == [str(n) for n in range(50)]


def test_no_endpoint():
    with pytest.raises(Problem, match="endpoints"):
        webhdfs.WebHdfs([], None)


def test_names_are_quoted(cluster):
    hdfs, (server,) = cluster(Node())
    hdfs.status("/a b/c%d?e#f&g+h;é")
    assert server.seen[0].path.startswith(
        "/webhdfs/v1/a%20b/c%25d%3Fe%23f%26g%2Bh%3B%C3%A9?op=GETFILESTATUS"
    )


def test_a_file_goes_to_the_datanode_without_a_ticket(cluster, authority):
    key, certificate = authority.issue("dn", ["localhost"])
    datanode = Server(key, certificate, lambda _request: (201, [], b""))
    location = f"{datanode.url}/webhdfs/v1/x?op=CREATE&delegation=secret"
    hdfs, (namenode,) = cluster(lambda _r: (200, [], json.dumps({"Location": location}).encode()))
    hdfs.create("/x", b"content", overwrite="false")
    assert "noredirect=true" in namenode.seen[0].path and namenode.seen[0].sent == b""
    assert datanode.seen[0].sent == b"content"
    assert "Authorization" not in datanode.seen[0].headers
    datanode.stop()


def test_a_datanode_that_cannot_be_trusted_gets_nothing(cluster, stranger):
    key, certificate = stranger.issue("dn", ["localhost"])
    datanode = Server(key, certificate, lambda _request: (201, [], b""))
    location = f"{datanode.url}/webhdfs/v1/x?op=CREATE&delegation=secret"
    hdfs, _servers = cluster(lambda _r: (200, [], json.dumps({"Location": location}).encode()))
    with pytest.raises(spnego.CertificateProblem, match="DataNode: the certificate") as caught:
        hdfs.create("/x", b"content")
    assert datanode.seen == [] and "secret" not in str(caught.value)
    datanode.stop()


def test_a_datanode_without_tls_gets_nothing(cluster):
    location = "http://localhost:9864/webhdfs/v1/x?delegation=secret"
    hdfs, _servers = cluster(lambda _r: (200, [], json.dumps({"Location": location}).encode()))
    with pytest.raises(Problem, match="HTTPS_ONLY") as caught:
        hdfs.create("/x", b"content")
    assert "secret" not in str(caught.value)


def test_a_datanode_that_fails_is_named(cluster, authority):
    key, certificate = authority.issue("dn", ["localhost"])
    datanode = Server(key, certificate, lambda _r: remote("IOException", "disk full", 500))
    hdfs, _servers = cluster(
        lambda _r: (200, [], json.dumps({"Location": f"{datanode.url}/x"}).encode())
    )
    with pytest.raises(webhdfs.RemoteProblem, match="IOException: disk full"):
        b"".join(hdfs.read("/x"))
    datanode.stop()


def test_a_file_is_sent_as_it_is_read(cluster, authority, tmp_path):
    content = bytes(range(256)) * (1 << 14)
    (tmp_path / "large").write_bytes(content)
    key, certificate = authority.issue("dn", ["localhost"])
    datanode = Server(key, certificate, lambda _request: (201, [], b""))
    hdfs, _servers = cluster(
        lambda _r: (200, [], json.dumps({"Location": f"{datanode.url}/x"}).encode())
    )
    largest = 0

    class File:
        """A file that notes how much of it is held at once."""

        def __init__(self, file):
            self.fileno = file.fileno
            self.file = file

        def read(self, size=-1):
            nonlocal largest
            piece = self.file.read(size)
            largest = max(largest, len(piece))
            return piece

    with (tmp_path / "large").open("rb") as file:
        hdfs.create("/x", File(file))
    (seen,) = datanode.seen
    assert seen.sent == content and seen.headers["Content-Length"] == str(len(content))
    assert 0 < largest <= spnego.UPLOAD_BLOCK
    datanode.stop()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_datanode_that_breaks_off(cluster, authority, chunked):
    def answer(request):
        if "op=CREATE" in request.path:
            return 201, [], b""
        request.send_response(200)
        if chunked:
            request.send_header("Transfer-Encoding", "chunked")
        else:
            request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"a\r\npart" if chunked else b"part")
        return None, [], b""

    key, certificate = authority.issue("dn", ["localhost"])
    datanode = Server(key, certificate, answer)
    hdfs, _servers = cluster(
        lambda r: (200, [], json.dumps({"Location": f"{datanode.url}{r.path}"}).encode())
    )
    with pytest.raises(spnego.Interrupted, match="broke off in the middle"):
        b"".join(hdfs.read("/x"))
    # The next file gets a connection of its own.
    hdfs.create("/y", b"content")
    assert datanode.connections == 2
    datanode.stop()


def test_an_answer_that_is_no_json(cluster):
    hdfs, _servers = cluster(lambda _r: (200, [], b"<html><p>Welcome</p></html>"))
    with pytest.raises(Problem, match=r"nothing between\? \(Welcome\)"):
        hdfs.status("/x")
    answers = hdfs.acls_of(["/x", "/y"])
    assert all("Welcome" in str(answer) for answer in answers)


SITE = """<configuration>{}</configuration>"""


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"dfs.namenode.https-address": "nn:9871"}, ["https://nn:9871"]),
        (
            {
                "dfs.nameservices": "c1, c2",
                "dfs.ha.namenodes.c1": "nn1, nn2",
                "dfs.namenode.https-address.c1.nn1": "a:9871",
                "dfs.namenode.https-address.c1.nn2": "b:9871",
                "dfs.namenode.https-address.c2.nn1": "x:9871",
            },
            ["https://a:9871", "https://b:9871"],
        ),
        (
            {"dfs.nameservices": "c1", "dfs.namenode.https-address.c1": "a:9871"},
            ["https://a:9871"],
        ),
    ],
)
def test_endpoints_of_a_configuration(tmp_path, values, wanted):
    items = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>"
        for name, value in values.items()
    )
    (tmp_path / "hdfs-site.xml").write_text(SITE.format(items))
    assert webhdfs.endpoints_of(str(tmp_path)) == wanted


@pytest.mark.parametrize("text", [None, "not XML", SITE.format("")])
def test_no_endpoints_in_a_configuration(tmp_path, text):
    if text is not None:
        (tmp_path / "hdfs-site.xml").write_text(text)
    with pytest.raises(Problem, match="'endpoints'"):
        webhdfs.endpoints_of(str(tmp_path))


@pytest.mark.parametrize(("path", "plain"), [("/", "/"), ("/a/b", "/a/b"), ("/a/b/", "/a/b")])
def test_paths(path, plain):
    assert webhdfs.check_path(path) == plain


@pytest.mark.parametrize(
    "path", ["", "a", "hdfs://x/y", "/a//b", "/a/../b", "/./a", "/a:b", "/a\nb"]
)
def test_bad_paths(path):
    with pytest.raises(Problem):
        webhdfs.check_path(path)


class Namespace:
    """An HDFS in memory that counts what it is asked."""

    def __init__(self, **sizes):
        self.sizes = sizes
        self.asked = []

    def map(self, function, items):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(function, items))

    def _directory(self, children=0):
        return {"type": "DIRECTORY", "permission": "755", "childrenNum": children}

    def status(self, path):
        self.asked.append(("status", path))
        parts = path.strip("/").split("/")
        if path == "/":
            return self._directory(len(self.sizes))
        if parts[0] not in self.sizes:
            return None
        if len(parts) == 1:
            return self._directory(self.sizes[parts[0]])
        return self._directory() if int(parts[1]) < self.sizes[parts[0]] else None

    def listing(self, path):
        self.asked.append(("listing", path))
        return {str(n): self._directory() for n in range(self.sizes[path.strip("/")])}


def test_a_thousand_paths_of_one_directory_cost_two_requests():
    hdfs = Namespace(user=1000)
    tree = webhdfs.Statuses(hdfs)
    tree.load([f"/user/{n}" for n in range(1001)])
    assert sorted(hdfs.asked) == [("listing", "/user"), ("status", "/user")]
    assert tree.get("/user/999") and tree.get("/user/1000") is None


def test_a_huge_directory_is_not_listed_for_a_few():
    hdfs = Namespace(user=1000000)
    webhdfs.Statuses(hdfs).load([f"/user/{n}" for n in range(10)])
    assert ("listing", "/user") not in hdfs.asked and len(hdfs.asked) == 11


def test_what_is_in_no_directory_is_not_asked_for():
    hdfs = Namespace()
    tree = webhdfs.Statuses(hdfs)
    tree.load([f"/none/{n}" for n in range(100)])
    assert hdfs.asked == [("status", "/none")] and tree.get("/none/5") is None


def test_the_root_is_looked_up_itself():
    # It would be sought among its own names, and taken to be missing.
    hdfs = Namespace(a=0, b=0, c=0, d=0, e=0)
    hdfs.listing = lambda _path: dict.fromkeys("abcde", hdfs.status("/a"))
    tree = webhdfs.Statuses(hdfs)
    tree.load(["/", "/a", "/b", "/c", "/d", "/e"])
    assert tree.get("/")["childrenNum"] == 5 and tree.get("/e") and not tree.is_gone("/")
    assert webhdfs.parent_of("/") == "/" and webhdfs.join("/", "a") == "/a"


def test_a_planned_removal_hides_all_below():
    hdfs = Namespace(user=10)
    tree = webhdfs.Statuses(hdfs)
    assert tree.get("/user/1")
    tree.remove("/user")
    assert tree.get("/user") is None and tree.get("/user/1") is None
    assert tree.get("/user/2") is None and ("status", "/user/2") not in hdfs.asked
    tree.add("/user", {"type": "DIRECTORY", "new": True})
    assert tree.get("/user") and tree.get("/user/3") is None


class Change:
    """A change that notes when it began and ended."""

    log = None

    def __init__(self, path, fails=False):
        self.path = path
        self.fails = fails

    def run(self, _hdfs):
        with self.log_lock:
            self.log.append(("begin", self.path))
        if self.fails:
            raise Problem("it failed")
        with self.log_lock:
            self.log.append(("end", self.path))


class Pool:
    """What run_in_order needs of an HDFS."""

    def map(self, function, items):
        def guarded(item):
            try:
                return function(item)
            except Problem as problem:
                return problem

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(guarded, items))


@pytest.fixture
def log(monkeypatch):
    log = []
    monkeypatch.setattr(Change, "log", log)
    monkeypatch.setattr(Change, "log_lock", threading.Lock(), raising=False)
    return log


def test_what_touches_is_done_in_order(log):
    paths = ["/a", "/a/b", "/c", "/a/b/d", "/a", "/c/x", "/"]
    outcome = webhdfs.run_in_order(Pool(), [Change(path) for path in paths])
    assert [change.path for change, problem in outcome if problem is None] == paths
    begun = {}
    for number, (event, path) in enumerate(log):
        begun.setdefault(path, []).append((event, number))
    end = {path: [n for event, n in events if event == "end"] for path, events in begun.items()}
    start = {path: [n for event, n in events if event == "begin"] for path, events in begun.items()}
    assert end["/a"][0] < start["/a/b"][0] < end["/a/b"][0] < start["/a/b/d"][0]
    assert end["/a/b/d"][0] < start["/a"][1]
    assert max(end["/a"] + end["/c/x"]) < start["/"][0]


def test_a_failure_stops_only_what_needs_it(log):
    changes = [Change("/a", fails=True), Change("/a/b"), Change("/a/b/c"), Change("/d")]
    problems = {
        change.path: str(problem)
        for change, problem in webhdfs.run_in_order(Pool(), changes)
        if problem
    }
    assert problems["/a"] == "it failed"
    assert problems["/a/b"] == "not tried, because /a failed"
    assert "/d" not in problems and ("begin", "/a/b/c") not in log


def test_items_take_what_they_do_not_say_from_the_task():
    params = {"paths": [{"path": "/a", "mode": None}, {"path": "/b", "mode": "1"}], "mode": "7"}
    params |= {"path": None, "state": None, "many": None}
    merged = report.merge(params, "paths", ["path", "mode", "state"], {"state": "present"})
    assert merged == [
        {"path": "/a", "mode": "7", "state": "present"},
        {"path": "/b", "mode": "1", "state": "present"},
    ]
