"""Who may use the hub: people of the directory, by password or by ticket."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import grp
import os
import pwd
from dataclasses import dataclass

from jupyterhub import auth
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LoginHandler
from tornado import web
from traitlets import List, Unicode

from . import kerberos, tickets
from .kerberos import Refused

# JupyterHub 6.1.1 asks this of every request whose account is refused, and says it of some.
BaseHandler._token_authenticated = False


@dataclass(frozen=True)
class Shown:
    """A token of SPNEGO. A form is a dictionary of texts, and can never look like this."""

    token: bytes


class Authenticator(auth.Authenticator):
    """The password is Kerberos's; whether the account is good, PAM says; tickets are kept."""

    realm = Unicode(config=True, help="Of people.")
    host = Unicode(config=True, help="The full name of this host.")
    keytab = Unicode(config=True, help="With HTTP/ and the names of this host.")
    members_of = List(Unicode(), config=True, help="Whose members may log in; none is everybody.")
    operators = Unicode(config=True, help="The group whose members see and stop servers.")

    def get_handlers(self, app):
        return [("/login", LoginHandler), ("/spnego", SpnegoHandler)]

    async def authenticate(self, handler, data):
        """Threads of their own for what waits for the KDC or the directory."""
        try:
            name, cache = await asyncio.to_thread(self.identify, data)
            groups = await asyncio.to_thread(self.judge, name)
        except (Refused, tickets.Unsure) as refused:
            # The text is no format of a log.
            raise web.HTTPError(403, str(refused).replace("%", "%%")) from refused
        async with tickets.turns[name]:
            await asyncio.to_thread(tickets.keep, name, cache)
        return {"name": name, "groups": groups}

    def identify(self, data) -> tuple[str, bytes]:
        if isinstance(data, Shown):
            return kerberos.by_ticket(data.token, self.realm, self.keytab)
        name = data.get("username", "")
        return name, kerberos.by_password(name, data.get("password", ""), self.realm, self.host)

    def judge(self, name: str) -> list[str]:
        """The groups that the hub knows of and a person is in; Refused for who may not come in."""
        if not tickets.admitted(name):
            raise Refused(kerberos.DISABLED)
        try:
            person = pwd.getpwnam(name)
        except KeyError as error:
            raise Refused(kerberos.WRONG) from error
        found = set()
        for number in os.getgrouplist(name, person.pw_gid):
            with contextlib.suppress(KeyError):  # A number that no group has any more.
                found.add(grp.getgrgid(number).gr_name)
        if self.members_of and found.isdisjoint([*self.members_of, self.operators]):
            raise Refused(f"Notebooks are for members of: {', '.join(self.members_of)}.")
        return [self.operators] if self.operators in found else []

    async def refresh_user(self, user, handler=None):
        try:
            groups = await asyncio.to_thread(self.judge, user.name)
        except Refused as refused:
            self.log.warning("%s: %s", user.name, refused)
            return False
        except tickets.Unsure as unsure:
            # Who was let in stays in while the directory is away.
            self.log.warning("%s", unsure)
            return True
        return {"name": user.name, "groups": groups}


class SpnegoHandler(LoginHandler):
    """A login with a ticket that the browser shows and passes on; or else the form, and why."""

    async def get(self):
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        reason = "Your browser shows no ticket here. Log in with your password."
        if scheme.lower() == "negotiate":
            try:
                user = await self.login_user(Shown(base64.b64decode(token)))
            except binascii.Error:
                reason = "What your browser sent is no ticket."
            except web.HTTPError as error:
                reason = error.log_message.replace("%%", "%")
            else:
                if user:
                    self._jupyterhub_user = user
                    self.redirect(self.get_next_url(user))
                    return
                reason = "You may not log in here."
            self.set_status(403)
        else:
            self.set_status(401)
            self.set_header("WWW-Authenticate", "Negotiate")
        self.finish(await self._render(login_error=reason))
