"""Lets `ansible_collections.deitos.cluster` be imported from this checkout by plain pytest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args

COLLECTIONS = str(Path(__file__).resolve().parents[5])
if COLLECTIONS not in sys.path:
    sys.path.insert(0, COLLECTIONS)


class Exit(Exception):
    """How a module ended: what it would have printed."""


@pytest.fixture
def run_module(monkeypatch):
    """Calls run_module(module, check=False, **parameters): the module's result as a dictionary."""

    def end(failed):
        def stop(_self, msg=None, **result):
            if msg is not None:
                result["msg"] = msg
            raise Exit({**result, "failed": failed})

        return stop

    monkeypatch.setattr(basic.AnsibleModule, "exit_json", end(failed=False))
    monkeypatch.setattr(basic.AnsibleModule, "fail_json", end(failed=True))

    def run(module, check=False, **parameters):
        arguments = {**parameters, "_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(Exit) as caught:
            module.main()
        return caught.value.args[0]

    return run


@pytest.fixture
def four_runs(run_module):
    """Check, run, run again, check again: the claims every state of a module must keep."""

    def runs(module, **parameters):
        foretold = run_module(module, check=True, **parameters)
        done = run_module(module, **parameters)
        again = run_module(module, **parameters)
        checked = run_module(module, check=True, **parameters)
        assert not done["failed"], done["msg"]
        assert foretold["changed"] == done["changed"]
        assert foretold.get("diff") == done.get("diff")
        assert not again["changed"], again
        assert not checked["changed"], checked
        return done

    return runs
