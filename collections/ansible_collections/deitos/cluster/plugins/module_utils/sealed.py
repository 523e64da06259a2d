# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Data that only one host can open: CMS, encrypted to the key of its certificate.

The clear text goes through pipes only; no file ever holds it here.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import tempfile

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


class SealError(Exception):
    """Sealing or opening failed; the text says why."""


def _openssl(arguments, data=b""):
    try:
        return subprocess.run(["openssl", *arguments], input=data, capture_output=True, check=False)
    except OSError as error:
        raise SealError(f"openssl cannot be started: {error.strerror}") from None


def _reason(done):
    text = done.stderr.decode("utf-8", "replace")
    for pattern in (r"error \d+ at \d+ depth lookup: *(.*)", r":([^:\n]+):[^:\n]*:\d+:"):
        match = re.search(pattern, text)
        if match:
            return match.group(1)
    return " ".join(text.split())[-300:] or f"openssl ended with status {done.returncode}"


# The identifier of RSA keys as it stands in a public key (1.2.840.113549.1.1.1 in DER).
_RSA = bytes.fromhex("06092a864886f70d010101")


class Sealer:
    """Seals to the certificates of many hosts, after seeing that each is what it should be.

    A host proves its name by its certificate alone, so anything but a certificate that the
    cluster's CA gave to this very name is refused.
    """

    def __init__(self, ca_path):
        self.ca_path = ca_path
        self.directory = None
        self.leaves = {}
        self.signed = {}

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="deitos-certificates-")
        return self

    def __exit__(self, *unused):
        self.directory.cleanup()

    def _write(self, name, text):
        path = os.path.join(self.directory.name, name)
        with open(path, "w", encoding="ascii") as file:
            file.write(text + "\n")
        return path

    def take(self, certificates):
        """Take {host: PEM, leaf first}, and let one openssl check the signatures of all."""
        if not os.path.exists(self.ca_path):
            raise SealError(f"the CA certificate {self.ca_path} is missing on this host")
        chains = {}
        for host, pem in certificates.items():
            leaf, *chain = _CERTIFICATE.findall(pem or "") or [None]
            if leaf is not None and leaf.isascii():
                self.leaves[host] = self._write(f"{len(self.leaves)}.pem", leaf)
                chains.setdefault("\n".join(chain), []).append(self.leaves[host])
        for number, (chain, paths) in enumerate(chains.items()):
            arguments = ["verify", "-CAfile", self.ca_path, "-no-CApath", "-no-CAstore"]
            if chain.isascii() and chain:
                arguments += ["-untrusted", self._write(f"chain{number}.pem", chain)]
            # openssl stops at a file that it cannot read, so what fails is asked again alone.
            answer = _openssl([*arguments, *paths]).stdout.decode("ascii", "replace").splitlines()
            for path in paths:
                good = f"{path}: OK" in answer
                done = None if good else _openssl([*arguments, path])
                self.signed[path] = None if good or not done.returncode else _reason(done)

    def _check(self, host):
        path = self.leaves.get(host)
        if path is None:
            raise SealError(f"{host} gave no PEM certificate; has the host got one yet?")
        if self.signed[path]:
            raise SealError(f"the certificate given for {host} is not good: {self.signed[path]}")
        arguments = ["-noout", "-ext", "subjectAltName", "-checkhost", host, "-pubkey"]
        done = _openssl(["x509", "-in", path, *arguments])
        text = done.stdout.decode("utf-8", "replace")
        # openssl's own comparison falls back to the common name and takes wildcards; the entry as
        # it is printed could be forged by an odd one. Together they leave no room.
        entries = [entry.lower() for entry in re.split(r",\s*|\n\s*", text)]
        if (
            done.returncode
            or f"Hostname {host} does match certificate" not in text
            or f"dns:{host.lower()}" not in entries
        ):
            raise SealError(f"the certificate given for {host} does not have it as a DNS name")
        key = re.search(r"-----BEGIN PUBLIC KEY-----(.*?)-----END", text, re.DOTALL)
        return path, _RSA in base64.b64decode(key.group(1))[:40]

    def seal(self, host, data):
        """Base64 of a DER CMS message that only this host can open."""
        path, rsa = self._check(host)
        arguments = ["cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "DER"]
        arguments += ["-recip", path]
        if rsa:
            arguments += ["-keyopt", "rsa_padding_mode:oaep"]
        done = _openssl(arguments, data)
        if done.returncode:
            raise SealError(f"sealing for {host} failed: {_reason(done)}")
        return base64.b64encode(done.stdout).decode("ascii")


def unseal(sealed, key_path, certificate_path):
    """The clear text of what was sealed for this host."""
    try:
        message = base64.b64decode(sealed, validate=True)
    except ValueError:
        raise SealError("what was received is not base64") from None
    for path in (key_path, certificate_path):
        if not os.access(path, os.R_OK):
            raise SealError(f"{path} cannot be read; it is needed to open what was sealed")
    arguments = ["cms", "-decrypt", "-binary", "-inform", "DER", "-inkey", key_path]
    done = _openssl([*arguments, "-recip", certificate_path], message)
    if done.returncode:
        raise SealError(
            f"what was received cannot be opened with {key_path}, so it was sealed for another "
            f"host or an earlier key, or was damaged: {_reason(done)}"
        )
    return done.stdout
