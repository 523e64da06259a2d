"""Hadoop's files: what is written reads back, and what Hadoop would misread is refused."""

from __future__ import annotations

import contextlib
import string
from xml.etree import ElementTree

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hadoop_xml
from ansible_collections.deitos.cluster.plugins.module_utils.hadoop_xml import InvalidProperty
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.from_regex(r"\A[a-z][a-z0-9-]{0,8}(\.[a-z0-9-]{1,8}){0,3}\Z")
XML_TEXT = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\ufffe\uffff").filter(
        lambda c: not hadoop_xml.FORBIDDEN.match(c)
    )
)


def merged(**layers):
    return hadoop_xml.merge(layers)


@given(st.dictionaries(NAMES, XML_TEXT, max_size=8))
def test_xml_reads_back_what_was_written(values):
    text = hadoop_xml.render_xml("a-site.xml", merged(computed=values))
    assert {n: p.value for n, p in hadoop_xml.parse_xml(text.encode()).items()} == values


@given(st.dictionaries(NAMES, XML_TEXT, max_size=8))
def test_properties_read_back_what_was_written(values):
    text = hadoop_xml.render_properties("a.properties", merged(computed=values))
    assert text.isascii()
    found = hadoop_xml.parse_properties(text.encode())
    assert {n: p.value for n, p in found.items()} == values


def test_markup_in_values_stays_text():
    text = hadoop_xml.render_xml("a.xml", merged(computed={"a.b": "</value><x>&\"'"}))
    root = ElementTree.fromstring(text)
    assert root.findtext("property/value") == "</value><x>&\"'"
    assert len(root) == 1


def test_order_does_not_depend_on_the_order_given():
    one = hadoop_xml.render_xml("a.xml", merged(defaults={"b": 1, "a": 2}, overrides={"c": 3}))
    two = hadoop_xml.render_xml("a.xml", merged(defaults={"a": 2, "b": 1}, overrides={"c": 3}))
    assert one == two
    assert one.index("<name>a<") < one.index("<name>b<") < one.index("<name>c<")


def test_layers_and_types():
    found = hadoop_xml.merge(
        {
            "defaults": {"a": 1, "b": True, "c": "x", "d": "y"},
            "computed": {"a": 2, "d": None},
            "overrides": {"a": ["p", 3, False], "c": None},
        },
        final=["b"],
    )
    assert {n: p.value for n, p in found.items()} == {"a": "p,3,false", "b": "true"}
    assert found["a"].origin == "overrides"
    assert found["b"].final
    assert "<final>true</final>" in hadoop_xml.render_xml("x.xml", found)


@pytest.mark.parametrize(
    ("render", "parse", "comment", "line"),
    [
        ("render_xml", "parse_xml", "    <!-- {} -->", "    <name>{}</name>"),
        ("render_properties", "parse_properties", "# {}", "{}=1"),
    ],
)
def test_a_comment_tells_where_a_property_comes_from(render, parse, comment, line):
    properties = hadoop_xml.merge(
        {"defaults": {"a": 1}, "computed": {"b": 1}, "overrides": {"c": 1}}, secrets={"d": "1"}
    )
    text = getattr(hadoop_xml, render)("x", properties)
    lines = text.splitlines()
    told = {name: lines[lines.index(line.format(name)) - 1] for name in "abcd"}
    assert told["b"] == comment.format("from the inventory")
    assert told["c"] == comment.format("the site's own")
    assert told["d"] == comment.format("a secret of this host")
    assert told["a"] in ("  <property>", "# Set properties in the inventory: x_overrides.")
    found = getattr(hadoop_xml, parse)(text.encode())
    assert {name for name in found if found[name].secret} == {"d"}


def test_header_names_the_variable_to_change():
    assert "hdfs_site_overrides" in hadoop_xml.render_xml("hdfs-site.xml", {})
    assert "log4j_overrides" in hadoop_xml.render_properties("log4j.properties", {})


@pytest.mark.parametrize(
    "arguments",
    [
        ({"computed": {"a": {"b": 1}}},),
        ({"computed": {"a": 1}}, ["b"]),
        ({"computed": {"a": 1}}, (), {"a": "s"}),
    ],
)
def test_merging_refuses(arguments):
    with pytest.raises(InvalidProperty, match=r"^[ab]: "):
        hadoop_xml.merge(*arguments)


GOOD = {
    "fs.defaultFS": ["hdfs://deitos", "hdfs://nn.example:8020", "file:///"],
    "dfs.permissions.enabled": ["true", "false", "${some.switch}"],
    "dfs.namenode.rpc-address.deitos.nn1": ["nn1.example:8020", "0.0.0.0:8020", "[::1]:8020", ""],
    "yarn.resourcemanager.address": ["rm:8032", "rm", "${yarn.resourcemanager.hostname}:8032"],
    "yarn.resourcemanager.webapp.https.address": ["rm:8090"],
    "mapreduce.shuffle.port": ["13562", "0", "65535"],
    "yarn.app.mapreduce.am.job.client.port-range": ["30000-30100", "1-2,5", ""],
    "dfs.namenode.audit.log.with.remote.port": ["true", "false"],
    "dfs.client.ignore.namenode.default.kms.uri": ["true", "false"],
    "dfs.namenode.kerberos.principal": ["nn/_HOST@EXAMPLE.NET", "*", "nn/_HOST"],
    "yarn.log.server.url": ["https://jhs:19890/jobhistory/logs"],
    "hive.metastore.uris": ["thrift://a:9083,thrift://b:9083", ""],
    "javax.jdo.option.ConnectionURL": ["jdbc:postgresql://db:5432/x?ssl=true"],
    "dfs.namenode.shared.edits.dir": ["qjournal://a:8485;b:8485/deitos"],
    "hadoop.rpc.protection": ["privacy", "integrity,privacy"],
    "dfs.http.policy": ["HTTPS_ONLY"],
    "fs.permissions.umask-mode": ["027", "u=rwx,g=rx,o="],
    "dfs.replication": ["3"],
    "yarn.nodemanager.resource.memory-mb": ["4096", "-1"],
    "hadoop.security.auth_to_local": [
        "RULE:[2:$1/$2@$0](nn/.*@EXAMPLE[.]NET)s/.*/hdfs/\nDEFAULT",
        "RULE:[2:$1@$0]([rn]m@.*)s/.*/yarn/g\nRULE:[1:$1@$0](.*@EXAMPLE.NET)s/@.*///L\nDEFAULT\n",
        "DEFAULT",
    ],
    "mapreduce.application.classpath": ["$HADOOP_MAPRED_HOME/*", "${HADOOP_MAPRED_HOME}/lib/*"],
    "hadoop.tmp.dir": ["/tmp/hadoop-${user.name}", "${env.TMP-/tmp}/${a.${b.c}}"],
    "hadoop.http.authentication.signature.secret.file": ["/etc/x"],
    "hadoop.proxyuser.hive.groups": ["analysts"],
}
BAD = {
    "fs.defaultFS": ["deitos", "nn:8020", "hdfs://nn:80200", "hdfs://nn:http"],
    "dfs.permissions.enabled": ["yes", "True", "1", ""],
    "dfs.namenode.rpc-address.deitos.nn1": ["nn1:port", "nn1:65536", "a:1,b:2", ":8020", "a b:1"],
    "yarn.resourcemanager.webapp.https.address": ["https://rm:bad"],
    "mapreduce.shuffle.port": ["65536", "-1", "http", ""],
    "yarn.app.mapreduce.am.job.client.port-range": ["30100-30000", "a-b", "1-99999"],
    "dfs.namenode.audit.log.with.remote.port": ["8020", "yes"],
    "dfs.client.ignore.namenode.default.kms.uri": ["kms://https@kms:9600/kms"],
    "dfs.namenode.kerberos.principal": ["nn/a/b@X", "nn @X", "a@b@c"],
    "yarn.log.server.url": ["jhs:19890", "jhs"],
    "hadoop.rpc.protection": ["private", "privacy,none"],
    "dfs.http.policy": ["HTTPS"],
    "hadoop.security.authentication": ["Kerberos"],
    "fs.permissions.umask-mode": ["0x27", "888"],
    "dfs.replication": ["three", "2.5"],
    "hadoop.security.auth_to_local": [
        "RULE:[2:$1@$0]((rm|nm)@.*)s/.*/yarn/\nDEFAULT",
        "RULE:[2:$1@$0(rm@.*)s/.*/yarn/",
        "default",
    ],
    "some.value": ["{{ forgotten }}", "{% if x %}", "${unclosed", "${}", "${two words}", "a\x00b"],
    "ssl.server.keystore.password": ["plain"],
    "hadoop.http.secret": ["plain"],
    "javax.jdo.option.ConnectionPassword": ["plain"],
    "spark.ssl.keyPassword": ["plain"],
    "spark.ssl.keyStorePassword": ["plain"],
    "fs.azure.account.key.site.blob.example.net": ["plain"],
    "fs.s3a.secret.key": ["plain"],
    "fs.s3.awsSecretAccessKey": ["plain"],
    "fs.s3a.session.token": ["plain"],
    "two words": ["x"],
    "": ["x"],
    "a..b": ["x"],
    "a.b.": ["x"],
    "<a>": ["x"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in GOOD.items() for v in vs])
def test_right_values_pass(name, value):
    hadoop_xml.check(merged(computed={name: value}))


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in BAD.items() for v in vs])
def test_wrong_values_are_refused_by_name(name, value):
    with pytest.raises(InvalidProperty) as caught:
        hadoop_xml.check(merged(computed={name: value}))
    assert str(caught.value).startswith((name, repr(name)))


def test_names_that_differ_in_case_only():
    with pytest.raises(InvalidProperty, match="letter case"):
        hadoop_xml.check(merged(computed={"dfs.Replication": 1, "dfs.replication": 2}))


def test_secrets_are_not_in_the_message():
    with pytest.raises(InvalidProperty) as caught:
        hadoop_xml.check(hadoop_xml.merge({}, secrets={"a.password": "hunter\x00two"}))
    assert "hunter" not in str(caught.value)


def test_repeated_and_broken_files():
    twice = b"<configuration>" + b"<property><name>a</name></property>" * 2 + b"</configuration>"
    with pytest.raises(InvalidProperty, match="a: appears twice"):
        hadoop_xml.parse_xml(twice)
    with pytest.raises(InvalidProperty, match="not well-formed"):
        hadoop_xml.parse_xml(b"<configuration>")
    with pytest.raises(InvalidProperty, match="root element"):
        hadoop_xml.parse_xml(b"<html/>")
    with pytest.raises(InvalidProperty, match="appears twice"):
        hadoop_xml.parse_properties(b"a=1\na=2\n")


def test_foreign_properties_files_are_understood():
    data = b"! c\n# c\n a : 1\nb 2\nc=x\\\n   y\nd\n\nlog4j.logger.x$y=INFO\\tz\n"
    found = {n: p.value for n, p in hadoop_xml.parse_properties(data).items()}
    assert found == {"a": "1", "b": "2", "c": "xy", "d": "", "log4j.logger.x$y": "INFO\tz"}


@given(st.text(string.printable, max_size=60))
def test_parsers_end_in_a_result_or_a_clear_error(text):
    for parse in (hadoop_xml.parse_xml, hadoop_xml.parse_properties):
        with contextlib.suppress(InvalidProperty):
            parse(text.encode())
