"""Collect a machine's secrets, or look for secrets where they must not be: run as root on a machine
of the lab (standard library only).

`collect` prints {name: secret in hexadecimal}. `search` reads such a dictionary from standard input
and prints [[name, place]] for each secret found in an argument or environment of a process, in a
log, or in a file that the user nobody can read.
"""

import base64
import glob
import json
import os
import struct
import subprocess
import sys

NOBODY = 65534
PLACES = ["/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var"]
# Packages, caches and releases, not written by the cluster; what is compressed; the logs' turn.
PRUNED = [
    *("/etc/ssl/certs", "/opt/hadoop*/share", "/opt/hadoop*/lib", "/usr/local/share"),
    *("/opt/spark*/jars", "/opt/spark*/python", "/opt/apache-hive*/lib", "/opt/apache-tez*"),
    *("/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/log"),
]


def keys_of(path):
    """(principal, key) of a keytab, or of a KDC's stash, which is one."""
    with open(path, "rb") as stream:
        data = stream.read()[2:]
    while len(data) > 4:
        (size,) = struct.unpack_from(">i", data)
        entry, data = data[4 : 4 + abs(size)], data[4 + abs(size) :]
        if size <= 0:
            continue
        (components,) = struct.unpack_from(">H", entry)
        place, words = 2, []
        for _ in range(components + 1):
            (length,) = struct.unpack_from(">H", entry, place)
            words.append(entry[place + 2 : place + 2 + length].decode())
            place += 2 + length
        # Name type and time, number of the key, its type, its length.
        kind, length = struct.unpack_from(">HH", entry, place + 9)
        yield f"{'/'.join(words[1:])} {kind}", entry[place + 13 : place + 13 + length]


def collect():
    found = {}
    keytabs = ["/etc/krb5.keytab", "/etc/krb5kdc/stash", *glob.glob("/etc/security/keytabs/*")]
    for path in filter(os.path.exists, keytabs):
        for name, key in keys_of(path):
            found[f"{path} {name}"] = key.hex()
    texts = ["/etc/deitos/pki/keystore.password", *glob.glob("/etc/security/http-secrets/*")]
    for path in filter(os.path.exists, texts + glob.glob("/var/lib/deitos/initial-passwords/*")):
        with open(path, "rb") as stream:
            found[path] = stream.read().strip().hex()
    for path in filter(os.path.exists, ("/etc/deitos/pki/host.key", "/etc/deitos/ca/ca.key")):
        with open(path, "rb") as stream:
            # A line from the middle, where what is secret begins.
            found[path] = stream.read().splitlines()[10].hex()
    return found


def encoded(raw):
    """What base 64 makes of a secret, alone or somewhere within something longer."""
    for before in range(3):
        # Without the letters that are not the secret's alone.
        whole = base64.b64encode(bytes(before) + raw)
        yield whole[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]


def forms_of(secrets):
    """{bytes: name}: each secret as it is, in hexadecimal and in base 64."""
    found = {}
    for name, value in secrets.items():
        raw = bytes.fromhex(value)
        # The longest part that is one line, as grep takes its patterns.
        line = max(raw.replace(b"\0", b"\n").split(b"\n"), key=len)
        for form in (line, raw.hex().encode(), *encoded(raw)):
            found[form] = name
    return found


class Search:
    """All secrets at once: grep tells the files, and these few are looked at more closely."""

    def __init__(self, secrets):
        self.forms = forms_of(secrets)
        self.patterns = os.memfd_create("patterns")
        os.write(self.patterns, b"\n".join(self.forms))

    def hits(self, place, content):
        return [[name, place] for form, name in self.forms.items() if form in content]

    def processes(self):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            for kind in ("cmdline", "environ"):
                try:
                    with open(f"/proc/{name}/{kind}", "rb") as stream:
                        yield from self.hits(f"{kind} of process {name}", stream.read())
                except OSError:
                    continue

    def grep(self, paths, **identity):
        """Look through files; paths are separated by NUL."""
        done = subprocess.run(
            ["xargs", "-0", "-r", "grep", "-aFls", "-f", f"/dev/fd/{self.patterns}"],
            input=paths,
            capture_output=True,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            pass_fds=[self.patterns],
            **identity,
        )
        for path in done.stdout.decode().splitlines():
            with open(path, "rb") as stream:
                yield from self.hits(path, stream.read())

    def files(self):
        """What the user nobody, and so anybody, can read."""
        pruned = " -o ".join(f"-path {path}" for path in PRUNED).split()
        identity = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        found = subprocess.run(
            [
                *("find", *PLACES, "(", *pruned, ")", "-prune", "-o"),
                *("-type", "f", "-size", "-64M", "-readable", "-print0"),
            ],
            capture_output=True,
            cwd="/",
            **identity,
        )
        yield from self.grep(found.stdout, cwd="/", **identity)

    def logs(self):
        """Whoever may read them: what is logged is shipped, kept and shown."""
        done = subprocess.run(["journalctl", "--no-pager", "-o", "cat"], capture_output=True)
        with open("/run/secretscan.journal", "wb", opener=private) as stream:
            stream.write(done.stdout)
        try:
            yield from self.grep(b"/run/secretscan.journal")
        finally:
            os.unlink("/run/secretscan.journal")
        command = ["find", "/var/log", "-path", "/var/log/journal", "-prune", "-o"]
        found = subprocess.run([*command, "-type", "f", "-print0"], capture_output=True)
        yield from self.grep(found.stdout)


def private(path, flags):
    return os.open(path, flags, 0o600)


def main():
    if sys.argv[1] == "collect":
        print(json.dumps(collect()))
        return
    search = Search(json.load(sys.stdin))
    print(json.dumps([*search.processes(), *search.files(), *search.logs()]))


if __name__ == "__main__":
    main()
