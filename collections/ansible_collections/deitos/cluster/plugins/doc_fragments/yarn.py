# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Documentation that the YARN modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of how YARN is reached."""

    DOCUMENTATION = r"""
options:
  endpoints:
    description: The ResourceManagers' HTTPS addresses, such as V(https://rm1.example.org:8090).
      With several, the active one is found.
    type: list
    elements: str
    required: true
  timeout:
    description: How many seconds to wait for a connection or an answer.
    type: int
    default: 30
"""
