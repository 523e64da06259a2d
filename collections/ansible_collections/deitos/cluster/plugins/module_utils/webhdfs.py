# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""HDFS over WebHDFS: the active NameNode of several, verified redirects, clear errors."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import socket
import urllib.parse
import xml.etree.ElementTree

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import spnego
from ansible_collections.deitos.cluster.plugins.module_utils.report import (
    PathReport,
    Problem,
    merge,
)

PREFIX = "/webhdfs/v1"
MOST_TOLD = 1000
# What may be sent twice: the second time it changes nothing.
REPEATABLE = {
    "MKDIRS",
    "SETOWNER",
    "SETPERMISSION",
    "SETREPLICATION",
    "SETTIMES",
    "SETQUOTA",
    "SETSTORAGEPOLICY",
    "UNSETSTORAGEPOLICY",
    "SETECPOLICY",
    "UNSETECPOLICY",
    "ALLOWSNAPSHOT",
    "SETACL",
    "MODIFYACLENTRIES",
    "REMOVEACLENTRIES",
    "REMOVEACL",
    "REMOVEDEFAULTACL",
    "DELETE",
}

ARGUMENTS = {
    "endpoints": {"type": "list", "elements": "str"},
    "keytab": {"type": "path", "default": "/etc/security/keytabs/hdfs.keytab", "no_log": False},
    "principal": {"type": "str"},
    "ca_path": {"type": "path", "default": spnego.DEFAULT_CA_PATH},
    "conf_dir": {"type": "path", "default": "/etc/hadoop"},
    "timeout": {"type": "int", "default": 60},
    "parallel": {"type": "int", "default": 4},
}


class PermissionDenied(Problem):
    """HDFS does not let this caller do that."""


class SafeMode(Problem):
    """The NameNode takes no changes."""


class Standby(Problem):
    """Every NameNode that answers is a standby."""


class NotFound(Problem):
    """There is no such path."""


class QuotaExceeded(Problem):
    """A quota would be exceeded."""


class RemoteProblem(Problem):
    """Any other exception of the server; `kind` is its Java name."""

    def __init__(self, message, kind=None):
        super().__init__(message)
        self.kind = kind


# What to do about the server's exceptions that have no class of their own.
ADVICE = {
    "MaxDirectoryItemsExceededException": "spread the names over directories",
    "ParentNotDirectoryException": "a directory above is a file: remove it, or use another path",
    "RetriableException": "the server is not ready yet: run the task again",
    "SnapshotException": "delete the snapshots that are in the way, or allow them first",
}


def told(message):
    """A server's message as one line, without the Java stack that some have."""
    lines = str(message).splitlines()
    kept = [line.strip() for line in lines if not re.match(r"\s*at [\w.$/]+\(", line)]
    return " ".join(" ".join(kept).split())[:MOST_TOLD]


def remote_problem(status, body, who, host):
    """The Problem that an error answer of WebHDFS stands for."""
    try:
        remote = json.loads(body)["RemoteException"]
        kind, text = remote["exception"], told(remote.get("message"))
    except (ValueError, KeyError, TypeError):
        text = " ".join(body.decode("utf-8", "replace").split())[: spnego.EXCERPT]
        return RemoteProblem(f"{host} answered HTTP {status}: {text}")
    if kind == "StandbyException":
        return Standby(f"{host} is a standby NameNode")
    if "safe mode" in text.lower() or kind == "SafeModeException":
        return SafeMode(
            "the NameNode is in safe mode: wait until enough DataNodes have reported (see"
            f" 'hdfs dfsadmin -safemode get'), or leave it if somebody entered it ({text[:200]})"
        )
    if kind in ("AccessControlException", "AuthorizationException", "SecurityException"):
        return PermissionDenied(
            f"HDFS refuses {who}: use the keytab of a user who may, such as the NameNode's own"
            f" ({text})"
        )
    if kind == "FileNotFoundException":
        return NotFound(
            f"what this needs is not there: if somebody removes it meanwhile, stop that, then run"
            f" the task again ({text})"
        )
    if "QuotaExceeded" in kind or "QuotaByStorageTypeExceeded" in kind:
        return QuotaExceeded(
            f"a quota would be exceeded: remove something, or raise it with name_quota or"
            f" space_quota ({text})"
        )
    advice = ADVICE.get(kind, f"the log of {host} says more")
    return RemoteProblem(f"{kind}: {text} ({advice})", kind)


class WebHdfs:
    """One HDFS, through whichever of its NameNodes is active."""

    # How many questions a connection takes before their answers are read.
    AHEAD = 32

    def __init__(self, endpoints, client, parallel=4):
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        if not self.endpoints:
            raise Problem("no NameNode is named: give 'endpoints', such as https://nn1:9871")
        self.client = client
        self._active = 0
        self._pool = concurrent.futures.ThreadPoolExecutor(max(1, parallel))

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.client.close()

    def map(self, function, items):
        """The function's value, or the Problem it raised, for each item; done side by side."""

        def guarded(item):
            try:
                return function(item)
            except Problem as problem:
                return problem

        return list(self._pool.map(guarded, items))

    def call(self, method, path, op, **parameters):
        """One operation; returns the decoded answer."""
        return self._decode(self._ask(method, path, op, parameters))

    def get(self, path, op, **parameters):
        """A reading operation."""
        return self.call("GET", path, op, **parameters)

    def put(self, path, op, **parameters):
        """A changing operation."""
        return self.call("PUT", path, op, **parameters)

    @staticmethod
    def _decode(response):
        try:
            return json.loads(response.body) if response.body else {}
        except ValueError:
            raise Problem(
                "the answer is not WebHDFS': is this address a NameNode's, with nothing between?"
                f" ({response.text()})"
            ) from None

    @staticmethod
    def _target(path, op, parameters):
        query = urllib.parse.urlencode(
            {"op": op, **{key: value for key, value in parameters.items() if value is not None}}
        )
        return f"{PREFIX}{urllib.parse.quote(path, safe='/')}?{query}"

    def _ask(self, method, path, op, parameters):
        """Ask the active NameNode; a standby's answer or a dead host leads to the next one."""
        target = self._target(path, op, parameters)
        repeatable = method == "GET" or op in REPEATABLE
        problems = []
        first = self._active
        for turn in range(len(self.endpoints)):
            number = (first + turn) % len(self.endpoints)
            try:
                response = self._ask_one(method, self.endpoints[number], target, repeatable)
            except spnego.Interrupted as problem:
                if not repeatable:
                    raise
                problems.append(problem)
            except (spnego.Unreachable, Standby) as problem:
                problems.append(problem)
            else:
                self._active = number
                return response
        if all(isinstance(problem, Standby) for problem in problems):
            raise Standby(
                "no NameNode is active ("
                + "; ".join(str(problem) for problem in problems)
                + "): see 'hdfs haadmin -getAllServiceState', and list all of them in 'endpoints'"
            )
        if len(problems) == 1:
            raise problems[0]
        raise spnego.Unreachable(
            "no NameNode can be used: " + "; ".join(str(problem) for problem in problems)
        )

    def _ask_one(self, method, endpoint, target, repeatable):
        response = self.client.request(method, endpoint + target, repeat=repeatable)
        if response.status in (200, 201):
            return response
        host = urllib.parse.urlsplit(endpoint).netloc
        raise remote_problem(response.status, response.body, self.client.login.who, host)

    # Statuses

    def status(self, path):
        """The status of a path; None when nothing is there."""
        try:
            return self.get(path, "GETFILESTATUS")["FileStatus"]
        except NotFound:
            return None

    def listing(self, path):
        """{name: status} of what is in a directory."""
        statuses = self.get(path, "LISTSTATUS")["FileStatuses"]["FileStatus"]
        return {status["pathSuffix"]: status for status in statuses}

    def acl(self, path):
        """The AclStatus of a path."""
        return self.get(path, "GETACLSTATUS")["AclStatus"]

    def acls_of(self, paths):
        """The AclStatus, or the Problem of asking for it, of each of many paths."""
        groups = [paths[start : start + self.AHEAD] for start in range(0, len(paths), self.AHEAD)]
        found = [answer for group in self._pool.map(self._acls_ahead, groups) for answer in group]
        # What went wrong shows its cause, or goes right, when it is asked for by itself.
        rest = [place for place, answer in enumerate(found) if answer is None]
        for place, answer in zip(rest, self.map(self.acl, [paths[place] for place in rest])):
            found[place] = answer
        return found

    def _acls_ahead(self, paths):
        endpoint = self.endpoints[self._active]
        try:
            answers = self.client.ahead(
                [endpoint + self._target(path, "GETACLSTATUS", {}) for path in paths]
            )
            found = [
                self._decode(answer)["AclStatus"] if answer.status == 200 else None
                for answer in answers
            ]
        except Problem:
            found = []
        return found + [None] * (len(paths) - len(found))

    # Contents: the NameNode says where, the DataNode is reached over TLS like everybody else.

    def _location(self, method, path, op, parameters):
        answer = self._decode(self._ask(method, path, op, {**parameters, "noredirect": "true"}))
        location = answer.get("Location", "")
        if not location.startswith("https://"):
            raise Problem(
                f"the NameNode sends the content of {path} to '{spnego.shown(location)}', which is"
                " not https: set dfs.http.policy to HTTPS_ONLY on the DataNodes"
            )
        return location

    def _at_datanode(self, method, location, **how):
        try:
            return self.client.request(method, location, negotiate=False, **how)
        except spnego.Unreachable as problem:
            raise spnego.Unreachable(f"DataNode: {problem}") from None
        except spnego.CertificateProblem as problem:
            raise spnego.CertificateProblem(f"DataNode: {problem}") from None

    def create(self, path, body, **parameters):
        """Write a file; body is bytes or an open file."""
        location = self._location("PUT", path, "CREATE", parameters)
        headers = {"Content-Type": "application/octet-stream"}
        if not isinstance(body, bytes):
            headers["Content-Length"] = str(os.fstat(body.fileno()).st_size)
        response = self._at_datanode("PUT", location, body=body, headers=headers)
        if response.status != 201:
            raise self._datanode_problem(location, response.status, response.body)

    def read(self, path):
        """The content of a file, in pieces."""
        location = self._location("GET", path, "OPEN", {})
        response = self._at_datanode("GET", location, stream=True, repeat=True)
        if response.status != 200:
            body = b"".join(response.chunks())
            raise self._datanode_problem(location, response.status, body)
        yield from response.chunks()

    def _datanode_problem(self, location, status, body):
        host = urllib.parse.urlsplit(location).netloc
        return remote_problem(status, body, self.client.login.who, f"DataNode {host}")


# What the modules share


def manage(plural, options, defaults, item_of, reconcile, **extra):
    """A module that brings one path, or the list of `plural`, into the wanted state.

    `item_of` checks an item's options, `reconcile` does the work of all good ones, and `extra` is
    what the module returns besides its changes.
    """
    module = AnsibleModule(
        argument_spec={
            plural: {"type": "list", "elements": "dict", "options": options},
            **{
                key: {**spec, "default": defaults[key]} if key in defaults else spec
                for key, spec in options.items()
            },
            **ARGUMENTS,
        },
        mutually_exclusive=[("path", plural)],
        required_one_of=[("path", plural)],
        supports_check_mode=True,
    )
    report = PathReport(module)
    report.extra.update(extra)
    try:
        items = {}
        for item in merge(module.params, plural, options, defaults):
            with report.item(item["path"]):
                wanted = item_of(item)
                if wanted.path in items:
                    raise Problem("this path is listed twice")
                items[wanted.path] = wanted
        with connect(module) as hdfs:
            reconcile(module, report, hdfs, list(items.values()))
    except Problem as problem:
        report.fail(str(problem))
    report.exit()


def connect(module):
    """The HDFS that a module's options name."""
    spnego.require(module)
    params = module.params
    if params["parallel"] < 1:
        module.fail_json(msg=f"parallel must be at least 1, not {params['parallel']}")
    if params["timeout"] < 1:
        module.fail_json(msg=f"timeout must be at least 1 second, not {params['timeout']}")
    endpoints = params["endpoints"] or endpoints_of(params["conf_dir"])
    principal = params["principal"] or f"nn/{socket.getfqdn()}"
    login = spnego.Login(params["keytab"], principal)
    client = spnego.Client(login, params["ca_path"], params["timeout"])
    return WebHdfs(endpoints, client, params["parallel"])


def endpoints_of(conf_dir):
    """The NameNodes' HTTPS addresses that a host's own hdfs-site.xml names."""
    path = os.path.join(conf_dir, "hdfs-site.xml")
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except OSError as error:
        raise Problem(
            f"{path} cannot be read ({error.strerror}): name the NameNodes with 'endpoints'"
        ) from None
    except xml.etree.ElementTree.ParseError as error:
        raise Problem(f"{path} is not XML ({error}): name the NameNodes with 'endpoints'") from None
    values = {
        (item.findtext("name") or "").strip(): (item.findtext("value") or "").strip()
        for item in root.iter("property")
    }
    key = "dfs.namenode.https-address"
    services = [name for name in values.get("dfs.nameservices", "").split(",") if name.strip()]
    addresses = []
    for service in map(str.strip, services):
        nodes = values.get(f"dfs.ha.namenodes.{service}", "").split(",")
        names = [f"{key}.{service}.{node.strip()}" for node in nodes if node.strip()]
        addresses += [values[name] for name in names or [f"{key}.{service}"] if name in values]
        if addresses:
            break
    if not addresses and key in values:
        addresses = [values[key]]
    if not addresses:
        raise Problem(f"{path} has no {key}: name the NameNodes with 'endpoints'")
    return [f"https://{address}" for address in addresses]


def check_path(path):
    """The path without a final '/'; a Problem when it is not a plain absolute path."""
    if not path.startswith("/"):
        raise Problem("the path must be absolute, without hdfs://… before it")
    plain = "/" + path.strip("/")
    parts = plain[1:].split("/") if plain != "/" else []
    if any(part in ("", ".", "..") for part in parts):
        raise Problem("the path must not have '//', '.' or '..' in it")
    if any(":" in part or "\0" in part or "\n" in part for part in parts):
        raise Problem("HDFS knows no names with ':' or control characters in them")
    return plain


def parent_of(path):
    """The directory that a path is in; of / it is /."""
    return path.rsplit("/", 1)[0] or "/"


def join(directory, name):
    """The path of a name in a directory."""
    return f"{directory.rstrip('/')}/{name}"


class Statuses:
    """What is known of the paths of one call, fetched in the fewest requests."""

    # A listing is worth it while it has at most this many names for each one wanted.
    WORTH = 50
    FEW = 4

    def __init__(self, hdfs):
        self.hdfs = hdfs
        self.known = {}
        self.gone = set()

    def get(self, path):
        """The status of a path, None when absent; raises the Problem of asking for it."""
        if path not in self.known and self.is_gone(path):
            return None
        if path not in self.known:
            self.load([path])
        found = self.known[path]
        if isinstance(found, Problem):
            raise found
        return found

    def load(self, paths):
        """Fetch these paths' statuses: whole directories where many of them are wanted."""
        paths = [path for path in dict.fromkeys(paths) if path not in self.known]
        families = {}
        for path in paths:
            # The root is in no directory that could be listed.
            if path != "/":
                families.setdefault(parent_of(path), []).append(path)
        many = [
            parent
            for parent, children in families.items()
            if len(children) >= self.FEW and parent not in self.known
        ]
        self.known.update(zip(many, self.hdfs.map(self.hdfs.status, many)))
        listed = [
            parent
            for parent, children in families.items()
            if len(children) >= self.FEW and self._worth(parent, len(children))
        ]
        for parent, names in zip(listed, self.hdfs.map(self.hdfs.listing, listed)):
            if isinstance(names, dict):
                for child in families[parent]:
                    self.known[child] = names.get(child.rsplit("/", 1)[1])
        for parent, children in families.items():
            # What is in no directory is not there.
            if parent in self.known and self.known[parent] is None:
                self.known.update(dict.fromkeys(children))
        rest = [path for path in paths if path not in self.known]
        self.known.update(zip(rest, self.hdfs.map(self.hdfs.status, rest)))

    def _worth(self, parent, wanted):
        status = self.known[parent]
        return (
            isinstance(status, dict)
            and status["type"] == "DIRECTORY"
            and status.get("childrenNum", 0) <= wanted * self.WORTH
        )

    def below(self, path):
        """{path: status} of everything under a directory."""
        found = {}
        todo = [path]
        while todo:
            listings = self.hdfs.map(self.hdfs.listing, todo)
            level, todo = todo, []
            for directory, names in zip(level, listings):
                if isinstance(names, Problem):
                    raise names
                for name, status in names.items():
                    child = join(directory, name)
                    found[child] = status
                    if status["type"] == "DIRECTORY":
                        todo.append(child)
        return found

    # What planned changes make of it

    def add(self, path, status):
        """From here on, a new path."""
        self.known[path] = status

    def remove(self, path):
        """From here on, there is nothing at a path or under it."""
        self.gone.add(path)
        inside = path + "/"
        for known in self.known:
            if known == path or known.startswith(inside):
                self.known[known] = None

    def is_gone(self, path):
        """Whether a planned change removes a path."""
        if not self.gone or self.known.get(path) is not None:
            return False
        while path != "/":
            if path in self.gone:
                return True
            path = parent_of(path)
        return False

    def children(self, path, status):
        """How many names a directory has after the planned changes."""
        removed = sum(1 for gone in self.gone if parent_of(gone) == path)
        added = sum(
            1
            for known, inner in self.known.items()
            if inner
            and not isinstance(inner, Problem)
            and inner.get("new")
            and parent_of(known) == path
        )
        return status.get("childrenNum", 0) - removed + added


class Inherited:
    """A policy that a path has itself or from above, as if the planned changes were done.

    HDFS tells what is in force, not whose it is: below a planned change, what was in force there
    may stay or go, so several policies are possible until it is done.
    """

    def __init__(self, tree, in_force):
        """in_force: what of a status is the policy."""
        self.tree = tree
        self.in_force = in_force
        self.planned = {}

    def get(self, path):
        """The policies of which one will be in force at a path."""
        status = self.tree.get(path)
        if status.get("new"):
            own = self.planned.get(path)
            return own[2] if own else self.get(parent_of(path))
        found = {self.in_force(status)}
        planned = sorted(
            (*self.planned[above], above == path)
            for above in _upwards(path)
            if above in self.planned
        )
        for _turn, before, after, own in planned:
            if own:
                found = after
            elif found & before:
                found = found | after
        return found

    def set(self, path, after):
        """From here on, a path has one of these."""
        self.planned[path] = (len(self.planned), self.get(path), after)


def run_in_order(hdfs, changes):
    """Do the changes, side by side where they do not touch each other; (change, problem) each.

    Two touch when one's path is the other's, or lies under it; then the earlier one goes first,
    and when it fails the later one is not tried.
    """
    waves = []
    turn_of = {}
    inside = {}
    for change in changes:
        above = list(_upwards(change.path))
        turn = max([inside.get(change.path, -1)] + [turn_of.get(path, -1) for path in above]) + 1
        turn_of[change.path] = turn
        for path in above:
            inside[path] = max(inside.get(path, -1), turn)
        if turn == len(waves):
            waves.append([])
        waves[turn].append(change)
    failed = {}

    def run(change):
        cause = next((path for path in _upwards(change.path) if path in failed), None)
        if cause:
            raise Problem(f"not tried, because {cause} failed")
        change.run(hdfs)

    outcomes = {}
    for wave in waves:
        answers = hdfs.map(run, wave)
        for change, answer in zip(wave, answers):
            problem = answer if isinstance(answer, Problem) else None
            outcomes[id(change)] = problem
            if problem:
                failed[change.path] = problem
    return [(change, outcomes[id(change)]) for change in changes]


def _upwards(path):
    """The path, and each directory above it."""
    while path != "/":
        yield path
        path = parent_of(path)
    yield "/"
