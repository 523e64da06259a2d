#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""A host's private key, its request, and the judgement whether its certificate still serves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificate
short_description: Keep a host's private key, certificate request and certificate in order
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Makes the host's RSA key where it is used, and a certificate request for it. The key never
    leaves the host.
  - Judges the certificate in place, against the key, the names, the purposes, the authority and
    the time left, and returns the request only when a new certificate is needed. A run that has
    nothing to renew therefore never asks the authority.
  - With O(certificate), checks what the authority issued in the same way, and installs it.
  - An old certificate stays in place until there is a new one.
requirements:
  - cryptography >= 38.0 (Python library, on the target host)
attributes:
  check_mode:
    description: Reports what would change, and that a certificate would be issued.
    support: full
  diff_mode:
    description: Shows what is wrong with the present certificate, and names and dates of the new
      one; never a key.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  directory:
    description: Where C(host.key), C(host.csr), C(host.crt), C(chain.crt) and C(ca.crt) are kept.
    type: path
    default: /etc/deitos/pki
  names:
    description: DNS names of the host. The first is also the common name.
    type: list
    elements: str
    required: true
  ca:
    description: The authority's certificate in PEM, with those above it if there are any.
    type: str
    required: true
  certificate:
    description: A certificate in PEM that the authority issued for this host; intermediate ones may
      follow it.
    type: str
  private_key_file:
    description: A key on the host that something else maintains, to copy instead of making one.
    type: path
  certificate_file:
    description: The certificate on the host that belongs to O(private_key_file).
    type: path
  key_size:
    description: Bits of a new RSA key.
    type: int
    default: 3072
  renew_days:
    description: A certificate with fewer days left is to be renewed.
    type: int
    default: 30
  owner:
    description: Owner of the key, as name or number. The other files belong to root.
    type: str
    default: root
  group:
    description: Group of the key, as name or number.
    type: str
    default: root
  mode:
    description: Octal mode of the key, in quotes. Others may have no access.
    type: str
    default: "0440"
"""

EXAMPLES = r"""
- name: See whether the host needs a certificate
  deitos.cluster.host_certificate:
    names: [worker1.example.net, worker1]
    ca: "{{ ca_certificate }}"
  register: host

- name: Issue it
  community.crypto.x509_certificate_pipe:
    provider: ownca
    ownca_path: /etc/deitos/ca/ca.crt
    ownca_privatekey_path: /etc/deitos/ca/ca.key
    csr_content: "{{ host.csr }}"
  delegate_to: ca1
  register: issued
  when: host.needed and not ansible_check_mode

- name: Install it
  deitos.cluster.host_certificate:
    names: [worker1.example.net, worker1]
    ca: "{{ ca_certificate }}"
    certificate: "{{ issued.certificate }}"
  when: host.needed and not ansible_check_mode
"""

RETURN = r"""
needed:
  description: Whether a new certificate is needed.
  returned: always
  type: bool
  sample: true
reasons:
  description: Why.
  returned: always
  type: list
  elements: str
  sample: [it ends in 12 days]
csr:
  description: The request in PEM, when a new certificate is needed.
  returned: when needed, and not in check mode
  type: str
  sample: "-----BEGIN CERTIFICATE REQUEST-----\n..."
not_after:
  description: When the certificate in place ends.
  returned: when there is one
  type: str
  sample: "2028-11-20T04:00:00Z"
changed_paths:
  description: The files that were, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/deitos/pki/host.crt]
planned:
  description: In check mode, the files whose content would change, for M(deitos.cluster.daemon).
  returned: in check mode
  type: dict
  sample: {/etc/deitos/pki/host.crt: new}
"""

import datetime
import os
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.deitos.cluster.plugins.module_utils import atomic
from ansible_collections.deitos.cluster.plugins.module_utils.planned import Files

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

END = b"-----END CERTIFICATE-----"
UTC = datetime.timezone(datetime.timedelta())


class Unusable(Exception):
    """What was given cannot be used; the text says why."""


# --- Reading ----------------------------------------------------------------------------------


def certificates(pem):
    """The certificates in PEM text."""
    try:
        return [x509.load_pem_x509_certificate(p + END + b"\n") for p in pem.split(END)[:-1]]
    except ValueError as error:
        raise Unusable(f"damaged: {error}") from None


def to_pem(items):
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in items)


def load_key(pem):
    """An unencrypted private key; None when it is missing or damaged."""
    try:
        return serialization.load_pem_private_key(pem or b"", password=None)
    except (ValueError, TypeError):
        return None


def public_bytes(key):
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def dns_names(holder):
    """The DNS names of a certificate or request."""
    try:
        extension = holder.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return set()
    return set(extension.value.get_values_for_type(x509.DNSName))


def moments(certificate):
    """From when to when a certificate is valid, in UTC."""
    if hasattr(certificate, "not_valid_after_utc"):  # cryptography 42; Debian 12 has 38
        return certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return (
        certificate.not_valid_before.replace(tzinfo=UTC),
        certificate.not_valid_after.replace(tzinfo=UTC),
    )


def text_of(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# --- Judging ----------------------------------------------------------------------------------


def signed_by(certificate, issuer):
    """Whether an issuer's key signed a certificate."""
    if certificate.issuer != issuer.subject:
        return False
    key = issuer.public_key()
    signed, text = certificate.signature, certificate.tbs_certificate_bytes
    algorithm = certificate.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signed, text, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signed, text, ec.ECDSA(algorithm))
        else:
            key.verify(signed, text)
    except InvalidSignature:
        return False
    return True


def leads_to(certificate, above, ca):
    """Whether signatures lead from a certificate, over those above it, to an authority's."""
    if any(signed_by(certificate, issuer) for issuer in ca):
        return True
    # Each certificate is used once, so a circle ends.
    return any(
        signed_by(certificate, issuer) and leads_to(issuer, [c for c in above if c != issuer], ca)
        for issuer in above
    )


def missing_uses(certificate):
    """Which purposes of a host's certificate are missing in this one."""
    missing = []
    extensions = certificate.extensions
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.digital_signature:
            missing.append("digitalSignature")
        # Keytabs travel encrypted to an RSA key.
        if isinstance(certificate.public_key(), rsa.RSAPublicKey) and not usage.key_encipherment:
            missing.append("keyEncipherment")
    except x509.ExtensionNotFound:
        pass  # without the extension every use is allowed
    try:
        extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for name in ("SERVER_AUTH", "CLIENT_AUTH"):
            if getattr(ExtendedKeyUsageOID, name) not in extended:
                missing.append(name.replace("_", " ").lower())
    except x509.ExtensionNotFound:
        pass
    return missing


def faults(chain, key, ca, names, renew_days, now=None):
    """What is wrong with a host's certificate (the first of a chain), for a person to read."""
    if not chain:
        return ["there is none"]
    now = now or datetime.datetime.now(UTC)
    leaf, found = chain[0], []
    if key is None or public_bytes(leaf.public_key()) != public_bytes(key.public_key()):
        found.append("it belongs to another key")
    if not leads_to(leaf, chain[1:], ca):
        found.append("another authority issued it")
    missing = sorted(set(names) - dns_names(leaf))
    if missing:
        found.append(f"it lacks the names {', '.join(missing)}")
    surplus = sorted(dns_names(leaf) - set(names))
    if surplus:
        found.append(f"it has names that the host no longer has: {', '.join(surplus)}")
    uses = missing_uses(leaf)
    if uses:
        found.append(f"it does not allow {', '.join(uses)}")
    start, end = moments(leaf)
    if end <= now:
        found.append(f"it ended on {text_of(end)}")
    elif end - now < datetime.timedelta(days=renew_days):
        found.append(f"it ends in {(end - now).days} days")
    if start > now:
        found.append(f"it is valid from {text_of(start)} only: is the clock right?")
    return found


# --- Acting -----------------------------------------------------------------------------------


class Host(Files):
    """The files of one host."""

    def __init__(self, module):
        super().__init__(module)
        self.params = module.params
        self.key_attributes = {k: self.params[k] for k in ("owner", "group", "mode")}
        self.result.update(needed=False, reasons=[])

    def path(self, name):
        return os.path.join(self.params["directory"], name)

    def put(self, name, data, before, after, attributes=None):
        """Make a file have this content, owner and mode."""
        path = self.path(name)
        attributes = attributes or {"owner": "root", "group": "root", "mode": "0644"}
        if data is None or atomic.read(path) != data:
            self.write(path, data, before, after, **attributes)
        else:
            self.mend(path, **attributes)

    def ensure_directory(self):
        attributes = {"owner": "root", "group": "root", "mode": "0755"}
        directory = self.params["directory"]
        changes = atomic.attribute_changes(directory, **attributes)
        if changes:
            if not self.check:
                os.makedirs(directory, mode=0o755, exist_ok=True)
                atomic.set_attributes(directory, **attributes)
            self.note(directory, "", "directory, 0755\n")

    def ensure_key(self):
        """The host's key: copied, kept or made. None in check mode when it is yet to be made."""
        size = self.params["key_size"]
        source = self.params["private_key_file"]
        if source:
            data = atomic.read(source)
            key = load_key(data)
            if key is None:
                raise Unusable(f"{source} holds no usable, unencrypted private key")
            self.put("host.key", data, "", f"(the key of {source})\n", self.key_attributes)
            return key
        data = atomic.read(self.path("host.key"))
        key = load_key(data)
        if isinstance(key, rsa.RSAPrivateKey) and key.key_size == size:
            self.put("host.key", data, "", "", self.key_attributes)
            return key
        before = "" if data is None else "(a damaged key, or one of another kind or size)\n"
        key = None
        if not self.check:
            key = rsa.generate_private_key(public_exponent=65537, key_size=size)
            data = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        self.put(
            "host.key",
            None if self.check else data,
            before,
            f"(a new RSA key of {size} bits)\n",
            self.key_attributes,
        )
        return key

    def ensure_request(self, key):
        """A request that asks for this key and these names; kept as it is if it does."""
        names = self.params["names"]
        after = f"(a request for {', '.join(names)})\n"
        if key is None:
            self.put("host.csr", None, "", after)
            return None
        data = atomic.read(self.path("host.csr"))
        if data is None or not self.request_serves(data, key):
            data = to_pem([self.new_request(key)])
        self.put("host.csr", data, "", after)
        return data

    def request_serves(self, data, key):
        try:
            found = x509.load_pem_x509_csr(data)
            return (
                found.is_signature_valid
                and public_bytes(found.public_key()) == public_bytes(key.public_key())
                and dns_names(found) == set(self.params["names"])
                and found.subject == self.subject()
            )
        except ValueError:
            return False

    def subject(self):
        # A common name holds 64 characters; the names proper are in the extension.
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.params["names"][0][:64])])

    def new_request(self, key):
        usage = dict.fromkeys(
            (
                *("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign"),
                *("crl_sign", "encipher_only", "decipher_only"),
            ),
            False,
        )
        return (
            x509.CertificateSigningRequestBuilder()
            .subject_name(self.subject())
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(n) for n in self.params["names"]]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_encipherment=True, **usage),
                critical=True,
            )
            .add_extension(
                x509.ExtendedKeyUsage(
                    [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
                ),
                critical=False,
            )
            .sign(key, hashes.SHA256())
        )

    def given(self):
        """The certificate that was supplied, with what follows it; None when there is none."""
        if self.params["certificate_file"]:
            data = atomic.read(self.params["certificate_file"])
            if data is None:
                raise Unusable(f"{self.params['certificate_file']} does not exist")
        elif self.params["certificate"]:
            data = self.params["certificate"].encode()
        else:
            return None
        return certificates(data)

    def present(self):
        """The certificate in place, with what follows it in chain.crt; and what is broken."""
        try:
            leaf = certificates(atomic.read(self.path("host.crt")) or b"")[:1]
        except Unusable as error:
            return [], [f"it is {error}"]
        try:
            chain = certificates(atomic.read(self.path("chain.crt")) or b"")
        except Unusable:
            chain = []
        # What is in chain.crt counts only if it goes with this certificate.
        return (chain if leaf and chain[:1] == leaf else leaf), []

    def reconcile(self):
        if atomic.parse_mode(self.params["mode"]) & 0o007:
            raise Unusable(f"mode {self.params['mode']} would let others read the private key")
        try:
            ca = certificates(self.params["ca"].encode())
        except Unusable as error:
            raise Unusable(f"the authority's certificate is {error}") from None
        if not ca:
            raise Unusable("no certificate of an authority was given")
        self.ensure_directory()
        key = self.ensure_key()
        request = self.ensure_request(key)
        judged = {"ca": ca, "names": self.params["names"], "renew_days": self.params["renew_days"]}
        chain, broken = self.present()
        given = self.given()
        if given is not None:
            wrong = faults(given, key, **judged)
            if wrong and key is not None:
                raise Unusable(f"the certificate supplied cannot be used: {'; '.join(wrong)}")
            before, chain = chain, given
            self.put_certificate(chain, before)
        else:
            self.result["reasons"] = broken or faults(chain, key, **judged)
            self.result["needed"] = bool(self.result["reasons"])
            if chain:
                self.put_certificate(chain[:1], chain)
        if self.result["needed"]:
            self.ask(request, chain)
        self.put("ca.crt", to_pem(ca), "", self.describe(ca[:1]))
        if chain and not self.result["needed"]:
            above = [c for c in chain[1:] if c not in ca]
            full = to_pem([chain[0], *above, *ca])
            self.put("chain.crt", full, "", f"{self.describe(chain)}and its issuers\n")
            self.result["not_after"] = text_of(moments(chain[0])[1])

    def put_certificate(self, chain, before):
        self.put("host.crt", to_pem(chain[:1]), self.describe(before), self.describe(chain))

    def ask(self, request, chain):
        """Tell that a certificate is needed: in check mode that is a change to come."""
        if self.check:
            for name in ("host.crt", "chain.crt"):
                self.plan(self.path(name))
            self.note(
                self.path("host.crt"),
                f"{self.describe(chain)}({'; '.join(self.result['reasons'])})\n",
                "(a certificate to be issued)\n",
            )
        else:
            self.result["csr"] = request.decode()

    @staticmethod
    def describe(chain):
        """What may be shown of a certificate."""
        if not chain:
            return ""
        leaf = chain[0]
        return (
            f"subject: {leaf.subject.rfc4514_string()}\n"
            f"names: {', '.join(sorted(dns_names(leaf)))}\n"
            f"issuer: {leaf.issuer.rfc4514_string()}\n"
            f"serial: {leaf.serial_number:x}\n"
            f"until: {text_of(moments(leaf)[1])}\n"
        )


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/deitos/pki"},
            "names": {"type": "list", "elements": "str", "required": True},
            "ca": {"required": True},
            "certificate": {},
            "private_key_file": {"type": "path", "no_log": False},
            "certificate_file": {"type": "path"},
            "key_size": {"type": "int", "default": 3072, "no_log": False},
            "renew_days": {"type": "int", "default": 30},
            "owner": {"default": "root"},
            "group": {"default": "root"},
            "mode": {"default": "0440"},
        },
        required_together=[("private_key_file", "certificate_file")],
        mutually_exclusive=[("certificate", "certificate_file")],
        supports_check_mode=True,
    )
    if IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("cryptography"), exception=IMPORT_ERROR)
    host = Host(module)
    try:
        host.reconcile()
    except (Unusable, ValueError, OSError) as error:
        module.fail_json(msg=f"{host.params['names'][0]}: {error}", **host.result)
    module.exit_json(**host.result)


if __name__ == "__main__":
    main()
