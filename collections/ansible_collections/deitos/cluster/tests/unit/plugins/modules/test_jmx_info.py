"""jmx_info: conditions, patience, and what is told in the end."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import spnego
from ansible_collections.deitos.cluster.plugins.modules import jmx_info

BEAN = "Hadoop:service=NameNode,name=FSNamesystemState"


def condition(**options):
    """One condition, with what the argument specification would fill in."""
    empty = {"bean": BEAN, "attribute": "Live", "equals": None, "at_least": None, "at_most": None}
    return {**empty, **options}


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [(2, 2), (2, "2"), (2, 2.0), ("", ""), ("active", "active"), (True, True), (True, "true"),
     (True, "True"), (False, "false"), ("2", 2), (0, "0"), ([1], [1])],
)  # fmt: skip
def test_same(seen, wanted):
    assert jmx_info.same(seen, wanted)


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (2, 3),
        ("", "x"),
        ("", 0),
        (0, ""),
        (True, 1),
        (0, False),
        ("active", "standby"),
        ([1], "[1]"),
    ],
)
def test_not_same(seen, wanted):
    assert not jmx_info.same(seen, wanted)


@pytest.mark.parametrize(
    ("options", "live", "said"),
    [
        ({"equals": 2}, 2, None),
        ({"equals": 2}, 1, "Live is 1, not 2"),
        ({"at_least": 2}, 2, None),
        ({"at_least": 2}, 1, "Live is 1, not at least 2"),
        ({"at_most": 0}, 0, None),
        ({"at_most": 0}, 3, "Live is 3, not at most 0"),
        ({"at_least": 1, "at_most": 3}, 4, "not at most 3"),
        ({"at_least": 1}, "many", 'Live is "many", not at least 1'),
        ({"at_least": 1}, None, "Live is null, not at least 1"),
        ({"attribute": "Dead", "equals": 0}, 1, "has no attribute Dead"),
        ({"bean": "x", "equals": 0}, 1, "x is not there"),
    ],
)
def test_conditions(options, live, said):
    found = jmx_info.unmet(condition(**options), {BEAN: {"name": BEAN, "Live": live}})
    assert found is None if said is None else said in found


def test_a_part_of_a_composite_attribute():
    bean = {"HeapMemoryUsage": {"used": 5}, "a.b": 7}
    assert jmx_info.find(bean, "HeapMemoryUsage.used") == 5
    assert jmx_info.find(bean, "a.b") == 7
    assert jmx_info.find(bean, "HeapMemoryUsage.free") is jmx_info.MISSING
    assert jmx_info.find(bean, "Other.used") is jmx_info.MISSING


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Daemon:
    """Answers with each of these in turn, and then with the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def read(self):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {BEAN: {"name": BEAN, "Live": answer}}


PARAMS = {"url": "https://nn:9871", "until": [condition(at_least=2)], "timeout": 10, "delay": 2}


def watch(*answers, once=False, **params):
    clock = Clock()
    return jmx_info.watch({**PARAMS, **params}, Daemon(*answers), once, clock, clock.sleep)


def test_waits_for_a_daemon_that_is_starting():
    down = spnego.Refused("nobody listens")
    result = watch(down, down, 0, 1, 2)
    assert result["met"] and result["attempts"] == 5 and result["elapsed"] == 8


def test_gives_up_in_time_with_the_last_values():
    result = watch(1)
    assert not result["met"] and result["elapsed"] == 10
    assert jmx_info.message(PARAMS, result) == f"https://nn:9871: {BEAN} Live is 1, not at least 2"


def test_tells_the_last_values_and_the_last_error():
    result = watch(1, spnego.Refused("nobody listens at nn"))
    text = jmx_info.message(PARAMS, result)
    assert "Live is 1" in text and "nobody listens at nn" in text


def test_what_waiting_cannot_mend_ends_it():
    with pytest.raises(spnego.CertificateProblem):
        watch(spnego.CertificateProblem("expired"))
    with pytest.raises(spnego.ClockSkew):
        watch(1, spnego.ClockSkew("set the clock"))


def test_once_is_once():
    assert watch(1, 2, once=True)["attempts"] == 1
    assert watch(spnego.Refused("x"), 2, once=True)["met"] is False


def test_without_conditions_one_reading_is_enough():
    assert watch(0, until=[])["met"]


@pytest.fixture
def module(monkeypatch, run_module):
    """Calls module(check, *answers): the module's result when the daemon answers so."""
    monkeypatch.setattr(spnego, "require", lambda _module: None)
    monkeypatch.setattr(jmx_info.time, "sleep", lambda _seconds: None)

    def run(check, *answers, **options):
        monkeypatch.setattr(jmx_info, "Daemon", lambda _params: Daemon(*answers))
        wanted = {"bean": BEAN, "attribute": "Live", "at_least": 2}
        parameters = {"url": "https://nn:9871", "keytab": "/k", "until": [wanted], "timeout": 0}
        return run_module(jmx_info, check, **{**parameters, **options})

    return run


def test_never_changed(module):
    result = module(False, 2)
    assert not result["failed"] and not result["changed"] and result["beans"][BEAN]["Live"] == 2


def test_a_failure_tells_what_was_seen(module):
    result = module(False, 1)
    assert result["failed"] and "Live is 1, not at least 2" in result["msg"]
    assert result["unmet"] and not result["met"]


@pytest.mark.parametrize(
    "answer", [1, spnego.Refused("down"), spnego.KeytabProblem("none"), spnego.NotAccepted("no")]
)
def test_check_mode_never_fails(module, answer):
    result = module(True, answer)
    assert not result["failed"] and not result["met"] and not result["changed"]


def test_a_condition_needs_a_comparison(module):
    result = module(False, 1, until=[{"bean": BEAN, "attribute": "Live"}])
    assert result["failed"] and "one of the following is required" in result["msg"]
