#!/usr/bin/python
# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Many directories, files, links and secrets of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Manage many directories, files, links and secrets of a host in one call
version_added: 0.1.0
author: The Deitos Cluster authors (@deitos)
description:
  - Brings a list of directories, files, links and locally made secrets into the wanted state.
  - One call replaces one task an item, which is what makes a run over many hosts quick.
  - Files are written to a temporary file beside them, synced, given their owner and mode, and
    renamed into place, so that nobody ever sees a half-written or readable-too-early file.
  - Items are handled in the order given, so list a directory before what is in it.
attributes:
  check_mode:
    description: Reports what would change. Owners, groups and parents that do not exist yet are
      taken to be made by an earlier task of the same run.
    support: full
  diff_mode:
    description: Shows contents (unless O(files[].sensitive)), owners and modes.
      Secrets are never shown.
    support: full
  platform:
    description: Target OS families on which the module works.
    support: full
    platforms: posix
options:
  files:
    description: What to bring about, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path.
        type: path
        required: true
      state:
        description:
          - V(file), V(directory) and V(link) exist as described.
          - V(secret) is a file of random bytes in hexadecimal, made once, on the host; its content
            is never rewritten, returned or shown.
          - V(absent) removes a file, a link or an empty directory. A directory with something in
            it is an error.
        type: str
        choices: [file, directory, link, absent, secret]
        default: file
      content:
        description:
          - What a V(state=file) contains. Without it only owner, group and mode are managed, and
            the file must be there.
          - Text or a number; lists and dictionaries are refused, because the text of such a value
            is hardly what a configuration file should hold.
        type: raw
      owner:
        description: Owner, as name or number. A link's own owner is left alone unless given.
        type: str
        default: root
      group:
        description: Group, as name or number.
        type: str
        default: root
      mode:
        description: Octal mode in quotes. V(0644) for a file, V(0755) for a directory and
          V(0400) for a secret when not given.
        type: str
      target:
        description: What a V(state=link) points to.
        type: str
      bytes:
        description: How many random bytes a new secret has.
        type: int
        default: 32
      mount_point:
        description:
          - For V(state=directory), refuse unless this path, or one above it other than C(/), is a
            mount point, so that a missing disk never fills the system's own.
          - Where C(/etc/fstab) has a mount point at or above a directory, and nothing is mounted
            there, the directory is refused in any case.
        type: bool
        default: false
      validate:
        description: A command that must succeed before a file is put in place; V(%s) stands for
          the new file. Run without a shell.
        type: str
      sensitive:
        description: Whether to keep the content out of the diff.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Write everything that the role needs on this host
  deitos.cluster.host_files:
    files:
      - {path: /etc/example, state: directory}
      - path: /etc/example/example.conf
        content: "{{ lookup('ansible.builtin.template', 'example.conf.j2') }}"
        group: daemon
        mode: "0640"
      - {path: /etc/example/current, state: link, target: example.conf}
      - {path: /etc/example/cookie.secret, state: secret, owner: daemon, bytes: 64}
      - {path: /etc/example/old.conf, state: absent}

- name: Make a data directory on each disk, never below a disk that is not mounted
  deitos.cluster.host_files:
    files:
      - path: /data/1/hdfs
        state: directory
        owner: hdfs
        group: hadoop
        mode: "0700"
        mount_point: true
"""

RETURN = r"""
changed_paths:
  description: The paths that were, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
  sample: [/etc/example/example.conf]
planned:
  description: In check mode, the SHA-256 of what each file would contain, and V(absent) for what
    would be removed. M(deitos.cluster.daemon) takes it to tell which daemons would restart.
  returned: in check mode
  type: dict
  sample: {/etc/example/example.conf: 5feceb66ffc86f38d952786c6d696c79}
"""

import hashlib
import os
import secrets
import shlex
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.deitos.cluster.plugins.module_utils import atomic
from ansible_collections.deitos.cluster.plugins.module_utils.mounts import (
    missing_mount,
    mount_points,
    on_own_file_system,
)

DEFAULT_MODES = {"file": "0644", "directory": "0755", "secret": "0400"}
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


class Refused(Exception):
    """A state that cannot or must not be brought about; the text says why and what to do."""


def kind_of(path):
    """What stands at a path: file, directory, link, other, or absent."""
    try:
        return KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "other")
    except (FileNotFoundError, NotADirectoryError):
        return "absent"


def content_bytes(item):
    """The content of a file item as bytes; None when it is not managed."""
    content = item["content"]
    if content is None or isinstance(content, str):
        return None if content is None else content.encode("utf-8", "surrogateescape")
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        return str(content).encode()
    raise Refused(f"content must be text, not a {type(content).__name__}: use a filter or template")


def as_text(data):
    """File content for a diff."""
    if data is None:
        return ""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return f"(binary, {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()})\n"


class Item:
    """One wanted path: finds the difference (`diffs`), and removes it (`apply`)."""

    def __init__(self, module, item):
        self.module = module
        self.item = item
        self.path = item["path"]
        self.state = item["state"]
        self.attributes = {
            "owner": item["owner"],
            "group": item["group"],
            "mode": item["mode"] or DEFAULT_MODES.get(self.state),
        }
        self.data = content_bytes(item) if self.state == "file" else None
        self.new_content = False

    def check_parameters(self):
        """Refuse what cannot be meant, before anything is touched."""
        if not os.path.isabs(self.path) or os.path.normpath(self.path) != self.path:
            raise Refused("the path must be absolute and without '..', '//' or a final '/'")
        atomic.parse_mode(self.attributes["mode"])
        if self.state == "link" and not self.item["target"]:
            raise Refused("state=link needs a target")
        if self.state == "secret" and self.item["bytes"] < 16:
            raise Refused("a secret of fewer than 16 bytes can be guessed")
        if self.item["validate"] and "%s" not in self.item["validate"]:
            raise Refused("validate needs a '%s' where the name of the new file goes")
        if self.state not in ("absent", "link") and not self.module.check_mode:
            atomic.uid_of(self.attributes["owner"])
            atomic.gid_of(self.attributes["group"])

    def diffs(self):
        """What differs, as a list of Ansible diffs; empty when all is as wanted."""
        found = kind_of(self.path)
        if self.state == "absent":
            return self._diff_absent(found)
        if self.state == "link":
            return self._diff_link(found)
        wanted = "directory" if self.state == "directory" else "file"
        if found not in ("absent", wanted) and not (wanted == "file" and found == "link"):
            raise Refused(f"a {found} is in the way: remove it if it is not needed")
        if self.state == "directory":
            return self._diff_directory(found)
        return self._diff_file(found)

    def _diff_absent(self, found):
        if found == "absent":
            return []
        if found == "directory" and os.listdir(self.path):
            raise Refused("the directory is not empty: empty it first if nothing in it is needed")
        return [self._diff({"state": found}, {"state": "absent"})]

    def _diff_link(self, found):
        if found == "directory":
            raise Refused("a directory is in the way: remove it if it is not needed")
        before = os.readlink(self.path) if found == "link" else f"({found})"
        if before == self.item["target"]:
            return []
        return [self._diff({"target": before}, {"target": self.item["target"]})]

    def _diff_directory(self, found):
        mounted = mount_points()
        if self.item["mount_point"] and not on_own_file_system(self.path, mounted):
            raise Refused(
                "nothing is mounted here, or above: mount the disk, or take it out of the host's "
                "directories"
            )
        if place := missing_mount(self.path, mounted):
            raise Refused(
                f"/etc/fstab has a file system for {place}, and nothing is mounted there: mount "
                "it, or take it out of the host's directories"
            )
        return self._diff_attributes("directory", found)

    def _diff_file(self, found):
        before = atomic.read(self.path) if found == "file" else None
        diffs = []
        if self.state == "secret":
            self.new_content = not before
            if self.new_content:
                hidden = "(a random secret that never leaves this host)\n"
                diffs.append(self._diff("", hidden))
        elif self.data is None:
            if found != "file" and not self.module.check_mode:
                raise Refused("there is no such file, and no content to make it from")
        elif before != self.data:
            self.new_content = True
            after = as_text(self.data)
            if self.item["sensitive"]:
                diffs.append(self._diff("(hidden)\n" if before else "", "(hidden, other)\n"))
            else:
                diffs.append(self._diff(as_text(before), after))
        return diffs + self._diff_attributes("file", found)

    def _diff_attributes(self, kind, found):
        # What replaces a link is new, whatever the link's own attributes are.
        present = found == kind
        changes = (
            atomic.attribute_changes(self.path, **self.attributes)
            if present
            else {key: (None, value) for key, value in self.attributes.items()}
        )
        if not changes and present:
            return []
        before = {key: old for key, (old, _new) in changes.items() if old is not None}
        after = {key: new for key, (_old, new) in changes.items()}
        if not present:
            before["state"], after["state"] = found, kind
        return [self._diff(before, after)]

    def _diff(self, before, after):
        return {
            "before": before,
            "after": after,
            "before_header": self.path,
            "after_header": self.path,
        }

    def validate(self):
        """Run the item's own check on its new content."""
        if not (self.item["validate"] and self.new_content):
            return
        command = shlex.split(self.item["validate"])
        # The package with the checker may be what this check run would install.
        if not self.module.get_bin_path(command[0], required=not self.module.check_mode):
            return
        with tempfile.NamedTemporaryFile(dir=self.module.tmpdir) as file:
            file.write(self.data or b"")
            file.flush()
            code, out, err = self.module.run_command(
                [part.replace("%s", file.name) for part in command]
            )
        if code != 0:
            said = "" if self.item["sensitive"] else f": {(out + err).strip()}"
            raise Refused(f"'{self.item['validate']}' refuses the new content{said}")

    def apply(self):
        """Bring the wanted state about."""
        if self.state == "absent":
            (os.rmdir if kind_of(self.path) == "directory" else os.unlink)(self.path)
        elif self.state == "link":
            self._make_link()
        elif self.state == "directory":
            # Parents get the usual mode; who wants another lists them as items of their own.
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            if kind_of(self.path) == "absent":
                os.mkdir(self.path, 0o700)
            atomic.set_attributes(self.path, **self.attributes)
        elif self.new_content:
            data = self.data
            if self.state == "secret":
                data = secrets.token_hex(self.item["bytes"]).encode()
            atomic.write_atomic(self.path, data, **self.attributes)
        else:
            atomic.set_attributes(self.path, **self.attributes)

    def _make_link(self):
        temporary = f"{self.path}.{secrets.token_hex(8)}.tmp"
        os.symlink(self.item["target"], temporary)
        try:
            os.replace(temporary, self.path)
        except OSError:
            os.unlink(temporary)
            raise

    def planned(self):
        """What a check run foretells of this path, for those who digest it."""
        if self.state == "absent":
            return {self.path: "absent"}
        if self.new_content and self.data is not None:
            return {self.path: hashlib.sha256(self.data).hexdigest()}
        return {}


def main():
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "state": {
                        "choices": ["file", "directory", "link", "absent", "secret"],
                        "default": "file",
                    },
                    "content": {"type": "raw"},
                    "owner": {"default": "root"},
                    "group": {"default": "root"},
                    "mode": {},
                    "target": {},
                    "bytes": {"type": "int", "default": 32},
                    "mount_point": {"type": "bool", "default": False},
                    "validate": {},
                    "sensitive": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "changed_paths": [], "diff": []}
    if module.check_mode:
        result["planned"] = {}
    item = None
    try:
        items = []
        seen = set()
        for item in module.params["files"]:
            if item["path"] in seen:
                raise Refused("this path is listed twice")
            seen.add(item["path"])
            items.append(Item(module, item))
            items[-1].check_parameters()
        for wanted in items:
            item = wanted.item
            diffs = wanted.diffs()
            if not diffs:
                continue
            wanted.validate()
            if module.check_mode:
                result["planned"].update(wanted.planned())
            else:
                wanted.apply()
            result["changed"] = True
            result["changed_paths"].append(wanted.path)
            result["diff"] += diffs
    except (Refused, ValueError, OSError) as error:
        module.fail_json(msg=f"{item['path']} ({item['state']}): {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
