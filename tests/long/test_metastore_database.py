"""The metastore in a PostgreSQL of the site's own: made there, upgraded there, and back again.

The KDC's machine plays the site's database server, put up by hand as the role's README says.
"""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import pytest
import yaml
from labhosts import INVENTORY, Session, account
from siterun import run_site

WAREHOUSE = "--tags warehouse"
EXTERNAL = "/warehouse/tablespace/external/hive"
OLD, NEW = "3.1.0", "4.0.0"

# What its administrator does.
SERVER = """
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get -qq install --no-install-recommends postgresql-15 >/dev/null
cd /etc/postgresql/15/main
install -o postgres -m 600 /etc/deitos/pki/{{host.key,chain.crt,ca.crt}} .
cat > conf.d/site.conf <<END
listen_addresses = '*'
ssl_cert_file = '$PWD/chain.crt'
ssl_key_file = '$PWD/host.key'
ssl_ca_file = '$PWD/ca.crt'
END
cat > pg_hba.conf <<END
local all all peer
hostssl metastore,older,broken hive {metastore} cert map=deitos
END
echo 'deitos {metastore} hive' > pg_ident.conf
systemctl restart postgresql@15-main
runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 <<END
CREATE ROLE hive LOGIN;
CREATE DATABASE metastore OWNER hive ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE older OWNER hive ENCODING 'UTF8' TEMPLATE template0;
CREATE DATABASE broken OWNER hive ENCODING 'UTF8' TEMPLATE template0;
END
"""
SERVER_AWAY = """
export DEBIAN_FRONTEND=noninteractive
pg_dropcluster --stop 15 main
apt-get -qq purge --autoremove postgresql-15 postgresql-common >/dev/null
rm -rf /etc/postgresql /etc/postgresql-common /var/lib/postgresql /var/log/postgresql
"""
# A table as a Hive of the older schema left it.
OLD_TABLE = """
INSERT INTO "DBS" VALUES
    (1001, '', 'hdfs://deitos/warehouse/tablespace/managed/hive', 'default', 'public', 'ROLE',
     'hive');
INSERT INTO "SERDES" ("SERDE_ID", "SLIB")
    VALUES (1001, 'org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe');
INSERT INTO "SERDE_PARAMS" VALUES (1001, 'field.delim', ',');
INSERT INTO "CDS" VALUES (1001);
INSERT INTO "COLUMNS_V2" VALUES (1001, NULL, 'key', 'int', 0), (1001, NULL, 'value', 'string', 1);
INSERT INTO "SDS" VALUES
    (1001, 'org.apache.hadoop.mapred.TextInputFormat', false, 'hdfs://deitos/aged', -1,
     'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat', 1001, 1001, false);
INSERT INTO "TBLS" VALUES
    (1001, 1500000000, 1001, 0, 'test_user', 'USER', 0, 1001, 'aged', 'EXTERNAL_TABLE', NULL, NULL,
     false);
INSERT INTO "TABLE_PARAMS" VALUES (1001, 'EXTERNAL', 'TRUE');
""".replace("/aged", f"{EXTERNAL}/aged")


def beeline(user, statements):
    """The rows that the statements gave."""
    words = "--silent=true --showHeader=false --outputformat=csv2"
    return [row for row in user.ok(f"beeline {words} -e {shlex.quote(statements)}").split() if row]


def ask(database, query, name="metastore"):
    """The rows of a database, as the server's administrator sees them."""
    return database.ok(f"psql -AtF, -v ON_ERROR_STOP=1 {name}", stdin=query).split()


def inventory_of(directory, **variables):
    """The lab's inventory without hosts for PostgreSQL, and with these variables."""
    found = yaml.safe_load((INVENTORY / "hosts.yml").read_text())
    found["all"]["children"]["postgresql"] = {"hosts": {}}
    found["all"]["vars"] = variables
    directory.mkdir()
    (directory / "hosts.yml").write_text(yaml.safe_dump(found))
    (directory / "group_vars").symlink_to(INVENTORY / "group_vars")
    return directory


@pytest.fixture(scope="module")
def site(converged, tmp_path_factory):
    """The cluster, its own database and the other one, and inventories that name the latter."""
    machine = converged.first("kdc")
    user = account(converged, "test_user")
    beeline(user, "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)")
    metastore = converged.fqdn("metastore")
    Session(machine, "root").ok("bash -s", stdin=SERVER.format(metastore=metastore))
    work = tmp_path_factory.mktemp("inventories")
    server = [converged.fqdn("kdc")]
    yield SimpleNamespace(
        cluster=converged,
        user=user,
        own=Session(converged.first("postgresql"), "postgres"),
        other=Session(machine, "postgres"),
        inventory=inventory_of(work / "other", cluster_postgresql_hosts=server),
        older=inventory_of(
            work / "older", cluster_postgresql_hosts=server, hive_database_name="older"
        ),
        broken=inventory_of(
            work / "broken", cluster_postgresql_hosts=server, hive_database_name="broken"
        ),
    )
    back = run_site(WAREHOUSE)
    Session(machine, "root").ok("bash -s", stdin=SERVER_AWAY)
    assert (back.status, back.failed) == ("successful", [])


def test_the_schema_is_made_in_a_server_of_the_sites_own(site):
    run = run_site(WAREHOUSE, inventory=site.inventory)
    assert (run.status, run.failed) == ("successful", [])
    assert ask(site.other, 'SELECT "SCHEMA_VERSION" FROM "VERSION"') == [NEW]

    beeline(site.user, "CREATE TABLE elsewhere (n INT); INSERT INTO elsewhere VALUES (8)")
    assert beeline(site.user, "SHOW TABLES; SELECT n FROM elsewhere") == ["elsewhere", "8"]
    tables = 'SELECT "TBL_NAME" FROM "TBLS" WHERE "TBL_NAME" IN (\'kept\', \'elsewhere\')'
    assert ask(site.other, tables) == ["elsewhere"]
    assert ask(site.own, tables) == ["kept"]
    sessions = (
        "SELECT DISTINCT usename, ssl, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = 'hive'"
    )
    assert ask(site.other, sessions) == [f"hive,t,/CN={site.cluster.fqdn('metastore')}"]
    assert ask(site.own, sessions) == []

    again = run_site(WAREHOUSE, inventory=site.inventory)
    assert (again.status, again.failed, again.changed) == ("successful", [], [])


def test_an_older_schema_is_upgraded_only_when_the_site_says_so(site):
    metastore = site.cluster.first("metastore")
    url = metastore.check_output(
        "grep -o 'jdbc:postgresql:[^<]*' /etc/hive/metastore/hive-site.xml"
    ).replace("&amp;", "&")
    Session(metastore, "hive").ok(
        "env $(systemctl show -P Environment hive-schema@initSchema) /opt/hive/bin/schematool"
        f" -dbType postgres -initSchemaTo {OLD} -url '{url.replace('/metastore?', '/older?')}'"
    )
    ask(site.other, OLD_TABLE, "older")
    site.user.ok(
        f"hdfs dfs -mkdir {EXTERNAL}/aged && hdfs dfs -put - {EXTERNAL}/aged/rows",
        stdin="5,five\n",
    )
    before = metastore.check_output("systemctl show -P MainPID hive-metastore")

    run = run_site(WAREHOUSE, inventory=site.older)
    assert (run.status, run.changed) == ("failed", [])
    ((_host, _task, said),) = run.failed
    assert f"version {OLD}" in said and "hive_schema_upgrade=true" in said
    assert ask(site.other, 'SELECT "SCHEMA_VERSION" FROM "VERSION"', "older") == [OLD]
    assert metastore.check_output("systemctl show -P MainPID hive-metastore") == before
    # It still serves, from where it did.
    assert beeline(site.user, "SELECT n FROM elsewhere; DROP TABLE elsewhere") == ["8"]

    run = run_site(WAREHOUSE, "-e hive_schema_upgrade=true", inventory=site.older)
    assert (run.status, run.failed) == ("successful", [])
    assert ask(site.other, 'SELECT "SCHEMA_VERSION" FROM "VERSION"', "older") == [NEW]
    asked = "SHOW TABLES; CREATE TABLE later (n INT); SELECT key, value FROM aged; DROP TABLE later"
    assert beeline(site.user, asked) == ["aged", "5,five"]

    again = run_site(WAREHOUSE, inventory=site.older)
    assert (again.status, again.failed, again.changed) == ("successful", [], [])


def test_a_schema_whose_making_broke_off_is_made_anew(site):
    """Half of it is there, and the mark of the run that was making it."""
    metastore = site.cluster.first("metastore")
    half = "CREATE TABLE half (n int)"
    ask(site.other, f"SET ROLE hive; {half}", "broken")
    run = run_site(WAREHOUSE, inventory=site.broken)
    assert run.status == "failed", "without the mark the tables are somebody's"
    ((_host, _task, said),) = run.failed
    assert "has 1 tables, but no schema" in said

    mark = "/var/lib/hive/.initializing"
    metastore.check_output(f"touch {mark}")
    run = run_site(WAREHOUSE, inventory=site.broken)
    assert (run.status, run.failed) == ("successful", [])
    assert ask(site.other, 'SELECT "SCHEMA_VERSION" FROM "VERSION"', "broken") == [NEW]
    assert ask(site.other, "SELECT to_regclass('half') IS NULL", "broken") == ["t"]
    assert not metastore.file(mark).exists
    asked = "CREATE TABLE anew (n INT); INSERT INTO anew VALUES (9); SELECT n FROM anew"
    assert beeline(site.user, f"{asked}; DROP TABLE anew PURGE") == ["9"]


def test_the_first_database_is_as_it_was_left(site):
    run = run_site(WAREHOUSE)
    assert (run.status, run.failed) == ("successful", [])
    shown = beeline(site.user, "SHOW TABLES; SELECT n FROM kept; DROP TABLE kept")
    assert {"kept", "7"} <= set(shown) and not {"aged", "elsewhere"} & set(shown)
    site.user.ok(f"hdfs dfs -rm -r -skipTrash {EXTERNAL}/aged")
    assert run_site(WAREHOUSE).changed == []
