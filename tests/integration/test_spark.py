"""Spark on YARN: right results in both modes, and nothing of a job for anybody but its owner."""

from __future__ import annotations

import json
import random
import re
import shlex
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from labhosts import Session, report, wait
from sockets import listening, numbers, undocumented

JOBS = Path(__file__).with_name("spark_jobs")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SPARK = "/opt/spark"
WORK = "/user/test_user/spark"
EVENTS = "/spark/events"
BACKEND = "https://127.0.0.1:18481"
WORDS = ["to", "be", "or", "not", "that", "is", "the", "question"]
# What a driver in the cluster does with its counts: a partition of a table of Hive.
INTO_HIVE = (
    "DROP TABLE IF EXISTS words",
    "CREATE TABLE words (word STRING, n INT) PARTITIONED BY (made STRING)",
    "INSERT INTO words PARTITION (made='there') SELECT word, n FROM found",
)


def put(session, source, place="spark-test"):
    """Copy a file of the checkout to a user's directory below /tmp; returns where it is."""
    session.ok(f"mkdir -p {place} && cat > {place}/{source.name}", stdin=source.read_text())
    return f"/tmp/{place}/{source.name}"


def application_of(output):
    return re.search(r"application_\d+_\d+", output).group()


def submit(session, *words):
    """Submit, wait for the end; returns the application's name and what the driver printed."""
    done = session.run(f"spark-submit {' '.join(words)}")
    assert done.rc == 0, done.stderr[-4000:]
    return application_of(done.stderr), done.stdout


@pytest.fixture(scope="module")
def history(cluster):
    return f"https://{cluster.fqdn('spark_history')}:18480"


# --- Right results ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text(test_user):
    """A text on HDFS; the words it is made of."""
    chosen = random.Random(20260101)
    words = [chosen.choice(WORDS) for _ in range(5000)]
    lines = "\n".join(" ".join(words[i : i + 20]) for i in range(0, len(words), 20)) + "\n"
    test_user.ok(
        f"hdfs dfs -rm -r -f -skipTrash {WORK} && hdfs dfs -mkdir -p {WORK}"
        f" && hdfs dfs -put - {WORK}/in.txt",
        stdin=lines,
    )
    return words


@pytest.fixture(scope="module")
def environment(test_user):
    """A virtualenv with a module of its own, packed as docs/spark.md says."""
    test_user.ok(
        "mkdir -p spark-test && cd spark-test && rm -rf env"
        " && python3 -m venv --copies --without-pip env"
        " && cd env/lib/python3.*/site-packages && echo ANSWER = 42 > deitos_words.py && cd -"
        " && tar -czf env.tar.gz -C env . && rm -rf env"
    )
    return "/tmp/spark-test/env.tar.gz"


@pytest.fixture(scope="module")
def pool():
    """Jobs run beside one another: each waits for the cluster most of its time."""
    with ThreadPoolExecutor() as pool:
        yield pool


@pytest.fixture(scope="module")
def counting(pool, test_user, text, environment):
    """{mode: (application, what the job finds)}: the driver here, and one with an environment."""
    script = put(test_user, JOBS / "words.py")

    def count(mode, *options, statements=()):
        application, _out = submit(
            test_user,
            *(f"--deploy-mode {mode}", *options, script, f"{WORK}/in.txt", f"{WORK}/{mode}"),
            *map(shlex.quote, statements),
        )
        found = json.loads(test_user.ok(f"hdfs dfs -cat {WORK}/{mode}/part-*"))
        return application, found

    packed = f"--archives {environment}#env --conf spark.pyspark.python=./env/bin/python"
    return {
        "client": pool.submit(count, "client"),
        "cluster": pool.submit(count, "cluster", packed, statements=INTO_HIVE),
    }


@pytest.fixture(scope="module")
def pi(pool, counting, test_user):
    """Runs beside them."""
    words = f"--deploy-mode cluster {SPARK}/examples/src/main/python/pi.py 4"
    return pool.submit(submit, test_user, words)


@pytest.fixture(scope="module")
def runs(pi, counting):
    return {mode: job.result() for mode, job in counting.items()}


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_words_are_counted_right(cluster, runs, text, test_user, mode):
    application, found = runs[mode]
    assert found["counts"] == Counter(text)
    seen = report(cluster, test_user, application)
    assert (seen["user"], seen["applicationType"]) == ("test_user", "SPARK")
    assert (seen["state"], seen["finalStatus"]) == ("FINISHED", "SUCCEEDED")


def test_jobs_use_the_hosts_python_or_the_one_they_bring(runs):
    _application, found = runs["client"]
    assert found["driver"][0] == "test_user"
    assert {tuple(executor) for executor in found["executors"]} == {
        ("test_user", "/usr/bin/python3", None)
    }
    _application, found = runs["cluster"]
    for user, python, brought in (found["driver"], *found["executors"]):
        assert (user, brought) == ("test_user", 42)
        assert python.endswith("/env/bin/python") and "/appcache/" in python


def test_pi_is_roughly_right(test_user, pi):
    """Spark's own example, with the driver in the cluster and the hosts' Python there too."""
    application, _out = pi.result()
    log = wait("the log", lambda: stdout_of(test_user, application), 60)
    assert abs(float(re.search(r"Pi is roughly ([\d.]+)", log).group(1)) - 3.14159) < 0.1


# --- What a job leaves behind -------------------------------------------------------------------


def ended(session, url):
    """Whether the history server knows of an application that it has ended."""
    answer = session.curl(url)
    return answer.status == 200 and answer.json()["attempts"][0]["completed"]


def test_history_is_the_owners(cluster, runs, history, test_user, other_user, admin, nobody):
    for mode, attempt in (("client", ""), ("cluster", "/1")):
        application, _found = runs[mode]
        api = f"{history}/api/v1/applications/{application}"
        # A page that was shown before a job's last word is loaded anew, by way of a redirect.
        wait("the end in the history", lambda url=api: ended(test_user, url), 60)
        for url in (
            f"{api}{attempt}/jobs",
            f"{api}{attempt}/environment",
            f"{api}{attempt}/logs",
            f"{history}/history/{application}{attempt}/jobs/",
            f"{history}/history/{application}{attempt}/environment/",
        ):
            assert test_user.curl(url, "-o", "/dev/null").status == 200, url
            assert admin.curl(url, "-o", "/dev/null").status == 200, url
            assert other_user.curl(url).status == 403, url
            assert nobody.curl(url, negotiate=False).status == 401, url
    assert test_user.curl(f"{api}/1/jobs").json()


def test_history_believes_no_callers_word(runs, history, test_user, other_user, cluster):
    application, _found = runs["client"]
    url = f"{history}/api/v1/applications/{application}/jobs"
    assert test_user.curl(url).status == 200
    for words in (
        ["-b", "proxy-user=test_user"],
        ["-H", "Cookie: proxy-user=test_user; x=y"],
        ["-H", "X-Forwarded-User: test_user", "-H", "Remote-User: test_user"],
        ["-H", "X-Forwarded-For: 127.0.0.1"],
    ):
        assert other_user.curl(url, *words).status == 403, words
    for question in ("doAs", "do%41s", "x=1&%64o%41s", "x&DOAS"):
        assert other_user.curl(f"{url}?{question}=test_user").status == 403, question
    form = ["-X", "GET", "-d", "doAs=test_user"]
    assert other_user.curl(url, *form).status in (400, 403, 413)
    assert other_user.curl(url, "-H", "Authorization: Bearer x.y.z", negotiate=False).status == 401
    # A host's key is a ticket, but nobody's.
    host = Session(cluster.first("edge"), "root", name="host")
    host.login(f"host/{cluster.fqdn('edge')}", "/etc/krb5.keytab")
    assert host.curl(url).status in (401, 403)
    # Its own log tells of everybody.
    assert test_user.curl(f"{history}/logPage/?self&logType=out").status == 403
    assert test_user.curl(url, "-X", "POST").status == 403


def test_history_has_no_back_door(cluster, runs, test_user, nobody):
    """Behind the proxy, on its host: TLS, and only for who holds the proxy's token."""
    application, _found = runs["client"]
    path = f"/api/v1/applications/{application}/jobs"
    machine = cluster.first("spark_history")
    fqdn = cluster.fqdn("spark_history")
    to_backend = ["--connect-to", f"{fqdn}:18481:127.0.0.1:18481"]
    url = f"https://{fqdn}:18481{path}"
    root = Session(machine, "root", name="history")
    token = machine.check_output(
        'sed -n \'s/.*"\\(Bearer [^"]*\\)"/\\1/p\' /run/spark-history-proxy/token.conf'
    )
    proof = ["-H", f"Authorization: {token}", "-b", "proxy-user=test_user"]
    # That the port is the history server's, with this host's certificate, and the token opens it.
    assert root.curl(url, *to_backend, *proof, negotiate=False).status == 200
    proof[-1] = "proxy-user=other_user"
    assert root.curl(url, *to_backend, *proof, negotiate=False).status == 403
    local = Session(machine, "nobody", name="local")
    for words in ([], ["-b", "proxy-user=admin1"], ["-H", "Authorization: Bearer a.b.c"]):
        assert local.curl(url, *to_backend, *words, negotiate=False).status == 403, words
    for secret in (
        "/run/spark-history-proxy/token.conf",
        "/etc/security/http-secrets/spark.secret",
    ):
        assert local.run(f"cat {secret}").rc != 0
        assert local.run("cat /etc/spark/history/spark-defaults.conf").rc != 0
    # In plain text it only says where TLS is.
    assert local.curl(f"http://127.0.0.1:18080{path}", negotiate=False).status == 302
    # And nobody reaches either from elsewhere.
    for address in (f"https://{fqdn}:18481{path}", f"http://{fqdn}:18080{path}"):
        assert test_user.curl(address, "-k").status == 0, address
    assert nobody.curl(f"http://{fqdn}:18480{path}", negotiate=False).status in (0, 400)


def webhdfs(cluster, session, path, operation, *options):
    """The answer of WebHDFS to this user."""
    url = f"{cluster.web()['namenode']}/webhdfs/v1{path}?op={operation}"
    return session.curl(url, "-L", "--location-trusted", *options)


def test_event_logs_are_closed_to_others(cluster, runs, test_user, other_user):
    for mode, attempt in (("client", ""), ("cluster", "_1")):
        path = f"{EVENTS}/eventlog_v2_{runs[mode][0]}{attempt}"
        listing = webhdfs(cluster, test_user, path, "LISTSTATUS")
        found = listing.json()["FileStatuses"]["FileStatus"]
        assert {(f["permission"], f["owner"], f["group"]) for f in found} == {
            ("660", "test_user", "spark")
        }
        event = f"{path}/{next(f['pathSuffix'] for f in found if f['length'])}"
        assert webhdfs(cluster, test_user, event, "OPEN", "-o", "/dev/null").status == 200
        for place, operation, method in (
            (path, "LISTSTATUS", "GET"),
            (event, "OPEN", "GET"),
            (event, "DELETE", "DELETE"),
            (path, "DELETE&recursive=true", "DELETE"),
        ):
            refused = webhdfs(cluster, other_user, place, operation, "-X", method)
            assert refused.status == 403, (place, operation, refused.body)
    # Everybody adds to this directory, and nobody even lists it.
    for user in (test_user, other_user):
        assert webhdfs(cluster, user, EVENTS, "LISTSTATUS").status == 403


# --- A job that runs ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(cluster, test_user, history):
    """A job of test_user at work, its driver on the edge host."""
    script = put(test_user, JOBS / "wait.py")
    log = "/tmp/spark-test/wait.log"
    test_user.ok(f"setsid -f spark-submit {script} > {log} 2>&1 < /dev/null")

    def started():
        seen = test_user.run(f"cat {log}").stdout
        return "Starting task 0.0" in seen and application_of(seen)

    application = wait("the first task", started, 90)
    yield application
    test_user.run(f"yarn application -kill {application}; pkill -u test_user -f wait.py")


def test_a_running_job_shows_in_the_history(running, history, test_user, other_user):
    url = f"{history}/api/v1/applications/{running}"
    found = wait(
        "the running job",
        lambda: (answer := test_user.curl(url)).status == 200 and answer.json(),
        60,
    )
    assert (found["attempts"][0]["completed"], found["attempts"][0]["sparkUser"]) == (
        False,
        "test_user",
    )
    jobs = wait("its stage", lambda: test_user.curl(f"{url}/jobs").json(), 30)
    assert jobs[0]["status"] == "RUNNING"
    assert other_user.curl(f"{url}/jobs").status == 403


def test_ports_are_as_documented_and_answer_nobody(cluster, edge, running):
    """The driver's and the executors', knocked at from a machine that knows no secret."""
    drivers, blocks = set(numbers(["50300-50399"])), set(numbers(["50400-50499"]))
    found = {}
    for host in (*cluster.hosts("edge"), *cluster.hosts("nodemanager")):
        assert undocumented(cluster, host) == [], host
        for socket in listening(cluster, host):
            if socket.port in drivers | blocks and socket.user == "test_user":
                found.setdefault(host, set()).add(socket.port)
    (driver,) = cluster.hosts("edge")
    assert found[driver] & drivers and found[driver] & blocks
    # And the executors', which run on the same host only where there is no other.
    alone = cluster.hosts("nodemanager") == [driver]
    assert any(ports & blocks for host, ports in found.items() if host != driver) or (
        alone and len(found[driver] & blocks) >= 2
    )
    assert not any(ports & drivers for host, ports in found.items() if host != driver)
    for host, ports in found.items():
        for port in sorted(ports):
            for request in (
                b"GET / HTTP/1.0\r\n\r\n",
                bytes(21),
                b"\x00" * 7 + b"\x15\x03" + bytes(12),
            ):
                said = knocked(edge, f"{host}.{cluster.domain}", port, request)
                # Nothing, or that this is no proof.
                refused = said in ("", "closed") or "AuthRpcHandler.doAuthChallenge" in said
                assert refused, (host, port, said)


def knocked(machine, host, port, request):
    """What a port says to bytes that prove nothing: nothing, or it closes."""
    program = (
        "import socket, sys\n"
        f"s = socket.create_connection(({host!r}, {port}), 5)\n"
        f"s.sendall({request!r}); s.settimeout(1)\n"
        "try:\n    print(s.recv(2000) or 'closed', end='')\n"
        "except OSError:\n    pass\n"
    )
    done = machine.run(f"python3 -c {shlex.quote(program)}")
    assert done.rc == 0, done.stderr
    return done.stdout


def test_a_running_job_is_kept_from_others(cluster, running, test_user, other_user):
    assert report(cluster, test_user, running)["state"] == "RUNNING"
    assert "trackingUrl" not in report(cluster, other_user, running) or not report(
        cluster, other_user, running
    ).get("amContainerLogs")
    refused = other_user.run(f"yarn application -kill {running}")
    assert refused.rc != 0
    assert report(cluster, test_user, running)["state"] == "RUNNING"
    # Its secret is in no argument, its files are in no reach, and its driver has no pages.
    for host in (*cluster.hosts("edge"), *cluster.hosts("nodemanager")):
        machine = cluster.machine(host)
        arguments = machine.check_output("ps -eo user:32,args")
        assert "spark.authenticate.secret" not in arguments
        paths = machine.run(f"find / -xdev -path '*/appcache/{running}/*' -type f").stdout.split()
        for path in paths[:20]:
            assert machine.run(f"runuser -u other_user -- test -r {path}").rc != 0, path
    assert not [s for s in listening(cluster, cluster.hosts("edge")[0]) if s.port == 4040]
    test_user.ok(f"yarn application -kill {running}")
    assert report(cluster, test_user, running)["state"] == "KILLED"


# --- The archive of jars ------------------------------------------------------------------------


def test_jobs_run_on_the_archive(test_user):
    """Once a release on HDFS, readable to all; a submit ships no jars."""
    archive = re.search(
        r"^spark\.yarn\.archive=(\S+)$", test_user.ok("cat /etc/spark/spark-defaults.conf"), re.M
    ).group(1)
    (row,) = test_user.ok(f"hdfs dfs -ls {archive}").splitlines()[-1:]
    assert row.startswith("-rw-r--r--")
    assert row.split()[2] == "hdfs"
    refused = test_user.run(f"hdfs dfs -put -f /etc/hostname {archive}")
    assert "Permission denied" in refused.stderr
    # No two releases share a name.
    assert re.search(r"/apps/spark/spark-[\d.]+(-hive-[\d.]+)?-[0-9a-f]{12}\.zip$", archive)


# --- Tables of Hive -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs():
    """500 rows of a key below 500 and its text, with as many duplicates as chance makes."""
    chosen = random.Random(20260102)
    return [(key, f"val_{key}") for key in (chosen.randrange(500) for _ in range(500))]


@pytest.fixture(scope="module")
def asked(pool, test_user, pairs):
    """{mode: the answers} of examples/hive_tables.py, as people run it; a database for each."""
    script = put(test_user, EXAMPLES / "hive_tables.py")
    lines = "".join(f"{key}\x01{value}\n" for key, value in pairs)
    test_user.ok("cat > spark-test/kv1.txt", stdin=lines)

    def ask(mode, source):
        words = f"--deploy-mode {mode} --files /tmp/spark-test/kv1.txt {script}"
        application, out = submit(test_user, words, source, f"spark_{mode}")
        if mode == "cluster":
            out = wait("the log", lambda: stdout_of(test_user, application), 60)
        found = {}
        for line in out.splitlines():
            if line.startswith("{"):
                found |= json.loads(line)
        return found

    sources = {"client": "/tmp/spark-test/kv1.txt", "cluster": "kv1.txt"}
    return dict(zip(sources, pool.map(ask, *zip(*sources.items()))))


def stdout_of(session, application):
    """What a driver in the cluster printed; nothing while its log is not there."""
    log = session.run(f"yarn logs -applicationId {application} -am 1 -log_files stdout")
    return log.stdout if log.rc == 0 else ""


@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_tables_of_hive(asked, pairs, mode):
    """Every answer compared with one worked out here."""
    found = asked[mode]
    assert (found["rows"], found["count"]) == (500, 500)
    few = sorted((key, value) for key, value in pairs if key < 10)
    assert found["few"] == [f"Key: {key}, Value: {value}" for key, value in few]
    expected = sorted([key, f"val_{key}", value] for key, value in pairs if 1 <= key <= 100)
    assert found["joined"] == expected
    assert len(expected) > 50


def beeline(session, statements):
    return session.ok(
        f"beeline --silent=true --showHeader=false --outputformat=csv2 -e {shlex.quote(statements)}"
    ).splitlines()


@pytest.fixture(scope="module")
def shared(asked, test_user):
    """What beeline and Spark's SQL say of a table of Spark's, and of one made by both."""
    rows = beeline(
        test_user,
        "SELECT key, value FROM spark_client.src; DROP TABLE IF EXISTS spark_client.visits;"
        " CREATE TABLE spark_client.visits (id INT) PARTITIONED BY (day STRING)",
    )
    statements = (
        "USE spark_client; INSERT INTO visits PARTITION (day='d1') VALUES (1), (2);"
        " INSERT INTO visits PARTITION (day='d2') VALUES (3), (4);"
        " EXPLAIN SELECT SUM(id) FROM visits WHERE day = 'd2';"
        " SELECT 'sum', SUM(id) FROM visits WHERE day = 'd2'; DESCRIBE FORMATTED src"
    )
    out = test_user.ok(f"spark-sql --master 'local[1]' -e {shlex.quote(statements)}")
    return SimpleNamespace(rows=sorted(row for row in rows if row), spark=out)


def test_beeline_and_spark_share_tables_and_prune_partitions(shared, runs, text, test_user, pairs):
    assert shared.rows == sorted(f"{key},{value}" for key, value in pairs)
    assert "Pruned Partitions: [(day=d2)]" in shared.spark
    assert re.search(r"^sum\s7$", shared.spark, re.M), shared.spark
    # One partition was filled by a driver in the cluster.
    rows = beeline(
        test_user,
        "SELECT id, day FROM spark_client.visits WHERE day = 'd1';"
        " SELECT word, n, made FROM words; DROP TABLE words",
    )
    counts = [f"{word},{n},there" for word, n in Counter(text).items()]
    assert sorted(row for row in rows if row) == sorted(["1,d1", "2,d1", *counts])


def test_a_table_is_its_makers_until_an_acl_grants_it(cluster, shared, test_user, other_user):
    """From Spark and HDFS; test_hive.py sees the same from beeline. One session of the other user,
    who asks, is refused, and asks again until he is let in."""
    path = re.search(r"^Location\s+hdfs://[^/]+(/\S+)", shared.spark, re.M).group(1)
    assert webhdfs(cluster, test_user, path, "LISTSTATUS").status == 200
    assert webhdfs(cluster, other_user, path, "LISTSTATUS").status == 403
    script = put(other_user, JOBS / "read.py", "spark-test-other")
    log = "/tmp/spark-test-other/read.log"
    other_user.ok(
        f"setsid -f spark-submit --master 'local[1]' {script} spark_client.src > {log} 2>/dev/null"
        " < /dev/null"
    )
    wait("the refusal", lambda: "refused" in other_user.run(f"cat {log}").stdout, 90)
    assert "Permission denied: user=other_user" in other_user.ok(f"cat {log}")
    parent = path.rpartition("/")[0]
    test_user.ok(
        f"hdfs dfs -setfacl -m user:other_user:--x {parent} &&"
        f" hdfs dfs -setfacl -R -m user:other_user:r-x,default:user:other_user:r-x {path}"
    )
    try:
        wait("the rows", lambda: "rows 500" in other_user.run(f"cat {log}").stdout, 60)
    finally:
        test_user.run(
            f"hdfs dfs -setfacl -x user:other_user {parent};"
            f" hdfs dfs -setfacl -R -x user:other_user,default:user:other_user {path}"
        )
