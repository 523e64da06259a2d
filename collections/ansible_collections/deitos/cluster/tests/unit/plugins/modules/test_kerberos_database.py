"""kerberos_database: made once, finished when cut off, never written over."""

from __future__ import annotations

import os
import re
import stat
import sys

import pytest
from ansible_collections.deitos.cluster.plugins.modules import kerberos_database

# Stands for kdb5_util: what it was called with, and the files that it makes.
UTILITY = """#!{python}
import os, sys
arguments = sys.argv[1:]
with open("{log}", "a") as log:
    log.write(" ".join(arguments) + chr(10))
if "create" in arguments:
    with open("{log}.stdin", "w") as log:
        log.write(sys.stdin.read())
    if os.path.exists("{log}.fail"):
        sys.exit("kdb5_util: no entropy today")
    database = arguments[arguments.index("-d") + 1]
    stash = arguments[arguments.index("-sf") + 1]
    for suffix in ("", ".ok", ".kadm5", ".kadm5.lock"):
        open(database + suffix, "w").write("database" + suffix)
    open(stash, "w").write("master key")
elif open("{stash}").read() != "master key":
    sys.exit("kdb5_util: Cannot find master key record")
"""


class Kdc:
    def __init__(self, path):
        self.database = path / "lib/principal"
        self.stash = path / "etc/stash"
        self.log = path / "log"
        self.work = path / "lib/.deitos-new"
        for directory in ("lib", "etc"):
            (path / directory).mkdir()
        self.utility = path / "kdb5_util"
        self.utility.write_text(
            UTILITY.format(python=sys.executable, log=self.log, stash=self.stash)
        )
        self.utility.chmod(0o755)

    @property
    def parameters(self):
        return {
            "realm": "EXAMPLE.ORG",
            "database": str(self.database),
            "stash": str(self.stash),
            "kdb5_util_path": str(self.utility),
        }

    def calls(self):
        return self.log.read_text() if self.log.exists() else ""

    def assert_whole(self):
        assert self.database.read_text() == "database"
        for suffix in (".ok", ".kadm5", ".kadm5.lock"):
            assert self.database.with_name(f"principal{suffix}").exists()
        assert self.stash.read_text() == "master key"
        assert stat.S_IMODE(os.stat(self.stash).st_mode) == 0o600
        assert not self.work.exists()


@pytest.fixture
def kdc(tmp_path):
    return Kdc(tmp_path)


def test_created_once(kdc, four_runs):
    assert four_runs(kerberos_database, **kdc.parameters)["created"]
    kdc.assert_whole()
    assert kdc.calls().count("create -s") == 1


def test_the_master_password_is_random_and_seen_by_nobody(kdc, run_module):
    result = run_module(kerberos_database, **kdc.parameters)
    password, again = kdc.log.with_name("log.stdin").read_text().split()
    assert password == again
    assert re.fullmatch(r"[\w-]{86}", password)
    assert password not in kdc.calls()
    assert password not in str(result)


def test_check_mode_creates_nothing(kdc, run_module):
    assert run_module(kerberos_database, check=True, **kdc.parameters)["changed"]
    assert not kdc.database.exists()
    assert kdc.calls() == ""


def test_a_run_cut_off_while_creating_starts_again(kdc, run_module):
    kdc.work.mkdir()
    (kdc.work / "principal").write_text("half")
    assert run_module(kerberos_database, **kdc.parameters)["changed"]
    kdc.assert_whole()


@pytest.mark.parametrize("moved", range(4))
def test_a_run_cut_off_while_moving_is_finished(kdc, run_module, monkeypatch, moved):
    """Whatever has been moved when the power goes, the next run moves the rest."""
    replace, left = os.replace, [moved]

    def dying(source, target):
        if ".deitos-new/principal" in str(source):
            if not left[0]:
                raise OSError("the power goes")
            left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(kerberos_database.os, "replace", dying)
    with pytest.raises(OSError, match="power"):
        run_module(kerberos_database, **kdc.parameters)
    monkeypatch.setattr(kerberos_database.os, "replace", replace)
    assert not kdc.database.exists()
    assert run_module(kerberos_database, **kdc.parameters)["changed"]
    kdc.assert_whole()
    assert kdc.calls().count("create -s") == 1


def test_what_a_run_cut_off_at_the_end_left_is_removed(kdc, run_module):
    run_module(kerberos_database, **kdc.parameters)
    kdc.work.mkdir()
    (kdc.work / "stash").write_text("master key")
    assert not run_module(kerberos_database, **kdc.parameters)["changed"]
    kdc.assert_whole()


def test_a_database_that_cannot_be_opened_is_not_written_over(kdc, run_module):
    kdc.database.write_text("precious")
    kdc.stash.write_text("another key")
    result = run_module(kerberos_database, **kdc.parameters)
    assert result["failed"]
    assert "Cannot find master key record" in result["msg"]
    assert "restore both from one backup" in result["msg"]
    assert kdc.database.read_text() == "precious"


@pytest.mark.parametrize("name", ["etc/stash", "lib/principal.kadm5", "lib/principal.ok"])
def test_a_lost_database_is_not_made_anew(kdc, tmp_path, run_module, name):
    (tmp_path / name).write_text("what is left")
    for check in (True, False):
        result = run_module(kerberos_database, check=check, **kdc.parameters)
        assert result["failed"]
        assert str(tmp_path / name) in result["msg"]
        assert "restore the database" in result["msg"]
    assert not kdc.database.exists()


def test_a_failure_of_the_tool_is_told(kdc, run_module):
    kdc.log.with_name("log.fail").write_text("")
    result = run_module(kerberos_database, **kdc.parameters)
    assert result["failed"]
    assert "no entropy today" in result["msg"]
    assert not kdc.database.exists()
    kdc.log.with_name("log.fail").unlink()
    assert run_module(kerberos_database, **kdc.parameters)["changed"]
    kdc.assert_whole()
