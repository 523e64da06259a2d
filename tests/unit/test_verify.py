"""What playbooks/verify.yml takes for a refusal: one for the reason that was expected, no other."""

from __future__ import annotations

import importlib.util
import socket
import threading
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "playbooks/files"


@pytest.fixture
def hive():
    spec = importlib.util.spec_from_file_location("verify_hive", FILES / "verify_hive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("code", "said", "well"),
    [
        (1, "Error: GSS initiate failed", True),
        (1, "Error: Connection refused", False),
        (127, "beeline: not found", False),
        (0, "1", False),
        (0, "GSS initiate failed", False),
    ],
)
def test_beeline_must_fail_for_the_reason(hive, tmp_path, code, said, well):
    program = tmp_path / "beeline"
    program.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    program.chmod(0o755)
    see = ("without a ticket", "GSS initiate failed", [])
    if well:
        hive.see_refused(*see, PATH=str(tmp_path))
        return
    with pytest.raises(SystemExit, match="did not refuse a caller without a ticket for that"):
        hive.see_refused(*see, PATH=str(tmp_path))


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"\x03\x00\x00\x00\x20Unsupported mechanism type PLAIN", True),
        (b"\x05\x00\x00\x00\x00", False),
        (b"", False),
    ],
)
def test_the_metastore_must_refuse_a_name(hive, monkeypatch, answer, well):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(hive, "METASTORE", server.getsockname()[1])

        def serve():
            connection, _address = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        if well:
            hive.see_no_name_is_enough("127.0.0.1")
        else:
            with pytest.raises(SystemExit, match="did not refuse"):
                hive.see_no_name_is_enough("127.0.0.1")
        thread.join()
