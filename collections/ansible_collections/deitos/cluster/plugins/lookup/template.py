# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""What a template makes of the host's variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: template
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
short_description: Text of Jinja2 templates, for many files of many hosts
description:
  - Returns what templates of the role or playbook make of the host's variables.
  - As P(ansible.builtin.template#lookup), which copies every variable of the host for each file;
    where a list of files is made of templates, that copy is most of what the list costs.
options:
  _terms:
    description:
      - Names of templates, looked for as M(ansible.builtin.template) looks for its
        O(ansible.builtin.template#module:src).
    type: list
    elements: str
    required: true
  template_vars:
    description: Variables of these templates alone, over those of the host.
    type: dict
    default: {}
seealso:
  - plugin: ansible.builtin.template
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Write the configuration and the unit of a daemon
  deitos.cluster.host_files:
    files:
      - path: /etc/example/example.conf
        content: "{{ lookup('deitos.cluster.template', 'example.conf.j2') }}"
      - path: /etc/systemd/system/example.service
        content: "{{ lookup('deitos.cluster.template', 'daemon.service.j2', template_vars=its) }}"
  vars:
    its: {name: example}
"""

RETURN = r"""
_raw:
  description: The text of each template.
  type: list
  elements: str
"""

from pathlib import Path

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import generate_ansible_template_vars, trust_as_template


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        return [self._text(name, variables or {}) for name in terms]

    def _text(self, name, variables):
        path = self.find_file_in_search_path(variables, "templates", name)
        if not path:
            raise AnsibleLookupError(
                f"there is no template {name} in the role or beside the playbook"
            )
        templar = self._templar.copy_with_new_env(
            # Beside the template itself, for what it includes.
            searchpath=[str(Path(path).parent)],
            available_variables={
                **variables,
                **generate_ansible_template_vars(name, path),
                **self.get_option("template_vars"),
            },
        )
        text = trust_as_template(self._loader.get_text_file_contents(path))
        return templar.template(text, escape_backslashes=False)
