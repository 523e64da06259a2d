# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Sends modules to hosts compiled, beside their source."""

from __future__ import annotations

DOCUMENTATION = """
name: compiled_modules
type: aggregate
short_description: Spare every host from compiling Ansible anew in every task
version_added: 0.1.0
description:
  - Ansible sends a module and the libraries that it imports to a host as an archive of sources, and
    Python compiles them there, in each task anew. That is about half of the time that a task takes
    on a host which is as it should be.
  - This callback has Ansible put the compiled form beside each source. A host whose Python is of
    the controller's minor version takes it; any other compiles the source as before. What all
    modules import is parsed and compiled once, before the first task.
  - The archive becomes about three times as large, some 350 kB in place of 130. Where hosts are far
    away, over a slow line, that may cost more than it saves.
  - Does nothing under a debugger or when coverage is measured, nor in a release of ansible-core
    that makes its archives in another way, which it says with C(-vv).
requirements:
  - Enabled in C(callbacks_enabled).
author: The Deitos Cluster authors (@deitos)
"""

import datetime
import functools
import importlib.util
import inspect
import io
import marshal
import warnings
import zipfile

from ansible.executor import module_common
from ansible.plugins.callback import CallbackBase

# What ansible-core does step by step, and what each step takes.
STEPS = {
    "recursive_finder": "name module_fqn module_data zf date_time extension_manager",
    "_compile_module_ast": "module_name source_code",
    "_add_module_to_zip": (
        "zf date_time remote_module_fqn b_module_data module_path extension_manager"
    ),
    "_make_zinfo": "filename date_time zf",
}
# PEP 552: by its source's hash, which nobody is to check.
UNCHECKED = (0b01).to_bytes(4, "little")


@functools.cache
def compiled(name, source):
    """The content of a .pyc file; None of a source that is not for this Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As it shows in a traceback. Ansible tells by it whose warning one is.
            code = compile(source, f"payload.zip/{name}", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    header = importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source)
    return header + marshal.dumps(code)


def add_compiled(archive, date_time):
    """Put the compiled form beside each source of an archive."""
    for name in archive.namelist():
        if name.endswith(".py"):
            content = compiled(name, archive.read(name))
            if content:
                entry = module_common._make_zinfo(f"{name}c", date_time, zf=archive)
                archive.writestr(entry, content)


def install():
    """Have ansible-core do so; False when it makes its archives in another way."""
    for step, takes in STEPS.items():
        function = getattr(module_common, step, None)
        if function is None or list(inspect.signature(function).parameters) != takes.split():
            return False
    finish = module_common._add_module_to_zip
    if hasattr(finish, "__wrapped__"):
        return True

    @functools.wraps(finish)
    def add_module(zf, date_time, remote_module_fqn, b_module_data, module_path, extension_manager):
        finish(zf, date_time, remote_module_fqn, b_module_data, module_path, extension_manager)
        # A debugger and coverage want to know the place of the source.
        if not extension_manager.extension_names:
            add_compiled(zf, date_time)

    module_common._add_module_to_zip = add_module
    module_common._compile_module_ast = functools.cache(module_common._compile_module_ast)
    return True


def prepare():
    """Parse and compile what every module has in its archive."""
    from ansible._internal._ansiballz import _builder

    with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        now = datetime.datetime.now(datetime.UTC)
        manager = _builder.ExtensionManager()
        module_common.recursive_finder("none", "ansible.modules.none", b"", archive, now, manager)
        add_compiled(archive, now)


class CallbackModule(CallbackBase):
    """Installs it when a run begins: worker processes inherit what is compiled by then."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "deitos.cluster.compiled_modules"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if install():
            prepare()
        else:
            self._display.vv("compiled_modules: this ansible-core makes its archives otherwise")
