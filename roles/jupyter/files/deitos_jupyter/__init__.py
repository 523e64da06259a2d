"""What JupyterHub needs to know of the cluster: who people are, their tickets, their servers."""
