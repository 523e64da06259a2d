# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""One authenticated LDAP connection, and changes to entries as before and after."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from dataclasses import dataclass, field

try:
    import ldap
    import ldap.dn
    import ldap.sasl
    from ldap.controls import SimplePagedResultsControl

    LDAP_IMPORT_ERROR = None
except ImportError:
    LDAP_IMPORT_ERROR = traceback.format_exc()

PAGE = 1000

ARGUMENTS = {
    "uri": {"type": "str", "default": "ldapi:///"},
    "bind": {"type": "str", "choices": ["external", "gssapi"], "default": "external"},
    "start_tls": {"type": "bool", "default": False},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "principal": {"type": "str"},
    "keytab": {"type": "path"},
    "timeout": {"type": "int", "default": 30},
}
TOGETHER = [("client_cert", "client_key")]


class DirectoryError(Exception):
    """The server cannot be used; the text says why and what to do."""


@dataclass
class Change:
    """What one entry is and what it is to become; an empty side means that it is not there."""

    item: str
    dn: str
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)

    @property
    def action(self):
        if not self.before:
            return "added"
        return "modified" if self.after else "deleted"

    def differing(self):
        """The names of the attributes that differ."""
        names = dict.fromkeys([*self.before, *self.after])
        return [n for n in names if self.before.get(n, []) != self.after.get(n, [])]

    def as_diff(self, hide=()):
        """The two sides as text, with no more than what differs.

        hide: names of attributes, in lower case, whose values are not shown.
        """
        names = self.differing()
        return {
            "before_header": self.dn,
            "after_header": self.dn,
            "before": _as_text(self.before, names, hide),
            "after": _as_text(self.after, names, hide),
        }


def _as_text(entry, names, hide):
    lines = []
    for name in names:
        hidden = plain(name) in hide
        for value in entry.get(name, []):
            lines.append(f"{name}: {'(hidden)' if hidden else value}\n")
    return "".join(lines)


def plain(name):
    """An attribute's name in one spelling, without options such as ;lang-en."""
    return name.lower().partition(";")[0]


def describe(error):
    """The words of an LDAPError that a person needs."""
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    words = [str(details[key]) for key in ("desc", "info") if details.get(key)]
    return ": ".join(dict.fromkeys(words)) or str(error) or type(error).__name__


def normalized(dn):
    """A DN in one spelling, to compare it with another."""
    try:
        return ldap.dn.dn2str(ldap.dn.str2dn(dn.lower()))
    except ldap.DECODING_ERROR:
        return dn.lower()


def as_text(attributes):
    """The attributes of an entry as lists of text."""
    return {
        name: [value.decode("utf-8", "surrogateescape") for value in values]
        for name, values in attributes.items()
    }


def _as_bytes(values):
    return [value.encode("utf-8", "surrogateescape") for value in values]


def modifications(change, ordered=False):
    """The modify operations that make `after` of `before`.

    One value is replaced; of several, only those that differ are added and removed, so that a
    group of thousands is not sent again for one new member. Values that the server keeps in order
    are numbered anew by each removal, so those are replaced together.
    """
    found = []
    for name in change.differing():
        before, after = change.before.get(name, []), change.after.get(name, [])
        gone = [value for value in before if value not in after]
        new = [value for value in after if value not in before]
        if gone and (ordered or len(before) == 1 or not after):
            found.append((ldap.MOD_REPLACE, name, _as_bytes(after) or None))
            continue
        if gone:
            found.append((ldap.MOD_DELETE, name, _as_bytes(gone)))
        if new:
            found.append((ldap.MOD_ADD, name, _as_bytes(new)))
    return found


class Session:
    """A connection, bound as the options say; use it in a `with`."""

    def __init__(self, module):
        self.module = module
        self.options = module.params
        self.cache = None
        self.connection = None

    def __enter__(self):
        options = self.options
        try:
            self.connection = self._connect()
            if options["bind"] == "external":
                self.connection.sasl_non_interactive_bind_s("EXTERNAL")
            else:
                self._get_ticket()
                self.connection.sasl_interactive_bind_s("", ldap.sasl.gssapi(""))
        except ldap.LDAPError as error:
            self.close()
            raise DirectoryError(self._why(error)) from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_unused):
        self.close()

    def close(self):
        """Drop the connection and the private credentials cache."""
        if self.connection is not None:
            self.connection.unbind_ext_s()
            self.connection = None
        if self.cache:
            shutil.rmtree(self.cache, ignore_errors=True)
            self.cache = None

    def _connect(self):
        options = self.options
        connection = ldap.initialize(options["uri"])
        connection.protocol_version = ldap.VERSION3
        connection.set_option(ldap.OPT_REFERRALS, ldap.OPT_OFF)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, options["timeout"])
        connection.set_option(ldap.OPT_TIMEOUT, options["timeout"])
        # The host name of the URI is the name of the service's principal.
        connection.set_option(ldap.OPT_X_SASL_NOCANON, ldap.OPT_ON)
        if options["ca_path"]:
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, options["ca_path"])
        if options["client_cert"] and options["client_key"]:
            connection.set_option(ldap.OPT_X_TLS_CERTFILE, options["client_cert"])
            connection.set_option(ldap.OPT_X_TLS_KEYFILE, options["client_key"])
        if not options["uri"].startswith("ldapi:"):
            connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
            connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if options["start_tls"]:
            connection.start_tls_s()
        return connection

    def _get_ticket(self):
        """A ticket from the keytab, in a cache that nobody else uses."""
        if not self.options["keytab"]:
            return
        self.cache = tempfile.mkdtemp(prefix="deitos-ldap-")
        os.environ["KRB5CCNAME"] = f"FILE:{self.cache}/ccache"
        command = ["kinit", "-k", "-t", self.options["keytab"]]
        if self.options["principal"]:
            command.append(self.options["principal"])
        status, _out, error = self.module.run_command(command)
        if status:
            raise DirectoryError(
                f"no ticket from the keytab {self.options['keytab']}: {error.strip()}"
            )

    def _why(self, error):
        uri, text = self.options["uri"], describe(error)
        if isinstance(error, (ldap.SERVER_DOWN, ldap.CONNECT_ERROR)):
            hint = "is slapd running"
            if uri.startswith("ldapi:"):
                hint += " on this host, and may this user open its socket?"
            else:
                hint += ", and does the CA of 'ca_path' vouch for its certificate?"
        elif isinstance(error, ldap.CONFIDENTIALITY_REQUIRED):
            hint = "the server wants TLS: set start_tls or use ldaps"
        elif self.options["bind"] == "gssapi":
            hint = "is there a valid ticket, or a keytab in 'keytab'?"
        elif uri.startswith("ldapi:"):
            hint = "is ldapi allowed to this user?"
        else:
            hint = "it takes TLS and a 'client_cert' for which the server asks (olcTLSVerifyClient)"
        return f"cannot use {uri}: {text}; {hint}"

    def search(self, base, scope, filter_="(objectClass=*)", attributes=None):
        """[(dn, {name: [text]})] of all entries found; none when the base is not there."""
        page = SimplePagedResultsControl(True, size=PAGE, cookie="")
        # One entry needs no pages, which cn=config does not have.
        paged = [] if scope == ldap.SCOPE_BASE else [page]
        found = []
        while True:
            try:
                message = self.connection.search_ext(
                    base, scope, filter_, attributes, serverctrls=paged
                )
                _kind, data, _id, controls = self.connection.result3(message)
            except ldap.NO_SUCH_OBJECT:
                return []
            except ldap.CONFIDENTIALITY_REQUIRED as error:
                raise DirectoryError(self._why(error)) from error
            except ldap.LDAPError as error:
                raise DirectoryError(f"cannot read {base}: {describe(error)}") from error
            found += [(dn, as_text(values)) for dn, values in data if dn is not None]
            cookies = [c.cookie for c in controls if c.controlType == page.controlType]
            if not cookies or not cookies[0]:
                return found
            page.cookie = cookies[0]

    def apply(self, change, ordered=False):
        """Carry out one change; returns why it failed, or nothing."""
        try:
            if change.action == "added":
                entry = [(name, _as_bytes(v)) for name, v in change.after.items() if v]
                self.connection.add_s(change.dn, entry)
            elif change.action == "deleted":
                self.connection.delete_s(change.dn)
            else:
                self.connection.modify_s(change.dn, modifications(change, ordered))
        except ldap.LDAPError as error:
            return describe(error)
        return None
