# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""HTTPS with Kerberos: one SPNEGO login a server from a keytab, then its cookie.

Every failure ends as a `Problem` whose text says what to do about it.
"""

from __future__ import annotations

import base64
import http.client
import os
import re
import socket
import ssl
import threading
import traceback
import urllib.parse
import uuid

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

try:
    import gssapi
    from gssapi.exceptions import GSSError
except ImportError:
    gssapi = None
    GSSAPI_IMPORT_ERROR = traceback.format_exc()

    class GSSError(Exception):
        """What nobody raises without gssapi."""
else:
    GSSAPI_IMPORT_ERROR = None

DEFAULT_CA_PATH = "/etc/deitos/pki/ca.crt"
# Who asks, and whom to trust.
ARGUMENTS = {
    "keytab": {"type": "path", "required": True, "no_log": False},
    "principal": {"type": "str"},
    "ca_path": {"type": "path", "default": DEFAULT_CA_PATH},
}
SPNEGO = "1.3.6.1.5.5.2"
COOKIE = "hadoop.auth"
# An error page can be long; a person reads its beginning.
EXCERPT = 400
UPLOAD_BLOCK = 1 << 17


class KeytabProblem(Problem):
    """The keytab is missing, unreadable or has no such key."""


class TicketProblem(Problem):
    """The KDC gives no ticket."""


class KdcUnreachable(TicketProblem):
    """No KDC answers."""


class ClockSkew(Problem):
    """The clocks of this host, the KDC and the server differ too much."""


class CertificateProblem(Problem):
    """The server's certificate is not one to trust."""


class Unreachable(Problem):
    """Nobody listens, or nobody answers."""


class Refused(Unreachable):
    """Nobody listens at the port."""


class Interrupted(Unreachable):
    """The connection broke after the request was sent: it may or may not have been done."""


class NotAccepted(Problem):
    """The server does not accept the caller's identity."""


# krb5 error codes, as GSSAPI hands them on; the texts may be translated.
KRB5 = {
    -1765328347: "skew",
    -1765328378: "client unknown",
    -1765328377: "server unknown",
    -1765328360: "wrong key",
    -1765328353: "wrong key",
    -1765328366: "client revoked",
    -1765328383: "client expired",
    -1765328361: "client expired",
    -1765328228: "no kdc",
    -1765328164: "no kdc",
    -1765328230: "no kdc",
    -1765328203: "no key",
    -1765328174: "no key",
    # With a keytab and an empty cache, this is what MIT Kerberos says of a key that is not there.
    -1765328189: "no key",
    -1765328243: "no key",
}
TEXTS = (
    ("skew", "Clock skew too great"),
    ("server unknown", "Server .*not found in Kerberos database"),
    ("client unknown", "not found in Kerberos database"),
    ("wrong key", "Preauthentication failed|Decrypt integrity check failed"),
    ("client revoked", "credentials have been revoked"),
    ("client expired", "entry in database has expired|Password has expired"),
    ("no kdc", "Cannot contact any KDC|Cannot find KDC|Cannot resolve"),
    ("no key", "No key table entry|Key table file|No credentials cache found"),
)


def require(module):
    """Fail where this host has no python3-gssapi."""
    if gssapi is None:
        module.fail_json(
            msg=missing_required_lib("gssapi (Debian: python3-gssapi)"),
            exception=GSSAPI_IMPORT_ERROR,
        )


def kerberos_reason(error):
    """(kind, text) of a GSSAPI error."""
    code = getattr(error, "min_code", 0) or 0
    if code > 2**31:
        code -= 2**32
    text = re.sub(r"^Major .*Minor \(\d+\): ", "", " ".join(str(error).split()))
    kind = KRB5.get(code)
    if kind is None:
        kind = next((kind for kind, pattern in TEXTS if re.search(pattern, text)), None)
    return kind, text


class Login:
    """A principal of a keytab, with a credentials cache of its own, in this process' memory."""

    def __init__(self, keytab, principal=None):
        self.keytab = keytab
        self.principal = principal
        self._credentials = None
        self._lock = threading.Lock()

    @property
    def who(self):
        """The caller, as messages name it."""
        return self.principal or f"the first principal of {self.keytab}"

    def _acquire(self, mechanism):
        if not os.path.exists(self.keytab):
            raise KeytabProblem(
                f"there is no keytab {self.keytab} on this host: issue it"
                " (deitos.cluster.kerberos_keytab), or name another with 'keytab'"
            )
        if not os.access(self.keytab, os.R_OK):
            raise KeytabProblem(
                f"the keytab {self.keytab} cannot be read as {_user()}: run the task as root"
                " or as the keytab's owner (become)"
            )
        name = None
        if self.principal:
            name = gssapi.Name(self.principal, gssapi.NameType.kerberos_principal)
        return gssapi.Credentials(
            name=name,
            usage="initiate",
            mechs=[mechanism],
            store={
                "client_keytab": f"FILE:{self.keytab}",
                "ccache": f"MEMORY:deitos-{uuid.uuid4().hex}",
            },
        )

    def _begin(self, host, mechanism, credentials):
        context = gssapi.SecurityContext(
            name=gssapi.Name(f"HTTP@{host}", gssapi.NameType.hostbased_service),
            creds=credentials,
            mech=mechanism,
            flags=gssapi.RequirementFlag.mutual_authentication,
            usage="initiate",
        )
        return context, context.step()

    def context(self, host):
        """A new security context to HTTP at a host, and its first token."""
        spnego = gssapi.OID.from_int_seq(SPNEGO)
        with self._lock:
            try:
                if self._credentials is None:
                    self._credentials = self._acquire(spnego)
                return self._begin(host, spnego, self._credentials)
            except GSSError as error:
                # The next attempt starts anew: the KDC may be back, the keytab renewed.
                self._credentials = None
                raise self.problem(self._cause(error, host), host) from None

    def kerberos(self, host, service):
        """A new context of Kerberos itself to any service of a host, not begun yet."""
        flags = gssapi.RequirementFlag
        return gssapi.SecurityContext(
            name=gssapi.Name(f"{service}@{host}", gssapi.NameType.hostbased_service),
            creds=self._acquire(gssapi.MechType.kerberos),
            mech=gssapi.MechType.kerberos,
            flags=flags.mutual_authentication | flags.confidentiality | flags.integrity,
            usage="initiate",
        )

    def _cause(self, error, host):
        """What Kerberos itself says, where SPNEGO only says that nothing is left to negotiate."""
        if kerberos_reason(error)[0] is not None:
            return error
        try:
            self._begin(host, gssapi.MechType.kerberos, self._acquire(gssapi.MechType.kerberos))
        except GSSError as cause:
            return cause
        return error

    def problem(self, error, host=None):
        """The Problem that a GSSAPI error stands for."""
        kind, text = kerberos_reason(error)
        return kerberos_problem(kind, text, self.keytab, self.who, host)


def _user():
    """The name of who runs this process."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return f"uid {os.geteuid()}"


# What to do about each kind of Kerberos failure.
ADVICE = {
    "skew": (
        ClockSkew,
        """the clocks of this host and the KDC differ by more than Kerberos allows: set both by
        NTP""",
    ),
    "server unknown": (
        TicketProblem,
        """the KDC knows no principal HTTP/{host}: use the name that the server's keytab has (an
        alias needs a principal of its own), or create it""",
    ),
    "client unknown": (
        TicketProblem,
        "the KDC does not know {who}: create the principal, or name another",
    ),
    "wrong key": (
        TicketProblem,
        """the key of {who} in {keytab} is not the KDC's (its password was changed or its key
        rotated): issue the keytab again""",
    ),
    "client revoked": (TicketProblem, "{who} is disabled or locked in the KDC: enable it"),
    "client expired": (TicketProblem, "{who} has expired in the KDC: renew it"),
    "no kdc": (
        KdcUnreachable,
        """no KDC answers: check that krb5kdc runs, that port 88 is open and what /etc/krb5.conf
        says""",
    ),
    "no key": (
        KeytabProblem,
        """{keytab} has no key of {who}: see 'klist -k {keytab}' for what it has, then correct
        'principal' or issue the keytab again""",
    ),
    None: (TicketProblem, "no ticket for {who} could be had with {keytab}"),
}


def kerberos_problem(kind, text, keytab, who, host=None):
    """The Problem of one kind of Kerberos failure."""
    problem, advice = ADVICE.get(kind, ADVICE[None])
    advice = " ".join(advice.split()).format(keytab=keytab, who=who, host=host)
    return problem(f"{advice} ({text})")


class Answer:
    """A server's answer."""

    def __init__(self, status, body):
        self.status = status
        self.body = body

    def text(self):
        """The body's beginning as one line of text, without markup, for messages."""
        text = self.body.decode("utf-8", "replace")
        text = re.sub(
            r"<(style|head)\b.*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE
        )
        return " ".join(text.split())[:EXCERPT]


class Response(Answer):
    """One with headers; `chunks()` streams a body that `body` would hold whole."""

    def __init__(self, raw, stream=False, broken=None):
        """broken: makes the Problem of an error in the middle of a stream."""
        super().__init__(raw.status, b"" if stream else raw.read())
        self.headers = raw.headers
        self._raw = raw
        self._broken = broken

    def chunks(self, size=1 << 20):
        """The body in pieces."""
        try:
            while piece := self._raw.read(size):
                yield piece
            # Python takes a body that ends early for the end.
            if self._raw.length:
                raise http.client.IncompleteRead(b"", self._raw.length)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None


class _Answers:
    """Answers that follow one another on a connection.

    Reading what Hadoop's servers send, and nothing else, takes a small part of the time that
    http.client's parser of mail headers does.
    """

    STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
    CHUNKED = re.compile(rb"\r\nTransfer-Encoding: *chunked\r\n", re.IGNORECASE)
    LENGTH = re.compile(rb"\r\nContent-Length: *(\d{1,9})\r\n", re.IGNORECASE)
    LAST = re.compile(rb"\r\nConnection: *close\r\n", re.IGNORECASE)
    MOST = 1 << 16

    def __init__(self, sock):
        self._sock = sock
        self._buffer = bytearray()

    def read(self):
        """The next one, and whether it is the last; an error when it is of another kind."""
        head = self._until(b"\r\n\r\n")
        status, length = self.STATUS.match(head), self.LENGTH.search(head)
        if not status:
            raise http.client.BadStatusLine(repr(head[:40]))
        if self.CHUNKED.search(head):
            body = b"".join(self._chunks())
        elif length:
            body = self._take(int(length.group(1)))
        else:
            raise http.client.HTTPException("an answer without a length")
        return Answer(int(status.group(1)), body), bool(self.LAST.search(head))

    def _chunks(self):
        while True:
            length = int(self._until(b"\r\n"), 16)
            yield self._take(length)
            if self._take(2) != b"\r\n":
                raise http.client.HTTPException("no end of a chunk")
            if not length:
                return

    def _until(self, end):
        while (place := self._buffer.find(end)) < 0:
            if len(self._buffer) > self.MOST:
                raise http.client.LineTooLong("header")
            self._more()
        return self._take(place + len(end))

    def _take(self, length):
        while len(self._buffer) < length:
            self._more()
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _more(self):
        piece = self._sock.recv(self.MOST)
        if not piece:
            raise http.client.RemoteDisconnected("no more answers")
        self._buffer += piece


class _Connection(http.client.HTTPSConnection):
    """One that may go on with the TLS session of another to the same server."""

    session = None

    def connect(self):
        """Reach the server, which with a session need not prove itself again by its key."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(
            self.sock, server_hostname=self.host, session=self.session
        )


class Client:
    """HTTPS to any number of servers: kept connections a thread, one login a server."""

    def __init__(self, login, ca_path=DEFAULT_CA_PATH, timeout=60):
        self.login = login
        self.timeout = timeout
        self.requests = 0
        self.logins = 0
        self._context = trust(ca_path)
        self.ca_path = ca_path
        self._cookies = {}
        self._login_lock = threading.Lock()
        self._connections = threading.local()
        self._all = []

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def close(self):
        """Close every connection."""
        for connection in self._all:
            connection.close()

    def request(self, method, url, body=None, headers=None, negotiate=True, **how):
        """Send a request and return the answer, whatever its status.

        repeat: whether it may be sent again when a kept connection turns out to be closed.
        stream: leave the body to be read by `chunks()`.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Problem(f"'{shown(url)}' is not an https:// URL: only verified TLS is spoken")
        headers = dict(headers or {})
        if not negotiate:
            return self._send(parts, method, body, headers, **how)
        origin = (parts.hostname, parts.port)
        cookie = self._cookies.get(origin)
        if cookie:
            response = self._send(
                parts, method, body, {**headers, "Cookie": f"{COOKIE}={cookie}"}, **how
            )
            if response.status != 401:
                return response
            # The cookie has expired, or the server was started anew with another secret.
        with self._login_lock:
            if self._cookies.get(origin) not in (None, cookie):
                fresh = {**headers, "Cookie": f"{COOKIE}={self._cookies[origin]}"}
                return self._send(parts, method, body, fresh, **how)
            return self._log_in(parts, origin, method, body, headers, **how)

    def ahead(self, urls):
        """Answers to GETs of one server, all asked for before the first is read.

        That costs a fraction of as many round trips. Fewer answers than questions come back when
        the server ends the connection, and none without a login: the rest is for `request`.
        """
        parts = [urllib.parse.urlsplit(url) for url in urls]
        server = parts[0]
        cookie = self._cookies.get((server.hostname, server.port))
        if not cookie:
            return []
        headers = f"Host: {server.netloc}\r\nAccept-Encoding: identity\r\nCookie: {COOKIE}={cookie}"
        questions = [f"GET {one.path}?{one.query} HTTP/1.1\r\n{headers}\r\n\r\n" for one in parts]
        connection, _used = self._connection(server)
        answers = []
        try:
            self.requests += len(urls)
            connection.sock.sendall("".join(questions).encode())
            following = _Answers(connection.sock)
            for _question in questions:
                answer, last = following.read()
                answers.append(answer)
                if last:
                    raise http.client.RemoteDisconnected("no more answers")
        except (OSError, ValueError, http.client.HTTPException):
            self._drop(server)
        return answers

    def _log_in(self, parts, origin, method, body, headers, **how):
        context, token = self.login.context(parts.hostname)
        sent = {**headers, "Authorization": "Negotiate " + base64.b64encode(token).decode()}
        response = self._send(parts, method, body, sent, **how)
        answer = re.search(
            r"Negotiate\s+([A-Za-z0-9+/=]+)", response.headers.get("WWW-Authenticate", "")
        )
        if response.status == 401 or (response.status == 403 and not answer):
            raise self._not_accepted(parts, response)
        self._verify_server(parts, context, answer)
        self.logins += 1
        for line in response.headers.get_all("Set-Cookie", []):
            match = re.match(rf'{re.escape(COOKIE)}="?([^";]+)"?', line)
            if match:
                self._cookies[origin] = f'"{match.group(1)}"'
        return response

    def _verify_server(self, parts, context, answer):
        """Mutual authentication: the server must prove that it has its key."""
        try:
            if answer and not context.complete:
                context.step(base64.b64decode(answer.group(1)))
            done = context.complete
        except (GSSError, ValueError) as error:
            raise NotAccepted(
                f"{parts.netloc} could not prove that it is HTTP/{parts.hostname}: {error}"
            ) from None
        if not done:
            raise NotAccepted(
                f"{parts.netloc} answered without proving that it is HTTP/{parts.hostname}:"
                " is this address the daemon itself, with Kerberos on?"
            )

    def _not_accepted(self, parts, response):
        text = response.text()
        if "skew" in text.lower():
            return ClockSkew(
                f"the clocks of this host and {parts.hostname} differ by more than Kerberos"
                f" allows: set both by NTP ({text})"
            )
        return NotAccepted(
            f"{parts.netloc} does not accept the ticket of {self.login.who}"
            f" (HTTP {response.status}): check that its keytab holds the KDC's present key of"
            f" HTTP/{parts.hostname} and that the daemon was started after it was issued ({text})"
        )

    def _connection(self, parts):
        """This thread's kept connection to a server, and whether it has been used before."""
        kept = self._connections.__dict__.setdefault("kept", {})
        key = (parts.hostname, parts.port)
        if key in kept:
            return kept[key], True
        connection = _Connection(
            parts.hostname,
            parts.port or 443,
            timeout=self.timeout,
            context=self._context,
            blocksize=UPLOAD_BLOCK,
        )
        connection.session = self._session(connection)
        self._connect(parts, connection)
        kept[key] = connection
        self._all.append(connection)
        return connection, False

    def _session(self, new):
        """The TLS session of a connection to the same server; None when there is none."""
        for other in self._all:
            sock = other.sock
            if sock and (other.host, other.port) == (new.host, new.port) and sock.session:
                return sock.session
        return None

    def _connect(self, parts, connection):
        where = parts.netloc
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise CertificateProblem(
                f"the certificate of {where} is refused: {error.verify_message or error}."
                f" Certificates must be signed by a CA in {self.ca_path}, in date, and name"
                f" '{parts.hostname}'"
            ) from None
        except ssl.SSLError as error:
            raise CertificateProblem(
                f"{where} speaks no TLS that this host accepts: {error}"
            ) from None
        except ConnectionRefusedError:
            raise Refused(
                f"nobody listens at {where}: check that the daemon runs (systemctl status,"
                " its log) and that the address is right"
            ) from None
        except socket.gaierror as error:
            raise Unreachable(
                f"'{parts.hostname}' cannot be resolved on this host: {error.strerror}"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"{where} cannot be reached: {error or type(error).__name__}: check the network"
                " and the firewall between here and there"
            ) from None

    def _drop(self, parts):
        connection = self._connections.kept.pop((parts.hostname, parts.port), None)
        if connection:
            connection.close()

    def _send(self, parts, method, body, headers, repeat=False, stream=False):
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))

        def broken(error, what="did not answer"):
            self._drop(parts)
            return Interrupted(
                f"{parts.netloc} {what} {method} {parts.path}: {error or type(error).__name__}"
            )

        while True:
            connection, used = self._connection(parts)
            try:
                self.requests += 1
                try:
                    connection.request(method, target, body=body, headers=headers)
                except (BrokenPipeError, ConnectionResetError):
                    # Refused halfway through an upload: the reason may have arrived.
                    if body is None:
                        raise
                response = Response(
                    connection.getresponse(),
                    stream,
                    lambda error: broken(error, "broke off in the middle of its answer to"),
                )
                if response.headers.get("Connection", "").lower() == "close" and not stream:
                    self._drop(parts)
                return response
            except (OSError, http.client.HTTPException) as error:
                self._drop(parts)
                # A server closes kept connections when it likes; that says nothing.
                if used and repeat and not isinstance(error, TimeoutError):
                    continue
                raise broken(error) from None


def trust(ca_path):
    """A TLS context that verifies certificate and name against a CA file (or the system's CAs)."""
    try:
        context = ssl.create_default_context(cafile=ca_path)
    except FileNotFoundError:
        raise CertificateProblem(
            f"there is no CA certificate {ca_path} on this host: run the role that installs it,"
            " or name another file with 'ca_path'"
        ) from None
    except (ssl.SSLError, OSError) as error:
        raise CertificateProblem(f"the CA file {ca_path} cannot be used: {error}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def shown(url):
    """A URL without its query, which may hold a delegation token."""
    return url.split("?", 1)[0]
