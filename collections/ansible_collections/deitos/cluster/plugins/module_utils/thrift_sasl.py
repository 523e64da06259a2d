# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Calls to a Thrift server behind SASL GSSAPI, as Hive's metastore is: binary protocol, not framed.

Only what simple questions need: calls without arguments whose answers are numbers and texts.
"""

from __future__ import annotations

import socket
import struct

from ansible_collections.deitos.cluster.plugins.module_utils import spnego

MECHANISM = b"GSSAPI"
# States of the negotiation.
START, OK, COMPLETE = 1, 2, 5
# RFC 4752: what protects the connection afterwards.
NO_LAYER, INTEGRITY, PRIVACY = 1, 2, 4
LARGEST = 1 << 24
# Of the binary protocol.
VERSION, CALL, EXCEPTION = 0x80010000, 1, 3
STOP, STRING, STRUCT, MAP, SET, LIST = 0, 11, 12, 13, 14, 15
# Boolean, byte, double, and whole numbers of 16, 32 and 64 bits.
NUMBERS = {2: "?", 3: "b", 4: "d", 6: "h", 8: "i", 10: "q"}


class NotPrivate(spnego.Problem):
    """The server does not offer to encrypt."""


class Reader:
    """Values of the binary protocol, out of a source of bytes."""

    def __init__(self, read):
        self.read = read

    def number(self, code):
        form = f">{code}"
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def text(self):
        return self.read(self.number("i")).decode("utf-8", "replace")

    def value(self, kind):
        """One value; a structure is {number of the field: value}."""
        if kind in NUMBERS:
            return self.number(NUMBERS[kind])
        if kind == STRING:
            return self.text()
        if kind in (LIST, SET):
            inner, size = self.number("b"), self.number("i")
            return [self.value(inner) for _ in range(size)]
        if kind == MAP:
            key, value, size = self.number("b"), self.number("b"), self.number("i")
            return {self.value(key): self.value(value) for _ in range(size)}
        if kind == STRUCT:
            found = {}
            while field := self.number("b"):
                number = self.number("h")
                found[number] = self.value(field)
            return found
        raise spnego.Unreachable(f"the answer holds a value of the unknown kind {kind}")


class Client:
    """One connection to a server, as a principal of a keytab or of the caller's own tickets."""

    def __init__(self, host, port, service, login, timeout=10):
        self.place = f"{host}:{port}"
        self.login = login
        self._data = b""
        self._sequence = 0
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise spnego.Unreachable(f"{self.place} cannot be reached: {error}") from None
        try:
            self._context = login.kerberos(host, service)
            self._negotiate()
        except spnego.GSSError as error:
            raise login.problem(error, host) from None
        except (OSError, struct.error) as error:
            raise self._broken(error) from None

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._socket.close()

    def _broken(self, error):
        return spnego.Unreachable(f"{self.place} broke off: {error or 'nothing was said'}")

    # --- The wire -------------------------------------------------------------------------------

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise OSError("the connection was closed")
            data += part
        return data

    def _tell(self, status, payload):
        self._socket.sendall(struct.pack(">bI", status, len(payload)) + payload)

    def _hear(self):
        status, size = struct.unpack(">bI", self._exactly(5))
        if size > LARGEST:
            raise OSError(f"it speaks something else than SASL ({size} bytes announced)")
        payload = self._exactly(size)
        if status not in (OK, COMPLETE):
            raise spnego.NotAccepted(
                f"{self.place} refuses {self.login.who}: {payload.decode('utf-8', 'replace')}"
            )
        return payload

    def _negotiate(self):
        self._tell(START, MECHANISM)
        self._tell(OK, self._context.step())
        while not self._context.complete:
            token = self._context.step(self._hear())
            self._tell(OK, token or b"")
        offered = self._context.unwrap(self._hear()).message
        if not offered[0] & PRIVACY:
            raise NotPrivate(f"{self.place} does not offer to encrypt (auth-conf)")
        answer = bytes([PRIVACY]) + offered[1:4]
        self._tell(OK, self._context.wrap(answer, False).message)
        self._hear()

    def _read(self, size):
        while len(self._data) < size:
            (length,) = struct.unpack(">I", self._exactly(4))
            if length > LARGEST:
                raise OSError(f"{length} bytes announced")
            self._data += self._context.unwrap(self._exactly(length)).message
        data, self._data = self._data[:size], self._data[size:]
        return data

    # --- Calls ----------------------------------------------------------------------------------

    def call(self, method):
        """What a method without arguments returns."""
        self._sequence += 1
        name = method.encode()
        message = struct.pack(f">Ii{len(name)}s", VERSION | CALL, len(name), name)
        message += struct.pack(">ib", self._sequence, STOP)
        try:
            secured = self._context.wrap(message, True).message
            self._socket.sendall(struct.pack(">I", len(secured)) + secured)
            reader = Reader(self._read)
            kind = reader.number("I") & 0xFF
            reader.text()
            reader.number("i")
            fields = reader.value(STRUCT)
        except (OSError, struct.error, spnego.GSSError) as error:
            raise self._broken(error) from None
        if kind == EXCEPTION or 0 not in fields:
            raise spnego.Unreachable(f"{self.place} cannot answer {method}: {fields}")
        return fields[0]
