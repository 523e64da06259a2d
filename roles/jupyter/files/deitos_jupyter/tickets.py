#!/opt/jupyter/bin/python
"""Tickets of people's servers: one cache each, /run/jupyter/tickets/NAME/krb5cc.

The directory is the person's. So what is done in it is done as the person, in a process of hers:

    tickets.py store CACHE    put what comes on standard input in the cache's place
    tickets.py renew CACHE    renew the ticket when half of its life is over
    tickets.py left CACHE     say for how many seconds it is good
    tickets.py remove CACHE

As root:

    tickets.py admitted NAME  whether PAM lets a person in, as exit status
    tickets.py tend           renew what running servers have, remove what is left of others, and
                              stop servers of people who may no longer log in
"""

from __future__ import annotations

import asyncio
import os
import pwd
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path("/run/jupyter/tickets")
UNIT = "jupyter-{name}-singleuser.service"
PAM_SERVICE = "jupyterhub"
# Between a login and the start of the server.
PATIENCE = 900
# What is done as a person, that person can hold up: not for long, and only so many at a time.
SECONDS_TO_ACT = 20
ABREAST = 8
# Of /usr/include/security/_pam_types.h.
PERM_DENIED, USER_UNKNOWN, ACCT_EXPIRED = 6, 10, 13
# As exit status; that of a failure is another.
LET_IN, DENIED, UNSURE = 0, 3, 4


class Unsure(Exception):
    """Nobody can say now whether a person may log in."""


# For the hub: a person who holds it up holds one thread of it.
turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)


def cache_of(name: str) -> Path:
    return ROOT / name / "krb5cc"


def in_words(cache: Path) -> str:
    return f"FILE:{cache}"


# --- As root --------------------------------------------------------------------------------------
def act(name: str, command: str, data: bytes = b"") -> str:
    """Do something with a person's cache, as the person; returns what that printed."""
    person = pwd.getpwnam(name)
    try:
        done = subprocess.run(
            [sys.executable, "-I", __file__, command, str(cache_of(name))],
            input=data,
            capture_output=True,
            user=person.pw_uid,
            group=person.pw_gid,
            extra_groups=[],
            env={},
            umask=0o077,
            cwd="/",
            timeout=SECONDS_TO_ACT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command} for {name}: no end within {SECONDS_TO_ACT} s") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").splitlines()[-1:]
        raise OSError(f"{command} for {name}: {''.join(reason)}")
    return done.stdout.decode()


def keep(name: str, cache: bytes) -> None:
    """Give a person's server the tickets in a cache, in place of what it has."""
    person = pwd.getpwnam(name)
    directory = cache_of(name).parent
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(directory, person.pw_uid, person.pw_gid)
    act(name, "store", cache)


def valid(name: str) -> bool:
    """Whether a person's server has a ticket that is good for a while."""
    try:
        return cache_of(name).exists() and int(act(name, "left")) > 60
    except OSError:
        return False


def admitted(name: str) -> bool:
    """Whether PAM (SSSD, and so the directory) lets a person in; Unsure when that cannot be said.

    Asked in a process of its own: a thread that has used pam_sss cannot end any more once libpam
    has unloaded that.
    """
    command = [sys.executable, "-I", __file__, "admitted", name]
    done = subprocess.run(command, cwd="/", timeout=60, check=False).returncode
    if done not in (LET_IN, DENIED):
        raise Unsure(
            f"Nobody can say now whether {name} may log in: try again, or tell the administrators."
        )
    return done == LET_IN


def tend() -> None:
    names = sorted(directory.name for directory in ROOT.iterdir()) if ROOT.exists() else []
    with ThreadPoolExecutor(ABREAST) as pool:
        for _ in pool.map(tend_one, names):
            pass


def tend_one(name: str) -> None:
    try:
        see_to(name)
    except (OSError, KeyError, Unsure, subprocess.SubprocessError) as error:
        print(error)


def see_to(name: str) -> None:
    unit, cache = UNIT.format(name=name), cache_of(name)
    running = subprocess.run(["systemctl", "is-active", "--quiet", unit]).returncode == 0
    if running and not admitted(name):
        print(f"{name} may not log in any more: stopping the server")
        subprocess.run(["systemctl", "stop", "--no-block", unit], check=True)
    elif running and cache.exists():
        print(act(name, "renew"), end="")
    elif cache.exists() and age(cache) > PATIENCE:
        act(name, "remove")
        cache.parent.rmdir()


def age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def ask_pam(name: str) -> int:
    """What PAM says of a person; without SSSD it knows nobody, which is no denial."""
    import pamela

    before = sssd()
    try:
        pamela.check_account(name, service=PAM_SERVICE)
    except pamela.PAMError as error:
        print(f"{name}: {error}", file=sys.stderr)
        unknown = error.errno == USER_UNKNOWN and before and before == sssd()
        return DENIED if unknown or error.errno in (PERM_DENIED, ACCT_EXPIRED) else UNSURE
    return LET_IN


def sssd() -> str:
    """Which run of SSSD's answers now, if any does."""
    words = ["systemctl", "show", "--property=ActiveState,InvocationID", "sssd.service"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return shown if "ActiveState=active" in shown.splitlines() else ""


# --- As the person --------------------------------------------------------------------------------
def store(cache: Path, content: bytes) -> None:
    """Written beside its place and renamed: whoever reads finds the old one or the new one."""
    handle, new = tempfile.mkstemp(dir=cache.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(new, cache)


def life(cache: Path) -> tuple[float, float]:
    """For how many seconds the ticket for tickets is good, and was when it was given."""
    import krb5

    context = krb5.init_context()
    for ticket in krb5.cc_resolve(context, in_words(cache).encode()):
        if ticket.server.name.startswith(b"krbtgt/"):
            times = ticket.times
            return times.endtime - time.time(), times.endtime - (times.starttime or times.authtime)
    return 0, 0


def renew(cache: Path) -> None:
    import krb5

    left, whole = life(cache)
    if left > whole / 2:
        return
    context = krb5.init_context()
    old = krb5.cc_resolve(context, in_words(cache).encode())
    who = krb5.cc_get_principal(context, old)
    ticket = krb5.get_renewed_creds(context, who, old)
    with tempfile.TemporaryDirectory(dir=cache.parent) as directory:
        place = Path(directory, "krb5cc")
        new = krb5.cc_resolve(context, in_words(place).encode())
        krb5.cc_initialize(context, new, who)
        krb5.cc_store_cred(context, new, ticket)
        os.replace(place, cache)
    print(f"{who}: renewed")


def main(arguments: list[str]) -> int:
    command, *rest = arguments
    if command == "tend":
        tend()
        return 0
    if command == "admitted":
        return ask_pam(rest[0])
    cache = Path(rest[0])
    if command == "store":
        store(cache, sys.stdin.buffer.read())
    elif command == "renew":
        renew(cache)
    elif command == "left":
        print(int(life(cache)[0]))
    elif command == "remove":
        cache.unlink(missing_ok=True)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
