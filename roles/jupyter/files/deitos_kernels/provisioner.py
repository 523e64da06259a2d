"""Starts kernels on YARN as their owner, on top of gateway_provisioners.

That package finds, watches and kills the application. Not taken from it is how server and kernel
know each other. Its kernel makes up the keys and sends them to whoever shipped a public key that
stands on a command line, from whoever knows that key; its sixth port takes signals from everybody.
Here the server makes the keys and ships them in a file with the application, the kernel proves on
its line that it has them (lifeline.py), and an interrupt is a message on the encrypted control
channel. There is no port for signals.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import gssapi
import zmq
from gateway_provisioners.remote_provisioner import RemoteProvisionerBase
from gateway_provisioners.response_manager import ResponseManager
from gateway_provisioners.yarn import YarnProvisioner
from jupyter_core.paths import jupyter_runtime_dir, secure_write
from requests_kerberos import HTTPKerberosAuth
from tornado.web import HTTPError
from traitlets import Integer, List, Unicode
from traitlets.config import SingletonConfigurable
from yarn_api_client import ResourceManager

from . import words
from .launcher import LAUNCH_FILE, PORTS
from .lifeline import Lines

TAG = "deitos-kernel"
LIVE_STATES = ["NEW", "SUBMITTED", "ACCEPTED", "RUNNING"]


class Refused(HTTPError):
    """No kernel, in words that reach the notebook."""

    def __init__(self, text, status=500):
        super().__init__(status, text, reason="No kernel")
        self.text = text

    def __str__(self):
        return self.text


class NoResponses(ResponseManager):
    """Keeps gateway_provisioners from listening."""

    response_address = ""
    public_key = ""

    def __init__(self, **kwargs):
        super(ResponseManager, self).__init__(**kwargs)

    def register_event(self, kernel_id):
        pass


def has_ticket():
    try:
        return (gssapi.Credentials(usage="initiate").lifetime or 0) > 30
    except gssapi.exceptions.GSSError:
        return False


def process_mark(pid):
    """What no other process of this host was or will be."""
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    return f"{boot}-{pid}-{started}"


def is_running(mark):
    try:
        return process_mark(mark.split("-")[1]) == mark
    except OSError:
        return False


class Yarn(SingletonConfigurable):
    """The cluster, as this server's kernels see it."""

    endpoints = List(Unicode(), help="The ResourceManagers' URLs, without a path.").tag(config=True)
    ca_file = Unicode(help="Which authority their certificates are of.").tag(config=True)
    host = Unicode(help="The name of this host, by which kernels call it.").tag(config=True)
    call_ports = Unicode(help="On one of these the server waits for calls.").tag(config=True)
    kernel_ports = Unicode(help="On five of these each kernel listens.").tag(config=True)
    launch_seconds = Integer(120, help="How long a kernel may take to start.").tag(config=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.user = getpass.getuser()
        here = hashlib.sha256(self.host.encode()).hexdigest()[:12]
        self.host_tag = f"{TAG}-server-{here}-"
        self.server_tag = self.host_tag + process_mark(os.getpid())
        self.lines = Lines(self.host, self.call_ports)
        runtime = Path(jupyter_runtime_dir())
        runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Ends with this process.
        self.directory = tempfile.TemporaryDirectory(prefix="launch-", dir=runtime)

    def manager(self):
        """The active ResourceManager, asked with the ticket of this moment."""
        return ResourceManager(
            self.endpoints, timeout=20, auth=HTTPKerberosAuth(), verify=self.ca_file
        )

    def applications(self, tag, **which):
        """This person's applications with a tag, the newest first."""
        found = self.manager().cluster_applications(user=self.user, application_tags=[tag], **which)
        apps = (found.data.get("apps") or {}).get("app", [])
        return sorted(apps, key=lambda app: app["id"], reverse=True)

    def kill(self, application):
        self.manager().cluster_application_kill(application)

    def is_orphan(self, app):
        """Whether it is a kernel of a server that ran on this host and runs no more."""
        marks = [
            tag.removeprefix(self.host_tag)
            for tag in app.get("applicationTags", "").split(",")
            if tag.startswith(self.host_tag)
        ]
        return bool(marks) and not any(map(is_running, marks))

    def reap(self):
        """End kernels of servers that are no more, if a line's end has not told them."""
        if not has_ticket():
            return
        try:
            for app in filter(self.is_orphan, self.applications(TAG, states=LIVE_STATES)):
                self.log.warning("Ending %s, a kernel of a server that is gone", app["id"])
                self.kill(app["id"])
        except Exception as error:
            self.log.warning("Did not see to the kernels of earlier servers: %s", error)

    def reap_soon(self):
        threading.Thread(target=self.reap, daemon=True).start()


class DeitosYarnProvisioner(YarnProvisioner):
    """A kernel that is the driver of a Spark application."""

    def __init__(self, **kwargs):
        NoResponses.instance()
        super().__init__(**kwargs)
        self.yarn = Yarn.instance(parent=self.parent)
        self.line = None
        self.launch_file = None
        self.output = None
        self.notice = ""

    # --- Start ------------------------------------------------------------------------------

    async def refuse_without_ticket(self):
        if not await asyncio.to_thread(has_ticket):
            raise Refused(words.NO_TICKET, 403)

    async def pre_launch(self, **kwargs):
        await self.refuse_without_ticket()
        # POST /api/kernels brings no environment.
        kwargs["env"] = dict(kwargs.get("env") or os.environ)
        # Spark would take the server's own modules along.
        kwargs["env"].pop("PYTHONPATH", None)
        await self.yarn.lines.serve()
        kwargs = await super().pre_launch(**kwargs)
        program, *arguments = kwargs["cmd"]
        kwargs["cmd"] = [program, *self._ship(), *arguments]
        return kwargs

    def _initialize_resource_manager(self, **kwargs):
        try:
            self.resource_mgr = self.yarn.manager()
        except Exception as error:
            raise Refused(words.no_yarn(error)) from error
        self.rm_addr = self.resource_mgr.get_active_endpoint()

    def _resolve_transport_encryption(self, policy):
        self.transport_encryption = "required"
        self.curve_enabled = True

    def _ship(self):
        """Write what the kernel is to know, and say how it is shipped with the application."""
        manager = self.parent
        if manager.curve_publickey is None:
            manager.curve_publickey, manager.curve_secretkey = zmq.curve_keypair()
        self.connection_info = {
            "transport": "tcp",
            "key": manager.session.key,
            "signature_scheme": manager.session.signature_scheme,
            "curve_publickey": manager.curve_publickey.decode(),
            "curve_secretkey": manager.curve_secretkey.decode(),
        }
        self.line = self.yarn.lines.expect()
        launch = {
            "launch": self.line.launch,
            "line_key": self.line.key,
            "server": self.yarn.lines.address,
            "ports": self.yarn.kernel_ports,
            "notice": self.notice,
            "connection": self.connection_info | {"key": manager.session.key.decode()},
        }
        self.notice = ""
        self.launch_file = Path(self.yarn.directory.name) / f"{self.line.launch}.json"
        with secure_write(str(self.launch_file)) as file:
            json.dump(launch, file)
        return [
            *("--name", f"jupyter {self.kernel_spec.display_name} {self.kernel_id}"),
            *("--conf", f"spark.yarn.tags={TAG},{self.yarn.server_tag},{self._launch_tag()}"),
            *("--files", f"{self.launch_file}#{LAUNCH_FILE}"),
        ]

    def _launch_tag(self):
        return f"{TAG}-launch-{self.line.launch}"

    async def launch_kernel(self, cmd, **kwargs):
        with tempfile.TemporaryFile() as self.output:
            try:
                return await super().launch_kernel(
                    cmd, stdout=subprocess.DEVNULL, stderr=self.output, **kwargs
                )
            except BaseException as error:
                self.log.error("Kernel %s did not start: %s", self.kernel_id, error)
                await self.kill()
                await self.cleanup()
                raise
            finally:
                self.launch_file.unlink(missing_ok=True)

    async def confirm_remote_startup(self):
        """Wait until the kernel calls."""
        self.start_time = RemoteProvisionerBase.get_current_time()
        deadline = time.monotonic() + self.yarn.launch_seconds
        line = self.line
        while not line.said.done():
            await asyncio.wait([line.said], timeout=2)
            if line.said.done():
                break
            if line.gone.is_set():
                raise Refused(words.GIVEN_UP)
            if self.local_proc.poll():
                raise Refused(words.not_submitted(self._submit_output()))
            app = await asyncio.to_thread(self._application)
            if app and app["state"] in words.FINAL_STATES:
                raise Refused(words.ended_early(app))
            if time.monotonic() > deadline:
                raise Refused(words.too_slow(app, self.yarn.launch_seconds))
        said = line.said.result()
        if "error" in said:
            raise Refused(words.failed_inside(said["error"], self.application_id))
        self.application_id = said["application"]
        self.connection_info |= {"ip": said["ip"]} | {name: said[name] for name in PORTS}
        self.assigned_ip = self.assigned_host = said["ip"]
        self.log.info("Kernel %s is %s at %s", self.kernel_id, self.application_id, said["ip"])
        await self._submitted()

    async def _submitted(self):
        """spark-submit is of no more use."""
        if self.local_proc is not None:
            process, self.local_proc = self.local_proc, None
            process.kill()
            await asyncio.to_thread(process.wait)

    def _submit_output(self):
        self.output.seek(0)
        text = self.output.read(1 << 20).decode(errors="replace")
        self.log.error("spark-submit of kernel %s said:\n%s", self.kernel_id, text[-8000:])
        return text

    def _application(self):
        """The application of this launch, as far as YARN knows and tells of it."""
        try:
            apps = self.yarn.applications(self._launch_tag())
        except Exception as error:
            self.log.warning("YARN was not asked about kernel %s: %s", self.kernel_id, error)
            return None
        if apps:
            self.application_id = apps[0]["id"]
        return apps[0] if apps else None

    # --- Life and end -----------------------------------------------------------------------

    async def poll(self):
        if self.line is None:
            return 0
        if not self.line.gone.is_set():
            return None
        if not self.notice and self.line.said.done() and not self.parent.shutting_down:
            self.notice = words.lost(await self._final())
            self.log.warning("Kernel %s: %s", self.kernel_id, self.notice)
        return 0

    async def _final(self):
        """The application, once YARN has noticed its end."""
        for _attempt in range(10):
            app = await asyncio.to_thread(self._application)
            if app is None or app["state"] in words.FINAL_STATES:
                break
            await asyncio.sleep(0.5)
        return app

    async def send_signal(self, signum):
        """Interrupts go as messages, so what is left are ends."""
        if signum in (signal.SIGTERM, signal.SIGKILL):
            await self.kill()

    async def terminate(self, restart=False):
        await self.kill(restart)

    async def kill(self, restart=False):
        """Hang up, which ends a kernel that runs, and have YARN end it whatever it does."""
        if self.line is None:
            return
        self.line.hang_up()
        await self._submitted()
        app = await asyncio.to_thread(self._application)
        if app is not None and app["state"] not in words.FINAL_STATES:
            try:
                await asyncio.to_thread(self.yarn.kill, app["id"])
            except Exception as error:
                self.log.warning("YARN did not end %s: %s", app["id"], error)

    async def cleanup(self, restart=False):
        if self.line is not None:
            self.yarn.lines.forget(self.line)
            self.line = None
        await self._submitted()
        await super().cleanup(restart=restart)
