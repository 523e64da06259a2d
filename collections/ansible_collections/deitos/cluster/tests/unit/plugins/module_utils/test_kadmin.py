"""kadmin: every word arrives as it was meant or is refused, and every answer is understood."""

from __future__ import annotations

import stat

import pytest
from ansible_collections.deitos.cluster.plugins.module_utils import kadmin
from ansible_collections.deitos.cluster.plugins.module_utils.kadmin import (
    ItemError,
    Kadmin,
    KadminError,
    Principal,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# All that a line can carry: no control characters, no lone surrogates.
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("text", "components", "realm"),
    [
        ("alice", ["alice"], None),
        ("alice@R", ["alice"], "R"),
        ("host/a.b.c@R", ["host", "a.b.c"], "R"),
        ("a/b/c", ["a", "b", "c"], None),
        (r"a\/b", ["a/b"], None),
        (r"a\@b@R", ["a@b"], "R"),
        (r"a\\@R", ["a\\"], "R"),
        (r"\-a", ["-a"], None),
        ("a b", ["a b"], None),
        ('q"uote', ['q"uote'], None),
        ("zoé", ["zoé"], None),
        ("/x", ["", "x"], None),
        (r"a@R\@S", ["a"], "R@S"),
    ],
)
def test_names_are_taken_apart_as_kerberos_does(text, components, realm):
    assert Principal.parse(text) == Principal(components, realm)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("@R", "is empty"),
        ("a@", "empty realm"),
        ("a@b@c", r"bare '@'"),
        ("a@b/c", r"bare '/'"),
        ("a\\", "lone backslash"),
        ("a\nb", "control character"),
        ("a\0", "control character"),
        ("a\tb", "control character"),
        ("a\x7fb", "control character"),
        (r"a\nb", "hides a control character"),
        (r"a\0", "hides a control character"),
        ("a\ud800", "UTF-8"),
    ],
)
def test_bad_names_are_refused_with_the_reason(text, reason):
    with pytest.raises(ItemError, match=reason):
        Principal.parse(text)


@given(st.lists(TEXT, min_size=1, max_size=4), TEXT)
def test_the_written_form_of_a_name_reads_back(components, realm):
    principal = Principal(components, realm)
    assert Principal.parse(principal.full) == principal
    assert Principal.parse(principal.short, realm) == principal


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("24h", 86400),
        ("1d 12h", 129600),
        ("1d12h30m5s", 131405),
        ("7 days", 604800),
        ("2 weeks", 1209600),
        ("90", 90),
        (3600, 3600),
        ("unlimited", 0),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_durations(text, seconds):
    assert kadmin.parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1 2", "-1h", "1y", "1h x", "h", "99999d", "1.5h"])
def test_bad_durations_are_refused(text):
    with pytest.raises(ItemError, match="duration"):
        kadmin.parse_interval(text)


@given(st.integers(0, 2**31 - 1))
def test_a_shown_duration_reads_back(seconds):
    assert kadmin.parse_interval(kadmin.format_interval(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("never", 0),
        ("Never", 0),
        ("2031-12-31", 1956441600),
        ("2031-12-31T00:00:00Z", 1956441600),
        ("2031-12-31 01:00:00+01:00", 1956441600),
        ("2090-01-02T03:04:05", 3787009445),
    ],
)
def test_times(text, epoch):
    assert kadmin.parse_time(text) == epoch


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "31.12.2031", "1960-01-01", "2107-01-01", "0001-01-01T00:00:00+05:00"],
)
def test_bad_times_are_refused(text):
    with pytest.raises(ItemError, match=r"never|years"):
        kadmin.parse_time(text)


def test_times_on_hosts_with_an_older_python(monkeypatch):
    monkeypatch.delattr(kadmin.datetime, "UTC", raising=False)  # new in 3.11
    assert kadmin.parse_time("2031-12-31") == 1956441600
    assert kadmin.format_time(3787009445) == "2090-01-02 03:04:05 UTC"


def test_a_principal_is_read_from_its_terse_line():
    found = kadmin.parse_principal(
        '"a "b@R"\t-507957851\t100\t0\t86400\t"root/admin@R"\t100\t192\t3\t1\t"[none]"\t604800'
        "\t0\t0\t4\t2\t1\t3\t20\t0\t2\t3\t18\t4\n"
    )
    assert found["name"] == 'a "b@R'
    assert found["expires"] == 3787009445
    assert found["policy"] == ""
    assert found["failures"] == 4
    assert found["keys"] == [
        {"kvno": 3, "enctype": 20, "salt": 0},
        {"kvno": 3, "enctype": 18, "salt": 4},
    ]
    assert not found["flags"]["allow_tix"]
    assert found["flags"]["requires_preauth"]
    assert found["flags"]["allow_forwardable"]
    assert not found["flags"]["needchange"]


@pytest.mark.parametrize("line", ["", "nonsense", '"a@R"\t1\t2'])
def test_an_answer_that_cannot_be_read_is_said(line):
    with pytest.raises(KadminError, match="cannot be read"):
        kadmin.parse_principal(line)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            'add_principal: Password is too short while creating "x@R".\n',
            'Password is too short while creating "x@R".',
        ),
        (
            "No policy specified for x@R; defaulting to no policy\n"
            'add_principal: Principal or policy already exists while creating "x@R".\n',
            'Principal or policy already exists while creating "x@R".',
        ),
        (
            "add_principal: Malformed representation of principal while parsing principal\n"
            "usage: add_principal [options] principal\n\toptions are:\n",
            "Malformed representation of principal while parsing principal",
        ),
        ("kadmin.local: Principal x does not exist.\n", "Principal x does not exist."),
        ("", "kadmin gave no answer"),
    ],
)
def test_complaints_without_the_noise(answer, message):
    assert kadmin.complaint(answer) == message


def test_too_long_a_line_is_refused():
    # libss would cut it and run the rest as another command.
    with pytest.raises(ItemError, match="longer"):
        kadmin.command_line(["get_principal", "x" * 5000])


# --- with a real kadmin.local ---


@given(st.lists(st.lists(TEXT, min_size=1, max_size=3), min_size=1, max_size=8))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_name_reaches_the_kdc_unharmed(kdc, names):
    principals = list(dict.fromkeys(Principal(components, kdc.realm) for components in names))
    with Kadmin(["kadmin.local"]) as session:
        words = [principal.word(kdc.realm) for principal in principals]
        session.run([["add_principal", "-nokey", word] for word in words])
        found = session.get_principals(principals)
        session.run([["delete_principal", "-force", word] for word in words])
        assert set(session.get_principals(principals).values()) == {None}
    for principal in principals:
        assert Principal.parse(found[principal]["name"]) == principal


@pytest.mark.parametrize(
    "name",
    [
        "-randkey",
        "!touch pwned",
        "a;b",
        "$(id)",
        "`id`",
        "a b\\",
        '"',
        '""',
        '" "',
        "'",
        "kadmin.local:  ",
        "x\u2028y",
        "*",
        "a\\ b",
        "ノード",
        "?",
    ],
)
def test_names_that_could_be_taken_for_something_else(kdc, name):
    principal = Principal([name], kdc.realm)
    with Kadmin(["kadmin.local"]) as session:
        (answer,) = session.run([["add_principal", "-nokey", principal.word(kdc.realm)]])
        assert answer.endswith(f'"{principal.full}" created.\n')
        found = session.get_principals([principal, Principal(["other"], None)])
    assert found[principal]["name"] == principal.full
    assert found[Principal(["other"], None)] is None


def test_another_realm_and_one_it_cannot_take(kdc):
    with Kadmin(["kadmin.local"]) as session:
        word = Principal(["krbtgt", kdc.realm], "OTHER").word(session.default_realm)
        assert session.run([["add_principal", "-nokey", word]])[0].endswith(" created.\n")
        with pytest.raises(ItemError, match="backslash before another realm"):
            Principal(["a\\"], "OTHER").word(session.default_realm)


def test_answers_stay_with_their_commands(kdc):
    commands = [["get_principal", "-terse", name] for name in ("K/M", "nobody", "kadmin/admin")]
    with Kadmin(["kadmin.local"]) as session:
        first, second, third = session.run(commands * 50)[-3:]
        assert session.run([]) == []
    assert first.startswith('"K/M@')
    assert "does not exist" in second
    assert third.startswith('"kadmin/admin@')


def test_an_alias_is_not_taken_for_the_principal(tmp_path):
    # Debian 12's KDC has no aliases; a newer one answers with the principal behind it.
    line = '"web@R"\\t' + "\\t".join("0" * 9) + '\\t"[none]"' + "\\t0" * 5
    step = f"printf '\nkadmin.local:  '; read line; printf '{line}\n'\n"
    with Kadmin([program(tmp_path, step * 2 + "printf 'kadmin.local:  '; read line")]) as session:
        session._default_realm = "R"
        alias, name = Principal(["www"], None), Principal(["web"], "R")
        found = session.get_principals([alias, name])
    assert "www@R is an alias, which is not managed here; it is one of web@R" in str(found[alias])
    assert found[name]["name"] == "web@R"


def test_a_missing_database_is_told(kdc):
    for file in kdc.root.glob("principal*"):
        file.unlink()
    with pytest.raises(KadminError, match=r"ended before its time.*No such file"):
        Kadmin(["kadmin.local"]).__enter__()


def test_a_program_that_is_not_there():
    with pytest.raises(KadminError, match="cannot be started"):
        Kadmin(["/nonexistent/kadmin.local"]).__enter__()


def program(tmp_path, text):
    path = tmp_path / "kadmin.local"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_program_that_hangs_is_ended(tmp_path):
    path = program(tmp_path, "echo 'Password for admin:'\nexec sleep 60\n")
    with pytest.raises(KadminError, match=r"no answer for 0.5 s.*Password for admin"):
        Kadmin([path], timeout=0.5).__enter__()


def test_a_program_that_dies_midway(tmp_path):
    path = program(tmp_path, "printf 'kadmin.local:  '; read line; echo 'lost contact'; exit 0\n")
    with (
        Kadmin([path]) as session,
        pytest.raises(KadminError, match=r"ended before its time: lost contact"),
    ):
        session.run([["get_principal", "a"], ["get_principal", "b"]])


def test_what_was_done_before_the_end_is_told(tmp_path):
    step = "printf '\\nkadmin.local:  '; read line; "
    path = program(tmp_path, step + "printf 'first done'; " + step + "echo 'lost contact'\n")
    with Kadmin([path]) as session:
        answers, error = session.attempt([["a"], ["b"], ["c"]])
    assert answers == ["first done\n"]
    assert "lost contact" in str(error)


@pytest.mark.parametrize(
    ("given_options", "argv"),
    [
        ({}, ["/bin/kadmin.local"]),
        ({"realm": "R"}, ["/bin/kadmin.local", "-r", "R"]),
        ({"kadmin_path": "/opt/kadmin.local"}, ["/opt/kadmin.local"]),
        (
            {"admin_server": "k", "admin_principal": "a/admin", "admin_keytab": "/a.keytab"},
            ["/bin/kadmin", "-s", "k", "-p", "a/admin", "-k", "-t", "/a.keytab"],
        ),
        (
            {"admin_server": "k", "admin_ccache": "FILE:/x"},
            ["/bin/kadmin", "-s", "k", "-c", "FILE:/x"],
        ),
    ],
)
def test_the_command_for_the_options(given_options, argv):
    params = dict.fromkeys(kadmin.ADMIN_ARGUMENTS) | given_options
    assert kadmin.admin_argv(params, lambda name: f"/bin/{name}") == argv


def test_a_server_without_credentials_or_no_program():
    params = dict.fromkeys(kadmin.ADMIN_ARGUMENTS)
    with pytest.raises(KadminError, match="admin_keytab"):
        kadmin.admin_argv(params | {"admin_server": "k"}, lambda name: name)
    with pytest.raises(KadminError, match="krb5-admin-server"):
        kadmin.admin_argv(params, lambda name: None)
