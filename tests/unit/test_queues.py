"""YARN's queues: the properties of a good list, and what is said of a bad one."""

from __future__ import annotations

import pytest
import queues
from ansible.errors import AnsibleFilterError

P = queues.PREFIX


def test_a_tree_of_queues():
    properties = queues.capacity_queues(
        [
            {"path": "root.default", "capacity": 40, "submit": "*"},
            {"path": "root.team", "capacity": 60, "maximum_capacity": 80},
            {
                "path": "root.team.etl",
                "capacity": 100,
                "administer": "alice",
                "properties": {"user-limit-factor": 2},
            },
        ]
    )
    assert properties[P + "root.queues"] == ["default", "team"]
    assert properties[P + "root.team.queues"] == ["etl"]
    assert properties[P + "root.default.capacity"] == 40
    assert properties[P + "root.default.acl_submit_applications"] == "*"
    assert properties[P + "root.team.maximum-capacity"] == 80
    assert properties[P + "root.team.etl.acl_administer_queue"] == "alice"
    assert properties[P + "root.team.etl.user-limit-factor"] == 2


def test_nobody_submits_to_or_administers_a_queue_that_does_not_say_who():
    properties = queues.capacity_queues([{"path": "root.a", "capacity": 100}])
    assert properties[P + "root.a.acl_submit_applications"] == " "
    assert properties[P + "root.a.acl_administer_queue"] == " "


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "no queue below root"),
        ([{"path": "default", "capacity": 100}], "is no path"),
        ([{"path": "root", "capacity": 100}], "is no path"),
        ([{"path": "root.a", "capacity": 90}], "add up to 90"),
        ([{"path": "root.a", "capacity": 50}, {"path": "root.a", "capacity": 50}], "listed twice"),
        ([{"path": "root.a.b", "capacity": 100}], "add a queue root.a"),
        ([{"path": "root.a", "capacity": 100, "submitters": "*"}], "unknown submitters"),
        ([{"path": "root.a"}], "add up to 0"),
    ],
)
def test_bad_lists_are_refused(wrong, message):
    with pytest.raises(AnsibleFilterError, match=message):
        queues.capacity_queues(wrong)


def test_preflight_tells_all_faults_of_a_list():
    wrong = [
        {"path": "root.a", "capacity": 90},
        {"path": "root.a.b", "capacity": "60"},
        {"path": "root.x.y", "capacity": 100},
    ]
    assert queues.queue_faults({"m1": {"yarn_queues": wrong}, "m2": {}}, ["m1", "m2"]) == [
        "yarn_queues: the capacities below root add up to 90, not to 100",
        "yarn_queues: the capacities below root.a add up to 60, not to 100",
        "yarn_queues: root.x.y has no parent: add a queue root.x",
    ]


@pytest.mark.parametrize("other", ["root.default", None, ["root.a"], [{"path": 1, "capacity": []}]])
def test_preflight_leaves_lists_of_other_types_to_its_check_of_types(other):
    assert queues.queue_faults({"m1": {"yarn_queues": other}}, ["m1"]) == []
