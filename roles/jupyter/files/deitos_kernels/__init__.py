"""Kernels on YARN, started by people's own Jupyter servers with their own tickets."""
