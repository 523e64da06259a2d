"""metastore_info: the protocol against a server of the test's own, and patience."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import SimpleNamespace

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import spnego, thrift_sasl
from ansible_collections.deitos.cluster.plugins.modules import metastore_info


class Context:
    """Stands for Kerberos: one token each way, and 'encryption' that can be seen."""

    def __init__(self):
        self.complete = False

    def step(self, token=None):
        self.complete = token is not None
        return b"token" if token is None else None

    def wrap(self, data, encrypt):
        return SimpleNamespace(message=(b"sealed" if encrypt else b"signed") + data)

    def unwrap(self, data):
        return SimpleNamespace(message=data.removeprefix(b"sealed").removeprefix(b"signed"))


LOGIN = SimpleNamespace(kerberos=lambda host, service: Context(), who="hive/h1")


def message(status, payload):
    return struct.pack(">bI", status, len(payload)) + payload


def answer(fields, kind=2, name=b"get_all_databases"):
    """A message of the server, in two sealed frames, so that one value spans both."""
    text = struct.pack(">Ii", 0x80010000 | kind, len(name)) + name + struct.pack(">i", 1) + fields
    half = len(text) // 2
    parts = [b"sealed" + part for part in (text[:half], text[half:])]
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def text(value):
    return struct.pack(">i", len(value)) + value


NAMES = b"\x0f\x00\x00" + b"\x0b" + struct.pack(">i", 2) + text(b"sales") + text(b"default")
PRIVATE = message(2, b"reply") + message(2, b"signed" + bytes([4, 1, 0, 0])) + message(5, b"")


@pytest.fixture
def server():
    """Listens, says what it is given to say, keeps what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard = []

    def serve(said):
        connection, _ = listener.accept()
        with connection:
            connection.sendall(said)
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(4096):
                    heard.append(part)

    def start(said):
        thread = threading.Thread(target=serve, args=(said,), daemon=True)
        thread.start()
        return listener.getsockname()[1], lambda: (thread.join(5), b"".join(heard))[1]

    yield start
    listener.close()


def ask(port):
    with thrift_sasl.Client("127.0.0.1", port, "hive", LOGIN, 5) as client:
        return client.call("get_all_databases")


def test_a_call_and_its_answer(server):
    port, heard = server(PRIVATE + answer(NAMES + b"\x00"))
    assert ask(port) == ["sales", "default"]
    said = heard()
    assert said.startswith(message(1, b"GSSAPI") + message(2, b"token"))
    assert message(2, b"signed" + bytes([4, 1, 0, 0])) in said
    assert b"sealed\x80\x01\x00\x01\x00\x00\x00\x11get_all_databases" in said


@pytest.mark.parametrize(
    ("said", "problem", "words"),
    [
        (message(3, b"no ticket"), spnego.NotAccepted, "refuses hive/h1: no ticket"),
        (
            message(2, b"reply") + message(2, b"signed" + bytes([3, 1, 0, 0])),
            thrift_sasl.NotPrivate,
            "does not offer to encrypt",
        ),
        (b"HTTP/1.1 400 Bad Request", spnego.Unreachable, "something else than SASL"),
        (PRIVATE + answer(b"\x00"), spnego.Unreachable, "cannot answer"),
        (PRIVATE + answer(b"\x0b\x00\x01" + text(b"oh") + b"\x00", 3), spnego.Unreachable, "oh"),
        (PRIVATE + answer(b"\x63\x00\x00"), spnego.Unreachable, "unknown kind 99"),
    ],
)  # fmt: skip
def test_what_can_go_wrong(server, said, problem, words):
    port, _heard = server(said)
    with pytest.raises(problem, match=words):
        ask(port)


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(spnego.Unreachable, match="cannot be reached"):
        ask(port)


def test_every_kind_of_value():
    data = b"\x02\x00\x01\x01" + b"\x08\x00\x02\x00\x00\x00\x07" + b"\x0a\x00\x03" + b"\xff" * 8
    data += b"\x0d\x00\x04\x0b\x08" + struct.pack(">i", 1) + text(b"k") + struct.pack(">i", 5)
    data += b"\x0c\x00\x05\x06\x00\x01\x00\x02\x00\x00"
    source = iter([data])
    rest = bytearray(next(source))

    def read(size):
        part, rest[:] = bytes(rest[:size]), rest[size:]
        return part

    found = thrift_sasl.Reader(read).value(thrift_sasl.STRUCT)
    assert found == {1: True, 2: 7, 3: -1, 4: {"k": 5}, 5: {1: 2}}


class Time:
    def __init__(self):
        self.now = 0

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize(
    ("failures", "once", "met", "attempts"),
    [(0, False, True, 1), (3, False, True, 4), (3, True, False, 1), (99, False, False, 6)],
)
def test_patience(failures, once, met, attempts):
    left = [failures]

    def asked(_params):
        left[0] -= 1
        if left[0] >= 0:
            raise spnego.Unreachable("starting")
        return ["b", "a"]

    time = Time()
    result = metastore_info.wait(
        {"timeout": 10, "delay": 2}, asked, once, clock=time.clock, sleep=time.sleep
    )
    assert (result["met"], result["attempts"]) == (met, attempts)
    assert result["databases"] == (["a", "b"] if met else [])
    assert result["problem"] == (None if met else "starting")


def test_a_refusal_is_not_waited_for():
    def refuse(_params):
        raise spnego.NotAccepted("no")

    with pytest.raises(spnego.NotAccepted):
        metastore_info.wait({"timeout": 10, "delay": 2}, refuse, once=False)
