#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Bring keytabs from an MIT Kerberos KDC to hosts, sealed and only where they differ."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kerberos_keytab
short_description: Bring keytabs from an MIT KDC to hosts, sealed and only where they differ
version_added: 0.1.0
description:
  - Keeps keytab files of many hosts equal to the keys in the KDC, without ever changing a key
    (C(ktadd -norandkey)) and without a key being seen by the controller.
  - It is used in three steps. O(state=report) on each host tells the fingerprints of the keys in
    its keytabs and gives the host's certificate. O(state=issue) on the KDC compares them with the
    database and returns, for each host that differs, its keytabs in one CMS message (AES-256)
    that only the key of that host's certificate opens. O(state=present) on each host opens it and
    writes the files.
  - Keytabs are compared by principal, key version, encryption type and key, never by their bytes.
  - The KDC seals only to a certificate that its CA has signed and that has the host's name as a DNS
    name. So a host cannot obtain another's keys by sending a certificate of its own choice. For
    the same reason O(hosts[].keytabs) must come from the inventory and not from what a host says.
author:
  - Deitos Cluster authors (@deitos)
extends_documentation_fragment:
  - deitos.cluster.kerberos
  - deitos.cluster.kerberos.attributes
requirements:
  - openssl 3 (the command) on the KDC and the hosts
  - kadmin.local (Debian package krb5-admin-server), or kadmin (krb5-user) with O(admin_server), for
    O(state=issue)
options:
  state:
    description:
      - V(report) reads the keytabs of this host. V(issue) runs on the KDC. Both change nothing, and
        do their work in check mode, too.
      - V(present) writes this host's keytabs from O(sealed), and repairs owner, group and mode. A
        symbolic link is replaced by a file.
      - V(absent) removes the files of O(keytabs).
    type: str
    choices: [report, issue, present, absent]
    default: present
  keytabs:
    description: The keytabs of this host. Needed but for O(state=issue).
    type: list
    elements: dict
    suboptions:
      path:
        description: The file. Its directory must exist.
        type: path
        required: true
      principals:
        description:
          - The principals whose keys it holds, all of them and no others. Needed for
            O(state=present).
        type: list
        elements: str
      owner:
        description: The user, by name or number, that owns the file.
        type: str
        default: root
      group:
        description: The group of the file; the group it has is left when not given.
        type: str
      mode:
        description: The mode of the file.
        type: str
        default: '0400'
      keep_old:
        description:
          - Leave keys of older versions in the file when they are no longer in the KDC, so that
            tickets given out before a change of keys stay good.
        type: bool
        default: false
  hosts:
    description: The hosts to issue keytabs for, with O(state=issue).
    type: list
    elements: dict
    suboptions:
      name:
        description: The name that the host's certificate must have as a DNS name.
        type: str
        required: true
      certificate:
        description: RV(certificate) of the host's report, in PEM; may be followed by its chain.
        type: str
      fingerprints:
        description: RV(fingerprints) of the host's report.
        type: dict
      keytabs:
        description: What the host's O(keytabs) are, from the inventory.
        type: list
        elements: dict
        required: true
        suboptions:
          path:
            description: The file on the host.
            type: path
            required: true
          principals:
            description: The principals whose keys it holds.
            type: list
            elements: str
            required: true
          owner:
            description: Not used here; allowed so that one list serves both steps.
            type: str
          group:
            description: Not used here; allowed so that one list serves both steps.
            type: str
          mode:
            description: Not used here; allowed so that one list serves both steps.
            type: str
          keep_old:
            description: As in O(keytabs[].keep_old).
            type: bool
            default: false
  sealed:
    description: This host's message out of RV(sealed), if it has one.
    type: str
  host_key:
    description: The private key of the host, which opens O(sealed).
    type: path
    default: /etc/deitos/pki/host.key
  host_certificate:
    description: The certificate of the host.
    type: path
    default: /etc/deitos/pki/host.crt
  ca_path:
    description: On the KDC, the certificate of the CA that has signed the hosts' certificates.
    type: path
    default: /etc/deitos/pki/ca.crt
notes:
  - O(state=issue) also works from another host with O(admin_server). The administrator then needs
    the rights C(i) and C(e) in C(kadm5.acl). Keys of principals with the flag C(lockdown_keys) are
    only given out on the KDC itself.
  - A fingerprint is a SHA-256 over the name and the key. It tells nothing of a random key. The key
    of a principal whose password can be guessed should not be put in a keytab.
seealso:
  - module: deitos.cluster.kerberos_principal
"""

EXAMPLES = r"""
# keytabs of the hosts, in group_vars:
#   host_keytabs:
#     - path: /etc/krb5.keytab
#       principals: ["host/{{ inventory_hostname }}"]
#     - path: /etc/security/keytabs/hdfs.keytab
#       principals: ["dn/{{ inventory_hostname }}", "HTTP/{{ inventory_hostname }}"]
#       owner: hdfs

- name: Tell what keys this host has
  deitos.cluster.kerberos_keytab:
    state: report
    keytabs: "{{ host_keytabs }}"
  register: keytab_report

- name: Seal what differs, for each host on its own
  deitos.cluster.kerberos_keytab:
    state: issue
    hosts:
      - name: worker1.example.org
        certificate: "{{ hostvars['worker1.example.org'].keytab_report.certificate }}"
        fingerprints: "{{ hostvars['worker1.example.org'].keytab_report.fingerprints }}"
        keytabs: "{{ hostvars['worker1.example.org'].host_keytabs }}"
  delegate_to: kdc1.example.org
  run_once: true
  register: keytab_issue

- name: Have the keytabs
  deitos.cluster.kerberos_keytab:
    keytabs: "{{ host_keytabs }}"
    sealed: "{{ keytab_issue.sealed[inventory_hostname] | default(omit) }}"
  when: keytab_report.unfit | length > 0 or inventory_hostname in keytab_issue.sealed
"""

RETURN = r"""
fingerprints:
  description:
    - The keys in each keytab that exists, as principal, version, encryption type and SHA-256; an
      empty list for a file that is no keytab.
  returned: O(state=report)
  type: dict
  sample:
    /etc/krb5.keytab:
      - >-
        host/worker1.example.org@EXAMPLE.ORG version 1 aes256-cts-hmac-sha384-192
        80a6cbb348982c4cb7d6ce522a6928ef63236eb820ccb991293443a243499a1b
unfit:
  description: Files that O(state=present) has to make or repair, even without newer keys.
  returned: O(state=report)
  type: list
  elements: str
  sample: [/etc/krb5.keytab]
certificate:
  description: The host's certificate in PEM.
  returned: O(state=report)
  type: str
  sample: |-
    -----BEGIN CERTIFICATE-----
    MIIB...
    -----END CERTIFICATE-----
sealed:
  description: For each host that differs, base64 of the DER of a CMS message with its keytabs.
  returned: O(state=issue)
  type: dict
  sample:
    worker1.example.org: MIIFbQYLKoZIhvcNAQkQARegggVcMIIFWAIBADGC...
differences:
  description: What differs at each host, in words. In check mode also what cannot be sealed yet.
  returned: O(state=issue)
  type: list
  elements: dict
  sample:
    - host: worker1.example.org
      path: /etc/security/keytabs/hdfs.keytab
      reason: it is missing
changed_keytabs:
  description: The keytabs that were (in check mode would be) written, repaired or removed.
  returned: O(state=present) and O(state=absent)
  type: list
  elements: dict
  contains:
    name:
      description: The file.
      type: str
    actions:
      description: What was done, of V(write), V(owner), V(group), V(mode), V(remove).
      type: list
      elements: str
  sample:
    - name: /etc/krb5.keytab
      actions: [write]
errors:
  description: The hosts or keytabs that failed, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - name: worker1.example.org
      msg: the certificate given for worker1.example.org does not have it as a DNS name
"""

import base64
import json
import os
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ADMIN_ARGUMENTS,
    ADMIN_CONSTRAINTS,
    ItemError,
    Kadmin,
    KadminError,
    Principal,
    admin_argv,
)
from ansible_collections.deitos.cluster.plugins.module_utils.keytab import (
    KeytabError,
    decode,
    encode,
    extract,
    fingerprints,
    parse_fingerprint,
)
from ansible_collections.deitos.cluster.plugins.module_utils.report import Report
from ansible_collections.deitos.cluster.plugins.module_utils.sealed import (
    Sealer,
    SealError,
    unseal,
)


def read_keytab(path):
    """The entries of a file; None when there is none, [] when it is no keytab."""
    if os.path.islink(path):
        # Its owner and mode would not be those of the file that it leads to.
        return []
    try:
        data = atomic.read(path)
    except OSError as error:
        raise ItemError(f"it cannot be read: {error.strerror}") from None
    if data is None:
        return None
    try:
        return decode(data)
    except KeytabError:
        return []


def wanted_principals(keytab, realm=None):
    """The principals of one keytab, each once."""
    if not keytab["principals"]:
        raise ItemError("it has no principals")
    return list(dict.fromkeys(Principal.parse(name, realm) for name in keytab["principals"]))


# --- report: on a host -----------------------------------------------------------------------


def is_fit(keytab, have, realm):
    """Whether a file needs no repair, as long as the KDC has nothing newer for it."""
    try:
        if have is None or new_entries(keytab, have, None, realm) is not None:
            return False
    except NotSealedError:
        return False
    rights = {"owner": keytab["owner"], "group": keytab["group"], "mode": keytab["mode"]}
    return not atomic.attribute_changes(keytab["path"], **rights)


def report_keytabs(module, report):
    """What this host has."""
    found, unfit = {}, []
    for keytab in module.params["keytabs"]:
        path = keytab["path"]
        with report.item(path):
            entries = read_keytab(path)
            if entries is not None:
                found[path] = fingerprints(entries)
            if not is_fit(keytab, entries, module.params["realm"]):
                unfit.append(path)
    path = module.params["host_certificate"]
    try:
        with open(path, encoding="ascii") as file:
            certificate = file.read()
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"the host's certificate {path} cannot be read: {error}")
    report.extra.update(fingerprints=found, unfit=unfit, certificate=certificate)


# --- issue: on the KDC -----------------------------------------------------------------------


def difference(have, entries, keep_old):
    """Why a reported keytab is not what it should be, or None."""
    if have is None:
        return "it is missing"
    if not have:
        return "it is damaged"
    want = set(fingerprints(entries))
    try:
        lost = sorted(want.difference(have))
        extra = [parse_fingerprint(one) for one in sorted(set(have) - want)]
    except (TypeError, ValueError):
        raise ItemError("its fingerprints are not what state 'report' returns") from None
    if keep_old:
        newest = newest_versions(entries)
        extra = [one for one in extra if one[1] >= newest.get(one[0], 0)]
    if lost:
        return f"it lacks {parse_fingerprint(lost[0])[2]}"
    if extra:
        return f"it has {extra[0][2]}"
    return None


def newest_versions(entries):
    """{principal's name: its highest version} in a keytab."""
    newest = {}
    for entry in entries:
        name = entry.principal.full
        newest[name] = max(entry.kvno, newest.get(name, 0))
    return newest


class Issuer:
    """Compares reports with the database, and seals what differs."""

    def __init__(self, module, report):
        self.check_mode = module.check_mode
        self.ca_path = module.params["ca_path"]
        self.module = module
        self.report = report
        self.sealed = {}
        self.differences = []

    def run(self, hosts):
        """Issue for all hosts; one session of kadmin takes all keys out."""
        with Kadmin(admin_argv(self.module.params, self.module.get_bin_path)) as kadmin:
            wanted = self._wanted(hosts, kadmin.default_realm)
            every = [
                name for keytabs in wanted.values() for _one, names in keytabs for name in names
            ]
            keys = extract(kadmin, every)
        work = []
        for host in hosts:
            if host["name"] in wanted:
                with self.report.item(host["name"]):
                    payload = self._differing(host, wanted[host["name"]], keys)
                    if payload:
                        work.append((host, payload))
        if work:
            self._seal_all(work)

    def _wanted(self, hosts, realm):
        wanted = {}
        for host in hosts:
            with self.report.item(host["name"]):
                if host["name"] in wanted:
                    raise ItemError("the host is listed more than once")
                wanted[host["name"]] = [
                    (keytab, wanted_principals(keytab, realm)) for keytab in host["keytabs"]
                ]
        return wanted

    def _differing(self, host, keytabs, keys):
        payload = {}
        for keytab, names in keytabs:
            entries, missing = [], []
            for name in names:
                if isinstance(keys[name], ItemError):
                    missing.append(str(keys[name]))
                else:
                    entries += keys[name]
            if missing and not self.check_mode:
                raise ItemError(f"{keytab['path']}: {'; '.join(missing)}")
            if missing:
                # An earlier task of this check run may be what makes the principal.
                reason = "; ".join(missing)
            else:
                have = (host["fingerprints"] or {}).get(keytab["path"])
                reason = difference(have, entries, keytab["keep_old"])
                if reason:
                    payload[keytab["path"]] = base64.b64encode(encode(entries)).decode("ascii")
            if reason:
                self.differences.append(
                    {"host": host["name"], "path": keytab["path"], "reason": reason}
                )
        return payload

    def _seal_all(self, work):
        def seal(one):
            host, payload = one
            message = {"format": 1, "host": host["name"], "keytabs": payload}
            try:
                return sealer.seal(host["name"], json.dumps(message).encode("utf-8"))
            except SealError as error:
                return error

        with Sealer(self.ca_path) as sealer:
            try:
                sealer.take({host["name"]: host["certificate"] for host, _payload in work})
            except SealError as error:
                self.report.fail(str(error))
            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                results = list(pool.map(seal, work))
        for (host, _payload), result in zip(work, results):
            with self.report.item(host["name"]):
                if isinstance(result, SealError):
                    raise ItemError(str(result))
                self.sealed[host["name"]] = result


def issue(module, report):
    """Returns the sealed keytabs; changes nothing."""
    issuer = Issuer(module, report)
    issuer.run(module.params["hosts"])
    report.extra.update(sealed=issuer.sealed, differences=issuer.differences)


# --- present and absent: on a host -----------------------------------------------------------


def open_sealed(module):
    """{path: [Entry]} of what came from the KDC."""
    params = module.params
    if not params["sealed"]:
        return {}
    try:
        message = json.loads(
            unseal(params["sealed"], params["host_key"], params["host_certificate"])
        )
        return {
            path: decode(base64.b64decode(data, validate=True))
            for path, data in message["keytabs"].items()
        }
    except SealError as error:
        module.fail_json(msg=str(error))
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not the error's text: it might quote what it could not read.
        module.fail_json(msg="what was sealed for this host is not what state 'issue' makes")


def holds_exactly(entries, wanted, realm):
    """Whether a keytab is of these principals and no others."""
    realms = {entry.principal.realm for entry in entries}
    if realm is None and len(realms) == 1:
        (realm,) = realms
    names = {Principal(name.components, name.realm or realm) for name in wanted}
    return {entry.principal for entry in entries} == names


def listed(entries):
    """A keytab for the diff: names, versions and types, never keys."""
    keys = {}
    for label in sorted({entry.label for entry in entries}):
        name, _space, enctype = label.rpartition(" ")
        keys.setdefault(name, []).append(enctype)
    return {name: ", ".join(enctypes) for name, enctypes in keys.items()}


class NotSealedError(ItemError):
    """A file is not right, and nothing came from the KDC to make it so."""


def new_entries(keytab, have, received, realm):
    """The entries to write; None when the file is right as it is."""
    wanted = wanted_principals(keytab)
    if received is None:
        if have and holds_exactly(have, wanted, realm):
            return None
        reason = "is missing" if have is None else "does not hold the principals it should"
        raise NotSealedError(
            f"it {reason}, and no sealed keytab was given for it; "
            "report this host's keytabs and issue them on the KDC first"
        )
    if not holds_exactly(received, wanted, realm):
        raise ItemError(
            "the keytab sealed for it is not of the principals it should hold; "
            "give the same keytabs to state 'issue' and state 'present'"
        )
    entries = list(received)
    if keytab["keep_old"]:
        newest = newest_versions(received)
        entries += [
            entry
            for entry in have or []
            if entry.kvno < newest.get(entry.principal.full, 0) and entry not in received
        ]
    return None if set(entries) == set(have or []) else entries


def have_keytab(module, report, keytab, received):
    """Make one file right."""
    path = keytab["path"]
    rights = {"owner": keytab["owner"], "group": keytab["group"], "mode": keytab["mode"]}
    have = read_keytab(path)
    before = after = listed(have or [])
    actions = []
    try:
        entries = new_entries(keytab, have, received, module.params["realm"])
        if entries is not None:
            actions.append("write")
            after = listed(entries)
    except NotSealedError:
        # In check mode an earlier task may be what would make the principals.
        if not module.check_mode:
            raise
        entries = None
        actions.append("write")
        after = dict.fromkeys(keytab["principals"], "(from the KDC)")
    before, after = dict(before), dict(after)
    try:
        if have is not None:
            changes = atomic.attribute_changes(path, **rights)
            actions += changes
            for key, (old, new) in changes.items():
                before[key], after[key] = old, new
        if not module.check_mode:
            if entries is not None:
                atomic.write_atomic(path, encode(entries), **rights)
            else:
                atomic.set_attributes(path, **rights)
    except FileNotFoundError:
        raise ItemError(f"its directory {os.path.dirname(path)} does not exist") from None
    except (OSError, ValueError) as error:
        raise ItemError(f"it cannot be written: {error}") from None
    if actions:
        report.change(path, actions, None if have is None else before, after)


def present(module, report):
    """Write what came sealed, repair what did not."""
    received = open_sealed(module)
    paths = {keytab["path"] for keytab in module.params["keytabs"]}
    for path in sorted(set(received) - paths):
        report.errors.append({"name": path, "msg": "it came sealed but is not one of the keytabs"})
    for keytab in module.params["keytabs"]:
        with report.item(keytab["path"]):
            have_keytab(module, report, keytab, received.get(keytab["path"]))


def absent(module, report):
    """Remove files."""
    for keytab in module.params["keytabs"]:
        path = keytab["path"]
        with report.item(path):
            if not os.path.lexists(path):
                continue
            try:
                if not module.check_mode:
                    os.unlink(path)
            except OSError as error:
                raise ItemError(f"it cannot be removed: {error.strerror}") from None
            report.change(path, ["remove"], {"state": "present"}, None)


ACTIONS = {"report": report_keytabs, "issue": issue, "present": present, "absent": absent}


def keytab_options(**rights):
    """The options of one keytab."""
    return {
        "path": {"type": "path", "required": True},
        "principals": {"type": "list", "elements": "str", "required": not rights},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "mode": {"type": "str"},
        "keep_old": {"type": "bool", "default": False},
        **rights,
    }


def main():
    """Run the module."""
    here = keytab_options(
        owner={"type": "str", "default": "root"}, mode={"type": "str", "default": "0400"}
    )
    hosts = {
        "name": {"type": "str", "required": True},
        "certificate": {"type": "str"},
        "fingerprints": {"type": "dict"},
        "keytabs": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "no_log": False,
            "options": keytab_options(),
        },
    }
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["report", "issue", "present", "absent"],
                "default": "present",
            },
            "keytabs": {"type": "list", "elements": "dict", "no_log": False, "options": here},
            "hosts": {"type": "list", "elements": "dict", "options": hosts},
            "sealed": {"type": "str"},
            "host_key": {"type": "path", "default": "/etc/deitos/pki/host.key", "no_log": False},
            "host_certificate": {"type": "path", "default": "/etc/deitos/pki/host.crt"},
            "ca_path": {"type": "path", "default": "/etc/deitos/pki/ca.crt"},
            **ADMIN_ARGUMENTS,
        },
        required_if=[
            ("state", "issue", ["hosts"]),
            ("state", "report", ["keytabs"]),
            ("state", "present", ["keytabs"]),
            ("state", "absent", ["keytabs"]),
        ],
        mutually_exclusive=ADMIN_CONSTRAINTS["mutually_exclusive"],
        required_by=ADMIN_CONSTRAINTS["required_by"],
        supports_check_mode=True,
    )
    state = module.params["state"]
    report = Report(
        module,
        "host" if state == "issue" else "keytab",
        "changed_keytabs" if state in ("present", "absent") else None,
    )
    try:
        ACTIONS[state](module, report)
    except KadminError as error:
        report.fail(str(error))
    report.exit()


if __name__ == "__main__":
    main()
