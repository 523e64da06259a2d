# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What must change in a directory, so that it holds the people and groups wanted.

Pure functions of what is wanted and what is found; nothing here talks to a server.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from ansible_collections.deitos.cluster.plugins.module_utils.ldap_session import (
    Change,
    normalized,
)

PERSON_CLASSES = ["inetOrgPerson", "posixAccount", "shadowAccount", "ldapPublicKey"]
GROUP_CLASSES = ["groupOfMembers", "posixGroup"]
PERSON_ATTRIBUTES = [
    "objectClass",
    "uid",
    "cn",
    "sn",
    "givenName",
    "mail",
    "employeeType",
    "uidNumber",
    "gidNumber",
    "homeDirectory",
    "loginShell",
    "sshPublicKey",
    "shadowExpire",
]
GROUP_ATTRIBUTES = ["objectClass", "cn", "gidNumber", "description", "member"]
# One day after the epoch: long over.
EXPIRED = "1"

NAME = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
SSH_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\r\n]*)?")


class ItemError(Exception):
    """One person or group that cannot be as wanted; the text says why."""


@dataclass
class Options:
    """Where entries live and what new ones get."""

    people_base: str
    groups_base: str
    id_min: int
    id_max: int
    home_prefix: str = "/home"
    shell: str = "/bin/bash"
    exclusive: bool = False


@dataclass
class Plan:
    """Changes in the order in which to make them, items that are wrong, and all numbers."""

    changes: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    people: dict = field(default_factory=dict)
    groups: dict = field(default_factory=dict)


@dataclass
class Entry:
    """One entry as found."""

    dn: str
    attributes: dict

    def number(self, name):
        return int(self.attributes[name][0]) if self.attributes.get(name) else None


def by_name(found, key):
    """Entries by the name that they are known by: {name: Entry}."""
    return {attributes[key][0]: Entry(dn, attributes) for dn, attributes in found}


class Numbers:
    """The numbers of people and groups: one space, so that a private group can share one.

    A new number follows from the name alone (and, when taken, the next free one does): a
    directory that is built again from the same list gives every file its old owner, whatever the
    order of the list, and a name that is removed leaves its number to nobody else.
    """

    def __init__(self, taken, low, high):
        self.taken = set(taken)
        self.low, self.high = low, high

    def allocate(self, name):
        size = self.high - self.low + 1
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        for step in range(size):
            number = self.low + (start + step) % size
            if number not in self.taken:
                self.taken.add(number)
                return number
        raise ItemError(f"no number between {self.low} and {self.high} is free: widen id_max")


def make_plan(people, groups, found_people, found_groups, options):
    """Compare what is wanted with what is found."""
    return _Planner(people, groups, found_people, found_groups, options).run()


class _Planner:
    def __init__(self, people, groups, found_people, found_groups, options):
        self.options = options
        self.plan = Plan()
        self.found_people = by_name(found_people, "uid")
        self.found_groups = by_name(found_groups, "cn")
        self.wanted_people = self._valid("person", people, self._check_person)
        self.wanted_groups = self._valid("group", groups, self._check_group)
        self.first, self.adds, self.later, self.last = [], [], [], []

    def run(self):
        self._number()
        self._plan_people()
        self._plan_groups()
        if self.options.exclusive:
            self._plan_unlisted()
        # Groups go before their people, and come after them, so that no membership ever names
        # an entry that is not there.
        self.plan.changes = self.first + self.adds + self.later + self.last
        return self.plan

    def _error(self, item, text):
        self.plan.errors.append({"item": item, "msg": str(text)})

    # --- Checks of single items ---------------------------------------------------------------

    def _valid(self, kind, items, check):
        """{name: item} of those that can be worked on; the others become errors."""
        valid, seen = {}, set()
        for item in items:
            name = item["name"]
            try:
                if name in seen:
                    raise ItemError("is listed twice")
                seen.add(name)
                if not NAME.fullmatch(name):
                    raise ItemError(
                        "is not a POSIX name: 1 to 32 of a-z, 0-9, '_', '.', '-', not starting "
                        "with a digit, '.' or '-'"
                    )
                check(item)
            except ItemError as error:
                self._error(f"{kind} {name}", error)
            else:
                valid[name] = item
        return valid

    def _check_person(self, item):
        shell = item.get("shell")
        if shell and not shell.startswith("/"):
            raise ItemError(f"shell '{shell}' is not an absolute path")
        for key in item.get("ssh_keys") or []:
            if not SSH_KEY.fullmatch(key.strip()):
                raise ItemError(
                    f"ssh_keys: '{key[:40]}' is not one line of an OpenSSH public key file, "
                    "without options"
                )

    def _check_group(self, item):
        if item["name"] in self.wanted_people:
            raise ItemError(
                f"is also the name of a person, whose private group it would be: give one of "
                f"the two '{item['name']}' another name"
            )

    # --- Numbers --------------------------------------------------------------------------------

    def _number(self):
        """Settle the number of every wanted person and group, explicit ones first."""
        owners = {}
        for entry in self.found_people.values():
            owners[entry.number("uidNumber")] = entry.dn
        for name, entry in self.found_groups.items():
            if name not in self.found_people:
                owners.setdefault(entry.number("gidNumber"), entry.dn)
        self.owners = owners
        self.numbers = Numbers(owners, self.options.id_min, self.options.id_max)
        kept = []
        for kind, wanted, key in (
            ("person", self.wanted_people, "uid"),
            ("group", self.wanted_groups, "gid"),
        ):
            for name, item in list(wanted.items()):
                if (item.get("state") or "present") == "absent":
                    continue
                try:
                    number = self._settled(kind, name, item.get(key))
                except ItemError as error:
                    self._error(f"{kind} {name}", error)
                    del wanted[name]
                    continue
                item["number"] = number
                if number is None:
                    kept.append((name, kind, item, wanted))
        for name, kind, item, wanted in sorted(kept, key=lambda row: row[:2]):
            try:
                item["number"] = self.numbers.allocate(name)
            except ItemError as error:
                self._error(f"{kind} {name}", error)
                del wanted[name]

    def _settled(self, kind, name, explicit):
        """The number that an item has or claims; None when it needs a new one."""
        if kind == "person":
            entry, attribute = self.found_people.get(name), "uidNumber"
        else:
            entry, attribute = self.found_groups.get(name), "gidNumber"
        if entry is not None:
            present = entry.number(attribute)
            if explicit not in (None, present):
                raise ItemError(
                    f"has number {present} in the directory, not {explicit}: files belong to "
                    "numbers, so this is not changed; correct the list, or remove the entry and "
                    "give its files to the new number"
                )
            return present
        group = self.found_groups.get(name) if kind == "person" else None
        if group is not None:
            # The private group of a run that was cut off before it could add the person.
            present = group.number("gidNumber")
            if explicit not in (None, present) or self.owners.get(present) != group.dn:
                raise ItemError(f"there is another group of this name, with number {present}")
            return present
        if explicit is None:
            return None
        if explicit in self.numbers.taken:
            owner = self.owners.get(explicit, "another item of the list")
            raise ItemError(f"number {explicit} belongs to {owner}")
        self.numbers.taken.add(explicit)
        return explicit

    # --- People ---------------------------------------------------------------------------------

    def _person_dn(self, name):
        entry = self.found_people.get(name)
        return entry.dn if entry else f"uid={name},{self.options.people_base}"

    def _group_dn(self, name):
        entry = self.found_groups.get(name)
        return entry.dn if entry else f"cn={name},{self.options.groups_base}"

    def _plan_people(self):
        for name, item in self.wanted_people.items():
            entry = self.found_people.get(name)
            if item.get("state") == "absent":
                if entry:
                    self._remove_person(name, entry)
                continue
            number = item["number"]
            group = self.found_groups.get(name)
            if group and group.number("gidNumber") != number:
                self._error(
                    f"person {name}",
                    f"the group of this name has number {group.number('gidNumber')}, not {number} "
                    "as the person's private group must: rename or remove that group",
                )
                continue
            self.plan.people[name] = {"uid": number, "gid": number}
            self._change(f"person {name}", self._person_dn(name), entry, self._person(item))
            private = {
                "objectClass": GROUP_CLASSES,
                "cn": [name],
                "gidNumber": [str(number)],
                "description": [f"Private group of {name}"],
            }
            self._change(f"private group {name}", self._group_dn(name), group, private)

    def _person(self, item):
        name = item["name"]
        given, surname = item.get("given_name"), item.get("surname")
        disabled = item.get("state") == "disabled"
        mail = item.get("mail")
        return {
            "objectClass": PERSON_CLASSES,
            "uid": [name],
            "cn": [" ".join(word for word in (given, surname) if word) or name],
            "sn": [surname or name],
            "givenName": [given] if given else [],
            "mail": [mail] if mail else [],
            "employeeType": [item.get("type") or "person"],
            "uidNumber": [str(item["number"])],
            "gidNumber": [str(item["number"])],
            "homeDirectory": [item.get("home") or f"{self.options.home_prefix}/{name}"],
            "loginShell": [item.get("shell") or self.options.shell],
            "sshPublicKey": list(dict.fromkeys(k.strip() for k in item.get("ssh_keys") or [])),
            "shadowExpire": [EXPIRED] if disabled else [],
        }

    def _remove_person(self, name, entry):
        group = self.found_groups.get(name)
        if group and group.number("gidNumber") == entry.number("gidNumber"):
            self.first.append(Change(f"private group {name}", group.dn, group.attributes))
        self.last.append(Change(f"person {name}", entry.dn, entry.attributes))

    # --- Groups ---------------------------------------------------------------------------------

    def _plan_groups(self):
        members = self._wanted_members()
        # A membership may also be in a group that the directory has and the list has not.
        names = dict.fromkeys([*self.wanted_groups, *self.found_groups])
        for name in names:
            item, entry = self.wanted_groups.get(name), self.found_groups.get(name)
            if name in self.wanted_people or (item is None and name in self.found_people):
                continue
            if item and item.get("state") == "absent":
                if entry:
                    self.first.append(Change(f"group {name}", entry.dn, entry.attributes))
                continue
            if item is None and self.options.exclusive:
                continue
            if item is None:
                wanted = {}
            else:
                self.plan.groups[name] = {"gid": item["number"]}
                wanted = {
                    "objectClass": GROUP_CLASSES,
                    "cn": [name],
                    "gidNumber": [str(item["number"])],
                    "description": [item["description"]] if item.get("description") else [],
                }
            wanted["member"] = self._members(entry, members.get(name, []), item is not None)
            self._change(f"group {name}", self._group_dn(name), entry, wanted)

    def _wanted_members(self):
        """{group: [names]} that the list asks for, from its people and from its groups."""
        members = {}
        for person, item in self.wanted_people.items():
            if item.get("state") == "absent" or person not in self.plan.people:
                continue
            for group in item.get("groups") or []:
                try:
                    self._check_membership(group)
                except ItemError as error:
                    self._error(f"person {person}", error)
                else:
                    members.setdefault(group, []).append(person)
        known = {**dict.fromkeys(self.found_people), **self.wanted_people}
        for group, item in self.wanted_groups.items():
            for person in item.get("members") or []:
                if person not in known or (known[person] or {}).get("state") == "absent":
                    self._error(f"group {group}", f"its member '{person}' is no person")
                else:
                    members.setdefault(group, []).append(person)
        return members

    def _check_membership(self, group):
        wanted = self.wanted_groups.get(group)
        if wanted and wanted.get("state") == "absent":
            raise ItemError(f"is in group '{group}', which the list removes")
        if group in self.wanted_people or group in self.found_people:
            raise ItemError(f"is in group '{group}', which is another person's private group")
        if wanted is None and (self.options.exclusive or group not in self.found_groups):
            raise ItemError(f"is in group '{group}', which is neither listed nor in the directory")

    def _members(self, entry, names, listed):
        """The member DNs of a group: those wanted, and those that are not ours to remove."""
        wanted = {normalized(self._person_dn(name)): self._person_dn(name) for name in names}
        ours = {
            normalized(self._person_dn(name))
            for name, item in self.wanted_people.items()
            if name in self.plan.people or item.get("state") == "absent"
        }
        kept = []
        for dn in entry.attributes.get("member", []) if entry else []:
            key = normalized(dn)
            if key in wanted:
                del wanted[key]
                kept.append(dn)
            elif key not in ours and not (self.options.exclusive and listed):
                kept.append(dn)
        return kept + list(wanted.values())

    def _plan_unlisted(self):
        for name, entry in self.found_people.items():
            if name not in self.wanted_people and not self._is_faulty("person", name):
                self._remove_person(name, entry)
        for name, entry in self.found_groups.items():
            listed = name in self.wanted_groups or name in self.wanted_people
            private = name in self.found_people
            if not listed and not private and not self._is_faulty("group", name):
                self.first.append(Change(f"group {name}", entry.dn, entry.attributes))

    def _is_faulty(self, kind, name):
        """A listed item with a fault is not an unlisted one."""
        return any(error["item"] == f"{kind} {name}" for error in self.plan.errors)

    # --- The difference of one entry --------------------------------------------------------------

    def _change(self, item, dn, entry, wanted):
        if entry is None:
            after = {name: values for name, values in wanted.items() if values}
            self.adds.append(Change(item, dn, {}, after))
            return
        after = dict(entry.attributes)
        for name, values in wanted.items():
            present = entry.attributes.get(name, [])
            if name == "objectClass":
                lower = {value.lower() for value in present}
                after[name] = present + [v for v in values if v.lower() not in lower]
            elif sorted(present) != sorted(values):
                after[name] = values
        change = Change(item, dn, entry.attributes, after)
        if change.differing():
            self.later.append(change)
