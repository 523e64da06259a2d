"""What is wrong with an inventory, as a list of messages: found before any host is touched.

Pure functions, but for the one that reads the roles' specs. Each message names the host, group or
variable, says what was expected and what to do. None of them raises on a wrong value, so that one
run reports every fault at once.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from ansible.errors import AnsibleError
from jinja2 import TemplateError, Undefined, UndefinedError

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ADDRESS = re.compile(r"[0-9.]+|.*:.*")
REALM = re.compile(r"[A-Z0-9]([A-Z0-9.-]*[A-Z0-9])?")
ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
RACK = re.compile(r"(/[A-Za-z0-9._-]+)+")
RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
MAIL = re.compile(r"[^@\s]+@[^@\s]+")
ACL_ENTRY = re.compile(r"(default:)?(?P<kind>user|group|mask|other):(?P<name>[^:]*):[r-][w-][x-]")
MODE = re.compile(r"[0-7]{3,4}")
DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
URL_SCHEMES = ("http", "https", "file")
DEFAULT_RACK = "/default-rack"
# X.509 has no room for a longer common name.
LONGEST_FQDN = 64
# Below are the accounts of the operating system; above, containers' and systemd's.
LEAST_ID, GREATEST_ID = 1000, 2**31 - 1
FOREIGN_IDS = (range(61184, 65536),)
# Accounts that every machine has, or that packages of this platform bring.
SYSTEM_ACCOUNTS = {
    *("root", "daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp"),
    *("proxy", "www-data", "backup", "list", "irc", "nobody", "_apt", "messagebus", "sshd"),
    *("sssd", "openldap", "postgres", "_chrony", "systemd-network", "systemd-resolve"),
    *("systemd-timesync", "adm", "tty", "disk", "kmem", "dialout", "fax", "voice", "cdrom"),
    *("floppy", "tape", "sudo", "wheel", "audio", "dip", "operator", "src", "shadow", "utmp"),
    *("video", "sasl", "plugdev", "staff", "users", "nogroup", "input", "sgx", "kvm", "render"),
    *("crontab", "docker", "ssl-cert"),
}
# Names without a role's prefix that roles' defaults read: a file's own keys of a site.
OVERRIDES = (
    *("capacity_scheduler_overrides", "core_site_overrides", "mapred_site_overrides"),
    *("ssl_client_overrides", "ssl_server_overrides", "tez_site_overrides"),
)
# Groups of daemons that the project knows by name and does not deploy yet.
PLANNED_GROUPS = ("journalnode", "zookeeper")


def _items(value):
    """The dictionaries in a list; what is no such thing has its own message (`type_faults`)."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _texts(value):
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _text(value):
    return value if isinstance(value, str) else ""


def _repeated(values):
    return [value for value, count in Counter(values).items() if count > 1]


def _joined(names):
    return ", ".join(names) or "none"


# --- Types ----------------------------------------------------------------------------------
def _is_int(value):
    if isinstance(value, str):  # what `-e name=20` makes of a number
        return value.lstrip("-").isdigit()
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value):
    if isinstance(value, str):
        return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_bool(value):
    if isinstance(value, str):
        return value.lower() in ("true", "false", "yes", "no")
    return isinstance(value, bool)


TYPES = {
    "str": ("text", lambda value: isinstance(value, str)),
    "path": ("a path", lambda value: isinstance(value, str)),
    "int": ("a whole number", _is_int),
    "float": ("a number", _is_number),
    "bool": ("true or false", _is_bool),
    "list": ("a list", lambda value: isinstance(value, list)),
    "dict": ("a dictionary", lambda value: isinstance(value, dict)),
    "raw": ("anything", lambda value: True),
}


def _described(value):
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, bool):
        return f"the truth value {str(value).lower()}"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    return "a dictionary" if isinstance(value, dict) else "nothing" if value is None else "odd"


def _advice(value, kind):
    if kind == "list" and isinstance(value, str):
        return f"; write [{value}]"
    if kind in ("str", "path") and isinstance(value, (int, float)):
        return "; put it in quotes"
    return ""


def _value_faults(where, value, option):
    kind = option.get("type", "str")
    expected, fits = TYPES[kind]
    if not fits(value):
        # A text in place of a dictionary may hold anything, a password too.
        found = "a text" if kind == "dict" and isinstance(value, str) else _described(value)
        return [f"{where} is {found}, expected {expected}{_advice(value, kind)}"]
    faults = []
    choices = option.get("choices")
    if choices and kind != "list" and value not in choices:
        faults.append(f"{where} is {_described(value)}, expected one of: {', '.join(choices)}")
    if kind == "dict" and "options" in option:
        faults += _member_faults(where, value, option["options"])
    if kind == "list":
        element = {**option, "type": option.get("elements", "raw")}
        for number, item in enumerate(value):
            name = item.get("name", item.get("path")) if isinstance(item, dict) else None
            faults += _value_faults(f"{where}[{number if name is None else name}]", item, element)
    return faults


def _member_faults(where, value, options):
    faults = []
    for name in value:
        if name not in options:
            near = difflib.get_close_matches(str(name), options, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(options)}"
            faults.append(f"{where} has an unknown key '{name}'; {hint}")
    for name, option in options.items():
        if value.get(name) is not None:
            faults += _value_faults(f"{where}.{name}", value[name], option)
        elif option.get("required"):
            faults.append(f"{where} lacks '{name}'; add it: {option['description'].rstrip('.')}")
    return faults


def type_faults(values, spec):
    """Values of another type, or outside their choices, than the role's argument specs say.

    values: {variable: value}; spec: the `options` of an entry point. Stricter than Ansible, which
    takes 'a,b' for a list there, and then the roles would see a text.
    """
    return [
        fault
        for name, value in values.items()
        if name in spec
        for fault in _value_faults(name, value, spec[name])
    ]


# --- Variables of roles ---------------------------------------------------------------------
def role_specs(directory):
    """{role: its argument specs} of every role below a directory."""
    return {
        path.parent.parent.name: yaml.safe_load(path.read_text())["argument_specs"]
        for path in sorted(Path(directory).glob("*/meta/argument_specs.yml"))
    }


def _evaluated(value):
    """A value with all that is in it, which templates make only when it is asked for."""
    if isinstance(value, Undefined):
        raise UndefinedError
    if isinstance(value, dict):
        return {key: _evaluated(item) for key, item in value.items()}
    return [_evaluated(item) for item in value] if isinstance(value, list) else value


def _known_value(own, name):
    """A host's value, or None where it needs what only the role knows: a fact, or its defaults."""
    try:
        return _evaluated(own[name])
    except (AnsibleError, TemplateError):
        return None


def _places(found, hosts):
    """The hosts of a fault, in few words."""
    if len(found) == len(hosts) > 1:
        return "all hosts"
    shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    return f"host{'s' * (len(found) > 1)} {shown}"


def role_faults(hostvars, hosts, groups, specs, judged):
    """Variables of roles that the inventory gives a wrong value, or lacks.

    hostvars: {host: its variables}, asked only for these hosts, those of the run; specs: those of
    all roles (`role_specs`); judged: names that are judged elsewhere, with their defaults. What a
    role requires is asked of the hosts in the group of its name.
    """
    options = {name: {"type": "dict"} for name in OVERRIDES}
    required = {}
    for role, entries in specs.items():
        for entry in entries.values():
            for name, option in entry.get("options", {}).items():
                options[name] = option
                if option.get("required") and role in groups:
                    required[name] = role
    found = {}
    for host in hosts:
        own = hostvars[host]
        values = {
            name: value
            for name in own
            if name in options and name not in judged
            if (value := _known_value(own, name)) is not None
        }
        faults = type_faults(values, options)
        for name, role in required.items():
            if host in groups[role] and name not in own:
                why = options[name]["description"].rstrip(".")
                faults.append(f"{name} is not set, and group {role} needs it: {why}")
        for fault in faults:
            found.setdefault(fault, []).append(host)
    return [f"{_places(places, hosts)}: {fault}" for fault, places in found.items()]


# --- Hosts and groups -----------------------------------------------------------------------
def host_name_faults(hosts, domain):
    """Inventory names that cannot be names in DNS, Kerberos and certificates alike."""
    faults = []
    full = {}
    for host in hosts:
        labels = host.split(".")
        if labels[0].startswith("localhost"):
            faults.append(
                f"host {host}: that is every machine's own name; give it a name that others "
                "resolve to it (the address goes into ansible_host)"
            )
        elif ADDRESS.fullmatch(host):
            faults.append(
                f"host {host}: an address where a name is expected, since Kerberos and TLS know "
                "names only; use the host's name and put the address into ansible_host"
            )
        elif host != host.lower():
            faults.append(
                f"host {host}: has capitals, which Kerberos tells apart and DNS does not; write "
                f"it {host.lower()}"
            )
        elif not all(LABEL.fullmatch(label) for label in labels):
            faults.append(
                f"host {host}: not a host name: letters, digits and inner hyphens only (no "
                f"underscore); rename it, such as {host.replace('_', '-')}"
            )
        name = host if "." in host else f"{host}.{domain}"
        if len(name) > LONGEST_FQDN:
            faults.append(
                f"host {host}: its full name {name} has {len(name)} characters, and a "
                f"certificate's name at most {LONGEST_FQDN}; use a shorter one"
            )
        full.setdefault(name.lower(), []).append(host)
    for name, same in full.items():
        if len(same) > 1:
            faults.append(f"hosts {_joined(same)}: all are {name}; keep one name for each machine")
    return faults


def _expected_size(minimum, maximum):
    if minimum == maximum:
        return f"exactly {minimum}"
    return f"at most {maximum}" if maximum is not None and not minimum else f"at least {minimum}"


def topology_faults(groups, limits, domain):
    """What is wrong with the mapping of hosts to the groups of daemons.

    groups: the inventory's; limits: {group: {minimum, maximum, needs, within}} (the filter
    `group_limits`).
    """
    hosts = groups.get("all", [])
    if not hosts:
        return ["the inventory has no host; see inventories/example"]
    faults = []
    for name, limit in limits.items():
        members, minimum, maximum = groups.get(name, []), limit["minimum"], limit["maximum"]
        found = f"group {name}: has {len(members) or 'no'} host{'s' * (len(members) != 1)}"
        if len(members) < minimum:
            others = [group for group in groups if group not in limits and groups[group]]
            near = difflib.get_close_matches(name, others, 1, cutoff=0.8)
            faults.append(
                f"{found}, expected {_expected_size(minimum, maximum)}; "
                + (
                    f"the inventory has a group '{near[0]}': is it meant?"
                    if near
                    else "add a host to it"
                )
            )
        elif maximum is not None and len(members) > maximum:
            faults.append(
                f"{found} ({_joined(members)}), expected {_expected_size(minimum, maximum)}: high "
                "availability of this service is not supported yet; leave one host in the group"
            )
        for needed in limit["needs"] if members else ():
            if not groups.get(needed):
                faults.append(f"{found}, and group {needed} none, which it needs; add a host to it")
        for other in limit["within"]:
            faults += [
                f"host {host}: is in group {name} and not in {other}, which it needs; add it there"
                for host in members
                if host not in groups.get(other, [])
            ]
    known = {host for name in limits for host in groups.get(name, [])}
    for host in hosts:
        if host not in known:
            faults.append(
                f"host {host}: is in no group of a daemon; put it into one or more of: "
                f"{', '.join(limits)}"
            )
    for name in PLANNED_GROUPS:
        if name not in limits and groups.get(name):
            faults.append(
                f"group {name}: this release does not deploy it, yet it has {len(groups[name])} "
                "host(s); remove the group from the inventory"
            )
    return faults + host_name_faults(hosts, domain)


def host_value_faults(hostvars, hosts, groups, domain):
    """Faults of variables that each host may set for itself: rack and host_aliases.

    hostvars: {host: its variables}, asked only for these hosts, those of the run.
    """
    faults = []
    depths = {}
    names = {}
    placed = {host for name in ("datanode", "nodemanager") for host in groups.get(name, [])}
    for host in hosts:
        own = hostvars[host]
        rack = own.get("rack", DEFAULT_RACK)
        if not RACK.fullmatch(_text(rack)):
            faults.append(
                f"host {host}: rack is {_described(rack)}, expected a path such as /rack1 or "
                "/hall2/rack1"
            )
        elif host in placed:
            depths.setdefault(rack.count("/"), []).append(f"{host} ({rack})")
        aliases = own.get("host_aliases", [])
        if not isinstance(aliases, list):
            faults.append(
                f"host {host}: host_aliases is {_described(aliases)}, expected a list"
                f"{_advice(aliases, 'list')}"
            )
        for alias in _texts(aliases):
            if not all(LABEL.fullmatch(label) for label in alias.split(".")):
                faults.append(
                    f"host {host}: host_aliases has '{alias}', which is not a host name: "
                    "lower-case letters, digits and inner hyphens only"
                )
            names.setdefault(alias, []).append(host)
    for alias, owners in names.items():
        if len(set(owners)) > 1:
            faults.append(f"hosts {_joined(owners)}: share the host_aliases name {alias}; keep one")
        if not {alias, alias.removesuffix(f".{domain}")}.isdisjoint(groups.get("all", [])):
            faults.append(
                f"hosts {_joined(owners)}: host_aliases has {alias}, which is a host of the "
                "inventory; remove it"
            )
    if len(depths) > 1:
        some = "; ".join(places[0] for places in depths.values())
        faults.append(
            f"rack: Hadoop takes racks of one depth only, and these differ: {some}; give every "
            "worker as many levels"
        )
    return faults


# --- Values of a site -----------------------------------------------------------------------
def _checksum_fault(checksum):
    algorithm, _, digest = checksum.partition(":")
    expected = "expected sha512:<128 hexadecimal digits>, or sha512:<URL of the checksum file>"
    if algorithm not in DIGEST_LENGTHS:
        return f"has no strong algorithm before its first ':', {expected}"
    if urlsplit(digest).scheme in URL_SCHEMES:
        return None
    if not re.fullmatch(rf"[0-9a-fA-F]{{{DIGEST_LENGTHS[algorithm]}}}", digest):
        return f"is not one of {algorithm}, {expected}"
    return None


def _url_fault(url):
    try:
        parts = urlsplit(url)
    except ValueError as error:
        return str(error)
    if parts.scheme not in URL_SCHEMES:
        return f"its scheme is '{parts.scheme}', expected one of: {', '.join(URL_SCHEMES)}"
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        return "a file has an absolute path and three slashes: file:///path/to/file.tar.gz"
    if parts.scheme != "file" and not parts.hostname:
        return "it names no host"
    return None


def site_faults(values):
    """Values of a site's own choices that have the right type and yet cannot work."""
    faults = []
    domain = _text(values.get("cluster_domain"))
    labels = domain.split(".")
    if len(labels) < 2 or not all(LABEL.fullmatch(label) for label in labels):
        faults.append(
            f"cluster_domain is '{values.get('cluster_domain')}', expected a DNS domain of two or "
            "more parts in lower case, such as deitos.network"
        )
    elif labels[-1].isdigit() or labels[0] == "localhost":
        faults.append(
            f"cluster_domain is '{domain}', which is not a domain of other machines; use the "
            "domain in which the hosts have their names"
        )
    if not REALM.fullmatch(_text(values.get("cluster_realm"))):
        faults.append(
            f"cluster_realm is '{values.get('cluster_realm')}', expected capitals, digits, dots "
            "and hyphens only, such as DEITOS.NETWORK: clients find a realm by its domain in "
            "capitals"
        )
    if not LABEL.fullmatch(_text(values.get("cluster_nameservice"))):
        faults.append(
            f"cluster_nameservice is '{values.get('cluster_nameservice')}', expected one word of "
            "lower-case letters, digits and hyphens, which stands for the host in hdfs:// URIs"
        )
    if values.get("cluster_enctypes", True) == []:
        faults.append(
            "cluster_enctypes is empty, and then no key could be made; leave it out for the "
            "default, or list what roles/cluster/defaults lists"
        )
    percent = values.get("cluster_restart_percent")
    if _is_int(percent) and not 1 <= int(percent) <= 100:
        faults.append(
            f"cluster_restart_percent is {percent}, expected 1 to 100: the largest part of all "
            "workers that may restart at once"
        )
    for name, value in values.items():
        if name.endswith("_version") and isinstance(value, str) and not RELEASE.fullmatch(value):
            faults.append(f"{name} is '{value}', expected a release such as 3.4.2")
        elif name.endswith("_url") and (why := _url_fault(_text(value))):
            faults.append(f"{name} is '{value}': {why}")
        elif name.endswith("_checksum") and (why := _checksum_fault(_text(value))):
            faults.append(f"{name} is '{value}': it {why}")
    return faults


# --- People, groups and their directories ---------------------------------------------------
def _account_faults(kind, where, items, reserved):
    """Faults that users and groups share: names and numbers."""
    faults = []
    for name in _repeated(filter(None, (_text(item.get("name")) for item in items))):
        faults.append(f"{where}: has '{name}' more than once; keep one entry")
    for item in items:
        name = _text(item.get("name"))
        if name and not ACCOUNT.fullmatch(name):
            faults.append(
                f"{where}[{name}]: not a {kind} name: up to 31 lower-case letters, digits, '_' "
                "and '-', a letter first; rename it"
            )
        if name in reserved:
            faults.append(
                f"{where}[{name}]: is the name of a local {kind} of every host, which would hide "
                "this one; choose another name"
            )
    return faults


def _number_faults(entries):
    """entries: [(where, key, number)] of users and groups, whose numbers must all differ."""
    faults = []
    owners = {}
    for where, key, number in entries:
        if not LEAST_ID <= number <= GREATEST_ID or any(number in ids for ids in FOREIGN_IDS):
            faults.append(
                f"{where}: {key} {number} belongs to the operating system; choose one from 20000 "
                "up, or leave it out to have one allocated"
            )
        owners.setdefault(number, []).append(where)
    for number, places in owners.items():
        if len(places) > 1:
            faults.append(
                f"{_joined(places)}: share the number {number} (a user's number is its own "
                "group's as well); give each its own, or leave it out"
            )
    return faults


def _ssh_key_fault(key):
    """Why a text is not a public SSH key, or None."""
    words = key.split()
    if "PRIVATE KEY" in key:
        return "is a PRIVATE key; replace that key pair, it is no secret any more"
    for kind, blob in pairwise(words):
        if kind.startswith(("ssh-", "ecdsa-", "sk-")):
            try:
                data = base64.b64decode(blob, validate=True)
            except (binascii.Error, ValueError):
                return "has a damaged body; copy the whole line of the .pub file"
            length = int.from_bytes(data[:4], "big")
            if data[4 : 4 + length] != kind.encode():
                return "has a body of another type; copy the whole line of the .pub file"
            return None
    return "is not a public SSH key; expected a line such as 'ssh-ed25519 AAAA… alice@laptop'"


def _user_faults(user, groups, places):
    """Faults of one user that need no other."""
    name = user.get("name")
    where = f"cluster_users[{name}]"
    faults = []
    for group in _texts(user.get("groups")):
        if group not in groups:
            faults.append(
                f"{where}: is a member of group '{group}', which cluster_groups does not have; "
                "add it there"
            )
    hosts = _texts(user.get("keytab_hosts"))
    if hosts and user.get("type", "person") != "service":
        faults.append(
            f"{where}: a person has no keytab, yet keytab_hosts is set; set type: service for an "
            "account of a program, or remove keytab_hosts"
        )
    for host in hosts:
        if host not in places:
            faults.append(
                f"{where}: keytab_hosts has '{host}', which is neither a host nor a group of the "
                "inventory"
            )
    for number, key in enumerate(_texts(user.get("ssh_keys"))):
        if why := _ssh_key_fault(key):
            faults.append(f"{where}: ssh_keys[{number}] {why}")
    mail, shell = user.get("mail"), user.get("shell")
    if isinstance(mail, str) and not MAIL.fullmatch(mail):
        faults.append(f"{where}: mail is '{mail}', expected an address such as alice@example.org")
    if isinstance(shell, str) and not shell.startswith("/"):
        faults.append(f"{where}: shell is '{shell}', expected a full path such as /bin/bash")
    return faults


def users_faults(users, groups, inventory, service_users, service_groups, admin_group):
    """What is wrong with cluster_users and cluster_groups.

    inventory: its groups and their hosts, for keytab_hosts; service_users, service_groups: the
    local accounts of role cluster; admin_group: cluster_admin_group.
    """
    users, groups = _items(users), _items(groups)
    local = {item["name"] for item in [*service_users, *service_groups]} | set(SYSTEM_ACCOUNTS)
    faults = _account_faults("user", "cluster_users", users, local)
    faults += _account_faults("group", "cluster_groups", groups, local)
    user_names = {_text(user.get("name")) for user in users} - {""}
    for group in groups:
        if _text(group.get("name")) in user_names:
            faults.append(
                f"cluster_groups[{group['name']}]: every user has a group of its own name, and "
                "there is such a user; rename the group"
            )
    faults += _number_faults(
        [
            (f"{table}[{item.get('name')}]", key, item[key])
            for table, key, items in (
                ("cluster_users", "uid", users),
                ("cluster_groups", "gid", groups),
            )
            for item in items
            if isinstance(item.get(key), int) and not isinstance(item[key], bool)
        ]
    )
    places = {*inventory, *inventory.get("all", [])}
    present = {_text(group.get("name")) for group in groups if group.get("state") != "absent"}
    for user in users:
        faults += _user_faults(user, present, places)
    if _text(admin_group) not in present:
        faults.append(
            f"cluster_admin_group is '{admin_group}', which cluster_groups does not have; add "
            "the group there, or nobody can administer the cluster"
        )
    return faults


def _acl_faults(where, acl, users, groups):
    faults = []
    for entry in _texts(acl):
        match = ACL_ENTRY.fullmatch(entry)
        if not match:
            faults.append(
                f"{where}: acl has '{entry}', expected [default:]user|group|mask|other:NAME:rwx, "
                "such as group:analysts:r-x"
            )
            continue
        kind, name = match["kind"], match["name"]
        if not name and kind != "mask" and not entry.startswith("default:"):
            faults.append(f"{where}: acl has '{entry}', which mode says; change mode instead")
        known = {"user": users, "group": groups}.get(kind, ())
        if name and name not in known:
            faults.append(f"{where}: acl has '{entry}', whose {kind} '{name}' is not known here")
    return faults


def directories_faults(directories, users, groups, service_users, service_groups):
    """What is wrong with cluster_hdfs_directories, given the users and groups that can own them."""
    names = {_text(item.get("name")) for item in [*_items(users), *service_users]}
    teams = {_text(item.get("name")) for item in [*_items(groups), *service_groups]} | names
    faults = []
    directories = _items(directories)
    for path in _repeated(_text(item.get("path")).rstrip("/") for item in directories):
        faults.append(f"cluster_hdfs_directories: has {path} more than once; keep one entry")
    for item in directories:
        path = _text(item.get("path"))
        where = f"cluster_hdfs_directories[{path}]"
        if path and (not path.startswith("/") or re.search(r"//|/\.\.?(/|$)", path)):
            faults.append(
                f"{where}: path must be absolute, such as /data/{path.strip('./') or 'team'}, and "
                "without '.', '..' and '//'"
            )
        mode = item.get("mode")
        if isinstance(mode, str) and not MODE.fullmatch(mode):
            faults.append(
                f"{where}: mode is '{mode}', expected three or four octal digits in quotes, such "
                'as "0750"'
            )
        for kind, known in (("owner", names), ("group", teams)):
            name = item.get(kind)
            if isinstance(name, str) and name not in known:
                table = "cluster_users" if kind == "owner" else "cluster_groups"
                faults.append(f"{where}: {kind} '{name}' is not known; add it to {table}")
        faults += _acl_faults(where, item.get("acl"), names, teams)
    return faults


class FilterModule:
    """The filters, under the names that role cluster's preflight uses."""

    def filters(self):
        return {
            "directories_faults": directories_faults,
            "host_value_faults": host_value_faults,
            "role_faults": role_faults,
            "role_specs": role_specs,
            "site_faults": site_faults,
            "topology_faults": topology_faults,
            "type_faults": type_faults,
            "users_faults": users_faults,
        }
