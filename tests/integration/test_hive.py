"""Hive: right results through beeline, one's own tables for oneself, and no way around either."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from modulerun import Step, on_lab
from sockets import knock

MANAGED = "/warehouse/tablespace/managed/hive"
EXTERNAL = "/warehouse/tablespace/external/hive"
WORK = "/user/test_user/hive-test"
ROWS = 500
HELP = Path(__file__).resolve().parents[2] / "docs/hive.md"
LABEL = "row-of "


def beeline(session, *statements, url=None):
    """Run statements in one session of HiveServer2; rows: {label: [[value]]} of each select()."""
    text = shlex.quote(";\n".join(statements) + ";")
    where = f"-u {shlex.quote(url)}" if url else ""
    done = session.run(
        f"beeline {where} --silent=true --showHeader=false --outputformat=tsv2 -e {text}"
    )
    rows = {}
    for line in done.stdout.splitlines():
        if line.startswith(LABEL):
            label, *values = line.removeprefix(LABEL).split("\t")
            rows.setdefault(label, []).append(values)
    return SimpleNamespace(rc=done.rc, rows=rows, out=done.stdout, error=done.stderr)


def refusals(session, *statements):
    """{statement: what was said} of statements that must all fail, in one session."""
    # Settings are shown without a container's help.
    done = session.run(
        "beeline --silent=true --showHeader=false --outputformat=tsv2 --force=true 2>&1",
        stdin="".join(f"{statement};\nSET deitos.end;\n" for statement in statements),
    )
    said = done.stdout.split("\ndeitos.end is undefined")
    assert len(said) == len(statements) + 1, done.stdout
    found = dict(zip(statements, said, strict=False))
    for statement, answer in found.items():
        assert "Error" in answer, f"{statement}: {answer}"
    return found


def well(session, *statements):
    """The same, where every statement must succeed."""
    done = beeline(session, *statements)
    assert done.rc == 0, done.out + done.error
    return done


def select(label, columns, rest):
    return f"SELECT '{LABEL}{label}', {columns} {rest}"


def numbers_of(rows):
    return [tuple(int(v) if v.lstrip("-").isdigit() else v for v in row) for row in rows]


@pytest.fixture(scope="module")
def url(cluster):
    """How JDBC reaches HiveServer2 of this lab."""
    where = f"{cluster.fqdn('hiveserver2')}:10000"
    return f"jdbc:hive2://{where}/default;ssl=true;principal=hive/_HOST@{cluster.realm}"


@pytest.fixture(scope="module")
def data():
    """The rows of kv1.txt: as many keys twice and more as its model has."""
    chosen = random.Random(20260101)
    keys = [chosen.randrange(500) for _ in range(ROWS)]
    return [(key, f"val_{key}") for key in keys]


@pytest.fixture(scope="module")
def tables(test_user, data):
    """What test_user makes of it in one session, and what the queries gave."""
    test_user.ok(f"hdfs dfs -rm -r -f -skipTrash {WORK} && hdfs dfs -mkdir {WORK}")
    text = "".join(f"{key}\x01{value}\n" for key, value in data)
    test_user.ok(f"hdfs dfs -put - {WORK}/kv1.txt", stdin=text)
    ours = ["src", "chosen", "visits"]
    drop = [f"DROP TABLE IF EXISTS {name}" for name in ours]
    done = well(
        test_user,
        *drop,
        "DROP TABLE IF EXISTS outside",
        "CREATE TABLE src (key INT, value STRING)",
        f"LOAD DATA INPATH '{WORK}/kv1.txt' INTO TABLE src",
        select("who", "current_user()", ""),
        select("all", "*", "FROM src"),
        # What one task hands on to another goes through the NodeManagers, over TLS.
        "SET tez.runtime.optimize.local.fetch=false",
        select("count", "COUNT(*)", "FROM src"),
        select("few", "key, value", "FROM src WHERE key < 10 ORDER BY key"),
        select("joined", "COUNT(*), SUM(a.key)", "FROM src a JOIN src b ON a.key = b.key"),
        "CREATE TABLE chosen STORED AS ORC AS SELECT key, COUNT(*) n FROM src GROUP BY key",
        "INSERT INTO chosen VALUES (-1, 7)",
        select("chosen", "COUNT(*), MIN(key), SUM(n)", "FROM chosen"),
        "CREATE EXTERNAL TABLE outside (key INT, value STRING)",
        "INSERT INTO outside SELECT * FROM src WHERE key >= 400",
        select("outside", "COUNT(*)", "FROM outside"),
        "CREATE TABLE visits (id INT) PARTITIONED BY (day STRING)",
        "SET hive.exec.dynamic.partition.mode=nonstrict",
        "INSERT INTO visits PARTITION (day) SELECT key, concat('d', key % 4) FROM src",
        select("visits", "day, COUNT(*)", "FROM visits GROUP BY day ORDER BY day"),
    )
    yield done.rows
    well(test_user, *drop, "DROP TABLE IF EXISTS outside")
    test_user.ok(f"hdfs dfs -rm -r -f -skipTrash {EXTERNAL}/outside")


# --- Right results --------------------------------------------------------------------------------


def test_queries_run_as_the_one_who_asks(tables):
    assert tables["who"] == [["test_user"]]


def test_results_are_right(tables, data):
    assert sorted(numbers_of(tables["all"])) == sorted(data)
    assert numbers_of(tables["count"]) == [(ROWS,)]
    found = numbers_of(tables["few"])
    assert found == sorted(row for row in data if row[0] < 10)
    pairs = [(a, b) for a, _ in data for b, _ in data if a == b]
    assert numbers_of(tables["joined"]) == [(len(pairs), sum(a for a, _b in pairs))]
    keys = {key for key, _value in data}
    assert numbers_of(tables["chosen"]) == [(len(keys) + 1, -1, ROWS + 7)]
    assert numbers_of(tables["outside"]) == [(sum(key >= 400 for key, _ in data),)]
    days = [f"d{key % 4}" for key, _value in data]
    assert numbers_of(tables["visits"]) == [(d, days.count(d)) for d in sorted(set(days))]


def test_a_query_reads_the_partitions_it_needs(test_user, tables):
    def partitions(query):
        done = well(test_user, f"EXPLAIN DEPENDENCY {query}")
        plan = json.loads(next(line for line in done.out.splitlines() if line.startswith("{")))
        names = [one["partitionName"] for one in plan["input_partitions"]]
        return sorted(name.rpartition("@")[2] for name in names)

    assert partitions("SELECT * FROM visits") == [f"day=d{n}" for n in range(4)]
    assert partitions("SELECT * FROM visits WHERE day = 'd2'") == ["day=d2"]
    # No database could judge this one: the metastore itself does.
    either = "SELECT * FROM visits WHERE concat(day, 'x') = 'd1x' OR substr(day, 2) = '3'"
    assert partitions(either) == ["day=d1", "day=d3"]


def test_managed_and_external_tables_are_apart(test_user, tables):
    for name, kind, place in (
        ("src", "MANAGED_TABLE", MANAGED),
        ("outside", "EXTERNAL_TABLE", EXTERNAL),
    ):
        shown = well(test_user, f"DESCRIBE FORMATTED {name}").out
        assert re.search(rf"Location:\s+hdfs://deitos{place}/{name}\s", shown), shown
        assert re.search(rf"Table Type:\s+{kind}", shown), shown
        status = test_user.ok(f"hdfs dfs -stat '%u %g %a' {place}/{name}").split()
        assert status == ["test_user", "hive", "750"]


def test_releases_are_on_hdfs_once(test_user, tables):
    assert test_user.run("hdfs dfs -test -e .hiveJars").rc != 0
    listed = test_user.ok("hdfs dfs -ls -C /apps/hive /apps/tez").splitlines()
    assert len(listed) == 2, listed


def test_another_queue_is_yarns_to_allow(test_user, tables):
    done = beeline(test_user, "SET tez.queue.name=nowhere", "SELECT key FROM src GROUP BY key")
    assert done.rc != 0
    assert "to unknown queue: nowhere" in done.error + done.out


# --- One's own ------------------------------------------------------------------------------------


def denied(session, *statements):
    for statement, said in refusals(session, *statements).items():
        assert re.search("Permission denied|HiveAccessControl", said), f"{statement}: {said}"


def test_tables_are_their_makers_until_an_acl_grants_them(test_user, other_user, tables):
    query = select("all", "key", "FROM src")
    read = f"hdfs dfs -cat {MANAGED}/src/kv1.txt"
    assert len(test_user.ok(read).splitlines()) == ROWS
    denied(other_user, query, "INSERT INTO src VALUES (1, 'x')", "DROP TABLE src")
    assert "Permission denied" in other_user.run(read).stderr

    both = "user:other_user:r-x,default:user:other_user:r-x"
    test_user.ok(f"hdfs dfs -setfacl -R -m {both} {MANAGED}/src")
    assert len(well(other_user, query).rows["all"]) == ROWS
    assert len(other_user.ok(read).splitlines()) == ROWS
    # To read is not to write, or to remove.
    denied(other_user, "INSERT INTO src VALUES (1, 'x')", "DROP TABLE src")

    test_user.ok(f"hdfs dfs -setfacl -R -b {MANAGED}/src")
    denied(other_user, query)
    assert len(well(test_user, query).rows["all"]) == ROWS


def test_a_database_of_ones_own(test_user, other_user, tables):
    clean = "DROP DATABASE IF EXISTS others CASCADE"
    other_user.ok("hdfs dfs -put -f - secret.txt", stdin="42\n")
    made = well(
        other_user,
        clean,
        "CREATE DATABASE others",
        "CREATE TABLE others.secret (n INT)",
        "CREATE EXTERNAL TABLE others.outside (n INT)",
        "LOAD DATA INPATH '/user/other_user/secret.txt' INTO TABLE others.secret",
        select("secret", "n", "FROM others.secret"),
    )
    assert made.rows["secret"] == [["42"]]
    places = " ".join((f"{MANAGED}/others.db/secret", f"{EXTERNAL}/others.db/outside"))
    for status in other_user.ok(f"hdfs dfs -stat '%u %g %a' {places}").splitlines():
        assert status == "other_user hive 750"
    denied(
        test_user,
        "SELECT * FROM others.secret",
        "CREATE TABLE others.mine (n INT)",
        "DROP TABLE others.secret",
        "DROP DATABASE others CASCADE",
    )
    well(other_user, clean)
    other_user.ok(f"hdfs dfs -rm -r -skipTrash {EXTERNAL}/others.db")


# Queries are compiled by hive, whose keytab and files are not for users.
REACHING = [
    "LOAD DATA LOCAL INPATH '/etc/security/keytabs/hive.keytab' INTO TABLE src",
    "CREATE EXTERNAL TABLE stolen (line STRING) LOCATION 'file:///etc/security/keytabs'",
    "ADD JAR /opt/hive/lib/hive-exec-4.0.1.jar",
    "CREATE TEMPORARY FUNCTION mine AS 'org.apache.hadoop.hive.ql.udf.UDFLength'",
    "CREATE FUNCTION mine AS 'org.apache.hadoop.hive.ql.udf.UDFLength'",
    "SELECT TRANSFORM (key) USING 'cat' AS (k STRING) FROM src",
    "SELECT reflect('java.lang.System', 'getenv', 'PATH')",
    "SELECT java_method('java.lang.System', 'getenv', 'PATH')",
    "SELECT in_file('x', '/etc/hostname')",
    "dfs -cat file:///etc/security/keytabs/hive.keytab",
    "SET hive.security.authorization.enabled=false",
    "EXPORT TABLE src TO 'file:///tmp/exported'",
    "IMPORT TABLE imported FROM 'file:///etc/security/keytabs'",
    "INSERT OVERWRITE LOCAL DIRECTORY '/tmp/written' SELECT * FROM src",
    "SET hive.fetch.task.conversion=more",
    "SET hive.execution.engine=mr",
    "SET hive.exec.mode.local.auto=true",
    "SET hive.server2.enable.doAs=false",
]


# What docs/hive.md says that people see.
SAID = {
    REACHING[0]: "for operation LOAD",
    REACHING[2]: "Insufficient privileges to execute ADD",
    REACHING[4]: "CREATEFUNCTION",
    REACHING[-1]: "at runtime. It is not in list of params that are allowed",
    "DELETE FROM src": "Attempt to do update or delete using transaction manager",
}


def test_nothing_reaches_into_hiveserver2(test_user, tables):
    said = refusals(test_user, *REACHING, "DELETE FROM src")
    for statement, text in SAID.items():
        assert text in said[statement] and text in HELP.read_text(), statement


@pytest.fixture
def secret(cluster):
    """A file on HiveServer2's host that hive may read and people may not; a word in it."""
    machine, word = cluster.first("hiveserver2"), "unquotable secret of hive"
    path = "/var/lib/hive/secret"
    machine.check_output(f"echo {word} > {path} && chown hive: {path} && chmod 400 {path}")
    yield path, word
    machine.check_output(f"rm {path}")


def test_a_table_opens_no_files_of_hiveserver2(test_user, tables, secret):
    """One whose directory holds the names of other files: they are opened as the one who asks."""
    path, word = secret
    links = f"{WORK}/links"
    made = (
        "DROP TABLE IF EXISTS linked",
        "CREATE EXTERNAL TABLE linked (line STRING) STORED AS"
        " INPUTFORMAT 'org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat'"
        " OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'"
        f" LOCATION '{links}'",
    )
    test_user.ok(f"hdfs dfs -put -f - {WORK}/plain", stdin="mine\n")
    test_user.ok(f"hdfs dfs -mkdir -p {links}")
    test_user.ok(f"hdfs dfs -put -f - {links}/to", stdin=f"hdfs://deitos{WORK}/plain\n")
    done = well(test_user, *made, select("read", "*", "FROM linked"))
    assert done.rows["read"] == [["mine"]]
    test_user.ok(f"hdfs dfs -put -f - {links}/to", stdin=f"file://{path}\n")
    done = beeline(test_user, select("read", "*", "FROM linked"))
    assert done.rc != 0 and not done.rows, done.out
    assert word not in done.out + done.error
    well(test_user, "DROP TABLE linked")


def test_the_settings_of_a_table_show_no_secret(cluster, test_user, tables):
    """The first word of a file that is no schema would be in the error."""
    machine = cluster.first("hiveserver2")
    path = "/etc/deitos/pki/keystore.password"
    password = machine.check_output(f"cat {path}")
    done = test_user.run(
        "beeline --silent=true --force=true 2>&1",
        stdin="CREATE TABLE shown STORED AS AVRO"
        f" TBLPROPERTIES ('avro.schema.url'='file://{path}');\n"
        "DESCRIBE shown;\nSELECT * FROM shown;\nDROP TABLE IF EXISTS shown;\n",
    )
    assert "keystore.password" in done.stdout
    assert password not in done.stdout
    log = machine.check_output("tail -n 2000 /var/log/hive/hive-server2.log")
    assert password not in log


def test_nobody_registers_code_that_hiveserver2_would_load(test_user, tables):
    """Not by way of another client of the metastore either."""
    name = "org.apache.hadoop.hive.ql.udf.UDFLength"
    jar = "hdfs:///user/test_user/none.jar"
    done = test_user.run(
        "spark-sql --master 'local[1]' -e"
        f" \"SHOW TABLES; CREATE FUNCTION evil AS '{name}' USING JAR '{jar}'\""
    )
    assert "src" in done.stdout, done.stderr[-2000:]
    assert done.rc != 0
    assert re.search("Permission denied.*CREATEFUNCTION", done.stderr), done.stderr[-2000:]


@pytest.fixture(scope="module")
def ask_metastore():
    """Call the metastore as no program of Hive does."""
    script = Path(__file__).with_name("java") / "metastore.groovy"
    role = Path(__file__).resolve().parents[2] / "roles/hive/defaults/main.yml"
    options = " ".join(yaml.safe_load(role.read_text())["hive_java_options"])

    def ask(session, *words):
        name = f"metastore-of-{session.user}.groovy"
        return session.run(
            f"cat > {name} && HADOOP_CLASSPATH='/etc/hive:/opt/hive/lib/*'"
            f" HADOOP_USER_CLASSPATH_FIRST=true HADOOP_CLIENT_OPTS='{options}'"
            f" hadoop groovy.ui.GroovyMain {name} {shlex.join(words)}",
            stdin=script.read_text(),
        )

    return ask


def test_nobody_is_shown_the_tokens_of_others(ask_metastore, test_user, other_user, tables):
    """With one of them other_user would be test_user to the metastore."""
    done = ask_metastore(test_user, "token", "test_user")
    assert "got " in done.stdout, done.stderr
    done = ask_metastore(other_user, "tokens")
    assert done.rc == 0, done.stderr
    assert "keys " in done.stdout and "token of" not in done.stdout


def test_the_metastore_runs_no_code_of_its_callers(cluster, ask_metastore, test_user, tables):
    path = "/var/lib/hive/written-by-a-caller"
    program = f"new File('{path}').text = ''; 'd1'"
    done = ask_metastore(test_user, "run", "default", "visits", "groovy.util.Eval", "me", program)
    assert not cluster.first("metastore").file(path).exists
    assert done.rc != 0 and "UnsupportedOperationException" in done.stderr, done.stderr


# --- Who gets in ----------------------------------------------------------------------------------


def test_without_a_ticket_nobody_gets_in(nobody, test_user):
    assert well(test_user, select("in", "1", "")).rows["in"] == [["1"]]
    done = beeline(nobody, select("in", "1", ""))
    assert done.rc != 0 and not done.rows
    assert "GSS initiate failed" in done.error + done.out


def test_without_tls_nobody_gets_in(test_user, url):
    assert beeline(test_user, select("in", "1", ""), url=url).rows["in"] == [["1"]]
    plain = url.replace("ssl=true;", "")
    done = beeline(test_user, select("in", "1", ""), url=plain)
    assert done.rc != 0 and not done.rows
    assert "Invalid status 21" in done.error + done.out


def test_who_is_in_no_group_of_hive_is_refused(cluster, admin, test_user):
    assert well(test_user, select("in", "1", "")).rows["in"] == [["1"]]
    done = beeline(admin, select("in", "1", ""))
    assert done.rc != 0 and not done.rows
    assert "to setup impersonation" in done.error + done.out
    log = cluster.first("metastore").check_output(
        "tail -n 500 /var/log/hive/hive-metastore-queries.log"
    )
    assert "is not allowed to impersonate admin1" in log


def test_the_metastore_answers_who_has_a_ticket(cluster):
    """Who has none: test_ports.py."""
    args = {
        "host": cluster.fqdn("metastore"),
        "keytab": "/etc/security/keytabs/test_user.keytab",
        "principal": "test_user",
    }
    step = Step("deitos.cluster.metastore_info", args, False)
    (run,) = on_lab(cluster.hosts("edge")[0], {})([step])
    assert "default" in run["databases"], run


def test_the_metastore_of_hiveserver2_answers_nobody_else(cluster):
    """There is one on the other port for everybody."""
    args = {"host": cluster.fqdn("metastore"), "timeout": 5}
    for name, answers in (("test_user", (True, False)), (None, (True, True))):
        host = cluster.hosts("edge" if name else "metastore")[0]
        who = name or f"hive/{cluster.fqdn('metastore')}"
        keytab = f"/etc/security/keytabs/{name or 'hive'}.keytab"
        for port, answer in zip((9083, 9084), answers, strict=True):
            words = {**args, "port": port, "principal": who, "keytab": keytab}
            (run,) = on_lab(host, {})([Step("deitos.cluster.metastore_info", words, False)])
            assert run["met"] is answer, (who, port, run)


def test_postgresql_is_for_the_metastore_alone(cluster):
    places = [(cluster.fqdn("postgresql"), 5432)]
    for host in ("nodemanager", "edge", "kdc"):
        machine = cluster.first(host)
        for kind in ("postgresql", "postgresql_plain"):
            (answer,) = knock(machine, kind, places)
            assert "no pg_hba.conf entry for host" in answer["said"], (host, kind, answer)
    shown = cluster.first("postgresql").check_output(
        "runuser -u postgres -- psql -At metastore -c"
        ' "SELECT usename, ssl, version, client_dn FROM pg_stat_ssl JOIN pg_stat_activity'
        " USING (pid) WHERE usename = 'hive'\""
    )
    sessions = {tuple(line.split("|")) for line in shown.splitlines()}
    name = f"/CN={cluster.fqdn('metastore')}"
    assert sessions and {(who, tls, dn) for who, tls, _v, dn in sessions} == {("hive", "t", name)}
    passwords = cluster.first("postgresql").check_output(
        "runuser -u postgres -- psql -At -c"
        ' "SELECT count(*) FROM pg_authid WHERE rolpassword IS NOT NULL"'
    )
    assert passwords == "0"


# --- Around it ------------------------------------------------------------------------------------


def test_web_pages_need_a_ticket(cluster, admin, test_user, nobody):
    web = cluster.web()["hiveserver2"]
    for page in ("/", "/jmx", "/conf", "/logs/", "/stacks"):
        assert admin.curl(web + page, "-L").status == 200, page
        assert nobody.curl(web + page, negotiate=False).status == 401, page
    assert nobody.curl(web.replace("https", "http") + "/", negotiate=False).status == 0
    assert test_user.curl(web + "/").status == 200
    for page in ("/jmx", "/conf", "/logs/", "/stacks"):
        assert test_user.curl(web + page, "-L").status in (401, 403), page


def test_nobody_is_shown_the_queries_of_others(cluster, admin, test_user, tables):
    web = cluster.web()["hiveserver2"]
    for session in (admin, test_user):
        for page in ("/", "/hiveserver2.jsp"):
            answer = session.curl(web + page, "-L")
            assert answer.status == 200 and "test_user" not in answer.body, page
        for page in ("/logconf.jsp", "/api/v1/sessions", "/query_page.html?operationId=1"):
            assert session.curl(web + page).status in (403, 404), page


def test_no_password_shows_in_the_settings(cluster, admin):
    machine = cluster.first("hiveserver2")
    password = machine.check_output("cat /etc/deitos/pki/keystore.password")
    shown = admin.curl(cluster.web()["hiveserver2"] + "/conf")
    assert "hive.server2.keystore.path" in shown.body
    assert password not in shown.body


def test_scratch_space_is_private_and_bounded(cluster, daemon_key, test_user, tables):
    superuser = daemon_key("namenode", "hdfs", "nn")
    place = "/warehouse/scratch"
    assert test_user.ok(f"hdfs dfs -stat '%u %a' {place}").split() == ["hive", "1733"]
    assert test_user.run(f"hdfs dfs -ls {place}").rc != 0
    shown = superuser.ok(f"hdfs dfs -ls {place}").splitlines()[1:]
    assert shown and all(line.startswith("drwx------") for line in shown), shown
    quota = superuser.ok(f"hdfs dfs -count -q {place}").split()
    assert quota[2].isdigit() and int(quota[2]) > 0, quota


@pytest.mark.parametrize(
    ("group", "path", "expected"),
    [
        ("hiveserver2", "/var/lib/hive", "hive hive 700"),
        ("hiveserver2", "/var/log/hive", "hive hive 750"),
        ("hiveserver2", "/etc/hive/hiveserver2/hive-site.xml", "root hive 640"),
        ("hiveserver2", "/etc/security/keytabs/hive.keytab", "hive hive 400"),
        ("metastore", "/etc/hive/metastore/hive-site.xml", "root hive 640"),
        ("metastore", "/run/hive-metastore", "hive hive 700"),
        ("metastore", "/run/hive-metastore/host.pk8", "hive hive 600"),
        ("postgresql", "/var/lib/postgresql/15/main", "postgres postgres 700"),
        ("postgresql", "/etc/postgresql/15/main/pg_hba.conf", "postgres postgres 640"),
    ],
)
def test_what_hive_keeps_is_its_own(cluster, group, path, expected):
    assert cluster.first(group).check_output(f"stat -c '%U %G %a' {path}") == expected


def test_clients_read_no_secret(cluster, edge):
    assert "password" not in edge.check_output("cat /etc/hive/hive-site.xml").lower()


def test_who_asked_the_metastore_is_written_down(cluster, tables):
    log = "/var/log/hive/hive-metastore.log.audit"
    assert "ugi=test_user" in cluster.first("metastore").check_output(f"tail -n 1000 {log}")
