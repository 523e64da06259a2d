"""Tickets of notebook servers: how a cache is replaced, and what is done with whose."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "roles/jupyter/files"))
from deitos_jupyter import tickets  # noqa: E402


def test_a_cache_is_replaced_whole_and_is_private(tmp_path):
    cache = tmp_path / "krb5cc"
    cache.write_bytes(b"old")
    with cache.open("rb") as reader:
        words = [sys.executable, "-I", tickets.__file__, "store", str(cache)]
        subprocess.run(words, input=b"new", check=True)
        assert reader.read() == b"old"
    assert cache.read_bytes() == b"new"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["krb5cc"]


def test_what_is_not_there_need_not_be_removed(tmp_path):
    assert tickets.main(["remove", str(tmp_path / "krb5cc")]) == 0


@pytest.fixture
def host(tmp_path, monkeypatch):
    """Whose servers run and who may log in are to be said; what is done is written down."""
    host = SimpleNamespace(running=set(), disabled=set(), unsure=set(), done=[], root=tmp_path)
    monkeypatch.setattr(tickets, "ROOT", tmp_path)

    def systemctl(words, **_options):
        _systemctl, command, *_more, unit = words
        name = unit.removeprefix("jupyter-").removesuffix("-singleuser.service")
        if command != "is-active":
            host.done.append((command, name))
        return SimpleNamespace(returncode=0 if name in host.running else 3)

    def act(name, command):
        host.done.append((command, name))
        if name == "unlucky":
            raise OSError("the KDC does not answer")
        if command == "remove":
            tickets.cache_of(name).unlink()
        return ""

    def admitted(name):
        if name in host.unsure:
            raise tickets.Unsure(f"nobody knows of {name}")
        return name not in host.disabled

    monkeypatch.setattr(tickets.subprocess, "run", systemctl)
    monkeypatch.setattr(tickets, "admitted", admitted)
    monkeypatch.setattr(tickets, "act", act)
    return host


def ticket(host, name, age=0):
    cache = tickets.cache_of(name)
    cache.parent.mkdir()
    cache.touch()
    os.utime(cache, (time.time() - age,) * 2)


def test_tickets_of_running_servers_are_renewed_and_one_failure_is_no_other_s(host, capsys):
    host.running = {"alice", "unlucky", "zoe"}
    for name in sorted(host.running):
        ticket(host, name)
    tickets.tend()
    assert sorted(host.done) == [("renew", "alice"), ("renew", "unlucky"), ("renew", "zoe")]
    assert "does not answer" in capsys.readouterr().out


def test_servers_of_who_may_not_log_in_are_stopped(host):
    host.running = host.disabled = {"carol"}
    ticket(host, "carol")
    tickets.tend()
    assert host.done == [("stop", "carol")]


def test_nothing_is_stopped_while_nobody_can_say_who_may_log_in(host, capsys):
    host.running = host.unsure = {"carol"}
    ticket(host, "carol")
    tickets.tend()
    assert host.done == []
    assert "nobody knows of carol" in capsys.readouterr().out


def test_who_holds_it_up_keeps_nobody_waiting(host, monkeypatch):
    host.running = {"alice", "zoe"}
    for name in sorted(host.running):
        ticket(host, name)
    others = threading.Event()

    def act(name, _command):
        if name == "zoe":
            others.set()
        elif not others.wait(60):
            raise AssertionError("nobody else had a turn")
        return ""

    monkeypatch.setattr(tickets, "act", act)
    tickets.tend()


def test_a_ticket_waits_for_its_server_but_not_for_long(host):
    ticket(host, "fresh")
    ticket(host, "stale", age=tickets.PATIENCE + 5)
    tickets.tend()
    assert host.done == [("remove", "stale")]
    assert os.listdir(host.root) == ["fresh"]


# --- What PAM says --------------------------------------------------------------------------------

RUN, NEXT = "ActiveState=active\nInvocationID=1\n", "ActiveState=active\nInvocationID=2\n"


@pytest.mark.parametrize(
    ("number", "runs", "said"),
    [
        (None, [""], tickets.LET_IN),
        (tickets.PERM_DENIED, [RUN, RUN], tickets.DENIED),
        (tickets.ACCT_EXPIRED, [RUN, RUN], tickets.DENIED),
        (tickets.USER_UNKNOWN, [RUN, RUN], tickets.DENIED),
        # SSSD is away, or was in between.
        (tickets.USER_UNKNOWN, ["", ""], tickets.UNSURE),
        (tickets.USER_UNKNOWN, [RUN, ""], tickets.UNSURE),
        (tickets.USER_UNKNOWN, [RUN, NEXT], tickets.UNSURE),
        # PAM_SYSTEM_ERR, PAM_AUTHINFO_UNAVAIL, PAM_ABORT.
        *((number, [RUN, RUN], tickets.UNSURE) for number in (4, 9, 26)),
    ],
)
def test_only_what_sssd_says_is_a_denial(monkeypatch, number, runs, said):
    class PAMError(Exception):
        errno = number

    def check_account(name, service):
        assert (name, service) == ("alice", "jupyterhub")
        if number:
            raise PAMError

    module = SimpleNamespace(PAMError=PAMError, check_account=check_account)
    monkeypatch.setitem(sys.modules, "pamela", module)
    answers = iter(runs)
    monkeypatch.setattr(tickets, "sssd", lambda: next(answers))
    assert tickets.ask_pam("alice") == said


def test_a_failure_is_no_denial(monkeypatch, program):
    for status, said in ((tickets.LET_IN, True), (tickets.DENIED, False)):
        monkeypatch.setattr(tickets.sys, "executable", program(f"exit {status}"))
        assert tickets.admitted("alice") is said
    for failure in (f"exit {tickets.UNSURE}", "exit 1", "kill -KILL $$"):
        monkeypatch.setattr(tickets.sys, "executable", program(failure))
        with pytest.raises(tickets.Unsure):
            tickets.admitted("alice")


# --- As a person ----------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path):
    """What runs in Python's place."""

    def write(command):
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
        return str(path)

    return write


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes somebody else")
@pytest.mark.parametrize("command", ["exec sleep 600", "kill -STOP $$"])
def test_a_person_s_process_has_not_for_ever(monkeypatch, program, command):
    monkeypatch.setattr(tickets, "SECONDS_TO_ACT", 0.5)
    monkeypatch.setattr(tickets.sys, "executable", program(command))
    with pytest.raises(OSError, match=r"left for root: no end within 0\.5 s"):
        tickets.act("root", "left")


def test_units_that_become_people_may_end_their_processes():
    """Without CAP_KILL root waits for a process of somebody else that does not end."""
    for unit in ("jupyterhub", "jupyter-tickets"):
        text = (ROOT / f"roles/jupyter/templates/{unit}.service.j2").read_text()
        (allowed,) = re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.M)
        assert {"CAP_SETUID", "CAP_KILL"} <= set(allowed.split()), unit
