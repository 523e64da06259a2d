"""ldap_entries and slapd_config: what differs of an entry, and a first configuration."""

from __future__ import annotations

import os
import sys

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils.ldap_session import modifications
from ansible_collections.deitos.cluster.plugins.modules import ldap_entries, slapd_config

DN = "olcDatabase={1}mdb,cn=config"


def item(state="present", secrets=None, **attributes):
    return {"dn": DN, "state": state, "attributes": attributes, "secrets": secrets or {}}


def test_missing_entry_is_added_without_empty_attributes():
    change = ldap_entries.compare(item(objectClass=["a", "b"], olcX=5, olcY=[], olcZ=True), None)
    assert change.action == "added"
    assert change.after == {"objectClass": ["a", "b"], "olcX": ["5"], "olcZ": ["TRUE"]}


def test_same_values_in_another_order_or_spelling_are_no_change():
    found = {"objectClass": ["A", "b", "c"], "olcDbIndex": ["uid eq", "cn eq"], "olcOther": ["x"]}
    wanted = item(objectclass=["a"], OLCDBINDEX=["cn eq", "uid eq"])
    assert ldap_entries.compare(wanted, found) is None


def test_drift_is_corrected_and_other_attributes_stay():
    found = {"olcAccess": ["{0}to * by * write"], "olcOther": ["x"]}
    change = ldap_entries.compare(item(olcAccess="{0}to * by * none"), found)
    assert change.after == {"olcAccess": ["{0}to * by * none"], "olcOther": ["x"]}
    assert modifications(change, ordered=True) == [(2, "olcAccess", [b"{0}to * by * none"])]


def test_an_empty_list_removes_an_attribute():
    change = ldap_entries.compare(item(olcX=[]), {"olcX": ["1", "2"], "olcY": ["3"]})
    assert modifications(change, ordered=True) == [(2, "olcX", None)]
    assert ldap_entries.compare(item(olcX=[]), {"olcY": ["3"]}) is None


def test_ordered_values_are_replaced_together_or_only_added():
    found = {"olcAccess": ["{0}a", "{1}b", "{2}c"]}
    change = ldap_entries.compare(item(olcAccess=["{0}a", "{1}c"]), found)
    assert modifications(change, ordered=True) == [(2, "olcAccess", [b"{0}a", b"{1}c"])]
    # slapd can load a module more, but unload none.
    found = {"olcModuleLoad": ["{0}back_mdb"]}
    change = ldap_entries.compare(item(olcModuleLoad=["{0}back_mdb", "{1}refint"]), found)
    assert modifications(change, ordered=True) == [(0, "olcModuleLoad", [b"{1}refint"])]


def test_absent():
    assert ldap_entries.compare(item("absent"), None) is None
    assert ldap_entries.compare(item("absent"), {"cn": ["x"]}).action == "deleted"


def test_the_diff_hides_passwords():
    change = ldap_entries.compare(item(olcRootPW="secret"), {"olcRootPW": ["old"]})
    assert "secret" not in str(change.as_diff(ldap_entries.HIDDEN))


@pytest.mark.parametrize("name", ["userPassword", "userpassword", "OLCROOTPW", "userPassword;x-y"])
def test_the_diff_hides_passwords_in_every_spelling(name):
    change = ldap_entries.compare(item(secrets={name: "secret"}), {"cn": ["x"], name: ["old"]})
    assert change.after[name] == ["secret"]
    assert change.as_diff(ldap_entries.HIDDEN)["after"] == f"{name}: (hidden)\n"
    assert ldap_entries.compare(item(secrets={name: "old"}), {"cn": ["x"], name: ["old"]}) is None


def test_a_password_among_what_logs_show_is_refused():
    assert "under 'secrets'" in ldap_entries.misplaced(item(userpassword="x"))
    assert ldap_entries.misplaced(item(userPassword=[], olcSuffix="dc=x")) is None
    assert ldap_entries.misplaced(item(secrets={"userPassword": "x"})) is None


# --- slapd_config -------------------------------------------------------------------------------

SLAPADD = """#!{python}
import os, sys
ldif = sys.stdin.read()
if "bad" in ldif:
    sys.exit("slapadd: line 1: no such attribute")
directory = sys.argv[sys.argv.index("-F") + 1]
os.mkdir(directory + "/cn=config")
open(directory + "/cn=config/x.ldif", "w").write(ldif)
open(directory + "/cn=config.ldif", "w").write(ldif)
"""


@pytest.fixture
def configured(tmp_path, monkeypatch, run_module, four_runs):
    """Calls the module, with a program that stands for slapadd."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/slapadd").write_text(SLAPADD.format(python=sys.executable))
    (tmp_path / "bin/slapadd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def configure(ldif, check=False, runs=False):
        parameters = {
            "directory": str(tmp_path / "slapd.d"),
            "ldif": ldif,
            "owner": str(os.getuid()),
            "group": str(os.getgid()),
        }
        if runs:
            return four_runs(slapd_config, **parameters)
        return run_module(slapd_config, check=check, **parameters)

    return configure


def test_a_configuration_is_created_once(tmp_path, configured):
    configured("dn: cn=config\n", runs=True)
    assert (tmp_path / "slapd.d/cn=config.ldif").read_text() == "dn: cn=config\n"
    assert (tmp_path / "slapd.d").stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(tmp_path)) == ["bin", "slapd.d"]
    assert not configured("dn: cn=other\n")["changed"]
    assert (tmp_path / "slapd.d/cn=config.ldif").read_text() == "dn: cn=config\n"


def test_ldif_that_slapadd_refuses_leaves_nothing(tmp_path, configured):
    result = configured("bad\n")
    assert result["failed"]
    assert "no such attribute" in result["msg"]
    assert os.listdir(tmp_path) == ["bin"]


def test_what_a_run_cut_off_left_is_no_configuration(tmp_path, configured):
    (tmp_path / ".slapd.d.new-abc").mkdir()
    (tmp_path / ".slapd.d.new-abc/cn=config.ldif").write_text("half")
    (tmp_path / "slapd.d").mkdir()
    assert configured("dn: cn=config\n")["changed"]
    assert sorted(os.listdir(tmp_path)) == ["bin", "slapd.d"]


def test_something_else_in_its_place_is_an_error(tmp_path, configured):
    (tmp_path / "slapd.d").mkdir()
    (tmp_path / "slapd.d/notes").write_text("mine")
    for check in (True, False):
        result = configured("dn: cn=config\n", check=check)
        assert result["failed"]
        assert "move it away" in result["msg"]
    assert (tmp_path / "slapd.d/notes").read_text() == "mine"
