"""All kernels of one person's server."""

from __future__ import annotations

import asyncio
import uuid

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.handlers import (
    KernelActionHandler,
    _kernel_action_regex,
    _kernel_id_regex,
)
from jupyter_server.services.kernels.kernelmanager import (
    AsyncMappingKernelManager,
    ServerKernelManager,
)
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError
from traitlets import Integer, default

from . import words
from .provisioner import DeitosYarnProvisioner, Refused, Yarn


class Kernel(ServerKernelManager):
    """May come back in another place, and takes a while for it."""

    restart = None

    async def restart_kernel(self, *args, **kwargs):
        """Restart it; who asks while it restarts, as by itself after its end, gets the same one."""
        if self.restart is None or self.restart.done():
            self.restart = asyncio.ensure_future(self._restart(*args, **kwargs))
        await asyncio.shield(self.restart)

    async def _restart(self, *args, **kwargs):
        on_yarn = isinstance(self.provisioner, DeitosYarnProvisioner)
        if on_yarn:
            # Before the end of the one that runs.
            await self.provisioner.refuse_without_ticket()
        await super().restart_kernel(*args, **kwargs)
        if on_yarn and isinstance(self.parent, Kernels):
            self.parent.follow(self.kernel_id)


class Kernels(AsyncMappingKernelManager):
    """Has a limit, and ends what an earlier server left on YARN."""

    max_kernels = Integer(10, help="How many kernels one person may have.").tag(config=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.starting = set()
        Yarn.instance(parent=self).reap_soon()

    @default("kernel_manager_class")
    def _default_kernel_manager_class(self):
        return f"{__name__}.Kernel"

    async def _async_start_kernel(self, *, kernel_id=None, **kwargs):
        if kernel_id in self:
            return await super()._async_start_kernel(kernel_id=kernel_id, **kwargs)
        if len(self._kernels.keys() | self.starting) >= self.max_kernels:
            raise Refused(words.too_many(self.max_kernels), 403)
        kernel_id = kernel_id or str(uuid.uuid4())
        self.starting.add(kernel_id)
        try:
            return await super()._async_start_kernel(kernel_id=kernel_id, **kwargs)
        finally:
            self.starting.discard(kernel_id)
            # One that failed would be waited for when the server stops.
            self._pending_kernels.pop(kernel_id, None)

    start_kernel = _async_start_kernel

    def __bool__(self):
        """Or a server that has no kernel yet would not end the one that starts."""
        return True

    async def shutdown_all(self, now=False):
        """End all kernels; those that start need not first have done so."""
        starts = [self._pending_kernels[one] for one in self.starting & set(self._pending_kernels)]
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await super().shutdown_all(now=now)

    def follow(self, kernel_id):
        """Listen where the kernel is now, and have notebooks connect anew."""
        if kernel_id not in self:
            return
        self.get_kernel(kernel_id).execution_state = "starting"
        self.stop_watching_activity(kernel_id)
        self.start_watching_activity(kernel_id)
        for connection in list(ZMQChannelsWebsocketConnection._open_sockets):
            if connection.kernel_id == kernel_id:
                connection.websocket_handler.close()


class ActionHandler(KernelActionHandler):
    """Says why a kernel was not restarted."""

    async def post(self, *args, **kwargs):
        try:
            await super().post(*args, **kwargs)
        except HTTPError as error:
            if isinstance(error.__cause__, Refused):
                raise error.__cause__ from None
            raise


def _load_jupyter_server_extension(server):
    path = url_path_join(
        *(server.web_app.settings["base_url"], "api", "kernels"),
        *(_kernel_id_regex, _kernel_action_regex),
    )
    server.web_app.add_handlers(".*$", [(path, ActionHandler)])
