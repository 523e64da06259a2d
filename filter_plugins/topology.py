"""Pure functions of the inventory: names, addresses, principals and keytabs.

Everything that one host must know of another follows from the inventory's groups and from
the DNS domain, never from another host's facts: `--limit worker7` renders what a full run does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Daemon:
    """What the inventory group of one daemon implies for the hosts in it.

    user: the system user it runs as, and the name of its keytab.
    service: the first component of its Kerberos principal; none when it has no own one.
    http: whether it also accepts SPNEGO, and so needs HTTP/FQDN in its keytab.
    minimum, maximum: how many hosts the group may have; no maximum when None.
    needs: groups that must have hosts when this one has.
    within: groups that each of its hosts must be in as well.
    """

    user: str
    service: str | None = None
    http: bool = False
    minimum: int = 0
    maximum: int | None = None
    needs: tuple[str, ...] = ()
    within: tuple[str, ...] = ()


# The groups of the inventory, in the order in which their planes are built.
DAEMONS = {
    "ca": Daemon("root", minimum=1, maximum=1),
    "kdc": Daemon("root", minimum=1, maximum=1),
    "ldap": Daemon("openldap", "ldap", minimum=1, maximum=1),
    "namenode": Daemon("hdfs", "nn", http=True, minimum=1, maximum=1),
    "secondarynamenode": Daemon("hdfs", "sn", http=True, minimum=1, maximum=1),
    "datanode": Daemon("hdfs", "dn", http=True, minimum=1),
    "resourcemanager": Daemon("yarn", "rm", http=True, minimum=1, maximum=1),
    "nodemanager": Daemon("yarn", "nm", http=True, minimum=1),
    "historyserver": Daemon("mapred", "jhs", http=True, minimum=1, maximum=1),
    "postgresql": Daemon("postgres", maximum=1),
    "metastore": Daemon("hive", "hive", maximum=1),
    "hiveserver2": Daemon("hive", "hive", http=True, maximum=1, needs=("metastore",)),
    "spark_history": Daemon("spark", "spark", http=True, maximum=1),
    # People work on it as on an edge host: with all clients, and a login.
    "jupyter": Daemon(
        "jupyter",
        http=True,
        maximum=1,
        needs=("namenode", "resourcemanager", "spark_history"),
        within=("edge",),
    ),
    "llama": Daemon("llama"),
    "edge": Daemon("root"),
    "backup": Daemon("root", maximum=1),
}

KEYTAB_DIRECTORY = "/etc/security/keytabs"


def group_limits(groups):
    """{group: {minimum, maximum, needs, within}} of the groups of daemons, and of no others."""
    del groups  # A filter has an input; the limits do not depend on it.
    return {
        name: {key: getattr(daemon, key) for key in ("minimum", "maximum", "needs", "within")}
        for name, daemon in DAEMONS.items()
    }


def fqdn(host, domain):
    """The fully qualified name of an inventory name, or of each in a list of them."""
    if isinstance(host, (list, tuple)):
        return [fqdn(name, domain) for name in host]
    return host if "." in host else f"{host}.{domain}"


def _services(group_names):
    """(user, service) of every Kerberos service that a member of these groups runs."""
    for group, daemon in DAEMONS.items():
        if group in group_names and daemon.service:
            yield daemon.user, daemon.service
        if group in group_names and daemon.http:
            yield daemon.user, "HTTP"


def keytabs(name, realm, group_names, aliases=()):
    """The keytabs of a host: a list of {path, owner, group, mode, principals}.

    name: the host's fully qualified name; aliases: further names that it serves HTTP under.
    """
    principals = {}
    for user, service in _services(group_names):
        names = [name, *aliases] if service == "HTTP" else [name]
        found = principals.setdefault(user, [])
        found += [p for n in names if (p := f"{service}/{n}@{realm}") not in found]
    machine = {
        "path": "/etc/krb5.keytab",
        "owner": "root",
        "group": "root",
        "mode": "0400",
        "principals": [f"host/{name}@{realm}"],
    }
    return [machine] + [
        {
            "path": f"{KEYTAB_DIRECTORY}/{user}.keytab",
            "owner": user,
            "group": user,
            "mode": "0400",
            "principals": sorted(names),
        }
        for user, names in principals.items()
    ]


def groups_of(host, groups):
    """The names of the inventory groups that a host is in, as `group_names` has them."""
    return [group for group, hosts in groups.items() if host in hosts]


def service_principals(hosts, groups, domain, realm, aliases=None):
    """Every service principal of these hosts, each once: what the KDC must hold.

    aliases: {host: [names]} of the hosts that have any.
    """
    found = {}
    for host in hosts:
        wanted = keytabs(
            fqdn(host, domain), realm, groups_of(host, groups), (aliases or {}).get(host, ())
        )
        for keytab in wanted:
            found.update(dict.fromkeys(keytab["principals"]))
    return list(found)


def _stands_for(place, host, group_names):
    """Whether a place of `keytab_hosts` (a host, a group or all) means this host."""
    return place == host or place == "all" or place in group_names


def account_keytabs(host, group_names, realm, users):
    """The keytabs of service accounts (users.yml) that belong on a host."""
    return [
        {
            "path": f"{KEYTAB_DIRECTORY}/{user['name']}.keytab",
            "owner": user["name"],
            "group": user["name"],
            "mode": "0400",
            "principals": [f"{user['name']}@{realm}"],
        }
        for user in users
        if user.get("type") == "service"
        and user.get("state", "present") != "absent"
        and any(_stands_for(place, host, group_names) for place in user.get("keytab_hosts", ()))
    ]


def host_keytabs(hosts, groups, domain, realm, hostvars, accounts=None, ids=()):
    """The keytabs of each of these hosts: a list of {name: FQDN, keytabs: [...]}.

    hostvars: for the host_aliases of each. accounts: instead of the daemons' keytabs, those of
    the service accounts among these users. ids: [{name, uid}] of users whose numbers are known,
    so that a keytab can be there before its owner is.
    """
    numbers = {user["name"]: str(user["uid"]) for user in ids}
    found = []
    for host in hosts:
        names = groups_of(host, groups)
        if accounts is None:
            aliases = hostvars[host].get("host_aliases", ())
            wanted = keytabs(fqdn(host, domain), realm, names, aliases)
        else:
            wanted = account_keytabs(host, names, realm, accounts)
        for keytab in wanted:
            for key in ("owner", "group"):
                keytab[key] = numbers.get(keytab[key], keytab[key])
        found.append({"name": fqdn(host, domain), "keytabs": wanted})
    return found


def with_reports(requests, reports):
    """Join what each host should have (host_keytabs) with what it reported to have."""
    return [
        {
            **request,
            "certificate": report["certificate"],
            "fingerprints": report["fingerprints"],
        }
        for request, report in zip(requests, reports, strict=True)
    ]


# A service account has a random key. A person's key comes from a password that could be guessed at
# home from a ticket under that key, so nobody gets such a ticket.
_ACCOUNT = {"policy": "", "flags": {"requires_preauth": True}}
_PERSON = {
    "policy": "people",
    "initial_password": True,
    "flags": {"requires_preauth": True, "allow_svr": False},
}


def user_principals(users):
    """The principals of users.yml: people with a first password, accounts with a random key."""
    return [
        {
            "name": user["name"],
            "state": user.get("state", "present"),
            **(_ACCOUNT if user.get("type") == "service" else _PERSON),
        }
        for user in users
    ]


def directory_people(users):
    """The users of users.yml without what is not for the directory."""
    return [{k: v for k, v in user.items() if k != "keytab_hosts"} for user in users]


def base_dn(domain):
    """The LDAP base of a DNS domain: dc=deitos,dc=network of deitos.network."""
    return ",".join(f"dc={label}" for label in domain.split("."))


RACK_GROUP = "rack_"


def rack_batches(group, groups, percent):
    """How to restart a group's hosts a part at a time and rack by rack.

    groups: the inventory's, with a group `rack_…` for each rack (preflight makes them by
    group_by: a play's own keywords see groups, not variables of hosts).
    percent: the largest part of the group that may restart at once.
    Returns {hosts: in the order of restarts, sizes: of the batches}; no batch spans two racks,
    so no two replicas that HDFS keeps on different racks are down together.
    """
    hosts = groups.get(group, [])
    most = max(1, len(hosts) * int(percent) // 100)
    racks = [
        [host for host in hosts if host in members]
        for name, members in sorted(groups.items())
        if name.startswith(RACK_GROUP)
    ]
    placed = {host for rack in racks for host in rack}
    racks.append([host for host in hosts if host not in placed])
    sizes = []
    for rack in racks:
        full, rest = divmod(len(rack), most)
        sizes += [most] * full + ([rest] if rest else [])
    return {"hosts": [host for rack in racks for host in rack], "sizes": sizes or [1]}


class FilterModule:
    """The filters, under the names that playbooks use."""

    def filters(self):
        return {
            "base_dn": base_dn,
            "directory_people": directory_people,
            "fqdn": fqdn,
            "group_limits": group_limits,
            "host_keytabs": host_keytabs,
            "keytabs": keytabs,
            "rack_batches": rack_batches,
            "service_principals": service_principals,
            "user_principals": user_principals,
            "with_reports": with_reports,
        }
