"""Modes: octal, symbolic, and beside an ACL."""

from __future__ import annotations

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import hdfs_mode
from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem
from hypothesis import given
from hypothesis import strategies as st

MODES = st.integers(0, 0o1777)


@pytest.mark.parametrize(
    ("mode", "now", "directory", "wanted"),
    [
        ("0755", 0, True, 0o755),
        ("700", 0o777, True, 0o700),
        ("1777", 0, True, 0o1777),
        ("01777", 0, True, 0o1777),
        ("u=rwx,g=rx,o=", 0o777, True, 0o750),
        ("g+w", 0o750, True, 0o770),
        ("o-rwx", 0o777, False, 0o770),
        ("a=r", 0o777, False, 0o444),
        ("+x", 0o640, False, 0o751),
        ("u+rw-x", 0o100, False, 0o600),
        ("ug=rw,o=", 0o777, False, 0o660),
        ("u=rwX,g=rX,o=", 0o640, False, 0o640),
        ("u=rwX,g=rX,o=", 0o740, False, 0o750),
        ("u=rwX,g=rX,o=", 0o600, True, 0o750),
        ("+t", 0o777, True, 0o1777),
        ("-t", 0o1777, True, 0o777),
        ("a=rwxt", 0, True, 0o1777),
        ("u=rwx, g=rx", 0o1000, True, 0o1750),
    ],
)
def test_what_a_mode_makes(mode, now, directory, wanted):
    assert hdfs_mode.parse(mode)(now, directory) == wanted


@pytest.mark.parametrize("mode", ["", "8", "75", "0o755", "z+x", "u+s", "u", "+", "4755", "2770"])
def test_what_is_no_mode(mode):
    if mode == "+":
        # As chmod has it, this changes nothing.
        assert hdfs_mode.parse(mode)(0o640, False) == 0o640
        return
    with pytest.raises(Problem):
        hdfs_mode.parse(mode)


@pytest.mark.parametrize("mode", [493, 755, 7.5, True])
def test_a_mode_without_quotes_is_refused(mode):
    with pytest.raises(Problem, match="quotes"):
        hdfs_mode.parse(mode)


@given(MODES, MODES, st.booleans())
def test_octal_is_what_it_says(mode, now, directory):
    assert hdfs_mode.parse(f"{mode:04o}")(now, directory) == mode


@given(MODES, st.sampled_from(["g+w", "u=rwX,g=rX,o=", "a-x", "+t", "o=r,g-w", "u+rwX"]))
def test_a_symbolic_mode_is_steady(now, mode):
    apply = hdfs_mode.parse(mode)
    for directory in (True, False):
        once = apply(now, directory)
        assert apply(once, directory) == once


@given(st.integers(0, 7))
def test_triples(bits):
    assert hdfs_mode.bits_of(hdfs_mode.triple(bits)) == bits


def test_the_mode_beside_an_acl_is_the_groups():
    status = {"permission": "770"}
    acl = {"permission": "770", "entries": ["user:alice:rwx", "group::r-x"]}
    assert hdfs_mode.mode_of(status, acl) == 0o750
    assert hdfs_mode.mode_of(status) == 0o770
    only_default = {"permission": "770", "entries": ["default:user::rwx"]}
    assert hdfs_mode.mode_of(status, only_default) == 0o770
