"""All kernels of one person's server."""

from __future__ import annotations

import uuid

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import Integer

from . import words
from .provisioner import Refused, Yarn


class Kernels(AsyncMappingKernelManager):
    """Has a limit, and ends what an earlier server left on YARN."""

    max_kernels = Integer(10, help="How many kernels one person may have.").tag(config=True)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        Yarn.instance(parent=self).reap_soon()

    async def _async_start_kernel(self, *, kernel_id=None, **kwargs):
        if kernel_id in self:
            return await super()._async_start_kernel(kernel_id=kernel_id, **kwargs)
        if len(self._kernels.keys() | self._pending_kernels.keys()) >= self.max_kernels:
            raise Refused(words.too_many(self.max_kernels), 403)
        kernel_id = kernel_id or str(uuid.uuid4())
        try:
            return await super()._async_start_kernel(kernel_id=kernel_id, **kwargs)
        finally:
            # One that failed would be waited for when the server stops.
            self._pending_kernels.pop(kernel_id, None)

    start_kernel = _async_start_kernel
