"""Who gets in: tickets, passwords, keys, LDAP and groups, each denial next to its allowed twin."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
from labhosts import SSH_CONFIG, Session, wait
from people import NEW_PASSWORD, People

CA = "/etc/deitos/pki/ca.crt"
KEYTABS = "/etc/security/keytabs"
ENCTYPES = {
    "aes256-cts-hmac-sha384-192",
    "aes256-cts-hmac-sha1-96",
    "aes128-cts-hmac-sha256-128",
    "aes128-cts-hmac-sha1-96",
}
# An allowed person, one who will be disabled, one whose password will be guessed at.
PEOPLE = ("twin_on", "twin_off", "twin_locked")


@pytest.fixture(scope="module")
def hosts(cluster):
    """The names of all machines of this lab that run."""
    started = set(re.findall(r"^Host (\S+)", SSH_CONFIG.read_text(), re.M))
    return sorted(started & set(cluster.inventory["_meta"]["hostvars"]))


@pytest.fixture(scope="module")
def kdc(cluster):
    return cluster.first("kdc")


@pytest.fixture(scope="module")
def people(cluster, kdc, tmp_path_factory):
    """Twins who have logged in once, and so have passwords of their own."""
    made = People(cluster, tmp_path_factory.mktemp("people"))
    made.set(dict.fromkeys(PEOPLE, "absent"))
    kdc.run("cd /var/lib/deitos/initial-passwords && rm -f " + " ".join(PEOPLE))
    made.set(dict.fromkeys(PEOPLE, "present"))
    yield made
    made.set(dict.fromkeys(PEOPLE, "absent"), groups=(), group_state="absent")
    kdc.run("cd /var/lib/deitos/initial-passwords && rm -f " + " ".join(PEOPLE))
    cluster.first("edge").run("cd /home && rm -rf " + " ".join(PEOPLE))


@pytest.fixture(scope="module")
def active(people, cluster):
    """The twins after the change of password that their first login asked for."""
    for name in PEOPLE:
        first = people.initial_password(name)
        answers = (first, first, NEW_PASSWORD, NEW_PASSWORD)
        assert people.ssh_password(name, cluster.hosts("edge")[0], *answers), name
    return people


class Ldap:
    """LDAP commands on the directory's host, over the network."""

    def __init__(self, cluster):
        self.machine = cluster.first("ldap")
        self.host = cluster.fqdn("ldap")
        self.base = "dc=" + cluster.domain.replace(".", ",dc=")
        self.people = f"ou=people,{self.base}"

    def run(self, command, login="", ca=CA):
        """Run a command as root, with a ticket from `login` (arguments of kinit)."""
        kinit = f"kinit {login} >&2 && " if login else ""
        return self.machine.run(
            f"export KRB5CCNAME=FILE:/tmp/krb5cc_ldap LDAPTLS_CACERT={ca}; {kinit}{command};"
            " status=$?; kdestroy -q 2>/dev/null; exit $status"
        )

    def search(self, *words, uri="ldap", tls="-ZZ", bind="-x", login=""):
        arguments = " ".join(shlex.quote(word) for word in words)
        return self.run(f"ldapsearch -LLL {bind} {tls} -H {uri}://{self.host} {arguments}", login)

    def replacing(self, name, attribute):
        """LDIF with a place for the new value of a person's attribute."""
        start = f"dn: uid={name},{self.people}\nchangetype: modify\n"
        return f"{start}replace: {attribute}\n{attribute}: {{}}\n"

    def modify(self, ldif):
        """Change entries over the local socket, as its root."""
        return self.machine.run(
            f"printf %s {shlex.quote(ldif)} | ldapmodify -Q -Y EXTERNAL -H ldapi:///"
        )


@pytest.fixture(scope="module")
def ldap(cluster):
    return Ldap(cluster)


# --- Kerberos -----------------------------------------------------------------------------------


def test_keys_have_modern_enctypes_only(kdc):
    names = kdc.check_output("kadmin.local -q listprincs 2>/dev/null").splitlines()
    names = [name for name in names if "@" in name and " " not in name]
    assert any(name.startswith("host/") for name in names)
    queries = "".join(f"getprinc {name}\n" for name in names)
    shown = kdc.check_output(f"printf %s {shlex.quote(queries)} | kadmin.local 2>/dev/null")
    found = set(re.findall(r"^Key: vno \d+, (\S+?)(?::\S+)?$", shown, re.M))
    assert found
    assert found <= ENCTYPES


def test_a_weak_enctype_gets_no_ticket(cluster, edge):
    keytab = f"{KEYTABS}/test_user.keytab"
    command = (
        "kinit -c FILE:/tmp/krb5cc_weak -kt {} test_user; kdestroy -q -c FILE:/tmp/krb5cc_weak"
    )
    assert edge.run(f"set -e; {command.format(keytab)}").rc == 0
    weak = (
        "sed 's/permitted_enctypes = .*/permitted_enctypes = arcfour-hmac\\n"
        "allow_weak_crypto = true/' /etc/krb5.conf > /tmp/krb5-weak.conf;"
        " KRB5_CONFIG=/tmp/krb5-weak.conf kinit -c FILE:/tmp/krb5cc_weak "
    )
    refused = edge.run(f"{weak} -kt {keytab} test_user")
    assert refused.rc != 0
    assert re.search("no support for encryption type|enctype", refused.stderr, re.I)


def test_tickets_last_a_day_and_renew_for_a_week(test_user):
    test_user.ok(f"kinit -r 7d -kt {KEYTABS}/test_user.keytab test_user")
    shown = test_user.ok("LC_ALL=C klist -f")
    start, end, until = (
        time.mktime(time.strptime(stamp, "%m/%d/%y %H:%M:%S"))
        for stamp in re.findall(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d", shown)[:3]
    )
    assert abs(end - start - 86400) < 120
    assert abs(until - start - 7 * 86400) < 120
    test_user.ok("kinit -R")


def test_preauthentication_is_required(kdc, cluster):
    names = [f"test_user@{cluster.realm}", f"host/{cluster.fqdn('edge')}@{cluster.realm}"]
    for name in names:
        assert "REQUIRES_PRE_AUTH" in kdc.check_output(f"kadmin.local getprinc {name}")


def test_nobody_gets_a_ticket_for_a_persons_key(active, cluster, test_user):
    test_user.ok(f"kvno host/{cluster.fqdn('edge')}")
    refused = test_user.run("kvno twin_on")
    assert refused.rc != 0


KADMIN = f"kadmin -k -t {KEYTABS}/admin1.keytab -p admin1 -q"


def test_nobody_administers_the_realm_over_the_network(edge):
    """Who may see his own principal may neither see nor change another's."""
    assert "Principal: admin1@" in edge.check_output(f"{KADMIN} 'get_principal admin1'")
    for asked in (
        "get_principal test_user",
        "change_password -randkey test_user",
        "modify_principal -maxlife 1day test_user",
        "list_principals",
    ):
        refused = edge.run(f"{KADMIN} '{asked}'")
        assert "Operation requires" in refused.stderr, refused
        assert "test_user@" not in refused.stdout


def test_logs_survive_rotation(kdc, edge, test_user):
    kdc.check_output("logrotate --force /etc/logrotate.d/deitos-kdc")
    test_user.ok(f"kinit -kt {KEYTABS}/test_user.keytab test_user")
    edge.check_output(f"{KADMIN} 'get_principal admin1'")
    time.sleep(1)
    for name, who in (("kdc.log", "test_user@"), ("kadmin.log", "admin1@")):
        path = f"/var/log/krb5kdc/{name}"
        assert who in kdc.check_output(f"cat {path}")
        assert kdc.check_output(f"stat -c %a%U {path}") == "600root"


def test_files_of_the_kdc_belong_to_root_alone(kdc):
    paths = "/etc/krb5kdc/stash /var/lib/krb5kdc /var/lib/krb5kdc/principal"
    shown = kdc.check_output(f"stat -c '%U %a' {paths} /var/lib/deitos/initial-passwords")
    assert all(re.fullmatch("root (600|700)", line) for line in shown.splitlines()), shown


def test_keytabs_are_private_and_valid(cluster, hosts):
    for name in hosts:
        machine = cluster.machine(name)
        paths = machine.check_output(f"ls /etc/krb5.keytab {KEYTABS}/*.keytab").split()
        for path in paths:
            owner = "root" if path == "/etc/krb5.keytab" else Path(path).stem
            assert machine.check_output(f"stat -c '%U %a' {path}") == f"{owner} 400"
            principal = re.findall(r"\S+@\S+", machine.check_output(f"klist -k {path}"))[-1]
            ticket = f"kinit -c FILE:/tmp/krb5cc_keytab -kt {path} {principal}"
            assert machine.run(f"{ticket}; kdestroy -q -c FILE:/tmp/krb5cc_keytab").rc == 0


def test_guessing_locks_a_person(active):
    name = "twin_locked"
    assert active.kinit(name, NEW_PASSWORD).rc == 0
    for _attempt in range(10):
        assert active.kinit(name, "wrong").rc != 0
    refused = active.kinit(name, NEW_PASSWORD)
    assert refused.rc != 0
    assert "revoked" in refused.stderr
    assert active.kinit("twin_on", NEW_PASSWORD).rc == 0


def test_weak_passwords_are_refused(active, cluster, edge):
    def change(password):
        lines = f"{NEW_PASSWORD}\n{password}\n{password}\n"
        return edge.run(f"printf %s {shlex.quote(lines)} | kpasswd twin_on")

    assert change("short").rc != 0
    assert change("onlylowercaseletters").rc != 0
    assert change(NEW_PASSWORD).rc != 0
    assert active.kinit("twin_on", NEW_PASSWORD).rc == 0


# --- People -------------------------------------------------------------------------------------


def test_first_login_changes_the_password(active, cluster):
    edge = cluster.hosts("edge")[0]
    shown = active.ssh_password("twin_on", edge, NEW_PASSWORD)
    assert "twin_on" in shown
    assert f"krbtgt/{cluster.realm}" in shown
    assert "FILE:/tmp/krb5cc_" in shown
    assert active.ssh_password("twin_on", edge, active.initial_password("twin_on")) is None
    home = cluster.machine(edge).file("/home/twin_on")
    assert (home.user, home.group, home.mode) == ("twin_on", "twin_on", 0o700)


def test_ssh_keys_of_the_directory_open_the_edge(active, cluster):
    assert active.ssh_key("twin_on", cluster.hosts("edge")[0]) == 0


def test_people_log_in_on_edge_hosts_only(active, cluster, hosts):
    for name in hosts:
        allowed = name in cluster.hosts("edge")
        assert (active.ssh_key("twin_on", name) == 0) == allowed, name
        shown = active.ssh_password("twin_on", name, NEW_PASSWORD)
        assert (shown is not None) == allowed, name


def test_administrators_log_in_everywhere_with_a_ticket(cluster, admin, test_user):
    host = cluster.fqdn("kdc")
    options = "-o BatchMode=yes -o PubkeyAuthentication=no -o StrictHostKeyChecking=no"
    options += " -o GSSAPIAuthentication=yes -o UserKnownHostsFile=/dev/null"
    assert admin.ok(f"ssh {options} {host} id -un").strip() == "admin1"
    assert test_user.run(f"ssh {options} {host} id -un || exit 1").rc == 1


def test_root_has_no_password_login(cluster, hosts):
    for name in hosts:
        for user, answer in (("root", "no"), ("alice", "yes")):
            shown = cluster.machine(name).check_output(f"sshd -T -C user={user},host=x,addr=::1")
            settings = set(shown.splitlines())
            assert f"kbdinteractiveauthentication {answer}" in settings
            assert "passwordauthentication no" in settings


def test_a_disabled_person_is_refused_everywhere(active, cluster):
    edge = cluster.hosts("edge")[0]
    name = "twin_off"

    def ways_in(person):
        return {
            "ticket": active.kinit(person, NEW_PASSWORD).rc == 0,
            "password": active.ssh_password(person, edge, NEW_PASSWORD) is not None,
            "key": active.ssh_key(person, edge) == 0,
        }

    def settled(person, allowed):
        """SSSD asks LDAP again for who logged in more than a few seconds ago."""
        wanted = dict.fromkeys(("ticket", "password", "key"), allowed)
        deadline = time.time() + 30
        while (found := ways_in(person)) != wanted and time.time() < deadline:
            time.sleep(3)
        return found == wanted

    assert settled(name, True)
    active.set({name: "disabled"})
    try:
        assert settled(name, False)
        assert settled("twin_on", True)
    finally:
        active.set({name: "present"})
    assert settled(name, True)


def test_who_is_disabled_in_the_list_is_disabled(cluster, kdc, ldap):
    refused = cluster.first("edge").run("printf 'x\\n' | kinit carol")
    assert "revoked" in refused.stderr
    login = f"-k host/{ldap.host}"
    shown = ldap.search("-b", ldap.people, "uid=carol", bind="-QY GSSAPI", login=login)
    assert "shadowExpire: 1" in shown.stdout
    shown = ldap.search("-b", ldap.people, "uid=alice", bind="-QY GSSAPI", login=login)
    assert "uid: alice" in shown.stdout
    assert "shadowExpire" not in shown.stdout


def test_every_host_knows_the_same_people(cluster, hosts):
    shown = {cluster.machine(name).check_output("id test_user") for name in hosts}
    assert len(shown) == 1
    assert "(analysts)" in shown.pop()


def test_local_service_users_are_not_asked_of_ldap(cluster, hosts):
    for name in hosts:
        assert cluster.machine(name).run("getent passwd -s sss root").rc == 2


@pytest.fixture
def twins_file(cluster, hosts, daemon_key):
    """A file of HDFS that, beside the superuser, the group of the twins alone may read."""
    if not set(cluster.hosts("namenode")) & set(hosts):
        pytest.skip("this scenario has no masters")
    path = "/tmp/twins.txt"
    superuser = daemon_key("namenode", "hdfs", "nn")
    superuser.ok(f"hdfs dfs -put -f - {path}", stdin="of the twins")
    superuser.ok(f"hdfs dfs -chown hdfs:twins {path} && hdfs dfs -chmod 0640 {path}")
    yield path
    superuser.ok(f"hdfs dfs -rm -skipTrash {path}")


def test_a_new_member_reads_what_is_the_groups_within_two_minutes(
    active, cluster, hosts, twins_file
):
    """And masters know of it within one; no daemon is restarted for it."""
    twin = Session(cluster.first("edge"), "twin_on")
    twin.ok("kinit twin_on", stdin=f"{NEW_PASSWORD}\n")
    masters = [cluster.machine(name) for name in cluster.hosts("namenode")]

    def known(member):
        groups = [machine.check_output("id -Gn twin_on").split() for machine in masters]
        return all(("twins" in found) == member for found in groups)

    def daemons():
        units = "hdfs-namenode hdfs-datanode sssd slapd krb5-kdc"
        shown = f"systemctl show -P MainPID {units}"
        return {name: cluster.machine(name).check_output(shown) for name in hosts}

    def reading():
        return twin.run(f"hdfs dfs -cat {twins_file}")

    active.set({"twin_on": "present"}, groups=())
    wait("masters to know who has left", lambda: known(False), 60, 2)
    # From here on the NameNode remembers that the group is not his.
    wait("a refusal", lambda: "Permission denied" in reading().stderr, 120, 2)
    before = daemons()
    active.set({"twin_on": "present"})
    joined = time.monotonic()
    wait("masters to know the new member", lambda: known(True), 60, 2)
    left = joined + 120 - time.monotonic()
    wait("the file", lambda: reading().stdout == "of the twins", left, 2)
    assert daemons() == before


# --- LDAP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("uri", "tls"), [("ldap", "-ZZ"), ("ldaps", "")])
def test_a_host_reads_people_over_tls(ldap, uri, tls):
    login = f"-k host/{ldap.host}"
    words = ("-b", ldap.people, "uid=test_user")
    shown = ldap.search(*words, uri=uri, tls=tls, bind="-QY GSSAPI", login=login)
    assert shown.rc == 0, shown.stderr
    assert "uidNumber: " in shown.stdout


def test_ldap_without_tls_is_refused(ldap):
    login = f"-k host/{ldap.host}"
    for bind, ticket in (("-x", ""), ("-QY GSSAPI", login)):
        for base in ("", ldap.people):
            shown = ldap.search("-b", base, "-s", "base", tls="", bind=bind, login=ticket)
            assert shown.rc == 13, shown.stdout
            assert not shown.stdout.strip()
            assert "onfidentiality required" in shown.stderr


def test_the_certificate_is_verified(ldap):
    good = ldap.search("-b", "", "-s", "base")
    assert good.rc == 0
    command = f"ldapsearch -x -ZZ -H ldap://{ldap.host} -b '' -s base"
    assert ldap.run(command, ca="/etc/ssl/certs/nothing.pem").rc != 0
    assert ldap.run(command.replace(ldap.host, "127.0.0.1")).rc != 0


def test_anonymous_reads_the_root_dse_only(ldap):
    root = ldap.search("-b", "", "-s", "base", "+")
    assert f"namingContexts: {ldap.base}" in root.stdout
    for base in (ldap.base, ldap.people, "cn=config", "cn=Monitor", "cn=Subschema"):
        for scope in ("base", "sub"):
            shown = ldap.search("-b", base, "-s", scope)
            assert "dn:" not in shown.stdout, base


def test_there_are_no_passwords_in_ldap(ldap):
    assert ldap.machine.run("slapcat -n 1 | grep -qi userPassword").rc == 1
    ldif = f"dn: uid=test_user,{ldap.people}\nchangetype: modify\nadd: {{}}\n{{}}: x\n"
    refused = ldap.modify(ldif.format("userPassword", "userPassword"))
    assert refused.rc == 19
    assert ldap.modify(ldif.format("roomNumber", "roomNumber")).rc == 0
    assert ldap.modify(ldif.replace("add", "delete").format("roomNumber", "roomNumber")).rc == 0
    simple = ldap.search("-b", ldap.people, bind=f"-x -D uid=test_user,{ldap.people} -w x")
    assert simple.rc != 0
    assert not simple.stdout.strip()


def test_people_read_people_but_neither_keys_nor_configuration(ldap, active):
    login = f"-c $KRB5CCNAME twin_on <<< {shlex.quote(NEW_PASSWORD)}"
    bind = "-QY GSSAPI"
    mine = ldap.search("-b", ldap.people, "uid=twin_on", bind=bind, login=login)
    assert "sshPublicKey: " in mine.stdout, mine.stderr
    other = ldap.search("-b", ldap.people, "uid=twin_off", bind=bind, login=login)
    assert "uidNumber: " in other.stdout
    assert "sshPublicKey" not in other.stdout
    host = ldap.search("-b", ldap.people, "uid=twin_off", bind=bind, login=f"-k host/{ldap.host}")
    assert "sshPublicKey: " in host.stdout
    for base in ("cn=config", "cn=Monitor"):
        assert "dn:" not in ldap.search("-b", base, bind=bind, login=login).stdout


def test_nobody_writes_over_the_network(ldap, active):
    ldif = ldap.replacing("twin_on", "loginShell")
    logins = [
        f"-c $KRB5CCNAME twin_on <<< {shlex.quote(NEW_PASSWORD)}",
        f"-k host/{ldap.host}",
    ]
    for login in logins:
        refused = ldap.run(
            f"printf %s {shlex.quote(ldif.format('/bin/sh'))} |"
            f" ldapmodify -QY GSSAPI -ZZ -H ldap://{ldap.host}",
            login,
        )
        assert refused.rc == 50, refused.stderr
    assert ldap.modify(ldif.format("/bin/bash")).rc == 0


def test_numbers_are_unique(ldap, active):
    ldif = ldap.replacing("twin_on", "uidNumber")
    numbers = [
        ldap.machine.check_output(f"getent passwd {name}").split(":")[2]
        for name in ("twin_on", "twin_off")
    ]
    assert ldap.modify(ldif.format(numbers[0])).rc == 0
    assert ldap.modify(ldif.format(numbers[1])).rc == 19


def test_memberships_follow_their_people(ldap, active, people):
    login = f"-k host/{ldap.host}"
    words = ("-b", ldap.people, "uid=twin_locked", "memberOf")
    assert "memberOf: cn=twins," in ldap.search(*words, bind="-QY GSSAPI", login=login).stdout
    assert ldap.machine.run(
        f"ldapdelete -Q -Y EXTERNAL -H ldapi:/// uid=twin_locked,{ldap.people}"
    ).succeeded
    group = ldap.search("-b", f"ou=groups,{ldap.base}", "cn=twins", bind="-QY GSSAPI", login=login)
    assert "uid=twin_on," in group.stdout
    assert "uid=twin_locked," not in group.stdout
    people.set({"twin_locked": "present"})


@pytest.mark.parametrize("version", ["tls1_1", "tls1_2"])
def test_old_tls_is_refused(ldap, version):
    done = ldap.machine.run(
        f"openssl s_client -connect {ldap.host}:636 -{version} -cipher ALL:@SECLEVEL=0"
        f" -CAfile {CA} -verify_return_error </dev/null"
    )
    assert (done.rc == 0) == (version == "tls1_2"), done.stderr
