"""JupyterHub's configuration: data of hub.json, and the one secret that is none of its own."""

import json
from pathlib import Path

from traitlets.config import Config

HERE = Path("/etc/jupyterhub")

c = get_config()  # noqa: F821
c.merge(Config(json.loads((HERE / "hub.json").read_text())))
c.ConfigurableHTTPProxy.auth_token = (HERE / "proxy.token").read_text().strip()
