# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Makes Ansible's worker processes cheap."""

from __future__ import annotations

DOCUMENTATION = """
name: frozen_heap
type: aggregate
short_description: Keep the garbage collector from walking the controller's heap in every worker
version_added: 0.1.0
description:
  - Ansible forks a process for each task of each host. In each of them Python's garbage collector
    walks all objects of the controller, and so copies the memory that they share.
  - This callback exempts what exists when a play begins, see
    U(https://docs.python.org/3/library/gc.html#gc.freeze).
requirements:
  - Enabled in C(callbacks_enabled).
author: The Deitos Cluster authors (@deitos)
"""

import gc

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Freezes whenever a play begins."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "deitos.cluster.frozen_heap"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play):
        gc.freeze()
