"""How people prove who they are: with a password, or with a ticket and one to pass on.

Either way there is a cache of tickets for their server in the end.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import gssapi
import krb5

# Of /usr/include/krb5/krb5.h.
KEY_EXPIRED, REVOKED, UNREACHABLE = -1765328361, -1765328366, -1765328228
NAME = r"[a-z_][a-z0-9_.-]{0,30}"
HOST_KEYTAB = "FILE:/etc/krb5.keytab"


class Refused(Exception):
    """Who may not come in, in words for that person."""


WRONG = "Wrong name or password."
DISABLED = "This account is disabled, or locked after too many wrong passwords."


def by_password(name: str, password: str, realm: str, host: str) -> bytes:
    """The tickets that a password gives."""
    if not re.fullmatch(NAME, name) or not password:
        raise Refused(WRONG)
    context = krb5.init_context()
    who = krb5.parse_name_flags(context, f"{name}@{realm}".encode())
    try:
        ticket = ask(context, who, password)
    except krb5.Krb5Error as error:
        if error.err_code == KEY_EXPIRED:
            error = expired(context, who, password) or error
        raise Refused(
            {
                KEY_EXPIRED: f"This password must be changed first: log in to {host} by SSH, or "
                f"run kpasswd {name} where you have a shell. Then come back.",
                REVOKED: DISABLED,
                UNREACHABLE: "Kerberos does not answer. Try again, or tell the administrators.",
            }.get(error.err_code, WRONG)
        ) from error
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "krb5cc")
        cache = krb5.cc_resolve(context, f"FILE:{place}".encode())
        krb5.cc_initialize(context, cache, who)
        krb5.cc_store_cred(context, cache, ticket)
        content = place.read_bytes()
        believe(place, host)
    return content


def ask(context, who, password: str, service: bytes | None = None):
    """A ticket for tickets, or for this service alone."""
    options = krb5.get_init_creds_opt_alloc(context)
    krb5.get_init_creds_opt_set_forwardable(options, service is None)
    return krb5.get_init_creds_password(
        context, who, options, password.encode(), in_tkt_service=service
    )


def expired(context, who, password: str) -> krb5.Krb5Error | None:
    """What is wrong with an expired password besides that; nothing with the right one."""
    try:
        ask(context, who, password, b"kadmin/changepw")
    except krb5.Krb5Error as error:
        return error
    return None


def believe(cache: Path, host: str) -> None:
    """See that it was the KDC who gave these tickets: one for this very host fits its key."""
    service = gssapi.Name(f"host@{host}", gssapi.NameType.hostbased_service)
    owner = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{cache}"})
    machine = gssapi.Credentials(usage="accept", store={"keytab": HOST_KEYTAB})
    asking = gssapi.SecurityContext(name=service, creds=owner, usage="initiate")
    gssapi.SecurityContext(creds=machine, usage="accept").step(asking.step())


def by_ticket(token: bytes, realm: str, keytab: str) -> tuple[str, bytes]:
    """Who sent a token of SPNEGO, and the tickets passed on with it."""
    machine = gssapi.Credentials(usage="accept", store={"keytab": f"FILE:{keytab}"})
    context = gssapi.SecurityContext(creds=machine, usage="accept")
    try:
        context.step(token)
        sender = str(context.initiator_name) if context.complete else ""
    except gssapi.exceptions.GSSError as error:
        raise Refused(
            "The ticket was not accepted: kinit, or log in with your password."
        ) from error
    found = re.fullmatch(rf"({NAME})@{re.escape(realm)}", sender)
    if not found:
        raise Refused("This ticket is no person's of this cluster.")
    if not context.delegated_creds:
        raise Refused(
            "Your browser has a ticket, but does not pass one on, which your server needs. Log in "
            "with your password, or allow delegation for this site."
        )
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory, "krb5cc")
        context.delegated_creds.store({"ccache": f"FILE:{place}"}, usage="initiate", overwrite=True)
        return found[1], place.read_bytes()
