#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Many Hadoop configuration files of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hadoop_config
short_description: Write many Hadoop XML and properties files in one call
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Writes Hadoop's configuration files from data. For each file, computed values win over defaults,
    and the site's overrides win over both, key by key.
  - Names and values are checked before anything is written; an error names the file, the property,
    what is wrong and what is expected.
  - A malformed reference (C(${})) is refused. One that is well formed is taken as it is, since what
    it may name is known to no module, namely the defaults in Hadoop's own jars and the system
    properties that each daemon is started with.
  - A comment tells of each property whether it is computed, the site's own or a secret; one without
    is a default.
  - Nothing is written unless all files of the call are right and can be compared with what is
    there. Each file is replaced whole.
  - Secrets are read from files on the host itself, so that they never pass through the controller,
    and are masked in the diff.
attributes:
  check_mode:
    description: Reports what would change. Owners, groups, directories and secret files that do not
      exist yet are taken to be made by an earlier task of the same run.
    support: full
  diff_mode:
    description: Shows the properties that differ, one a line, with secrets masked.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  directory:
    description: Where files go that are not named by an absolute path.
    type: path
    default: /etc/hadoop
  owner:
    description: Owner of the files, as name or number.
    type: str
    default: root
  group:
    description: Group of the files, as name or number.
    type: str
    default: root
  mode:
    description: Octal mode of the files, in quotes.
    type: str
    default: "0644"
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: File name in O(directory), or an absolute path.
        type: str
        required: true
      format:
        description: V(xml) or V(properties) (key=value). V(xml) when not given and the name ends
          in C(.xml), else V(properties).
        type: str
        choices: [xml, properties]
      defaults:
        description: Properties with the lowest precedence. Booleans become C(true) and C(false),
          lists are joined by commas.
        type: dict
        default: {}
      computed:
        description: Properties that win over O(files[].defaults). A null value drops a property.
        type: dict
        default: {}
      overrides:
        description: Properties that win over all others. A null value drops a property.
        type: dict
        default: {}
      final:
        description: Names of properties that later configuration may not change.
        type: list
        elements: str
        default: []
      secrets:
        description: Properties whose values are read from files on the host, C(property) to
          C(/path/to/file). One newline at the end of the file is left out.
        type: dict
        default: {}
      owner:
        description: Owner of this file, if not O(owner).
        type: str
      group:
        description: Group of this file, if not O(group).
        type: str
      mode:
        description: Mode of this file, if not O(mode). A file with secrets may not be readable to
          all.
        type: str
"""

EXAMPLES = r"""
- name: Write the configuration of HDFS
  deitos.cluster.hadoop_config:
    directory: /etc/hadoop
    files:
      - name: hdfs-site.xml
        defaults: {dfs.replication: 3}
        computed:
          dfs.nameservices: deitos
          dfs.namenode.name.dir: [/data/1/name, /data/2/name]
        overrides: "{{ hdfs_site_overrides }}"
        final: [dfs.nameservices]
      - name: ssl-server.xml
        computed: {ssl.server.keystore.location: /etc/deitos/pki/keystore.p12}
        secrets: {ssl.server.keystore.password: /etc/deitos/pki/keystore.password}
        group: hadoop
        mode: "0640"
"""

RETURN = r"""
changed_files:
  description: Paths of the files that were, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/hadoop/hdfs-site.xml]
planned:
  description: In check mode, the SHA-256 of what each changed file would contain, or null for a
    file whose secret is not there yet. M(deitos.cluster.daemon) takes it.
  returned: in check mode
  type: dict
  sample:
    /etc/hadoop/hdfs-site.xml: 5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9
"""

import hashlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic, hadoop_xml


class ConfigFile:
    """One wanted file: its content is settled first, compared and written later."""

    def __init__(self, module, item):
        params = module.params
        self.path = os.path.join(params["directory"], item["name"])
        self.xml = (item["format"] or self._format(item["name"])) == "xml"
        self.attributes = {key: item[key] or params[key] for key in ("owner", "group", "mode")}
        self.pending_secret = False
        self.properties = hadoop_xml.merge(
            {key: item[key] for key in ("defaults", "computed", "overrides")},
            final=item["final"],
            secrets=self._secrets(item["secrets"], module.check_mode),
        )
        hadoop_xml.check(self.properties, typed=self.xml)
        if item["final"] and not self.xml:
            raise hadoop_xml.InvalidProperty("only XML files know 'final'")
        if item["secrets"] and atomic.parse_mode(self.attributes["mode"]) & 0o007:
            raise hadoop_xml.InvalidProperty(
                f"holds secrets, so mode {self.attributes['mode']} must not let others in"
            )
        render = hadoop_xml.render_xml if self.xml else hadoop_xml.render_properties
        self.data = render(os.path.basename(self.path), self.properties).encode("utf-8")
        if not module.check_mode:
            atomic.uid_of(self.attributes["owner"])
            atomic.gid_of(self.attributes["group"])
            directory = os.path.dirname(self.path)
            if not os.path.isdir(directory):
                raise hadoop_xml.InvalidProperty(f"make the directory {directory} first")

    @staticmethod
    def _format(name):
        return "xml" if name.endswith(".xml") else "properties"

    def _secrets(self, paths, check_mode):
        values = {}
        for name, path in paths.items():
            data = atomic.read(path)
            if data is None and check_mode:
                self.pending_secret = True
                data = b""
            if not data and not self.pending_secret:
                state = "does not exist" if data is None else "is empty"
                raise hadoop_xml.InvalidProperty(
                    f"{name}: the file {path} that should hold this secret {state} on the host"
                )
            values[name] = data.decode("utf-8").removesuffix("\n")
        return values

    def diffs(self):
        """What differs from the file on disk, as Ansible diffs."""
        before = atomic.read(self.path)
        found = []
        self.rewrite = before != self.data
        if self.rewrite:
            found.append(self._content_diff(before))
        changes = (
            {key: (None, value) for key, value in self.attributes.items()}
            if before is None
            else atomic.attribute_changes(self.path, **self.attributes)
        )
        if changes:
            found.append(
                self._diff(
                    {key: old for key, (old, _new) in changes.items() if old is not None},
                    {key: new for key, (_old, new) in changes.items()},
                )
            )
        return found

    def _content_diff(self, before):
        parse = hadoop_xml.parse_xml if self.xml else hadoop_xml.parse_properties
        try:
            old = parse(before) if before is not None else {}
        except hadoop_xml.InvalidProperty as error:
            return self._diff(
                f"(unreadable: {error})\n", hadoop_xml.readable(self.properties, self.properties)
            )
        after = hadoop_xml.readable(self.properties, old)
        shown = hadoop_xml.readable(old, self.properties if old else None)
        # A secret that changes must differ on the two sides of the diff, or it would not show.
        shown = shown.replace("= (secret, changed)", "= (secret)")
        if shown == after:
            shown += "(comments, order or white space differ)\n"
        return self._diff(shown, after)

    def _diff(self, before, after):
        return {
            "before": before,
            "after": after,
            "before_header": self.path,
            "after_header": self.path,
        }

    def apply(self):
        """Make the file on disk the wanted one."""
        if self.rewrite:
            atomic.write_atomic(self.path, self.data, **self.attributes)
        else:
            atomic.set_attributes(self.path, **self.attributes)

    def digest(self):
        """What a check run foretells of the content; None when it cannot know."""
        return None if self.pending_secret else hashlib.sha256(self.data).hexdigest()


def main():
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "default": "/etc/hadoop"},
            "owner": {"default": "root"},
            "group": {"default": "root"},
            "mode": {"default": "0644"},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"required": True},
                    "format": {"choices": ["xml", "properties"]},
                    "defaults": {"type": "dict", "default": {}},
                    "computed": {"type": "dict", "default": {}},
                    "overrides": {"type": "dict", "default": {}},
                    "final": {"type": "list", "elements": "str", "default": []},
                    # Paths, not secrets.
                    "secrets": {"type": "dict", "default": {}, "no_log": False},
                    "owner": {},
                    "group": {},
                    "mode": {},
                },
            },
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "changed_files": [], "diff": []}
    if module.check_mode:
        result["planned"] = {}
    name = None
    try:
        files = {}
        for item in module.params["files"]:
            name = item["name"]
            wanted = ConfigFile(module, item)
            if wanted.path in files:
                raise hadoop_xml.InvalidProperty("this file is listed twice")
            files[wanted.path] = wanted
        differing = []
        for wanted in files.values():
            name = wanted.path
            diffs = wanted.diffs()
            if diffs:
                differing.append((wanted, diffs))
        for wanted, diffs in differing:
            name = wanted.path
            if not module.check_mode:
                wanted.apply()
            elif wanted.rewrite:
                result["planned"][wanted.path] = wanted.digest()
            result["changed"] = True
            result["changed_files"].append(wanted.path)
            result["diff"] += diffs
    except (ValueError, OSError) as error:
        module.fail_json(msg=f"{name}: {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
