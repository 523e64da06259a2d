# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Keytab files as data: read, write, compare by their keys, take out of a KDC."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import struct
import tempfile

from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ItemError,
    Principal,
    command_line,
    complaint,
)

MAGIC = b"\x05\x02"
NT_PRINCIPAL = 1

ENCTYPES = {
    1: "des-cbc-crc",
    3: "des-cbc-md5",
    16: "des3-cbc-sha1",
    17: "aes128-cts-hmac-sha1-96",
    18: "aes256-cts-hmac-sha1-96",
    19: "aes128-cts-hmac-sha256-128",
    20: "aes256-cts-hmac-sha384-192",
    23: "arcfour-hmac",
    25: "camellia128-cts-cmac",
    26: "camellia256-cts-cmac",
}


class KeytabError(ValueError):
    """The bytes are no keytab, or a damaged one."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One key of one principal."""

    principal: Principal
    kvno: int
    enctype: int
    key: bytes = dataclasses.field(repr=False)
    timestamp: int = dataclasses.field(default=0, compare=False)
    name_type: int = dataclasses.field(default=NT_PRINCIPAL, compare=False)

    @property
    def label(self):
        """The entry without its key, for people."""
        enctype = ENCTYPES.get(self.enctype, str(self.enctype))
        return f"{self.principal.full} version {self.kvno} {enctype}"

    @property
    def fingerprint(self):
        """What may be told of this key: the label and a digest, in one string, since there may be
        many thousands. The label is part of the digest, so that equal keys do not show as equal.
        """
        label = self.label
        digest = hashlib.sha256(b"deitos keytab entry\n" + label.encode() + b"\n" + self.key)
        return f"{label} {digest.hexdigest()}"


def fingerprints(entries):
    """The fingerprints of all entries, each once, in a fixed order."""
    return sorted({entry.fingerprint for entry in entries})


_FINGERPRINT = re.compile(r"(.+) version (\d+) (\S+) ([0-9a-f]{64})\Z", re.DOTALL)


def parse_fingerprint(text):
    """(principal, version, label) of a fingerprint; ValueError when it is none."""
    match = _FINGERPRINT.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not a fingerprint")
    return match.group(1), int(match.group(2)), text[: match.start(4) - 1]


# --- the file format (version 0x502, big-endian) ---------------------------------------------


def encode(entries):
    """The bytes of a keytab file."""
    return MAGIC + b"".join(_encode_entry(entry) for entry in entries)


def _counted(data):
    return struct.pack(">H", len(data)) + data


def _encode_entry(entry):
    components = [component.encode("utf-8") for component in entry.principal.components]
    record = b"".join(
        [
            struct.pack(">H", len(components)),
            _counted(entry.principal.realm.encode("utf-8")),
            *(_counted(component) for component in components),
            struct.pack(">IIB", entry.name_type, entry.timestamp, entry.kvno & 0xFF),
            struct.pack(">H", entry.enctype),
            _counted(entry.key),
            struct.pack(">I", entry.kvno),
        ]
    )
    return struct.pack(">i", len(record)) + record


def decode(data):
    """The entries of a keytab file; holes left by removed entries are skipped."""
    if data[:2] != MAGIC:
        raise KeytabError("it does not begin like a keytab of version 0x502")
    entries, position = [], 2
    while position < len(data):
        (size,) = _unpack(">i", data, position)
        position += 4
        if size == 0:
            break
        record = data[position : position + abs(size)]
        if len(record) < abs(size):
            raise KeytabError(f"it ends within the entry at byte {position}")
        position += abs(size)
        if size > 0:
            entries.append(_decode_entry(record))
    return entries


def _unpack(layout, data, position):
    try:
        return struct.unpack_from(layout, data, position)
    except struct.error:
        raise KeytabError("it ends within an entry") from None


def _decode_entry(record):
    position = 0

    def take(layout):
        nonlocal position
        (value,) = _unpack(layout, record, position)
        position += struct.calcsize(layout)
        return value

    def take_counted():
        nonlocal position
        length = take(">H")
        value = record[position : position + length]
        if len(value) < length:
            raise KeytabError("it ends within an entry")
        position += length
        return value

    def take_text():
        try:
            return take_counted().decode("utf-8")
        except UnicodeDecodeError:
            raise KeytabError("it holds a name that is not UTF-8") from None

    count = take(">H")
    realm = take_text()
    components = [take_text() for _number in range(count)]
    name_type, timestamp, kvno, enctype = take(">I"), take(">I"), take(">B"), take(">H")
    key = take_counted()
    # Newer writers add the version number again, with 32 bits.
    if len(record) - position >= 4:
        kvno = take(">I") or kvno
    return Entry(Principal(components, realm), kvno, enctype, key, timestamp, name_type)


# --- out of the KDC --------------------------------------------------------------------------

# Adding to a keytab reads it from the start, so a file takes few principals.
PRINCIPALS_PER_FILE = 20
MEMORY = "/dev/shm"  # noqa: S108  (a directory of its own, mode 0700, is made in it)


def private_directory():
    """A directory that is this process' own and, where there is one, in memory only."""
    parent = MEMORY if os.path.isdir(MEMORY) and os.access(MEMORY, os.W_OK) else None
    return tempfile.mkdtemp(prefix="deitos-keytab-", dir=parent)


def extract(kadmin, principals):
    """{Principal: [Entry] or ItemError}: the keys as they are in the KDC, none changed."""
    principals = list(dict.fromkeys(principals))
    result, commands, asked = {}, [], []
    directory = private_directory()
    try:
        for principal in principals:
            path = os.path.join(directory, str(len(asked) // PRINCIPALS_PER_FILE))
            try:
                word = principal.word(kadmin.default_realm)
                words = ["ktadd", "-q", "-norandkey", "-k", path, word]
                command_line(words)
            except ItemError as error:
                result[principal] = error
                continue
            commands.append(words)
            asked.append(principal)
        answers = kadmin.run(commands)
        found = {}
        for name in os.listdir(directory):
            with open(os.path.join(directory, name), "rb") as file:
                for entry in decode(file.read()):
                    found.setdefault(entry.principal, []).append(entry)
    finally:
        shutil.rmtree(directory)
    for principal, answer in zip(asked, answers):
        full = Principal(principal.components, principal.realm or kadmin.default_realm)
        if " does not exist" in answer:
            result[principal] = ItemError(f"{full.full} is not in the KDC")
        elif answer.strip():
            # Nothing is being changed, whatever kadmin says.
            reason = re.sub(r" while changing .*?'s key(?=;|$)", "", complaint(answer))
            result[principal] = ItemError(f"{full.full}: {reason}")
        elif full not in found:
            result[principal] = ItemError(f"{full.full} has no keys in the KDC")
        else:
            result[principal] = found[full]
    return result
