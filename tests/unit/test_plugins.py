"""Plugins of the collection that run on the controller, in playbooks of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")


@pytest.fixture
def play(tmp_path):
    """Calls play(tasks, NAME=…): (exit status, what ansible-playbook printed)."""

    def run(tasks, **environment):
        book = tmp_path / "playbook.yml"
        book.write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{tasks}")
        done = subprocess.run(
            [ANSIBLE_PLAYBOOK, "-i", "localhost,", "-c", "local", book],
            cwd=ROOT,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return run


SAME = """
    - ansible.builtin.assert:
        that: "{term} == lookup('ansible.builtin.template', 'unit.j2', template_vars=its)"
      vars:
        its: {{name: x}}
        greeting: "Hello {{{{ inventory_hostname }}}}"
"""
TERM = "lookup('deitos.cluster.template', 'unit.j2', template_vars=its)"


@pytest.mark.parametrize(
    "text",
    [
        "plain\n",
        "no end of line",
        "{{ greeting }}, {{ name }}\n\n",
        "# {{ ansible_managed }}\n{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\n",
        "{% include 'part.j2' %}\nafter\n",
        r"back\slash \1 {{ 'a' | regex_replace('(a)', '\\1b') }}" + "\n",
        "#jinja2: lstrip_blocks: True\n  {% if true %}\nyes\n  {% endif %}\n",
    ],
)
def test_templates_are_what_the_builtin_lookup_makes_of_them(play, tmp_path, text):
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "unit.j2").write_text(text)
    (templates / "part.j2").write_text("part of {{ name }}\n")
    status, printed = play(SAME.format(term=TERM))
    assert status == 0, printed
    status, printed = play(SAME.format(term=TERM + " ~ 'more'"))
    assert status != 0, printed


def test_a_template_that_is_not_there_is_named(play):
    term = TERM.replace(", template_vars=its", "")
    status, printed = play(f'\n    - ansible.builtin.debug:\n        msg: "{{{{ {term} }}}}"\n')
    assert status != 0
    assert "there is no template unit.j2" in " ".join(printed.split())


def test_workers_need_not_walk_the_controller_s_heap(play, tmp_path):
    filters = tmp_path / "filter_plugins"
    filters.mkdir()
    (filters / "heap.py").write_text(
        "import gc\n"
        "class FilterModule:\n"
        "    def filters(self):\n"
        "        return {'frozen': lambda value: gc.get_freeze_count()}\n"
    )
    task = '\n    - ansible.builtin.assert: {that: "0 | frozen > 10000"}\n'
    found = {"ANSIBLE_FILTER_PLUGINS": str(filters)}
    status, printed = play(task, **found)
    assert status == 0, printed
    status, printed = play(task, **found, ANSIBLE_CALLBACKS_ENABLED="deitos.cluster.plane_times")
    assert status != 0, printed


PLACE = """
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({})
own = (lambda: None).__code__.co_filename
module.exit_json(own=own, library=AnsibleModule.__init__.__code__.co_filename)
"""
COMPILED = """
    - place:
      register: place
    - ansible.builtin.assert:
        that:
          - place.own is match('payload[.]zip/')
          - place.library == 'payload.zip/ansible/module_utils/basic.py'
"""


def test_modules_arrive_compiled(play, tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "place.py").write_text(PLACE)
    here = {"ANSIBLE_LIBRARY": str(library), "ANSIBLE_PYTHON_INTERPRETER": sys.executable}
    status, printed = play(COMPILED, **here)
    assert status == 0, printed
    status, printed = play(COMPILED, **here, ANSIBLE_CALLBACKS_ENABLED="deitos.cluster.plane_times")
    assert status != 0, printed
