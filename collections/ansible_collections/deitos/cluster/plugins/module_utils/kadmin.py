# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""One kadmin process for a whole list of commands, and the words it speaks.

kadmin exits with status 0 whatever happened, so everything is learnt from what it prints.
"""

from __future__ import annotations

import calendar
import contextlib
import datetime
import functools
import os
import re
import select
import subprocess
import threading
import time

from ansible_collections.deitos.cluster.plugins.module_utils.report import Problem

# A line longer than libss' buffer would be cut, and its tail taken for a command of its own.
LONGEST_LINE = 4000

# The bits of krb5_flags in the words of kadmin; True: the bit set means "+name".
ATTRIBUTES = {
    "allow_postdated": (0x00000001, False),
    "allow_forwardable": (0x00000002, False),
    "allow_tgs_req": (0x00000004, False),
    "allow_renewable": (0x00000008, False),
    "allow_proxiable": (0x00000010, False),
    "allow_dup_skey": (0x00000020, False),
    "allow_tix": (0x00000040, False),
    "requires_preauth": (0x00000080, True),
    "requires_hwauth": (0x00000100, True),
    "needchange": (0x00000200, True),
    "allow_svr": (0x00001000, False),
    "password_changing_service": (0x00002000, True),
    "ok_as_delegate": (0x00100000, True),
    "ok_to_auth_as_delegate": (0x00200000, True),
    "no_auth_data_required": (0x00400000, True),
    "lockdown_keys": (0x00800000, True),
}


class KadminError(Exception):
    """kadmin cannot be used at all, or no more: not installed, no database, refused, silent."""

    def __init__(self, message, answers=()):
        """`answers` are to the commands that it did before its end."""
        super().__init__(message)
        self.answers = answers


class ItemError(Problem):
    """One item of the list is wrong, or the KDC refused it."""


# --- words -----------------------------------------------------------------------------------


_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_text(text, what):
    """Refuse what no kadmin line can carry."""
    if not text:
        raise ItemError(f"{what} is empty")
    control = _CONTROL.search(text)
    if control:
        raise ItemError(f"{what} contains the control character {control.group()!r}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ItemError(f"{what} is not valid UTF-8") from None
    return text


def quote(word):
    """A word as libss reads it: in quotes everything stands for itself, a quote is doubled."""
    check_text(word, "a kadmin argument")
    return '"' + word.replace('"', '""') + '"'


def command_line(words):
    """One line for kadmin; the command itself is ours, so it needs no quotes."""
    line = " ".join([words[0], *(quote(word) for word in words[1:])]).encode("utf-8")
    if len(line) > LONGEST_LINE:
        raise ItemError(f"the arguments are longer than the {LONGEST_LINE} bytes kadmin takes")
    return line


_ESCAPES = {"n": "\n", "t": "\t", "b": "\b", "0": "\0"}
_UNESCAPES = str.maketrans({"\\": "\\\\", "/": "\\/", "@": "\\@"})


# Nearly all names: nothing to unescape, nothing to complain about.
_PLAIN = re.compile(r"[^\\/@]+(/[^\\/@]+)*(@[^\\/@]+)?\Z")


class Principal:
    """A principal's name, taken apart as krb5_parse_name does."""

    def __init__(self, components, realm):
        self.components = tuple(components)
        self.realm = realm

    @classmethod
    def parse(cls, text, default_realm=None):
        """From the written form; a name without a realm belongs to the default one."""
        check_text(text, "the principal's name")
        if _PLAIN.match(text):
            name, _at, realm = text.partition("@")
            return cls(name.split("/"), realm or default_realm)
        parts, realm, position = [""], None, 0
        while position < len(text):
            character = text[position]
            position += 1
            if character == "\\":
                if position == len(text):
                    raise ItemError(f"the principal's name '{text}' ends in a lone backslash")
                character = _ESCAPES.get(text[position], text[position])
                position += 1
                if ord(character) < 0x20:
                    raise ItemError(f"the principal's name '{text}' hides a control character")
            elif character == "@" and realm is None:
                realm = ""
                continue
            elif character == "/" and realm is None:
                parts.append("")
                continue
            elif character in "@/":
                raise ItemError(
                    f"the principal's name '{text}' has a bare '{character}' after its realm began;"
                    f" write '\\{character}' where the character itself is meant"
                )
            if realm is None:
                parts[-1] += character
            else:
                realm += character
        if realm == "":
            raise ItemError(f"the principal's name '{text}' has an empty realm")
        if parts == [""]:
            raise ItemError(f"the principal's name '{text}' is empty")
        return cls(parts, realm if realm is not None else default_realm)

    @functools.cached_property
    def short(self):
        """The canonical form without the realm."""
        return "/".join(_escape(part) for part in self.components)

    @functools.cached_property
    def full(self):
        """The canonical form, as krb5_unparse_name writes it."""
        return self.short if self.realm is None else f"{self.short}@{_escape(self.realm)}"

    def word(self, default_realm):
        """The argument that makes kadmin see this very name."""
        if self.realm in (None, default_realm):
            # kadmin takes the '@' after a name that ends in a backslash for an escaped one.
            word = self.short
        elif self.short.endswith("\\"):
            raise ItemError(f"kadmin cannot take '{self.full}': a backslash before another realm")
        else:
            word = self.full
        # A name must not be read as an option.
        return "\\" + word if word.startswith("-") else word

    def __eq__(self, other):
        return isinstance(other, Principal) and (self.components, self.realm) == (
            other.components,
            other.realm,
        )

    def __hash__(self):
        return hash((self.components, self.realm))

    def __repr__(self):
        return f"Principal({self.full!r})"


def _escape(text):
    return text.translate(_UNESCAPES)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_INTERVAL = re.compile(
    r"\s*(\d+)\s*(seconds?|minutes?|hours?|days?|weeks?|[smhdw]|)\s*", re.IGNORECASE
)


def parse_interval(text):
    """'1d 12h', '7 days', '3600' or 'unlimited' as a number of seconds."""
    if text is None:
        return None
    value = str(text).strip()
    if value.lower() in ("unlimited", "none", "0"):
        return 0
    total, position = 0, 0
    while position < len(value):
        match = _INTERVAL.match(value, position)
        if match is None or (not match.group(2) and match.end() - match.start() != len(value)):
            raise ItemError(f"'{text}' is not a duration such as '24h', '7 days' or '1d 12h'")
        total += int(match.group(1)) * _UNITS[(match.group(2) or "s")[0].lower()]
        position = match.end()
    if not value or total >= 2**31:
        raise ItemError(f"'{text}' is not a duration below 68 years")
    return total


def parse_time(text):
    """'never', or an ISO 8601 date or time (UTC unless it names an offset), as epoch seconds."""
    if text is None:
        return None
    value = str(text).strip()
    if value.lower() == "never":
        return 0
    try:
        # Python before 3.11 does not know Z.
        moment = datetime.datetime.fromisoformat(re.sub(r"[Zz]$", "+00:00", value))
        epoch = calendar.timegm(moment.utctimetuple())
    except (ValueError, OverflowError):
        raise ItemError(
            f"'{text}' is not 'never' nor a time such as '2031-12-31' or '2031-12-31T18:00:00Z'"
        ) from None
    if not 0 < epoch < 2**32:
        raise ItemError(f"'{text}' is outside of the years a KDC can store (1970 to 2106)")
    return epoch


def format_time(epoch):
    """Epoch seconds as kadmin reads them, and as a person does."""
    if not epoch:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(epoch))


def format_interval(seconds):
    """Seconds as a person writes them: 1d 12h."""
    if not seconds:
        return "unlimited"
    words = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count}{unit}")
    return " ".join(words)


def check_flags(flags):
    """Known attribute names only, so that a typo is not silently nothing."""
    for name in flags or {}:
        if name not in ATTRIBUTES:
            raise ItemError(f"unknown flag '{name}'; known are: {', '.join(sorted(ATTRIBUTES))}")
    return flags or {}


def flags_of(bits):
    """{name: bool} of every attribute, in kadmin's sense of + and -."""
    return {name: bool(bits & bit) == positive for name, (bit, positive) in ATTRIBUTES.items()}


# --- answers ---------------------------------------------------------------------------------


def _unquote(field):
    if len(field) < 2 or field[0] != '"' or field[-1] != '"':
        raise KadminError(f"kadmin's answer has no quoted name where one was expected: {field!r}")
    return field[1:-1]


def _unsigned(field):
    # Times after 2038 are printed as negative numbers.
    return int(field) & 0xFFFFFFFF


def parse_principal(line):
    """`getprinc -terse` as a dict; names never contain a bare tab, so splitting is safe."""
    fields = line.rstrip("\n").split("\t")
    if len(fields) < 16:
        raise KadminError(f"kadmin's answer to get_principal cannot be read: {line!r}")
    keys = [int(field) for field in fields[16:]]
    policy = _unquote(fields[10])
    return {
        "name": _unquote(fields[0]),
        "expires": _unsigned(fields[1]),
        "last_password_change": _unsigned(fields[2]),
        "password_expires": _unsigned(fields[3]),
        "max_life": _unsigned(fields[4]),
        "flags": flags_of(_unsigned(fields[7])),
        "kvno": int(fields[8]),
        "policy": "" if policy == "[none]" else policy,
        "max_renewable_life": _unsigned(fields[11]),
        "failures": int(fields[14]),
        "keys": [
            {"kvno": keys[at + 1], "enctype": keys[at + 2], "salt": keys[at + 3]}
            for at in range(0, len(keys) - 3, 4)
        ],
    }


def parse_policy(line):
    """`getpol -terse` as a dict."""
    fields = line.rstrip("\n").split("\t")
    if len(fields) < 10:
        raise KadminError(f"kadmin's answer to get_policy cannot be read: {line!r}")
    keysalts = fields[10] if len(fields) > 10 else "-"
    return {
        "name": _unquote(fields[0]),
        "max_life": int(fields[1]),
        "min_life": int(fields[2]),
        "min_length": int(fields[3]),
        "min_classes": int(fields[4]),
        "history": int(fields[5]),
        "max_failures": int(fields[7]),
        "failure_count_interval": int(fields[8]),
        "lockout_duration": int(fields[9]),
        "allowed_keysalts": [] if keysalts == "-" else keysalts.split(","),
    }


# kadmind's words for what kadm5.acl grants by a letter.
PRIVILEGES = {
    "add": "a",
    "change-password": "c",
    "delete": "d",
    "extract-keys": "e",
    "get": "i",
    "list": "l",
    "modify": "m",
}
_PRIVILEGE = re.compile(r"Operation requires ``([a-z-]+)'' privilege")
_NOISE = re.compile(r"^(No policy specified for .*; defaulting to no policy|WARNING: .*)$")


def complaint(answer):
    """What an error says, without kadmin's warnings and usage text."""
    lines = [line for line in answer.splitlines() if line and not _NOISE.match(line)]
    for number, line in enumerate(lines):
        if line.startswith("usage:"):
            lines = lines[:number]
            break
    text = " ".join(lines) or answer.strip() or "kadmin gave no answer"
    return re.sub(r"^(?:kadmin(?:\.local)?|\w+): +", "", text) + _advice(text)


def _advice(text):
    """What to do about a right that an administrator lacks."""
    lacking = _PRIVILEGE.search(text)
    letter = lacking and PRIVILEGES.get(lacking.group(1))
    if not letter:
        return ""
    advice = f"; add '{letter}' to the administrator's line in the KDC's kadm5.acl"
    if letter == "e":
        advice += " ('*' is without it; where lockdown_keys is on, only kadmin.local has the keys)"
    return advice


# --- the process -----------------------------------------------------------------------------


class Kadmin:
    """A running kadmin, fed on standard input; use it as a context manager.

    libss flushes its output at each prompt, and standard error shares the pipe. So all that is
    printed between two prompts belongs to the one command between them.
    """

    def __init__(self, argv, timeout=120):
        self.argv = argv
        self.prompt = os.path.basename(argv[0]).encode() + b":  "
        self.timeout = timeout
        self.process = None
        self.greeting = ""
        self._default_realm = None

    def __enter__(self):
        # Without readline: it would echo the commands, secrets and all, into the answers.
        environment = dict(os.environ, SS_READLINE_PATH="none", LC_ALL="C.UTF-8", TZ="UTC")
        try:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise KadminError(f"{self.argv[0]} cannot be started: {error.strerror}") from None
        try:
            self.greeting = self._read(1)[0]
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *unused):
        self._stop()

    def _stop(self):
        process, self.process = self.process, None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def run(self, commands):
        """Run commands, each a list of words; returns what each of them printed."""
        lines = [command_line(words) for words in commands]
        if not lines:
            return []
        data = b"\n".join(lines) + b"\n"
        writer = threading.Thread(target=self._write, args=(data,), daemon=True)
        writer.start()
        answers = self._read(len(lines))
        writer.join()
        return answers

    def attempt(self, commands):
        """The same for commands that change something, where an end before its time must not hide
        what was done: (the answers there are, the KadminError or None).
        """
        try:
            return self.run(commands), None
        except KadminError as error:
            return error.answers, error

    def _write(self, data):
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # the reader sees the end of the process and tells why

    def _read(self, count):
        """The text before each of the next `count` prompts."""
        answers, buffer, start = [], bytearray(), 0
        prompt, output = self.prompt, self.process.stdout.fileno()
        marker = b"\n" + prompt
        deadline = time.monotonic() + self.timeout
        searched = 0
        while True:
            while len(answers) < count:
                if buffer.startswith(prompt, start):
                    answers.append("")
                    start = searched = start + len(prompt)
                    continue
                end = buffer.find(marker, searched)
                if end < 0:
                    searched = max(start, len(buffer) - len(marker))
                    break
                answers.append(buffer[start : end + 1].decode("utf-8", "replace"))
                start = searched = end + len(marker)
            if len(answers) == count:
                return answers
            wait = deadline - time.monotonic()
            if wait <= 0 or not select.select([output], [], [], wait)[0]:
                self.process.kill()
                raise KadminError(
                    f"{self.argv[0]} gave no answer for {self.timeout} s; it last said: "
                    + self._tail(buffer, start),
                    answers,
                )
            chunk = os.read(output, 1 << 18)
            if not chunk:
                raise KadminError(
                    f"{self.argv[0]} ended before its time: " + self._tail(buffer, start), answers
                )
            deadline = time.monotonic() + self.timeout
            buffer += chunk

    @staticmethod
    def _tail(buffer, start):
        text = buffer[start:].decode("utf-8", "replace").strip()
        # Drop the greeting: it tells only who asks.
        lines = [line for line in text.splitlines() if not line.startswith("Authenticating as ")]
        return " ".join(lines)[-400:] or "nothing"

    @property
    def default_realm(self):
        """The realm of names written without one, asked once."""
        if self._default_realm is None:
            answer = self.run([["get_principal", "-terse", "K/M"]])[0]
            match = re.search(r'"K/M@([^"\n]*)"', answer)
            if match is None:
                raise KadminError(f"the realm is not known: {complaint(answer)}")
            self._default_realm = match.group(1)
        return self._default_realm

    def get_principals(self, principals):
        """{Principal: dict or None or ItemError} for every one asked for."""
        result = self._get("get_principal", principals, parse_principal, self._principal_word)
        for principal, found in result.items():
            full = Principal(principal.components, principal.realm or self.default_realm).full
            # MIT krb5 1.22 and newer answer with the principal that an alias stands for.
            if isinstance(found, dict) and found["name"] != full:
                result[principal] = ItemError(
                    f"{full} is an alias, which is not managed here; it is one of {found['name']}"
                )
        return result

    def get_policies(self, names):
        """{name: dict or None or ItemError} for every one asked for."""
        return self._get("get_policy", names, parse_policy, str)

    def _principal_word(self, principal):
        return principal.word(self.default_realm)

    def _get(self, command, items, parse, word):
        commands, result = {}, {}
        for item in items:
            try:
                words = [command, "-terse", word(item)]
                command_line(words)
                commands[item] = words
            except ItemError as error:
                result[item] = error
        for item, answer in zip(commands, self.run(commands.values())):
            if answer.startswith('"'):
                result[item] = parse(answer)
            elif " does not exist" in answer:
                result[item] = None
            else:
                result[item] = ItemError(complaint(answer))
        return result


# --- what the modules share ------------------------------------------------------------------

ADMIN_ARGUMENTS = {
    "realm": {"type": "str"},
    "admin_server": {"type": "str"},
    "admin_principal": {"type": "str"},
    "admin_keytab": {"type": "path", "no_log": False},
    "admin_ccache": {"type": "str"},
    "kadmin_path": {"type": "path"},
}

ADMIN_CONSTRAINTS = {
    "mutually_exclusive": [("admin_keytab", "admin_ccache")],
    "required_by": {
        "admin_keytab": ("admin_principal",),
        "admin_principal": ("admin_server",),
        "admin_ccache": ("admin_server",),
    },
}


def admin_argv(params, find):
    """The command for these module parameters; `find` looks a program up on the path."""
    remote = params["admin_server"] is not None
    if remote and not (params["admin_keytab"] or params["admin_ccache"]):
        raise KadminError("admin_server needs admin_keytab (with admin_principal) or admin_ccache")
    name = "kadmin" if remote else "kadmin.local"
    path = params["kadmin_path"] or find(name)
    if not path:
        package = "krb5-user" if remote else "krb5-admin-server"
        where = "this host" if remote else "this host, which should be a KDC"
        raise KadminError(f"{name} (package {package}) is not installed on {where}")
    argv = [path]
    if params["realm"]:
        argv += ["-r", params["realm"]]
    if remote:
        argv += ["-s", params["admin_server"]]
        if params["admin_principal"]:
            argv += ["-p", params["admin_principal"]]
        if params["admin_keytab"]:
            argv += ["-k", "-t", params["admin_keytab"]]
        else:
            argv += ["-c", params["admin_ccache"]]
    return argv
