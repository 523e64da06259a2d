#!/usr/bin/python3
"""The racks of the hosts given as arguments, one a line, as Hadoop asks for them.

The table beside this file names hosts; an address is looked up in DNS first. A host that is not
in the table stands in the default rack.
"""

import socket
import sys
from pathlib import Path

DEFAULT_RACK = "/default-rack"


def read_table(path):
    """{name: rack} with the short name beside the full one."""
    racks = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) == 2 and not line.startswith("#"):
            name, rack = words[0].lower(), words[1]
            racks[name] = rack
            racks.setdefault(name.split(".")[0], rack)
    return racks


def names_of(host):
    """The host as it was asked for, then as DNS calls it."""
    yield host.lower()
    try:
        name, aliases, _addresses = socket.gethostbyaddr(host)
    except OSError:
        return
    for found in (name, *aliases):
        yield found.lower()


def rack_of(host, racks):
    """The host's rack."""
    return next((racks[name] for name in names_of(host) if name in racks), DEFAULT_RACK)


def main(arguments):
    """Print a rack for every argument, whatever happens: Hadoop counts the lines."""
    try:
        racks = read_table(Path(__file__).with_suffix(".table"))
    except OSError:
        racks = {}
    for host in arguments:
        print(rack_of(host, racks))


if __name__ == "__main__":
    main(sys.argv[1:])
