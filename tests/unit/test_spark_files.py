"""The programs that role spark brings to hosts: the archive of jars, and the proxy's token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "roles/spark/files"


def release(path, members):
    """A release archive with these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def make(directory, *releases):
    return subprocess.run(
        [sys.executable, str(FILES / "spark_archive.py"), "out.zip", *releases],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_archive_holds_the_jars_of_both_releases(tmp_path):
    release(
        tmp_path / "spark.tar.gz",
        {"spark-1/jars/b.jar": b"spark b", "spark-1/bin/x": b"", "spark-1/jars/d/n.jar": b"no"},
    )
    release(tmp_path / "hive.tar.gz", {"./hive-1/lib/b.jar": b"hive b", "hive-1/lib/c.txt": b""})
    assert make(tmp_path, "spark", "hive").returncode == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "b.jar": b"spark b",
            "hive/b.jar": b"hive b",
        }
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    first = (tmp_path / "out.zip").read_bytes()
    assert make(tmp_path, "spark", "hive").returncode == 0
    assert (tmp_path / "out.zip").read_bytes() == first


def test_a_release_without_jars_is_refused(tmp_path):
    release(tmp_path / "spark.tar.gz", {"spark-1/bin/x": b""})
    done = make(tmp_path, "spark")
    assert done.returncode != 0
    assert "holds no jars" in done.stderr
    assert not (tmp_path / "out.zip").exists()


def test_the_token_is_signed_with_the_secret(tmp_path):
    secret = bytes(range(64)).hex()
    (tmp_path / "secret").write_text(f"{secret}\n")
    command = [str(FILES / "spark-proxy-token"), tmp_path / "secret", tmp_path / "token"]
    subprocess.run([sys.executable, *command], check=True)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o400
    line = (tmp_path / "token").read_text()
    start = 'RequestHeader set Authorization "Bearer '
    assert line.startswith(start)
    header, payload, signature = line.removeprefix(start).rstrip('"\n').split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS512"}
    expected = hmac.new(
        base64.urlsafe_b64decode(secret), f"{header}.{payload}".encode(), hashlib.sha512
    )
    assert base64.urlsafe_b64decode(signature + "==") == expected.digest()
