#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""A PKCS12 keystore of a host's key and certificate."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pkcs12_keystore
short_description: Keep a PKCS12 keystore in step with a key and its certificate
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Writes a PKCS12 keystore, as Java reads it, from a private key and certificate in PEM files.
  - The password is made on the host, in a file, when that file is missing. It is never in an
    argument, a log or the result.
  - The keystore is compared by what is in it, and written only when the key, the certificate, the
    chain, the alias or the password differ, or when it is damaged.
  - Key and certificates are encrypted with AES-256 (PBES2), and protected by an HMAC of SHA-256.
requirements:
  - cryptography >= 38.0 (Python library, on the target host)
attributes:
  check_mode:
    description: Reports what would change. A key or certificate that is missing or does not match
      is taken to be what an earlier task of the same run would mend.
    support: full
  diff_mode:
    description: Shows alias, subject, serial number and expiry; never a key or password.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  path:
    description: The keystore.
    type: path
    required: true
  private_key:
    description: PEM file with the private key, not encrypted.
    type: path
    required: true
  certificate:
    description: PEM file with the certificate; only the first in it counts.
    type: path
    required: true
  chain:
    description: PEM file with the certificates from the issuer upwards. That of O(certificate) is
      left out if it is in it too.
    type: path
  password_file:
    description: File with the password; made when missing or empty.
    type: path
    required: true
  alias:
    description: The name of the entry in the keystore.
    type: str
    default: host
  owner:
    description: Owner of the keystore and the password file, as name or number.
    type: str
    default: root
  group:
    description: Group of both, as name or number.
    type: str
    default: root
  mode:
    description: Octal mode of both, in quotes. Others may have no access.
    type: str
    default: "0440"
  planned:
    description: In check mode, the files that earlier tasks would change, as the return value
      C(planned) of M(deitos.cluster.host_certificate) tells it. If a part of the keystore is among
      them, the keystore would change too.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Keep the keystore in step with the host's certificate
  deitos.cluster.pkcs12_keystore:
    path: /etc/deitos/pki/keystore.p12
    private_key: /etc/deitos/pki/host.key
    certificate: /etc/deitos/pki/host.crt
    chain: /etc/deitos/pki/ca.crt
    password_file: /etc/deitos/pki/keystore.password
    group: tls
    mode: "0440"
"""

RETURN = r"""
changed_paths:
  description: Which of the two files were, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/deitos/pki/keystore.p12]
planned:
  description: In check mode, the files whose content would change, for M(deitos.cluster.daemon).
  returned: in check mode
  type: dict
  sample: {/etc/deitos/pki/keystore.p12: new}
"""

import secrets
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.deitos.cluster.plugins.module_utils import atomic
from ansible_collections.deitos.cluster.plugins.module_utils.planned import Files

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.serialization import pkcs12

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

END = b"-----END CERTIFICATE-----"
KDF_ROUNDS = 50000


class Unusable(Exception):
    """A key or certificate that no keystore can be made of."""


def certificates(path):
    """The certificates in a PEM file."""
    data = atomic.read(path)
    if data is None:
        raise Unusable(f"{path} does not exist")
    try:
        found = [x509.load_pem_x509_certificate(p + END) for p in data.split(END)[:-1]]
    except ValueError as error:
        raise Unusable(f"{path} holds a damaged certificate: {error}") from None
    if not found:
        raise Unusable(f"{path} holds no certificate")
    return found


def private_key(path):
    """The private key in a PEM file."""
    data = atomic.read(path)
    if data is None:
        raise Unusable(f"{path} does not exist")
    try:
        return serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError):
        # The library's own text may tell of the key's content.
        raise Unusable(f"{path} holds no usable, unencrypted private key") from None


def public_bytes(key):
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


class Entry:
    """What a keystore holds: a key, its certificate, the chain above it, an alias."""

    def __init__(self, key, certificate, chain, alias):
        self.key = key
        self.certificate = certificate
        self.chain = chain
        self.alias = alias

    @classmethod
    def from_files(cls, params):
        key = private_key(params["private_key"])
        certificate = certificates(params["certificate"])[0]
        if public_bytes(key.public_key()) != public_bytes(certificate.public_key()):
            raise Unusable(
                f"the certificate {params['certificate']} does not belong to the key"
                f" {params['private_key']}: issue it anew for this key"
            )
        chain = certificates(params["chain"]) if params["chain"] else []
        chain = [c for c in dict.fromkeys(chain) if c != certificate]
        return cls(key, certificate, chain, params["alias"].encode())

    @classmethod
    def from_keystore(cls, data, password):
        """The entry of a keystore; None when it is missing, damaged or has another password."""
        try:
            found = pkcs12.load_pkcs12(data or b"", password)
        except ValueError:
            return None
        if not found.key or not found.cert:
            return None
        chain = [c.certificate for c in found.additional_certs]
        return cls(found.key, found.cert.certificate, chain, found.cert.friendly_name)

    def __eq__(self, other):
        return (
            other is not None
            and public_bytes(self.key.public_key()) == public_bytes(other.key.public_key())
            and self.certificate == other.certificate
            # A keystore keeps no order of the certificates above the host's own.
            and set(self.chain) == set(other.chain)
            and self.alias == other.alias
        )

    __hash__ = None

    def to_keystore(self, password):
        encryption = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(KDF_ROUNDS)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(password)
        )
        return pkcs12.serialize_key_and_certificates(
            self.alias, self.key, self.certificate, self.chain or None, encryption
        )

    def describe(self):
        """What may be shown of it."""
        return {
            "alias": self.alias.decode("utf-8", "replace") if self.alias else "",
            "subject": self.certificate.subject.rfc4514_string(),
            "serial": f"{self.certificate.serial_number:x}",
            "not_after": _not_after(self.certificate),
            "chain": sorted(c.subject.rfc4514_string() for c in self.chain),
        }


def _not_after(certificate):
    # The library renamed it in version 42; Debian 12 has 38.
    moment = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Keystore(Files):
    """The two files: find what differs, and mend it."""

    def __init__(self, module):
        super().__init__(module)
        self.path = module.params["path"]
        self.password_file = module.params["password_file"]
        self.attributes = {key: module.params[key] for key in ("owner", "group", "mode")}

    def reconcile(self):
        if atomic.parse_mode(self.attributes["mode"]) & 0o007:
            raise Unusable(f"mode {self.attributes['mode']} would let others read the private key")
        wanted = self.wanted()
        password = (atomic.read(self.password_file) or b"").rstrip(b"\n")
        if not password:
            password = secrets.token_hex(32).encode()
            self.write(self.password_file, password, "", "(a random password)", **self.attributes)
        else:
            self.mend(self.password_file, **self.attributes)
        found = Entry.from_keystore(atomic.read(self.path), password)
        if wanted is None or wanted != found:
            data = b"" if self.check else wanted.to_keystore(password)
            before = found.describe() if found else "(missing, damaged or of another password)\n"
            after = wanted.describe() if wanted else "(made of a key and certificate to come)\n"
            self.write(self.path, data, before, after, **self.attributes)
        else:
            self.mend(self.path, **self.attributes)

    def wanted(self):
        """What the keystore should hold; None in check mode when that is yet to be made."""
        params = self.module.params
        parts = {params["private_key"], params["certificate"], params["chain"]}
        if self.check and parts & set(params["planned"]):
            return None
        try:
            return Entry.from_files(params)
        except Unusable:
            if not self.check:
                raise
            return None


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "private_key": {"type": "path", "required": True, "no_log": False},
            "certificate": {"type": "path", "required": True},
            "chain": {"type": "path"},
            "password_file": {"type": "path", "required": True, "no_log": False},
            "alias": {"default": "host"},
            "owner": {"default": "root"},
            "group": {"default": "root"},
            "mode": {"default": "0440"},
            "planned": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=IMPORT_ERROR)
    keystore = Keystore(module)
    try:
        keystore.reconcile()
    except (Unusable, ValueError, OSError) as error:
        module.fail_json(msg=f"{keystore.path}: {error}", **keystore.result)
    module.exit_json(**keystore.result)


if __name__ == "__main__":
    main()
