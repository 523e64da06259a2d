"""Kernels on YARN, started by people's own Jupyter servers with their own tickets."""


def _jupyter_server_extension_points():
    return [{"module": "deitos_kernels.manager"}]
