#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Manage the principals of an MIT Kerberos KDC."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kerberos_principal
short_description: Manage the principals of an MIT Kerberos KDC
version_added: 0.1.0
description:
  - Creates, changes, disables and removes principals of an MIT Kerberos realm.
  - Takes one principal (O(name)), many alike (O(names)) or many different ones (O(principals)),
    reads them all from the KDC, and writes what differs, in one C(kadmin.local).
  - An option that is not given is left as it is; on a new principal the KDC's default applies.
    Keys get the KDC's encryption types (C(supported_enctypes)).
  - Keys never change unless it is asked for.
  - Names may contain spaces, quotes and non-ASCII characters. A backslash, slash or at sign that
    is part of a name is written with a backslash before it, as everywhere in Kerberos. Control
    characters are refused.
  - Aliases are not managed, on no KDC. Those before MIT krb5 1.22, such as Debian 12's, have none
    in their own databases; there, another name needs a principal of its own. With a newer one use
    its C(kadmin), command C(add_alias). A name that is an alias is refused here, so that nothing is
    done to the principal behind it.
author:
  - Deitos Cluster authors (@deitos)
extends_documentation_fragment:
  - deitos.cluster.kerberos
  - deitos.cluster.kerberos.attributes
requirements:
  - kadmin.local (Debian package krb5-admin-server), or kadmin (krb5-user) for a remote KDC
options:
  name:
    description: The one principal to manage. Without C(@REALM) it belongs to O(realm).
    type: str
  names:
    description: Many principals that take the same options.
    type: list
    elements: str
  principals:
    description:
      - Many principals, each with its own options. What an item does not give is taken from the
        same option of the task.
    type: list
    elements: dict
    suboptions:
      name:
        description: The principal's name. Without C(@REALM) it belongs to O(realm).
        type: str
      state:
        description:
          - V(present) means that it exists and may get tickets, V(absent) that it does not exist.
          - V(disabled) means that it exists, with its keys, and gets no tickets (C(-allow_tix)).
        type: str
        choices: [present, absent, disabled]
      password:
        description:
          - The password of a new principal, and of an old one with
            O(principals[].update_password=always).
          - Without it, and without O(principals[].initial_password), a new principal gets a random
            key.
        type: str
      initial_password:
        description:
          - Make up a random password on the KDC for a new principal, have it changed at the first
            login (C(+needchange)), and leave it in a file of O(initial_password_directory) that
            only root can read.
          - It is neither returned nor logged. With O(principals[].rotate) an old principal gets a
            new one, too.
        type: bool
      update_password:
        description:
          - V(always) gives O(principals[].password) to a principal that has another one. The keys
            in the KDC are compared, so that the same password changes nothing.
          - The default is V(on_create).
        type: str
        choices: [always, on_create]
      rotate:
        description:
          - Give the principal new keys (or O(principals[].password), or a new
            O(principals[].initial_password)). Changes something each time.
          - With any new key the KDC ends C(needchange) and counts the password's expiry anew by the
            policy, unless O(principals[].flags) and O(principals[].password_expires) give them.
        type: bool
      max_key_age:
        description:
          - Give the principal a new random key when its last is older than this, such as V(180d).
            For principals with random keys only.
        type: str
      keep_old_keys:
        description:
          - Keep the old keys when new ones are made, so that tickets already given out stay good.
            Keytabs issued from then on hold them, too. The default is V(true).
        type: bool
      purge_old_keys:
        description:
          - Remove the keys of all versions but the newest. Not done in the same run that makes new
            keys with O(principals[].keep_old_keys), so run it again when the last old ticket has
            ended.
        type: bool
      policy:
        description:
          - The policy, which must exist. An empty string means none.
        type: str
      max_life:
        description:
          - The longest life of a ticket, such as V(24h), or V(unlimited), which leaves it to the
            realm.
        type: str
      max_renewable_life:
        description:
          - How long a ticket can be renewed, such as V(7d), or V(unlimited), which leaves it to the
            realm.
        type: str
      expires:
        description:
          - When the principal expires; V(never), a date or a time in ISO 8601, in UTC unless it
            names an offset.
        type: str
      password_expires:
        description:
          - When the password expires, written as in O(principals[].expires).
        type: str
      flags:
        description:
          - Attributes by their names in C(kadmin), each V(true) or V(false), such as
            C(requires_preauth), C(allow_forwardable), C(allow_renewable), C(allow_proxiable),
            C(allow_postdated), C(allow_dup_skey), C(allow_tgs_req), C(allow_svr), C(allow_tix),
            C(requires_hwauth), C(needchange), C(ok_as_delegate), C(ok_to_auth_as_delegate),
            C(no_auth_data_required), C(password_changing_service) and C(lockdown_keys).
          - Attributes not named are left as they are; O(principals[].state) decides on
            C(allow_tix).
        type: dict
      unlock:
        description:
          - Set the count of failed logins to zero, which ends a lockout, when it is not.
        type: bool
  state:
    description:
      - V(present) means that it exists and may get tickets, V(absent) that it does not exist.
      - V(disabled) means that it exists, with its keys, and gets no tickets (C(-allow_tix)).
    type: str
    default: present
    choices: [present, absent, disabled]
  password:
    description:
      - The password of a new principal, and of an old one with O(update_password=always).
      - Without it, and without O(initial_password), a new principal gets a random key.
    type: str
  initial_password:
    description:
      - Make up a random password on the KDC for a new principal, have it changed at the first login
        (C(+needchange)), and leave it in a file of O(initial_password_directory) that only root can
        read.
      - It is neither returned nor logged. With O(rotate) an old principal gets a new one, too.
    type: bool
  update_password:
    description:
      - V(always) gives O(password) to a principal that has another one. The keys in the KDC are
        compared, so that the same password changes nothing.
      - The default is V(on_create).
    type: str
    choices: [always, on_create]
  rotate:
    description:
      - Give the principal new keys (or O(password), or a new O(initial_password)). Changes
        something each time.
      - With any new key the KDC ends C(needchange) and counts the password's expiry anew by the
        policy, unless O(flags) and O(password_expires) give them.
    type: bool
  max_key_age:
    description:
      - Give the principal a new random key when its last is older than this, such as V(180d). For
        principals with random keys only.
    type: str
  keep_old_keys:
    description:
      - Keep the old keys when new ones are made, so that tickets already given out stay good.
        Keytabs issued from then on hold them, too. The default is V(true).
    type: bool
  purge_old_keys:
    description:
      - Remove the keys of all versions but the newest. Not done in the same run that makes new keys
        with O(keep_old_keys), so run it again when the last old ticket has ended.
    type: bool
  policy:
    description:
      - The policy, which must exist. An empty string means none.
    type: str
  max_life:
    description:
      - The longest life of a ticket, such as V(24h), or V(unlimited), which leaves it to the realm.
    type: str
  max_renewable_life:
    description:
      - How long a ticket can be renewed, such as V(7d), or V(unlimited), which leaves it to the
        realm.
    type: str
  expires:
    description:
      - When the principal expires; V(never), a date or a time in ISO 8601, in UTC unless it names
        an offset.
    type: str
  password_expires:
    description:
      - When the password expires, written as in O(expires).
    type: str
  flags:
    description:
      - Attributes by their names in C(kadmin), each V(true) or V(false), such as
        C(requires_preauth), C(allow_forwardable), C(allow_renewable), C(allow_proxiable),
        C(allow_postdated), C(allow_dup_skey), C(allow_tgs_req), C(allow_svr), C(allow_tix),
        C(requires_hwauth), C(needchange), C(ok_as_delegate), C(ok_to_auth_as_delegate),
        C(no_auth_data_required), C(password_changing_service) and C(lockdown_keys).
      - Attributes not named are left as they are; O(state) decides on C(allow_tix).
    type: dict
  unlock:
    description:
      - Set the count of failed logins to zero, which ends a lockout, when it is not.
    type: bool
  initial_password_directory:
    description:
      - Where O(initial_password) leaves its files, named after the principal without its realm
        (C(/) is written C(%2F)). Made with mode 0700 when missing.
      - A new password lies in a file that ends in C(~new) until the KDC has taken it. One that is
        left by a run that was cut off may be the principal's password, or not.
      - The files of a principal are removed with the principal.
    type: path
    default: /var/lib/deitos/initial-passwords
seealso:
  - module: deitos.cluster.kerberos_policy
  - module: deitos.cluster.kerberos_keytab
"""

EXAMPLES = r"""
- name: Have principals with random keys for the daemons of all workers
  deitos.cluster.kerberos_principal:
    names:
      - dn/worker1.example.org
      - nm/worker1.example.org
      - HTTP/worker1.example.org
    flags:
      requires_preauth: true

- name: Have people, each with an expiring first password in a file on the KDC
  deitos.cluster.kerberos_principal:
    policy: people
    initial_password: true
    principals:
      - name: alice
      - name: bob
        max_life: 10h
      - name: carol
        state: disabled
      - name: dave
        state: absent

- name: Have a principal with a password of one's own
  deitos.cluster.kerberos_principal:
    name: backup
    password: "{{ backup_password }}"
    update_password: always
    expires: 2031-12-31

- name: Unlock alice
  deitos.cluster.kerberos_principal:
    name: alice
    unlock: true

- name: Change the keys of a service, keeping the old ones for tickets in use
  deitos.cluster.kerberos_principal:
    name: HTTP/master1.example.org
    rotate: true
"""

RETURN = r"""
changed_principals:
  description: The principals that were (in check mode would be) changed, and how.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The principal's full name.
      type: str
    actions:
      description:
        - What was done, of V(create), V(modify), V(disable), V(enable), V(password), V(keys),
          V(purge), V(unlock), V(remove).
      type: list
      elements: str
  sample:
    - name: alice@EXAMPLE.ORG
      actions: [create]
initial_passwords:
  description: Where the first password of each new person lies on the KDC. Never the password.
  returned: always
  type: list
  elements: dict
  sample:
    - name: alice@EXAMPLE.ORG
      path: /var/lib/deitos/initial-passwords/alice
errors:
  description: The items that failed, with the reason.
  returned: when an item failed
  type: list
  elements: dict
  sample:
    - name: bob
      msg: policy 'peopel' does not exist
"""

import contextlib
import dataclasses
import os
import secrets
import string
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils.atomic import write_atomic
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ADMIN_ARGUMENTS,
    ADMIN_CONSTRAINTS,
    ItemError,
    Kadmin,
    KadminError,
    Principal,
    admin_argv,
    check_flags,
    check_text,
    command_line,
    complaint,
    format_interval,
    format_time,
    parse_interval,
    parse_time,
)
from ansible_collections.deitos.cluster.plugins.module_utils.keytab import extract
from ansible_collections.deitos.cluster.plugins.module_utils.report import Report, merge
from ansible_collections.deitos.cluster.plugins.module_utils.string_to_key import string_to_key

ALWAYS = "always"

PRINCIPAL_ARGUMENTS = {
    "name": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent", "disabled"]},
    "password": {"type": "str", "no_log": True},
    "initial_password": {"type": "bool", "no_log": False},
    "update_password": {
        "type": "str",
        "choices": [ALWAYS, "on_create"],
        "no_log": False,
    },
    "rotate": {"type": "bool"},
    "max_key_age": {"type": "str", "no_log": False},
    "keep_old_keys": {"type": "bool", "no_log": False},
    "purge_old_keys": {"type": "bool", "no_log": False},
    "policy": {"type": "str"},
    "max_life": {"type": "str"},
    "max_renewable_life": {"type": "str"},
    "expires": {"type": "str"},
    "password_expires": {"type": "str", "no_log": False},
    "flags": {"type": "dict"},
    "unlock": {"type": "bool"},
}

# option: (kadmin's word, how it is read, how it is shown)
NUMBERS = {
    "max_life": ("-maxlife", parse_interval, format_interval),
    "max_renewable_life": ("-maxrenewlife", parse_interval, format_interval),
    "expires": ("-expire", parse_time, format_time),
    "password_expires": ("-pwexpire", parse_time, format_time),
}

# The actions that give a principal its password.
NEW_KEY = ("create", "password")

# Characters that cannot be mistaken for another when read from a screen.
READABLE = {
    "lower": "".join(sorted(set(string.ascii_lowercase) - set("lo"))),
    "upper": "".join(sorted(set(string.ascii_uppercase) - set("IO"))),
    "digit": "23456789",
    "punctuation": "-+=.:_",
}


def make_password(length=20):
    """A random password with characters of four classes, as policies may want them."""
    every = "".join(READABLE.values())
    while True:
        password = "".join(secrets.choice(every) for _place in range(max(length, 20)))
        if all(set(password) & set(characters) for characters in READABLE.values()):
            return password


class Wanted:
    """One item of the list, checked and in the KDC's terms."""

    def __init__(self, item):
        self.item = item
        self.principal = Principal.parse(item["name"] or "")
        self.state = item["state"]
        self.values = {}
        for option, (_word, read, _show) in NUMBERS.items():
            if item[option] is not None:
                self.values[option] = read(item[option])
        if item["policy"] is not None:
            self.values["policy"] = item["policy"] and check_text(item["policy"], "the policy")
        self.flags = _flags(item)
        self.max_key_age = item["max_key_age"] and parse_interval(item["max_key_age"])
        if item["password"] is not None:
            check_text(item["password"], "the password")
            if item["initial_password"]:
                raise ItemError("password and initial_password exclude each other")
        if self.max_key_age and (item["password"] is not None or item["initial_password"]):
            raise ItemError("max_key_age is for random keys, not for passwords")

    @property
    def has_password(self):
        """Whether a person or a secret elsewhere knows this key."""
        return self.item["password"] is not None or bool(self.item["initial_password"])


def _flags(item):
    flags = {}
    for name, value in check_flags(item["flags"]).items():
        text = str(value).lower()
        if text not in ("true", "false", "yes", "no", "1", "0"):
            raise ItemError(f"flag '{name}' must be true or false, not '{value}'")
        flags[name] = text in ("true", "yes", "1")
    if item["state"] != "absent":
        allowed = item["state"] == "present"
        if flags.get("allow_tix", allowed) != allowed:
            raise ItemError(f"state '{item['state']}' and flag allow_tix contradict each other")
        flags["allow_tix"] = allowed
    return flags


@dataclasses.dataclass
class Command:
    """A command for kadmin, and what it changes."""

    action: str
    words: list
    good: str  # the end of its answer when all is well
    before: dict
    after: dict


class Step:
    """What is to be done to one principal, one command after the other, up to a refusal."""

    def __init__(self, name):
        self.name = name
        self.commands = []
        self.done = 0
        self.failure = None
        self.gone = self.new = False
        self.initial_password = None

    def do(self, action, words, good, before=None, after=None):
        """Add a command; one that kadmin cannot take is this item's error."""
        command_line(words)
        self.commands.append(Command(action, words, good, before or {}, after or {}))

    @property
    def next(self):
        """The command that is due, or None."""
        if self.failure or self.done == len(self.commands):
            return None
        return self.commands[self.done]

    def take(self, answer):
        """See to kadmin's answer to the command that was due."""
        if any(line.endswith(self.next.good) for line in answer.splitlines()):
            self.done += 1
        else:
            self.failure = complaint(answer)

    @property
    def has_key(self):
        """Whether the KDC has taken the new key or password."""
        return any(one.action in NEW_KEY for one in self.commands[: self.done])


def shown(values):
    """Values as a person reads them."""
    result = {}
    for key, value in values.items():
        if key in NUMBERS:
            result[key] = NUMBERS[key][2](value)
        elif key == "policy":
            result[key] = value or "none"
    return result


def arguments(values, flags):
    """kadmin's words for these values and flags."""
    words = []
    for key, value in values.items():
        if key == "policy":
            words += ["-policy", value] if value else ["-clearpolicy"]
        elif NUMBERS[key][1] is parse_interval:
            words += [NUMBERS[key][0], f"{value}s"]
        else:
            words += [NUMBERS[key][0], format_time(value)]
    return words + [("+" if on else "-") + name for name, on in sorted(flags.items())]


class Planner:
    """Compares what is wanted with what the KDC has."""

    def __init__(self, kadmin, now, check_mode):
        self.kadmin = kadmin
        self.now = now
        self.check_mode = check_mode

    def read(self, wanted):
        """Current principals, policies and, where a password must be compared, keys."""
        self.current = self.kadmin.get_principals(wanted)
        self.policies = self.kadmin.get_policies(
            {
                self._policy(principal, item)
                for principal, item in wanted.items()
                if item.values.get("policy") or item.item["initial_password"]
            }
            - {""}
        )
        self.keys = extract(
            self.kadmin,
            [
                principal
                for principal, item in wanted.items()
                if item.item["update_password"] == ALWAYS
                and item.item["password"] is not None
                and item.state != "absent"
                and isinstance(self.current[principal], dict)
                and self.current[principal]["keys"]
            ],
        )

    def _policy(self, principal, wanted):
        """The policy that a new password is judged by; a new principal gets the KDC's default."""
        if "policy" in wanted.values:
            return wanted.values["policy"]
        current = self.current[principal]
        return current["policy"] if isinstance(current, dict) else "default"

    def plan(self, principal, wanted):
        """The Step for one principal, or None when it is as it should be."""
        current = self.current[principal]
        if isinstance(current, ItemError):
            raise current
        step = Step(principal.full)
        word = principal.word(self.kadmin.default_realm)
        self._protect(principal, wanted)
        if wanted.state == "absent":
            if current is None:
                return None
            step.gone = True
            words = ["delete_principal", "-force", word]
            step.do("remove", words, " deleted.", before={"state": "present"})
            return step
        policy = wanted.values.get("policy")
        if policy:
            if isinstance(self.policies[policy], ItemError):
                raise self.policies[policy]
            # In check mode an earlier task may be what makes the policy.
            if self.policies[policy] is None and not self.check_mode:
                raise ItemError(f"policy '{policy}' does not exist")
        if current is None:
            self._create(step, word, principal, wanted)
        else:
            self._change(step, word, principal, wanted)
        return step if step.commands else None

    def _protect(self, principal, wanted):
        """Without these the realm is lost; nobody means it."""
        name = principal.short
        if principal.realm != self.kadmin.default_realm:
            return
        if wanted.state != "present" and name in ("K/M", f"krbtgt/{principal.realm}"):
            raise ItemError("the realm cannot be without it, so it is not disabled or removed")
        if name == "K/M" and (wanted.item["rotate"] or wanted.max_key_age or wanted.has_password):
            raise ItemError("the master key is changed with kdb5_util, not here")

    def _secret(self, step, principal, wanted, flags):
        """kadmin's words for the new key, and the flag that a first password carries."""
        if wanted.item["password"] is not None:
            return ["-pw", wanted.item["password"]]
        if wanted.item["initial_password"]:
            policy = self.policies.get(self._policy(principal, wanted))
            length = policy["min_length"] if isinstance(policy, dict) else 0
            step.initial_password = make_password(length)
            flags["needchange"] = True
            return ["-pw", step.initial_password]
        return ["-randkey"]

    def _create(self, step, word, principal, wanted):
        flags = dict(wanted.flags)
        secret = self._secret(step, principal, wanted, flags)
        after = {"state": wanted.state, **shown(wanted.values)}
        after.update(("flag " + name, on) for name, on in wanted.flags.items())
        step.new = True
        words = ["add_principal", *secret, *arguments(wanted.values, flags), word]
        step.do("create", words, " created.", after=after)

    def _change(self, step, word, principal, wanted):
        item, current = wanted.item, self.current[principal]
        values, flags = dict(wanted.values), dict(wanted.flags)
        # What the KDC has when a command is done: it changes some things by itself.
        found = dict(current, flags=dict(current["flags"]))
        if values.get("policy", current["policy"]) != current["policy"]:
            found["password_expires"] = None
        new = self._key_is_due(principal, wanted)
        late_values, late_flags = {}, {}
        if new:
            secret = self._secret(step, principal, wanted, flags)
            late_values = {key: values.pop(key) for key in ("password_expires",) if key in values}
            late_flags = {key: flags.pop(key) for key in ("needchange",) if key in flags}
        # Before the key, so that a new password is judged by the policy that is wanted.
        self._modify(step, word, current, found, values, flags)
        if new:
            before, after = {"key version": current["kvno"]}, {"key version": current["kvno"] + 1}
            if current["flags"]["needchange"] and not late_flags.get("needchange"):
                before["flag needchange"], after["flag needchange"] = True, False
            keep = ["-keepold"] if item["keep_old_keys"] is not False else []
            words = ["change_password", *secret, *keep, word]
            if wanted.has_password:
                step.do("password", words, " changed.", before, after)
            else:
                step.do("keys", words, " randomized.", before, after)
            found["password_expires"] = None
            found["flags"]["needchange"] = False
            self._modify(step, word, current, found, late_values, late_flags)
        versions = {key["kvno"] for key in current["keys"]}
        if item["purge_old_keys"] and not new and len(versions) > 1:
            before, after = {"key versions": sorted(versions)}, {"key versions": [max(versions)]}
            step.do("purge", ["purgekeys", word], " purged.", before, after)
        if item["unlock"] and current["failures"]:
            before, after = {"failed logins": current["failures"]}, {"failed logins": 0}
            step.do("unlock", ["modify_principal", "-unlock", word], " modified.", before, after)

    def _key_is_due(self, principal, wanted):
        item, current = wanted.item, self.current[principal]
        if item["rotate"]:
            return True
        if wanted.max_key_age:
            age = self.now - current["last_password_change"]
            if age > wanted.max_key_age:
                return True
        if item["update_password"] == ALWAYS and item["password"] is not None:
            return not self._has_password(principal, wanted)
        # Without keys it is of no use to anybody.
        return not current["keys"] and not wanted.has_password

    def _has_password(self, principal, wanted):
        current = self.current[principal]
        # A salt of its own cannot be seen from here.
        if not current["keys"] or any(key["salt"] for key in current["keys"]):
            return False
        entries = self.keys[principal]
        if isinstance(entries, ItemError):
            raise entries
        salt = (principal.realm + "".join(principal.components)).encode("utf-8")
        password = wanted.item["password"].encode("utf-8")
        newest = max(entry.kvno for entry in entries)
        for entry in entries:
            if entry.kvno == newest:
                key = string_to_key(entry.enctype, password, salt)
                if key is not None:
                    return key == entry.key
        return False

    @staticmethod
    def _modify(step, word, current, found, values, flags):
        """Give what differs from what will be found; show what differs from now."""
        values = {key: value for key, value in values.items() if found[key] != value}
        flags = {name: on for name, on in flags.items() if found["flags"][name] != on}
        if not values and not flags:
            return
        action = "modify"
        if "allow_tix" in flags:
            action = "enable" if flags["allow_tix"] else "disable"
        words = ["modify_principal", *arguments(values, flags), word]
        new = {key: value for key, value in values.items() if current[key] != value}
        before, after = shown({key: current[key] for key in new}), shown(new)
        for name, on in flags.items():
            if current["flags"][name] != on:
                before["flag " + name], after["flag " + name] = not on, on
        step.do(action, words, " modified.", before, after)


class PasswordFiles:
    """The files that hand first passwords over, readable to root alone."""

    def __init__(self, directory):
        self.directory = directory

    def path(self, name):
        """The file of a principal, named after it without the realm."""
        short = Principal.parse(name).short
        safe = "".join(
            character if character.isalnum() or character in "-_.+ " else _percent(character)
            for character in short
        )
        if safe.startswith("."):
            safe = "%2E" + safe[1:]
        return os.path.join(self.directory, safe)

    @staticmethod
    @contextlib.contextmanager
    def _told():
        """A file that cannot be written is the fault of one item."""
        try:
            yield
        except OSError as error:
            raise ItemError(f"its first password cannot be kept: {error}") from None

    def _new(self, name):
        # No name of a principal makes a tilde.
        return self.path(name) + "~new"

    def offer(self, name, password):
        """Leave a password beside its place; it is there before the KDC knows it."""
        with self._told():
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            if os.stat(self.directory).st_mode & 0o077:
                raise ItemError(
                    f"{self.directory} is open to others; it must be mode 0700 to keep a password"
                )
            write_atomic(self._new(name), (password + "\n").encode("ascii"), mode="0600")

    def accept(self, name):
        """The KDC has taken the password: it replaces an older one."""
        with self._told():
            os.replace(self._new(name), self.path(name))

    def withdraw(self, name):
        """The KDC has refused the password; an older one stays good."""
        self._unlink(self._new(name))

    def remove(self, name):
        """Forget all passwords of a principal."""
        self.withdraw(name)
        self._unlink(self.path(name))

    def _unlink(self, path):
        # Not there is also what cannot be, for its long name.
        with self._told():
            if os.path.lexists(path):
                os.unlink(path)


def _percent(character):
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8"))


def apply(kadmin, report, steps, files):
    """Send the first command of all steps at once, then the second of those that have one."""
    ready = []
    for step in steps:
        with report.item(step.name):
            if step.initial_password:
                files.offer(step.name, step.initial_password)
            ready.append(step)
    broken = None
    while not broken and any(step.next for step in ready):
        due = [step for step in ready if step.next]
        answers, broken = kadmin.attempt([step.next.words for step in due])
        for step, answer in zip(due, answers):
            step.take(answer)
    for step in ready:
        with report.item(step.name):
            if step.done:
                record(report, step, step.commands[: step.done], files)
            if step.initial_password and step.has_key:
                files.accept(step.name)
            elif step.initial_password and step.failure:
                files.withdraw(step.name)
            if step.gone and step.done:
                files.remove(step.name)
            if step.failure:
                raise ItemError(step.failure)
    if broken:
        raise broken


def record(report, step, commands, files):
    """Put what was (or would be) done into the result."""
    before, after = {}, {}
    for command in commands:
        before.update(command.before)
        after.update(command.after)
    report.change(
        step.name,
        [command.action for command in commands],
        None if step.new else before,
        None if step.gone else after,
    )
    if step.initial_password and any(one.action in NEW_KEY for one in commands):
        report.extra["initial_passwords"].append({"name": step.name, "path": files.path(step.name)})


def reconcile(module, report, items):
    """Read all, plan all, then do what differs."""
    files = PasswordFiles(module.params["initial_password_directory"])
    with Kadmin(admin_argv(module.params, module.get_bin_path)) as kadmin:
        wanted = {}
        for item in items:
            with report.item(item["name"]):
                checked = Wanted(item)
                name = checked.principal
                full = Principal(name.components, name.realm or kadmin.default_realm)
                if full in wanted:
                    raise ItemError("it is listed more than once")
                wanted[full] = checked
        planner = Planner(kadmin, time.time(), module.check_mode)
        planner.read(wanted)
        steps = []
        for principal, checked in wanted.items():
            with report.item(principal.full):
                step = planner.plan(principal, checked)
                if step:
                    steps.append(step)
        if module.check_mode:
            for step in steps:
                record(report, step, step.commands, files)
        else:
            apply(kadmin, report, steps, files)


def main():
    """Run the module."""
    top = dict(PRINCIPAL_ARGUMENTS, state=dict(PRINCIPAL_ARGUMENTS["state"], default="present"))
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str"},
            "principals": {"type": "list", "elements": "dict", "options": PRINCIPAL_ARGUMENTS},
            "initial_password_directory": {
                "type": "path",
                "default": "/var/lib/deitos/initial-passwords",
                "no_log": False,
            },
            **top,
            **ADMIN_ARGUMENTS,
        },
        mutually_exclusive=[
            ("name", "names", "principals"),
            *ADMIN_CONSTRAINTS["mutually_exclusive"],
        ],
        required_one_of=[("name", "names", "principals")],
        required_by=ADMIN_CONSTRAINTS["required_by"],
        supports_check_mode=True,
    )
    report = Report(module, "principal", "changed_principals")
    report.extra["initial_passwords"] = []
    params = module.params
    if params["names"] is not None:
        params["principals"] = [{"name": name} for name in params["names"]]
    try:
        reconcile(
            module, report, merge(params, "principals", PRINCIPAL_ARGUMENTS, {"state": "present"})
        )
    except KadminError as error:
        report.fail(str(error))
    report.exit()


if __name__ == "__main__":
    main()
