# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Prints how long each plane of a run took."""

from __future__ import annotations

DOCUMENTATION = """
name: plane_times
type: aggregate
short_description: How long each plane took
version_added: 0.1.0
description:
  - Adds up the time of all plays that stand in one playbook file, and prints one line a file, in
    the order they ran. With a C(site.yml) that imports one playbook a plane this is how long each
    plane took.
requirements:
  - Enabled in C(callbacks_enabled).
author: The Deitos Cluster authors (@deitos)
options:
  file:
    description: Where to write the same as JSON, in seconds by plane; nowhere unless set.
    type: path
    env:
      - name: DEITOS_PLANE_TIMES
"""

import json
import time
from pathlib import Path, PurePath

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """One clock, read whenever a play begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "deitos.cluster.plane_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.planes = {}
        self.plane = None
        self.since = None

    def _turn(self, plane):
        now = time.monotonic()
        if self.plane is not None:
            self.planes[self.plane] = self.planes.get(self.plane, 0.0) + now - self.since
        self.plane, self.since = plane, now

    def v2_playbook_on_play_start(self, play):
        # get_path() is the file and line of the play; start_storage.yml is part of storage.
        self._turn(PurePath(play.get_path().rpartition(":")[0]).stem.removeprefix("start_"))

    def v2_playbook_on_stats(self, stats):
        self._turn(None)
        total = sum(self.planes.values())
        width = max(map(len, [*self.planes, "total"]))
        self._display.banner("PLANES")
        for plane, seconds in [*self.planes.items(), ("total", total)]:
            self._display.display(f"{plane:{width}} {seconds:7.1f} s")
        if self.get_option("file"):
            rounded = {plane: round(seconds, 1) for plane, seconds in self.planes.items()}
            Path(self.get_option("file")).write_text(json.dumps(rounded) + "\n", encoding="utf-8")
