#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Certificate authorities that the operating system and Java trust."""

from __future__ import annotations

DOCUMENTATION = r"""
module: trust_anchor
short_description: Make the operating system and Java trust a certificate authority
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Puts the certificates of an authority where the operating system looks for a site's own, and
    lets the system's tool rebuild the bundles.
  - Whether that is needed is read from the bundles themselves, so an update that was killed halfway
    is made up for by the next run.
attributes:
  check_mode:
    description: Reports whether the trust would change.
    support: full
  diff_mode:
    description: Shows which certificate is missing where.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  name:
    description: Base name of the files.
    type: str
    required: true
  content:
    description: The certificates in PEM.
    type: str
    required: true
  directory:
    description: Where the system looks for a site's own authorities.
    type: path
    default: /usr/local/share/ca-certificates
  commands:
    description: Commands that rebuild the bundles, tried one after the other until all bundles
      hold the certificates.
    type: list
    elements: str
    default: [update-ca-certificates, update-ca-certificates --fresh]
  bundle:
    description: The system's bundle.
    type: path
    default: /etc/ssl/certs/ca-certificates.crt
  java_keystore:
    description: The keystore that Java trusts by default. Left alone when it is not there.
    type: path
    default: /etc/ssl/certs/java/cacerts
"""

EXAMPLES = r"""
- name: Trust the cluster's authority
  deitos.cluster.trust_anchor:
    name: deitos-ca
    content: "{{ ca_certificate }}"
"""

RETURN = r"""
missing:
  description: The bundles that lacked a certificate.
  returned: always
  type: list
  elements: str
  sample: [/etc/ssl/certs/ca-certificates.crt]
"""

import binascii
import os
import re
import shlex

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic

PEM = re.compile(r"-----BEGIN CERTIFICATE-----\s(.+?)-----END CERTIFICATE-----", re.DOTALL)


def decode(text):
    """The certificates in PEM text, as DER."""
    found = []
    for body in PEM.findall(text):
        try:
            found.append(binascii.a2b_base64("".join(body.split()).encode()))
        except ValueError:
            continue  # a bundle may hold anything; what is wanted is checked on its own
    return found


class Trust:
    """One authority: its files, and the bundles that must hold it."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.wanted = decode(self.params["content"])
        if not self.wanted or self.params["content"].count("-----BEGIN") != len(self.wanted):
            module.fail_json(msg=f"{self.params['name']}: the content is not certificates in PEM")

    def files(self):
        """The files wanted, {path: content}: the tools take one certificate from each."""
        bodies = [match.group(0) for match in PEM.finditer(self.params["content"])]
        base = os.path.join(self.params["directory"], self.params["name"])
        return {
            f"{base}.crt" if number == 1 else f"{base}-{number}.crt": f"{body}\n".encode()
            for number, body in enumerate(bodies, start=1)
        }

    def missing(self):
        """The bundles that lack a certificate."""
        found = []
        bundle = decode((atomic.read(self.params["bundle"]) or b"").decode("utf-8", "replace"))
        if not set(self.wanted) <= set(bundle):
            found.append(self.params["bundle"])
        java = atomic.read(self.params["java_keystore"])
        # Neither JKS nor a PKCS12 without a password hides the certificates in it.
        if java is not None and not all(der in java for der in self.wanted):
            found.append(self.params["java_keystore"])
        return found

    def reconcile(self):
        files = {p: d for p, d in self.files().items() if atomic.read(p) != d}
        attributes = {"owner": "root", "group": "root", "mode": "0644"}
        modes = [p for p in self.files() if atomic.attribute_changes(p, **attributes)]
        missing = self.missing()
        if not self.module.check_mode:
            for path, data in files.items():
                atomic.write_atomic(path, data, **attributes)
            for path in modes:
                atomic.set_attributes(path, **attributes)
            if files or missing:
                self.rebuild()
        lines = [f"{path}\n" for path in dict.fromkeys([*files, *modes, *missing])]
        self.module.exit_json(
            changed=bool(lines),
            missing=missing,
            diff={
                "before": "",
                "after": "".join(f"{self.params['name']} in {line}" for line in lines),
            },
        )

    def rebuild(self):
        """Run the system's tool until nothing is missing."""
        said = ""
        for command in self.params["commands"]:
            code, out, err = self.module.run_command(shlex.split(command))
            said = f"{out}{err}".strip()
            if code == 0 and not self.missing():
                return
        self.module.fail_json(
            msg=f"{self.params['name']} is still missing in {', '.join(self.missing())} after"
            f" '{self.params['commands'][-1]}', which said: {said}"
        )


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "content": {"required": True},
            "directory": {"type": "path", "default": "/usr/local/share/ca-certificates"},
            "commands": {
                "type": "list",
                "elements": "str",
                "default": ["update-ca-certificates", "update-ca-certificates --fresh"],
            },
            "bundle": {"type": "path", "default": "/etc/ssl/certs/ca-certificates.crt"},
            "java_keystore": {
                "type": "path",
                "default": "/etc/ssl/certs/java/cacerts",
                "no_log": False,
            },
        },
        supports_check_mode=True,
    )
    try:
        Trust(module).reconcile()
    except OSError as error:
        module.fail_json(msg=f"{module.params['name']}: {error}")


if __name__ == "__main__":
    main()
