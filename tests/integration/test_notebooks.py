"""Notebooks: the shipped one through the hub's own API, and nothing of a person's for another."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import json
import re
import shlex
from collections import Counter

import pytest
from httpx2 import TransportError
from labhosts import ROOT, STATE, Cluster, Session, report, wait
from notebooks import PORT, Kernel, at_hub, notebook
from people import NEW_PASSWORD, People
from siterun import run_site
from sockets import DOCUMENTED, listening, numbers, undocumented
from websockets.exceptions import InvalidStatus

if not Cluster().inventory.get("jupyter"):
    pytest.skip("the inventory has no group jupyter", allow_module_level=True)

YARN, LOCAL = "pyspark", "pyspark-local"
TICKETS = "/run/jupyter/tickets"
SHIPPED = notebook(ROOT / "examples/pyspark.ipynb")
KEYTAB = "/etc/security/keytabs"
NEVER = "A-wrong-password-1"


@pytest.fixture(scope="module")
def hub(cluster):
    """One run of these tests a lab: two would stop each other's servers."""
    with (STATE / "notebooks.lock").open("w") as lock, at_hub(cluster) as hub:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield hub


@pytest.fixture(scope="module")
def host(hub):
    return hub.machine


def enter(hub, session, name):
    """Log in with a session's ticket, handed on."""
    person = hub.visitor(name)
    answer = person.negotiate(session, "--delegation", "always")
    assert answer.status == 302, answer
    assert person.get("/hub/home").status_code == 200
    return person


@pytest.fixture(scope="module")
def me(hub, test_user):
    """test_user at the hub, with a server."""
    enter(hub, test_user, "test_user").stop()
    # A server takes its ticket with it.
    person = enter(hub, test_user, "test_user")
    yield person.spawn()
    person.stop()


@pytest.fixture(scope="module")
def other(hub, other_user):
    """Somebody else, with a server too."""
    person = enter(hub, other_user, "other_user")
    yield person.spawn()
    person.stop()


@pytest.fixture(scope="module")
def operator(hub, admin):
    return enter(hub, admin, "admin1")


@pytest.fixture(scope="module")
def people(cluster, tmp_path_factory):
    return People(cluster, tmp_path_factory.mktemp("people"))


def unit(name):
    return f"jupyter-{name}-singleuser"


def process(host, name):
    """The number of a unit's main process."""
    return host.check_output(f"systemctl show --value -p MainPID {name}")


# --- The notebook ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel(me):
    """A kernel on YARN, in which the shipped notebook has been opened."""
    me.put("pyspark.ipynb", json.loads((ROOT / "examples/pyspark.ipynb").read_text()))
    with me.kernel(YARN, "pyspark.ipynb") as kernel:
        yield kernel


@pytest.fixture(scope="module")
def ran(kernel):
    """{cell: what came of it}, in their order, and what only questions of ours can tell."""
    ran = {}
    for name, source in SHIPPED.items():
        if name == "clean":
            for what, rows in (("all", "spark.table('src')"), ("joined", "joined")):
                found = kernel.ok(f"print([tuple(row) for row in {rows}.collect()])")
                ran[what] = ast.literal_eval(found)
        ran[name] = kernel.run(source)
        assert ran[name].status == "ok", f"{name}: {ran[name].error}"
    return ran


@pytest.fixture(scope="module")
def application(kernel, ran):
    return application_of(kernel)


def test_the_notebook_s_answers_are_right(ran):
    """Every answer compared with one worked out here."""
    rows = [(n**2 % 500, f"val_{n**2 % 500}") for n in range(500)]
    assert Counter(ran["all"]) == Counter(rows)
    assert ran["count"].value == "500"
    few = sorted(row for row in rows if row[0] < 10)
    assert table(ran["few"]) == [[str(key), value] for key, value in few]
    assert ast.literal_eval(ran["map"].value) == [
        f"Key: {key}, Value: {value}" for key, value in few
    ]
    assert ran["records"].value == "100"
    joined = sorted((key, f"val_{key}", value) for key, value in rows if 1 <= key <= 100)
    assert sorted(ran["joined"]) == joined and len(joined) > 50
    assert [row[0] for row in ran["joined"]] == [row[0] for row in joined]
    assert ran["join"].printed.startswith(f"{len(joined)} rows\n")
    assert table(ran["join"]) == [[str(word) for word in row] for row in joined[:10]]
    size = sum(len(f"{key}\x01{value}\n") for key, value in rows)
    assert ran["hdfs"].printed.split() == ["rw-r-----", "test_user", str(size), "kv1.txt"]


def table(cell):
    """The rows of a printed table."""
    lines = [line for line in cell.printed.splitlines() if line.startswith("|")]
    return [[word.strip() for word in line.strip("|").split("|")] for line in lines[1:]]


def test_its_application_was_its_owner_s(cluster, ran, application, test_user, other_user):
    seen = report(cluster, test_user, application)
    assert (seen["user"], seen["applicationType"], seen["state"]) == (
        "test_user",
        "SPARK",
        "RUNNING",
    )
    assert "of test_user" in ran["session"].printed
    assert not report(cluster, other_user, application).get("amContainerLogs")
    assert other_user.run(f"yarn application -kill {application}").rc != 0
    assert report(cluster, test_user, application)["state"] == "RUNNING"


def test_its_logs_are_its_owner_s(ran, application, test_user, other_user):
    logs = f"yarn logs -applicationId {application} -log_files stderr"
    mark = "LogType:stderr"
    assert mark in test_user.ok(logs)
    assert mark not in other_user.run(logs).stdout


def test_the_kernel_runs_in_the_cluster_as_its_owner(cluster, kernel):
    asked = "import os, pwd, socket; print(pwd.getpwuid(os.getuid()).pw_name, socket.getfqdn())"
    user, where = kernel.ok(asked).split()
    assert user == "test_user"
    assert where.split(".")[0] in cluster.hosts("nodemanager")


@pytest.mark.parametrize(
    "work",
    ["time.sleep(900)", "sc.parallelize(range(2), 2).map(lambda n: time.sleep(900)).count()"],
    ids=["cell", "job"],
)
def test_a_cell_and_a_job_of_spark_s_are_interrupted(kernel, work):
    ran = kernel.run(f"import time; print('begun', flush=True); {work}", interrupt=True)
    assert ran.status == "error"
    assert re.search("KeyboardInterrupt|cancelled", ran.error), ran.error
    wait("rest", lambda: kernel.ok("sc.statusTracker().getActiveJobsIds()") == "[]", 60)
    assert kernel.ok("spark.range(7).count() * 6") == "42"


# What is constant takes the JVM seconds, before there is a job; the job would take hours.
SLOW = (
    "SELECT max(id) FROM range(100000000000000)"
    " WHERE id > levenshtein(repeat('a', 50000), repeat('b', 50000))"
)


def test_a_job_that_begins_after_the_interrupt_is_cancelled(kernel):
    kernel.ok(f'slow = spark.sql("{SLOW}")')
    group = "sc.getLocalProperty('spark.jobGroup.id')"
    ran = kernel.run(f"print({group}, flush=True); slow.collect()", interrupt=True)
    assert "KeyboardInterrupt" in ran.error
    (cell,) = re.findall(r"^cell-\w+$", ran.printed, re.M)
    jobs = f"tracker.getJobIdsForGroup('{cell}')"
    ask = f"tracker = sc.statusTracker(); [tracker.getJobInfo(job).status for job in {jobs}]"
    assert kernel.ok(ask) == "[]"
    wait("its end", lambda: kernel.ok(ask) == "['FAILED']", 90)
    assert kernel.ok("spark.range(7).count() * 6") == "42"


def test_a_kernel_is_started_without_a_notebook(me):
    """As programs do, on YARN."""
    started = me.well("POST", "/kernels", {"name": YARN})
    try:
        kernel = Kernel(me, {"id": "none", "kernel": started})
        assert kernel.ok("spark.range(7).count() * 6") == "42"
        kernel.way.close()
    finally:
        me.api("DELETE", f"/kernels/{started['id']}")


def test_a_local_kernel_has_spark_too(cluster, me, host):
    with me.kernel(LOCAL, "local.ipynb") as kernel:
        assert kernel.ok("spark.range(1000).selectExpr('sum(id)').first()[0]") == "499500"
        assert kernel.ok("import socket; print(socket.gethostname())").strip() == host.check_output(
            "hostname"
        )


def test_the_documented_cell_asks_the_model(cluster, kernel, test_user):
    """Two lines of docs/notebooks.md as they stand there, but for names, on YARN."""
    if not cluster.inventory.get("llama"):
        pytest.skip("the inventory has no group llama")
    text = (ROOT / "docs/notebooks.md").read_text()
    lines = re.findall(r"^    (import json, urllib.*|print\(json\.load.*)$", text, re.M)
    assert len(lines) == 2
    key = cluster.first("llama").check_output("cat /etc/llama/issued/notebooks")
    test_user.ok("hdfs dfs -put -f - llama.key && hdfs dfs -chmod 600 llama.key", stdin=key)
    cell = "\n".join(lines).replace("edge1.example.org", cluster.fqdn("llama"))
    try:
        assert kernel.ok(cell.replace('"max_tokens": 200', '"max_tokens": 8')).strip()
    finally:
        test_user.ok("hdfs dfs -rm -f -skipTrash llama.key")


# --- Terminals ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(me):
    with me.terminal() as terminal:
        yield terminal


@pytest.fixture(scope="module")
def runtime(shell):
    """Where the server keeps its kernels' connection files."""
    return shell.run("/opt/jupyter/bin/jupyter --runtime-dir").out.split()[-1]


def test_a_terminal_has_the_clusters_tools(shell):
    for command, said in (
        ("id -un", "test_user"),
        ("hdfs dfs -ls -d /user/test_user", "/user/test_user"),
        ("beeline --silent=true -e 'SELECT current_user()'", "| test_user"),
        ("yarn application -list", "Total number of applications"),
    ):
        done = shell.run(command)
        assert (done.rc, said in done.out) == (0, True), (command, done.out)


JOB = """
from pyspark.sql import SparkSession
print(SparkSession.builder.getOrCreate().range(7).count() * 6)
"""


def test_a_job_runs_from_a_terminal(me, shell):
    """On YARN, with the server's ticket."""
    me.well("PUT", "/contents/job.py", {"type": "file", "format": "text", "content": JOB})
    done = shell.run("spark-submit --master yarn ~/job.py 2> /dev/null")
    assert done.rc == 0 and re.search(r"(^|\s)42$", done.out, re.M), done.out


def test_pyspark_starts_in_a_terminal(shell):
    done = shell.run("pyspark", "print(spark.range(10).count() * 7)", "exit()")
    # Spark's bar of progress is on the same line.
    assert done.rc == 0 and re.search(r"(^|\s)70$", done.out, re.M), done.out


def test_the_ticket_is_the_server_s_own(shell, test_user, host):
    """Not the one of a login by SSH, and nobody else's to read."""
    done = shell.run("klist -f")
    assert f"{TICKETS}/test_user/krb5cc" in done.out and "test_user@" in done.out
    assert re.search(r"Flags: \w*F\w*R|Flags: \w*R\w*F|Flags: FR", done.out), done.out
    place = f"{TICKETS}/test_user"
    assert host.check_output(f"stat -c '%U %a' {place}") == "test_user 700"
    assert host.check_output(f"stat -c '%U %a' {place}/krb5cc") == "test_user 600"
    test_user.ok("kdestroy")
    try:
        assert shell.run("hdfs dfs -ls -d /user/test_user").rc == 0
    finally:
        test_user.login("test_user", f"{KEYTAB}/test_user.keytab")


def tended(host):
    """Whether what the timer does every two minutes was done, to the end."""
    return host.run("systemctl start jupyter-tickets").rc == 0


def test_a_ticket_is_renewed_while_its_server_runs(hub, other, other_user, host):
    """One of a minute, when half of that is over."""
    with other.terminal() as terminal:
        short = f"kinit -l 60s -r 1h -kt {KEYTAB}/other_user.keytab other_user"
        assert terminal.run(short).rc == 0
        try:
            first = terminal.run("klist").out
            wait("another", lambda: tended(host) and terminal.run("klist").out != first, 90, 5)
            assert terminal.run("hdfs dfs -ls -d /user/other_user").rc == 0
        finally:
            enter(hub, other_user, "other_user")


def test_nobody_s_ticket_waits_for_another_s(hub, other, other_user, host):
    """Whoever has a pipe in its place, which nobody writes to, holds up nothing for long."""
    cache = f"{TICKETS}/other_user/krb5cc"
    with other.terminal() as terminal:
        try:
            assert terminal.run(f"rm {cache} && mkfifo {cache}").rc == 0
            assert tended(host)
            log = host.check_output("journalctl -u jupyter-tickets -n 20 --no-pager -o cat")
            assert "other_user: no end within" in log
            assert host.run("pgrep -u other_user -f 'tickets.py (renew|left)'").rc != 0
        finally:
            enter(hub, other_user, "other_user")
        assert terminal.run("klist -s").rc == 0


def test_servers_stay_while_sssd_is_away(host, me):
    """Only that PAM denies somebody is an answer, and not that it knows nobody."""
    before = process(host, unit("test_user"))
    program = "/opt/jupyter/bin/python -I /usr/local/lib/deitos-jupyter/deitos_jupyter/tickets.py"

    def admitted(*names):
        return [host.run(f"{program} admitted {name}").rc for name in names]

    assert admitted("test_user", "carol", "nobody-of-that-name") == [0, 3, 3]
    try:
        assert host.run("systemctl stop sssd").rc == 0
        assert admitted("test_user", "carol") == [4, 4]
        assert tended(host)
    finally:
        assert host.run("systemctl start sssd").rc == 0
    wait("SSSD", lambda: host.run("id test_user").rc == 0, 60)
    assert tended(host)
    assert process(host, unit("test_user")) == before
    assert me.api("GET", "/kernels").status_code == 200


# --- Who gets in ----------------------------------------------------------------------------------


def test_without_a_login_there_is_only_the_form(hub, me):
    visitor = hub.visitor("test_user")
    assert me.get("/hub/home").status_code == 200
    for path in ("/hub/home", "/hub/admin", "/hub/token", "/user/test_user/lab"):
        answer = visitor.get(path, follow_redirects=True)
        assert answer.url.path == "/hub/login" and "Sign in" in answer.text, (path, answer.url)
    assert me.ask("GET", "/users/test_user").status_code == 200
    for path in ("/user", "/users", "/users/test_user", "/proxy"):
        assert visitor.ask("GET", path).status_code == 403, path
    assert me.api("GET", "/kernels").status_code == 200
    for path in ("/kernels", "/contents", "/sessions", "/terminals"):
        assert visitor.api("GET", path).status_code == 403, path


def test_a_first_password_is_to_be_changed_and_then_opens(hub, people):
    """alice, as on her first day, and left as on her first day."""
    first = people.renew("alice")
    try:
        alice = hub.visitor("alice")
        refused = alice.login(first)
        assert refused.status_code == 403
        assert re.search("kpasswd|ssh", refused.text) and "chang" in refused.text, refused.text
        assert alice.get("/hub/home").status_code == 302
        assert people.change("alice", first, NEW_PASSWORD).rc == 0
        assert alice.login(NEVER).status_code == 403
        assert alice.get("/hub/home").status_code == 302
        assert alice.login(NEW_PASSWORD).status_code == 302
        assert alice.get("/hub/home").status_code == 200
        alice.spawn()
        try:
            with alice.terminal() as terminal:
                done = terminal.run("klist && hdfs dfs -ls -d /user/alice")
                assert (done.rc, f"{TICKETS}/alice/krb5cc" in done.out) == (0, True), done.out
            with alice.kernel(LOCAL) as kernel:
                assert kernel.ok("import getpass; getpass.getuser()") == "'alice'"
        finally:
            alice.stop()
    finally:
        people.renew("alice")


def test_a_wrong_password_and_an_unknown_name_sound_the_same(hub):
    said = set()
    for name in ("test_user", "nobody-of-that-name", "root", "hdfs", "jupyter"):
        person = hub.visitor(name)
        answer = person.login(NEVER)
        assert answer.status_code == 403, name
        said.add(answer.text.count("Wrong name or password."))
        assert person.get("/hub/home").status_code == 302, name
    assert said == {1}
    # That an account is disabled, Kerberos tells everybody.
    refused = hub.visitor("carol").login(NEVER)
    assert (refused.status_code, "account is disabled" in refused.text) == (403, True)


def test_who_is_disabled_gets_in_no_more(hub, people, host):
    """Somebody with a good password, a server and a ticket, disabled and let in again."""
    name = "twin_hub"
    people.set({name: "absent"})
    first = None
    try:
        people.set({name: "present"})
        first = people.initial_password(name)
        assert people.change(name, first, NEW_PASSWORD).rc == 0
        person = hub.visitor(name)
        wait("the login", lambda: person.login(NEW_PASSWORD).status_code == 302, 60)
        person.spawn()
        shell = Session(host, name)
        shell.ok("kinit -f", stdin=f"{NEW_PASSWORD}\n")
        handed_on = ("--delegation", "always")
        assert hub.visitor(name).negotiate(shell, *handed_on).status == 302
        people.set({name: "disabled"})
        wait("the refusal", lambda: hub.visitor(name).login(NEW_PASSWORD).status_code == 403, 60)
        active = f"systemctl is-active {unit(name)}"
        wait("the server's end", lambda: tended(host) and host.run(active).rc != 0, 240, 5)
        refused = hub.visitor(name).negotiate(shell, *handed_on)
        assert (refused.status, "account is disabled" in refused.body) == (403, True), refused
        # And who was in is out.
        wait("the end", lambda: person.get("/hub/home").status_code in (302, 403), 180, 5)
        people.set({name: "present"})
        wait("the login", lambda: hub.visitor(name).login(NEW_PASSWORD).status_code == 302, 60)
    finally:
        people.set({name: "absent"}, groups=(), group_state="absent")
        people.cluster.first("kdc").run(f"rm -f /var/lib/deitos/initial-passwords/{name}")
        host.run(f"rm -rf /tmp/krb5cc_test_{name} {TICKETS}/{name}")


def test_a_ticket_must_be_handed_on(hub, test_user, nobody):
    """Without that, or without any, there is the form, which says why."""
    assert enter(hub, test_user, "test_user")
    visitor = hub.visitor("test_user")
    answer = visitor.negotiate(test_user)
    assert visitor.get("/hub/home").status_code == 302
    assert answer.status in (302, 401, 403), answer
    page = test_user.curl(f"{hub.url}/hub/spnego", "-L", "-b", "", "-c", "/dev/null")
    assert re.search("delegat|hand", page.body), page.body[:3000]
    for words in ([], ["-H", "Authorization: Negotiate YII="], ["-H", "Authorization: Basic eDp5"]):
        answer = nobody.curl(f"{hub.url}/hub/spnego", *words, negotiate=False)
        assert answer.status in (302, 401, 403), words
        assert "jupyterhub-hub-login" not in answer.body


def test_names_from_outside_are_not_believed(hub, other):
    for header in ("Remote-User", "X-Forwarded-User", "X-Remote-User", "REMOTE_USER"):
        answer = other.web.get("/hub/api/user", headers={header: "test_user"})
        assert answer.json()["name"] == "other_user", header
        assert hub.visitor().get("/hub/home", headers={header: "test_user"}).status_code == 302


def test_operators_see_servers_and_reach_none(hub, me, operator, other):
    assert operator.get("/hub/admin").status_code == 200
    listed = {user["name"] for user in operator.ask("GET", "/users").json()}
    assert {"test_user", "other_user"} <= listed
    assert other.get("/hub/admin").status_code == 403
    assert other.ask("GET", "/users").status_code == 403
    for person in (operator, other):
        assert person.ask("POST", "/users/test_user/tokens", {}).status_code in (403, 404)
        denied_everything(person, me)


def test_who_is_no_operator_any_more_sees_no_servers(cluster, hub, people, host):
    """Taken out of the group while logged in; a host keeps what the directory said for a while."""
    name, base = "twin_operator", f"ou=groups,dc={cluster.domain.replace('.', ',dc=')}"
    try:
        people.set({name: "present"}, groups=("cluster_admins",))
        assert people.change(name, people.initial_password(name), NEW_PASSWORD).rc == 0
        person = hub.visitor(name)
        wait("the login", lambda: person.login(NEW_PASSWORD).status_code == 302, 60)
        assert person.get("/hub/admin").status_code == 200
        group = f"dn: cn=cluster_admins,{base}\nchangetype: modify\n"
        member = f"uid={name},{base.replace('groups', 'people', 1)}"
        left = shlex.quote(f"{group}delete: member\nmember: {member}\n")
        cluster.first("ldap").check_output(
            f"printf %s {left} | ldapmodify -Q -Y EXTERNAL -H ldapi:///"
        )
        host.check_output("sss_cache -E")
        wait("the end", lambda: person.get("/hub/admin").status_code == 403, 180, 5)
        assert person.get("/hub/home").status_code == 200
        assert person.ask("GET", "/users").status_code == 403
    finally:
        people.set({name: "absent"}, groups=(), group_state="absent")
        cluster.first("kdc").run(f"rm -f /var/lib/deitos/initial-passwords/{name}")


# --- One's own ------------------------------------------------------------------------------------


def denied_everything(person, owner):
    """A server's answers to its owner, and to another with good cookies of his own."""
    for path in ("/contents", "/kernels", "/sessions", "/terminals", "/status"):
        assert owner.api("GET", path).status_code == 200, path
        answer = person.web.get(f"{owner.base}/api{path}", follow_redirects=True)
        assert answer.status_code == 403, (path, answer.status_code, str(answer.url))
    assert owner.get(f"{owner.base}/lab").status_code == 200
    assert person.web.get(f"{owner.base}/lab", follow_redirects=True).status_code == 403


def test_a_server_is_its_owner_s(me, other, kernel):
    assert other.api("GET", "/kernels").status_code == 200
    denied_everything(other, me)
    for method, path, body in (
        ("POST", "/sessions", {}),
        ("POST", "/terminals", {}),
        ("DELETE", f"/kernels/{kernel.id}", None),
        ("PUT", "/contents/x.txt", {"type": "file", "format": "text", "content": "x"}),
    ):
        assert other.api(method, path, body, base=me.base).status_code == 403, (method, path)
    channels = f"{me.base}/api/kernels/{kernel.id}/channels"
    with me.socket(channels, session_id="x"):
        pass
    with pytest.raises(InvalidStatus, match="403"), other.socket(channels, session_id="x"):
        pass
    assert other.ask("DELETE", f"/users/{me.name}/server").status_code in (403, 404)
    assert kernel.ok("1 + 1") == "2"


def test_files_are_their_owner_s(other, shell, kernel, host, runtime):
    """Its home, its ticket, its server's and its kernels' files; with a twin who may."""
    home = host.check_output("getent passwd test_user").split(":")[5]
    files = shell.run(f"find {runtime} {TICKETS}/test_user ~/pyspark.ipynb -type f").out.split()
    files = [path for path in files if path.startswith("/")]
    assert any(kernel.id in path for path in files), files
    with other.terminal() as terminal:
        for path in (f"{home}/pyspark.ipynb", *files):
            assert shell.run(f"test -r {path}").rc == 0, path
            assert terminal.run(f"cat {path}").rc != 0, path
        pid = process(host, unit("test_user"))
        assert shell.run(f"cat /proc/{pid}/environ > /dev/null").rc == 0
        assert terminal.run(f"cat /proc/{pid}/environ").rc != 0
        for path in ("/var/lib/jupyterhub", "/var/lib/jupyterhub/jupyterhub.sqlite"):
            assert terminal.run(f"ls {path}/").rc != 0 and terminal.run(f"cat {path}").rc != 0


def test_no_secret_is_in_arguments_or_logs(cluster, host, kernel):
    for name in (*cluster.hosts("jupyter"), *cluster.hosts("nodemanager")):
        arguments = cluster.machine(name).check_output("ps -ewwo args")
        assert not re.search(r"(?i)(token|secret|password)[=\s]+[0-9a-f]{16,}", arguments), name
    log = host.check_output("journalctl -u 'jupyter*' --no-pager -o cat")
    assert log
    assert NEW_PASSWORD not in log and NEVER not in log
    assert not re.search(r"Negotiate YII|token=[0-9a-f]{16,}", log)


# --- A kernel's ports -----------------------------------------------------------------------------

# Speaks ZMTP 3.0 without any key, and says what comes back.
ZMTP = """
import json, socket, sys
out = []
mechanism, places = json.load(sys.stdin)
for host, port in places:
    said = b""
    try:
        with socket.create_connection((host, port), 5) as s:
            s.settimeout(3)
            spoken = mechanism.encode().ljust(20, b"\\0")
            s.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\x00" + spoken + bytes(32))
            while len(said) < 64 and (part := s.recv(4096)):
                said += part
            ready = b"\\x05READY\\x0bSocket-Type\\x00\\x00\\x00\\x06DEALER"
            s.sendall(bytes([4, len(ready)]) + ready)
            while part := s.recv(4096):
                said += part
    except OSError as error:
        out.append([host, port, said.hex(), str(error)])
    else:
        out.append([host, port, said.hex(), "closed"])
print(json.dumps(out))
"""


def zmtp(session, places, mechanism="NULL"):
    """What (host, port) say to a ZMQ client that announces this mechanism, and has no key."""
    words = json.dumps([mechanism, places])
    done = session.ok(f"python3 -c {shlex.quote(ZMTP)}", stdin=words)
    return [(host, port, bytes.fromhex(said), why) for host, port, said, why in json.loads(done)]


@pytest.fixture(scope="module")
def ports(cluster, kernel):
    """(host, port) of every socket of the kernel and its listener on their worker."""
    assert kernel.state()
    return ports_of(cluster, "nodemanager", "curve", "test_user")


def ports_of(cluster, group, protection, user):
    """(host, port) of the sockets with a documented protection that a person has on a group.

    What Python and the JVM open on loopback for themselves may have a number of that range too.
    """
    entries = (e for e in DOCUMENTED["ports"] if e["protection"] == protection)
    listed = {port for entry in entries for port in numbers(entry["ports"])}
    return [
        (f"{name}.{cluster.domain}", socket.port)
        for name in cluster.hosts(group)
        for socket in listening(cluster, name)
        if socket.user == user and socket.port in listed and not socket.loopback
    ]


def test_a_kernel_s_ports_answer_nobody_in_plain_text(cluster, kernel, ports, other_user):
    """From the edge and from a worker, to another user: no more than ZMQ's first ten bytes."""
    worker = Session(cluster.machine(cluster.hosts("nodemanager")[0]), "nobody", name="zmtp")
    for session in (other_user, worker):
        for where, port, said, why in zmtp(session, ports):
            assert (b"\xff" + bytes(7) + b"\x01\x7f").startswith(said), (where, port, said)
            assert re.search("closed|reset by peer", why), (where, port, why)
        # What they announce, and all that they say to who has no key.
        for where, port, said, _why in zmtp(session, ports, "CURVE"):
            assert said[12:32].rstrip(b"\0") == b"CURVE" and len(said) <= 64, (where, port, said)
    assert kernel.ok("1 + 1") == "2"


def test_a_kernel_has_no_other_port(cluster, kernel, ports):
    """Five for its channels, and those of Spark: no port for signals that anybody may use."""
    assert len(ports) == 5, ports
    for name in (*cluster.hosts("edge"), *cluster.hosts("nodemanager")):
        assert undocumented(cluster, name) == [], name


# Says some things on the port on which kernels call, and what comes back.
CALL = """
import socket, sys
host, port = sys.argv[1:]
forged = b"0" * 32 + b" " + b"0" * 64 + b" {}\\n"
for words in (b"x\\n", forged, b"GET / HTTP/1.0\\r\\n\\r\\n", b"x" * 20000):
    with socket.create_connection((host, int(port)), 5) as s:
        try:
            s.sendall(words); s.settimeout(20); print(s.recv(100) or "closed")
        except ConnectionError:
            print("closed")
"""


def test_the_port_that_kernels_call_answers_nobody(cluster, kernel, other_user):
    """It hangs up on who proves nothing, and the kernel that called stays."""
    found = ports_of(cluster, "jupyter", "signed", "test_user")
    assert found
    worker = Session(cluster.machine(cluster.hosts("nodemanager")[0]), "nobody", name="call")
    for session in (other_user, worker):
        for where, port in found:
            said = session.ok(f"python3 -c {shlex.quote(CALL)} {where} {port}")
            assert set(said.split()) == {"closed"}, said
    assert kernel.ok("1 + 1") == "2"


def test_a_thief_of_a_connection_file_without_its_curve_keys_hears_nothing(
    kernel, runtime, test_user, other_user
):
    """Its owner asks with all keys; another, without these alone, and has even the one for HMAC."""
    text = test_user.ok(f"cat {runtime}/kernel-{kernel.id}.json")
    program = (
        "import json, sys; from jupyter_client import BlockingKernelClient as K\n"
        "client = K(); client.load_connection_info(json.load(sys.stdin))\n"
        "client.start_channels(stdin=False, hb=False)\n"
        "client.kernel_info(); print(client.get_shell_msg(timeout=10)['msg_type'])\n"
    )
    ask = f"/opt/jupyter-python/bin/python -c {shlex.quote(program)}"
    assert test_user.ok(ask, stdin=text).strip() == "kernel_info_reply"
    plain = {k: v for k, v in json.loads(text).items() if "curve" not in k}
    assert plain != json.loads(text)
    assert "Empty" in other_user.run(ask, stdin=json.dumps(plain)).stderr


def test_a_kernel_s_files_on_its_worker_are_its_owner_s(cluster, kernel, application):
    found = 0
    for name in cluster.hosts("nodemanager"):
        machine = cluster.machine(name)
        paths = machine.run(f"find / -xdev -path '*/appcache/{application}/*' -type f").stdout
        for path in paths.split()[:40]:
            mine = machine.run(f"runuser -u test_user -- test -r {path}").rc
            assert machine.run(f"runuser -u other_user -- test -r {path}").rc != 0, path
            found += mine == 0
    assert found


# --- Ports of the hub -----------------------------------------------------------------------------


def test_there_is_no_plain_text(hub, other_user):
    assert other_user.curl(f"{hub.url}/hub/health", negotiate=False).status == 200
    plain = other_user.curl(f"http://{hub.fqdn}:{PORT}/hub/health", negotiate=False)
    assert plain.status in (0, 400), plain
    old = other_user.curl(f"{hub.url}/hub/health", "--tls-max", "1.1", negotiate=False)
    assert old.status == 0


def test_doors_behind_the_proxy_are_for_the_proxy(hub, me, test_user, other_user, host):
    """Hub, proxy and servers listen on sockets in files; nobody else on the host reaches them."""
    root = Session(host, "root", name="doors")
    anybody = (other_user, Session(host, "nobody", name="doors"))
    server = "/run/jupyter/servers/test_user/server.sock"
    for door, path in (
        ("/run/jupyterhub/hub.sock", "/hub/api/users"),
        ("/run/jupyterhub-proxy/api.sock", "/api/routes"),
        (server, "/user/test_user/api/kernels"),
    ):
        words = ["--unix-socket", door]
        for token in ([], ["-H", "Authorization: token " + "0" * 32]):
            # Who does reach it is asked for a token.
            answer = root.curl(f"http://localhost{path}", *words, *token, negotiate=False)
            assert answer.status == 403, (door, answer)
            for session in anybody:
                answer = session.curl(f"http://localhost{path}", *words, *token, negotiate=False)
                assert answer.status == 0, (door, answer)
    assert me.api("GET", "/kernels").status_code == 200
    answer = test_user.curl(
        "http://localhost/user/test_user/api/kernels", "--unix-socket", server, negotiate=False
    )
    assert answer.status in (0, 403)


def test_hub_and_proxy_have_one_port(cluster, me):
    """None on loopback, where whoever comes first could take the place of one that is down."""
    found = listening(cluster, cluster.hosts("jupyter")[0])
    assert {socket.port for socket in found if socket.user == "jupyter"} == {PORT}
    # Docker's name server has 127.0.0.11.
    local = [s for s in found if s.user == "root" and s.loopback and s.address != "127.0.0.11"]
    assert local == []


def properties(host, name):
    """What systemd says of a unit."""
    lines = host.check_output(f"systemctl show --all {name}").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_units_are_hardened_and_bounded(host, me):
    theirs = {"ProtectKernelModules", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectClock"}
    hardened = theirs | {"ProtectHostname", "PrivateTmp", "PrivateDevices", "LockPersonality"}
    wanted = dict.fromkeys(hardened, "yes")
    strict = {"ProtectSystem": "strict", "NoNewPrivileges": "yes", "ProtectHome": "yes"}
    theirs_alone = {
        "ProtectSystem": "full",
        "ProtectControlGroups": "yes",
        "RestrictSUIDSGID": "yes",
    }
    for name, more in {
        "jupyterhub": {"ProtectSystem": "full", "NoNewPrivileges": "yes", "User": "root"},
        "jupyterhub-proxy": strict | {"User": "jupyter", "CapabilityBoundingSet": ""},
        unit("test_user"): theirs_alone | {"UMask": "0077", "MemorySwapMax": "0"},
    }.items():
        shown = properties(host, name)
        assert {key: shown[key] for key in wanted | more} == wanted | more, name
    tickets = properties(host, "jupyter-tickets")
    assert {key: tickets[key] for key in strict} == strict
    shown = properties(host, unit("test_user"))
    number = host.check_output("id -u test_user")
    assert shown["User"] in ("test_user", number)
    for limit in ("MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"):
        assert shown[limit] not in ("", "infinity"), limit


def test_a_person_cannot_fill_run(other, host):
    with other.terminal() as terminal:
        place = f"{TICKETS}/other_user/fill"
        try:
            assert terminal.run(f"head -c 100M /dev/zero > {place}").rc != 0
            assert host.run("head -c 1M /dev/zero > /run/room; rm /run/room").rc == 0
        finally:
            terminal.run(f"rm -f {place}")


# --- Restarts -------------------------------------------------------------------------------------


def test_servers_and_kernels_outlive_the_hub(host, me, kernel):
    kernel.ok("kept = 41")
    before = process(host, unit("test_user"))
    hub_was = process(host, "jupyterhub")
    assert host.run("systemctl restart jupyterhub").rc == 0
    wait("the hub", lambda: me.get("/hub/home").status_code == 200, 60)
    assert process(host, "jupyterhub") != hub_was
    assert process(host, unit("test_user")) == before
    assert me.running()
    assert kernel.ok("kept + 1") == "42"
    me.enter()
    assert host.run("systemctl stop jupyterhub-proxy").rc == 0
    stopped = host.run("systemctl is-failed jupyterhub-proxy").stdout.strip()
    assert host.run("systemctl start jupyterhub-proxy").rc == 0
    assert stopped == "inactive"
    wait("the proxy", lambda: reached(me), 90)
    assert process(host, unit("test_user")) == before
    kernel.open()
    assert kernel.ok("kept + 1") == "42"


def reached(person):
    """Whether the proxy leads to a person's server again."""
    with contextlib.suppress(TransportError):
        return person.api("GET", "/kernels").status_code == 200
    return False


def test_a_kernel_that_yarn_killed_is_reported_and_starts_again(
    cluster, kernel, application, test_user
):
    """By itself, once; and when its owner says so."""
    kernel.ok("before = 1")
    kernel.statuses.clear()
    test_user.ok(f"yarn application -kill {application}")
    kernel.hears({"dead", "restarting", "autorestarting"})
    wait("another kernel", kernel.answers, 240)
    lost = kernel.run("before").error
    assert "NameError" in lost and application in lost and "was killed in YARN" in lost, lost
    seen = {application, application_of(kernel)}
    kernel.restart()
    seen.add(application_of(kernel))
    assert len(seen) == 3
    for one in seen:
        assert report(cluster, test_user, one)["user"] == "test_user"


def application_of(kernel):
    return re.search(r"application_\d+_\d+", kernel.run(SHIPPED["session"]).printed)[0]


# --- In words -------------------------------------------------------------------------------------


def refusal(person, spec, path="refused.ipynb"):
    """What a notebook says when its kernel cannot start."""
    answer = person.ask_session(spec, path)
    assert answer.status_code >= 400, answer.text
    assert "Traceback" not in answer.json()["message"]
    return answer.json()["message"]


def test_an_answer_that_comes_at_once_arrives(other):
    """The proxy sent an error 503 in place of some of these: see roles/jupyter's proxy.mjs."""
    answers = Counter(other.api("POST", "/sessions", {}).status_code for _ in range(300))
    assert answers == {400: 300}


def test_no_more_kernels_than_are_allowed(other, host):
    limit = 0
    with contextlib.ExitStack() as stack:
        for number in range(12):
            path = f"limit{number}.ipynb"
            words = {"kernel": {"name": LOCAL}, "name": path, "path": path, "type": "notebook"}
            answer = other.api("POST", "/sessions", words)
            if answer.status_code != 201:
                break
            stack.callback(other.api, "DELETE", f"/sessions/{answer.json()['id']}")
            limit += 1
        assert limit >= 1
        assert re.search(r"kernel", answer.json()["message"]), answer.text
        assert str(limit) in answer.json()["message"], answer.text
    wait("room", lambda: not other.well("GET", "/kernels"), 60)
    with other.kernel(LOCAL) as kernel:
        assert kernel.ok("1 + 1") == "2"


def test_without_a_ticket_the_notebook_says_to_log_in(hub, other, other_user):
    with other.terminal() as terminal:
        assert terminal.run("klist -s").rc == 0
        assert terminal.run("kdestroy").rc == 0
        said = refusal(other, YARN)
        assert re.search(r"(?i)log ?in|log in again", said) and re.search("(?i)ticket", said), said
        # Logging in again renews it where it is.
        enter(hub, other_user, "other_user")
        assert terminal.run("klist -s").rc == 0


def test_with_an_expired_ticket_the_notebook_says_to_log_in(hub, other, other_user):
    """On YARN no kernel starts; beside the server no Spark does, until there is a ticket again."""
    short = f"kinit -l 5s -kt {KEYTAB}/other_user.keytab other_user"
    with other.terminal() as terminal, other.kernel(LOCAL, "expired.ipynb") as kernel:
        try:
            assert terminal.run(short).rc == 0
            wait("its end", lambda: terminal.run("klist -s").rc != 0, 60)
            assert "Log in again" in refusal(other, YARN)
            assert "Log in again" in kernel.run("spark.range(7).count() * 6").error
            assert kernel.ok("1 + 1") == "2"
        finally:
            enter(hub, other_user, "other_user")
        assert kernel.ok("spark.range(7).count() * 6") == "42"


def test_what_idles_ends_with_its_notebook_open(hub, admin, host):
    """As the site has it, but for the times: those are this person's own."""
    name = "admin1"
    home = host.check_output(f"getent passwd {name}").split(":")[5]
    settings = f"{home}/.jupyter/jupyter_server_config.json"
    soon = {
        "MappingKernelManager": {"cull_idle_timeout": 3, "cull_interval": 3},
        "TerminalManager": {"cull_inactive_timeout": 3, "cull_interval": 3},
        "ServerApp": {"shutdown_no_activity_timeout": 3},
    }
    person = enter(hub, admin, name).spawn()
    try:
        admin.ok(f"mkdir -p {home}/.jupyter && cat > {settings}", stdin=json.dumps(soon))
        person.stop()
        person = enter(hub, admin, name).spawn()
        kernel = Kernel(person, person.session(LOCAL, "idle.ipynb"))
        assert kernel.ok("1 + 1") == "2"
        wait("the kernel's end", lambda: kernel.state() is None, 60)
        with person.terminal() as terminal:
            assert terminal.run("true").rc == 0
            wait("the terminal's end", lambda: person.well("GET", "/terminals") == [], 60)
        wait("the server's end", lambda: not person.running(), 180)
        assert host.run(f"test -e {TICKETS}/{name}").rc != 0
    finally:
        admin.run(f"rm -f {settings}")
        person.stop()


def test_a_spawn_without_a_ticket_says_to_log_in(hub, other_user, host):
    person = enter(hub, other_user, "other_user")
    person.stop()
    host.run(f"rm -rf {TICKETS}/other_user")
    answer = person.ask("POST", "/users/other_user/server")
    if answer.status_code in (201, 202):
        wait("the refusal", lambda: not person.running(), 60)
        answer = person.get("/hub/spawn", follow_redirects=True)
    assert re.search(r"(?i)log in", answer.text), answer.text[:3000]
    page = person.get("/user/other_user/lab", follow_redirects=True)
    assert re.search(r"(?i)log in again.*href=\"/hub/logout\"", page.text, re.S), page.text[:3000]
    enter(hub, other_user, "other_user").spawn().stop()


@pytest.fixture(scope="module")
def packed(test_user):
    """An environment of kernels as people make them: nothing around bin."""
    test_user.ok(
        "set -o pipefail; tar -cf - --exclude=__pycache__ -C /opt/jupyter-python/ . | gzip -1"
        " | hdfs dfs -put -f - packed.tar.gz"
    )
    yield "hdfs:///user/test_user/packed.tar.gz"
    test_user.ok("hdfs dfs -rm -f -skipTrash packed.tar.gz")


def offered(person):
    return set(person.well("GET", "/kernelspecs")["kernelspecs"])


def sizes(kernel):
    """What a kernel's driver and executors may have."""
    names = ("driver.memory", "executor.memory", "dynamicAllocation.maxExecutors")
    asked = ", ".join(f"sc.getConf().get('spark.{name}')" for name in names)
    return ast.literal_eval(kernel.ok(f"({asked})"))


def test_a_new_configuration_leaves_servers_alone_and_groups_decide(
    hub, host, me, kernel, test_user, other_user, packed
):
    """With one group and one more kernel named; then as before."""
    before = process(host, unit("test_user"))
    usual = [
        {"name": name, "display_name": name, "mode": mode}
        for name, mode in ((YARN, "yarn"), (LOCAL, "local"))
    ]
    more = {
        "name": "packed",
        "display_name": "Packed",
        "mode": "yarn",
        "python_archive": packed,
        "driver_memory_mb": 640,
        "executor_memory_mb": 576,
        "max_executors": 1,
    }
    words = {"jupyter_groups": ["analysts"], "jupyter_kernels": [*usual, more]}
    only = shlex.quote(json.dumps(words))
    try:
        assert run_site(f"-e {only}", playbook="playbooks/notebooks.yml").status == "successful"
        enter(hub, test_user, "test_user")
        stranger = hub.visitor("other_user")
        stranger.negotiate(other_user, "--delegation", "always")
        assert stranger.get("/hub/home").status_code == 302
        assert process(host, unit("test_user")) == before
        assert kernel.ok("1 + 1") == "2"
        assert offered(me) == {YARN, LOCAL, "packed"}
        with me.kernel("packed", "packed.ipynb") as another:
            assert another.ok("import sys; print(sys.prefix)").strip().endswith("/python")
            assert another.ok("spark.range(7).rdd.map(lambda row: row.id).sum() * 2") == "42"
            assert sizes(another) == ("640m", "576m", "1") != sizes(kernel)
    finally:
        assert run_site(playbook="playbooks/notebooks.yml").status == "successful"
    assert offered(me) == {YARN, LOCAL}
    enter(hub, other_user, "other_user")


def test_a_check_tells_of_an_environment_that_hdfs_has_not(cluster):
    run = run_site(
        "--check -e jupyter_python_archive=/apps/jupyter/other.tar.gz",
        playbook="playbooks/notebooks.yml",
    )
    assert (run.status, run.failed) == ("successful", [])
    assert (cluster.hosts("namenode")[0], "Fetch the archive") in run.changed


# --- The end --------------------------------------------------------------------------------------


def applications(session):
    """The applications of a user that run."""
    listed = session.ok("yarn application -list -appStates RUNNING,ACCEPTED,SUBMITTED 2>/dev/null")
    return set(re.findall(r"^(application_\d+_\d+)\b.*\btest_user\b", listed, re.M))


def test_a_server_that_died_leaves_nothing_behind(me, kernel, test_user, host):
    """Killed without warning: its application is ended by the next server, or before."""
    left = applications(test_user)
    assert left
    host.run(f"systemctl kill -s KILL {unit('test_user')}")
    wait("the end of the server", lambda: not me.running(), 120)
    me.negotiate(test_user, "--delegation", "always")
    me.spawn()
    wait("the end of its applications", lambda: not left & applications(test_user), 180, 3)


def test_a_server_that_stops_takes_all_with_it(me, test_user, host):
    """Its ticket, its kernels' applications, its unit and its processes."""
    with me.kernel(YARN, "last.ipynb"):
        wait("the application", lambda: applications(test_user), 60)
        assert host.run(f"test -e {TICKETS}/test_user/krb5cc").rc == 0
        me.stop()
    assert host.run(f"test -e {TICKETS}/test_user").rc != 0
    assert host.run(f"systemctl is-active {unit('test_user')}").rc != 0
    wait("the end of its applications", lambda: not applications(test_user), 180, 3)
    me.negotiate(test_user, "--delegation", "always")
    assert me.spawn().api("GET", "/kernels").json() == []
