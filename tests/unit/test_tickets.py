"""Tickets of notebook servers: how a cache is replaced, and what is done with whose."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
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
    host = SimpleNamespace(running=set(), disabled=set(), done=[], root=tmp_path)
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

    monkeypatch.setattr(tickets.subprocess, "run", systemctl)
    monkeypatch.setattr(tickets, "admitted", lambda name: name not in host.disabled)
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
    assert host.done == [("renew", "alice"), ("renew", "unlucky"), ("renew", "zoe")]
    assert "does not answer" in capsys.readouterr().out


def test_servers_of_who_may_not_log_in_are_stopped(host):
    host.running = host.disabled = {"carol"}
    ticket(host, "carol")
    tickets.tend()
    assert host.done == [("stop", "carol")]


def test_a_ticket_waits_for_its_server_but_not_for_long(host):
    ticket(host, "fresh")
    ticket(host, "stale", age=tickets.PATIENCE + 5)
    tickets.tend()
    assert host.done == [("remove", "stale")]
    assert os.listdir(host.root) == ["fresh"]
