"""Knock at ports and tell what they answer: run on a machine of the lab (standard library only).

Reads {kind, places: [[host, port]], ca} from standard input, prints a list of answers.
"""

import json
import socket
import ssl
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

TIMEOUT = 4
# Hadoop RPC: magic, version 9, service class 0, then how the caller means to prove who it is.
SIMPLE = b"hrpc\x09\x00\x00"
SASL = b"hrpc\x09\x00\xdf"
# An RpcRequestHeaderProto (call -33) and an RpcSaslProto that asks what the server offers.
HEADER = bytes.fromhex("0802100018412200" + "2801")
NEGOTIATE = bytes.fromhex("1001")

# A session of PostgreSQL: version 3.0, a role and a database.
SESSION = struct.pack(">I", 196608) + b"user\0hive\0database\0metastore\0\0"
POSTGRESQL = struct.pack(">I", len(SESSION) + 4) + SESSION


def connected(place):
    return socket.create_connection(tuple(place), timeout=TIMEOUT)


def everything(connection, limit=65536):
    """What the other side says until it ends or falls silent."""
    said = b""
    try:
        while len(said) < limit and (part := connection.recv(4096)):
            said += part
    except (TimeoutError, ConnectionError):
        pass
    return said.decode("latin-1")


def handshake(connection, place, ca):
    """Speak TLS, with the other side's certificate verified; the version agreed on."""
    context = ssl.create_default_context(cafile=ca)
    with context.wrap_socket(connection, server_hostname=place[0]) as secured:
        version = secured.version()
        # With TLS 1.3 the lack of a client certificate shows with the first answer.
        secured.sendall(f"GET / HTTP/1.0\r\nHost: {place[0]}\r\n\r\n".encode())
        return {"version": version, "said": everything(secured, 512)}


def tls(place, ca):
    with connected(place) as connection:
        return handshake(connection, place, ca)


def starttls(place, ca):
    with connected(place) as connection:
        # An LDAP extended request 1.3.6.1.4.1.1466.20037, message 1.
        connection.sendall(bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037")
        connection.recv(4096)
        context = ssl.create_default_context(cafile=ca)
        with context.wrap_socket(connection, server_hostname=place[0]) as secured:
            return {"version": secured.version()}


def postgresql(place, ca):
    """Ask for TLS as PostgreSQL's clients do, and then for a session without a certificate."""
    with connected(place) as connection:
        connection.sendall(struct.pack(">II", 8, 80877103))
        connection.recv(1)
        context = ssl.create_default_context(cafile=ca)
        with context.wrap_socket(connection, server_hostname=place[0]) as secured:
            secured.sendall(POSTGRESQL)
            return {"version": secured.version(), "said": everything(secured, 512)}


def postgresql_plain(place, _ca):
    """The same without TLS."""
    with connected(place) as connection:
        connection.sendall(POSTGRESQL)
        return {"said": everything(connection, 512)}


def thrift(place, _ca):
    """Ask a metastore for its databases without SASL."""
    with connected(place) as connection:
        name = b"get_all_databases"
        message = struct.pack(">II", 0x80010001, len(name)) + name + struct.pack(">Ib", 1, 0)
        connection.sendall(message)
        connection.settimeout(2)
        return {"said": everything(connection, 512)}


def thrift_sasl(place, _ca):
    """Ask for SASL with a name alone."""
    with connected(place) as connection:
        for status, payload in ((1, b"PLAIN"), (2, b"\0hive\0hive")):
            connection.sendall(struct.pack(">bI", status, len(payload)) + payload)
        connection.settimeout(2)
        return {"said": everything(connection, 512)}


def plain(place, _ca):
    """Plain HTTP."""
    with connected(place) as connection:
        connection.sendall(f"GET /jmx HTTP/1.0\r\nHost: {place[0]}\r\n\r\n".encode())
        return {"said": everything(connection, 512)}


def simple(place, _ca):
    """Hadoop RPC without any proof of who calls."""
    with connected(place) as connection:
        connection.sendall(SIMPLE)
        connection.settimeout(3)
        return {"said": everything(connection, 512)}


def sasl(place, _ca):
    """Hadoop RPC, to learn what protection the server offers."""
    message = bytes([len(HEADER)]) + HEADER + bytes([len(NEGOTIATE)]) + NEGOTIATE
    with connected(place) as connection:
        connection.sendall(SASL + struct.pack(">I", len(message)) + message)
        connection.settimeout(2)
        return {"said": everything(connection, 2048)}


def blocks(place, _ca):
    """Ask a DataNode for a block as if it knew no SASL: version 28, READ_BLOCK."""
    with connected(place) as connection:
        connection.sendall(struct.pack(">hb", 28, 81) + b"\x00" * 32)
        return {"said": everything(connection, 512)}


def answer(request, place):
    try:
        return {"error": None, **globals()[request["kind"]](place, request["ca"])}
    except OSError as error:
        return {"error": f"{type(error).__name__}: {error}"}


def main():
    request = json.load(sys.stdin)
    with ThreadPoolExecutor(16) as pool:
        print(json.dumps(list(pool.map(partial(answer, request), request["places"]))))


if __name__ == "__main__":
    main()
