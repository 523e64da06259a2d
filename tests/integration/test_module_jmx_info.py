"""jmx_info against the daemons of the lab: what it reads, waits for, and refuses."""

from __future__ import annotations

import pytest
from modulerun import Step, on_lab

JMX = "deitos.cluster.jmx_info"
STATE = {"bean": "Hadoop:service=NameNode,name=NameNodeStatus", "attribute": "State"}
ACTIVE = [{**STATE, "equals": "active"}]
STANDBY = [{**STATE, "equals": "standby"}]
MEMORY = "java.lang:type=Memory"

# What is asked, in check mode or not.
QUESTIONS = {
    "holds": (False, {"until": ACTIVE, "beans": [MEMORY]}),
    "does not hold": (False, {"until": STANDBY}),
    "does not hold, checked": (True, {"until": STANDBY}),
    "stopped": (False, {"until": ACTIVE, "url": "https://{fqdn}:9"}),
    "stopped, checked": (True, {"until": ACTIVE, "url": "https://{fqdn}:9"}),
    "certificate": (False, {"until": ACTIVE, "ca_path": "/etc/ssl/certs/ISRG_Root_X1.pem"}),
    "no keytab": (False, {"until": ACTIVE, "keytab": "/nowhere.keytab"}),
    "no keytab, checked": (True, {"until": ACTIVE, "keytab": "/nowhere.keytab"}),
}


@pytest.fixture(scope="module")
def answers(cluster):
    """All the questions, asked on the NameNode's host in one play."""
    fqdn = cluster.fqdn("namenode")
    defaults = {
        "url": cluster.web()["namenode"],
        "keytab": "/etc/security/keytabs/hdfs.keytab",
        "principal": f"nn/{fqdn}",
        "timeout": 3,
        "delay": 1,
    }
    steps = []
    for check, options in QUESTIONS.values():
        options = {**defaults, **options}
        options["url"] = options["url"].format(fqdn=fqdn)
        steps.append(Step(JMX, options, check))
    return dict(zip(QUESTIONS, on_lab(cluster.hosts("namenode")[0], {})(steps)))


@pytest.mark.parametrize("question", QUESTIONS)
def test_reading_changes_nothing(answers, question):
    assert answers[question]["changed"] is False


def test_conditions_that_hold(answers):
    result = answers["holds"]
    assert result["met"] and result["unmet"] == [] and result["attempts"] == 1
    assert result["beans"][STATE["bean"]]["SecurityEnabled"] is True
    assert result["beans"][MEMORY]["HeapMemoryUsage"]["used"] > 0


def test_a_condition_that_does_not_hold_says_what_was_seen(answers):
    result = answers["does not hold"]
    assert result["failed"] and not result["met"] and result["attempts"] > 1
    assert 'State is "active", not "standby"' in result["msg"]


def test_check_mode_reads_once_and_warns(answers):
    result = answers["does not hold, checked"]
    assert not result["failed"] and not result["met"] and result["attempts"] == 1
    assert "not as wanted now" in result["warnings"][0]


def test_a_stopped_daemon_is_waited_for_then_named(answers):
    result = answers["stopped"]
    assert result["failed"] and result["attempts"] > 1 and "nobody listens at" in result["msg"]
    checked = answers["stopped, checked"]
    assert not checked["failed"] and checked["attempts"] == 1


def test_a_bad_certificate_is_not_waited_for(answers):
    result = answers["certificate"]
    assert result["failed"] and "certificate" in result["msg"] and result["attempts"] == 0


def test_a_missing_keytab_is_not_waited_for(answers):
    result = answers["no keytab"]
    assert result["failed"] and "there is no keytab /nowhere.keytab" in result["msg"]
    assert not answers["no keytab, checked"]["failed"]
