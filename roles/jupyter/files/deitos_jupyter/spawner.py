"""A person's server: a unit of systemd's with limits, a ticket, and a socket for the proxy."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import subprocess
from pathlib import Path
from urllib.parse import quote

from jupyterhub.spawner import SpawnException
from systemdspawner import SystemdSpawner
from traitlets import Unicode

from . import tickets

SOCKETS = Path("/run/jupyter/servers")


class Spawner(SystemdSpawner):
    """Servers listen on sockets in files, where nobody else on this host can take their place."""

    proxy_group = Unicode("jupyter", config=True, help="The proxy's, which alone may connect.")

    @property
    def socket(self) -> Path:
        return SOCKETS / self.user.name / "server.sock"

    @property
    def server(self):
        server = super().server
        if server is not None:
            place = f"http+unix://{quote(str(self.socket), safe='')}"
            server.connect_url = f"{place}{server.base_url}"
        return server

    @server.setter
    def server(self, server):
        SystemdSpawner.server.fset(self, server)

    def get_args(self):
        return [
            *super().get_args(),
            f"--ServerApp.sock={self.socket}",
            "--ServerApp.sock_mode=0660",
        ]

    def get_env(self):
        return {
            **super().get_env(),
            "KRB5CCNAME": tickets.in_words(tickets.cache_of(self.user.name)),
            # A server that has a socket takes no port but the one that it would not use either.
            "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:8888{self.server.base_url}",
        }

    def prepare(self) -> None:
        """A ticket, a home and a place for the socket."""
        if not tickets.valid(self.user.name):
            message = "There is no valid Kerberos ticket for your server: log out and log in again."
            error = SpawnException(message, reason="ticket")
            error.jupyterhub_html_message = f'{message} <a href="/hub/logout">Log out</a>'
            raise error
        person = pwd.getpwnam(self.user.name)
        if not Path(person.pw_dir).exists():
            subprocess.run(["/usr/sbin/mkhomedir_helper", person.pw_name, "0077"], check=True)
        directory = self.socket.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(directory, person.pw_uid, grp.getgrnam(self.proxy_group).gr_gid)
        # What is made in it has the proxy's group.
        directory.chmod(0o2750)
        self.socket.unlink(missing_ok=True)

    async def start(self):
        async with tickets.turns[self.user.name]:
            await asyncio.to_thread(self.prepare)
        return await super().start()
