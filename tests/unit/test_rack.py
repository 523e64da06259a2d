"""The rack script, as Hadoop calls it: names or addresses as arguments, a rack a line."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "roles/hadoop/files/rack.py"
TABLE = """\
# Ansible managed
worker1.example.org /rack1
worker2.example.org /rack2
"""


@pytest.fixture
def rack(tmp_path, monkeypatch):
    """The script beside a table, with a name service of its own."""
    copy = tmp_path / "rack"
    copy.write_bytes(SCRIPT.read_bytes())
    copy.with_suffix(".table").write_text(TABLE)
    loader = importlib.machinery.SourceFileLoader("rack", str(copy))
    spec = importlib.util.spec_from_loader("rack", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)

    def gethostbyaddr(host):
        if host == "192.0.2.1":
            return "Worker1.example.org", [], [host]
        raise OSError(host)

    monkeypatch.setattr(socket, "gethostbyaddr", gethostbyaddr)
    return module


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("worker1.example.org", "/rack1"),
        ("WORKER2.example.org", "/rack2"),
        ("worker2", "/rack2"),
        ("192.0.2.1", "/rack1"),
        ("192.0.2.9", "/default-rack"),
        ("stranger.example.org", "/default-rack"),
    ],
)
def test_rack_of_a_host(rack, capsys, asked, answer):
    rack.main([asked])
    assert capsys.readouterr().out == answer + "\n"


def test_one_line_an_argument_even_without_a_table(rack, capsys, tmp_path):
    (tmp_path / "rack.table").unlink()
    rack.main(["worker1", "worker2"])
    assert capsys.readouterr().out == "/default-rack\n" * 2
