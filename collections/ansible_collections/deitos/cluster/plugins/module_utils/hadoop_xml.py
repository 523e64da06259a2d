# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""Hadoop's configuration files: what goes in, how it is checked, written and read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.sax.saxutils import escape

PORT = re.compile(r"\d{1,5}")
NAME = re.compile(r"[A-Za-z0-9_*$][A-Za-z0-9_*$:/@+-]*(\.[A-Za-z0-9_*$:/@+-]+)*")
# XML 1.0 has no way to write these, not even as character references.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
PLACEHOLDER = re.compile(r"\$\{([^{}$]*)\}")
# ${hadoop.tmp.dir}, ${env.HOME}, ${env.X-default} are Hadoop's; ${HOME} is a container's shell's.
REFERENCE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+(:?-.*)?|[A-Z][A-Z0-9_]*")
# What Hadoop's hadoop.security.sensitive-config-keys, Hive and Spark hide.
SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|keystore\.pass|secret|secret[.-]?(access[.-]?)?key|credential"
    r"|encryption\.key|session\.(key|token)|oauth.*token)$|^fs\.azure\.account\.key\.",
    re.IGNORECASE,
)
# What a file says of a property that is none of the defaults.
ORIGINS = {
    "computed": "from the inventory",
    "overrides": "the site's own",
    "secret": "a secret of this host",
}


class InvalidProperty(ValueError):
    """A property that Hadoop would misread; the text names it, what is wrong and what is right."""


@dataclass(frozen=True)
class Property:
    """A value as Hadoop reads it, where it comes from, and whether clients may override it."""

    value: str
    origin: str = "default"
    final: bool = False
    secret: bool = False


def to_text(value):
    """A YAML value as Hadoop writes it: true/false, comma-joined lists, plain text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(to_text(part) for part in value)
    if isinstance(value, (str, int, float)):
        return str(value)
    raise InvalidProperty(f"must be text, a number, true/false or a list, not {value!r}")


def merge(layers, final=(), secrets=None):
    """One mapping of properties from {origin: {name: value}}, later layers winning.

    None drops a name. secrets: {name: value} that no layer may hold.
    """
    found = {}
    for origin, values in layers.items():
        for name, value in (values or {}).items():
            found.pop(name, None)
            if value is not None:
                try:
                    found[name] = Property(to_text(value), origin, name in final)
                except InvalidProperty as error:
                    raise InvalidProperty(f"{name}: {error}") from None
    for name, value in (secrets or {}).items():
        if name in found:
            raise InvalidProperty(f"{name}: has a value and is also one of the secrets; keep one")
        found[name] = Property(value, "secret", name in final, secret=True)
    missing = sorted(set(final) - set(found))
    if missing:
        raise InvalidProperty(f"{missing[0]}: listed as final, but has no value")
    return dict(sorted(found.items()))


# --- Checks -----------------------------------------------------------------------------------


def check(properties, typed=True):
    """Refuse what Hadoop would misread. typed: also judge values by what their names mean."""
    by_case = {}
    for name, found in properties.items():
        if not NAME.fullmatch(name):
            raise InvalidProperty(f"{name!r}: not a property name (letters, digits, '.-_*:/@+$')")
        other = by_case.setdefault(name.lower(), name)
        if other != name:
            raise InvalidProperty(f"{name}: differs from {other} in letter case only; keep one")
        if SECRET_NAME.search(name) and not found.secret and found.value:
            raise InvalidProperty(
                f"{name}: give the path of a file on the host under 'secrets', not the secret"
            )
        try:
            _check_text(found.value, found.secret)
            if typed and not found.secret and "${" not in found.value:
                _check_type(name, found.value)
        except InvalidProperty as error:
            shown = "" if found.secret else f" (value {found.value!r})"
            raise InvalidProperty(f"{name}: {error}{shown}") from None


def _check_text(value, secret):
    if FORBIDDEN.search(value):
        raise InvalidProperty("contains a control character that XML cannot hold")
    if secret:
        return
    if "{{" in value or "{%" in value:
        raise InvalidProperty("contains an unrendered template")
    rest = value
    while True:
        # Inside out, since Hadoop allows ${a.${b.c}}.
        inner = PLACEHOLDER.search(rest)
        if not inner:
            break
        if not REFERENCE.fullmatch(inner[1]):
            raise InvalidProperty(f"${{{inner[1]}}} is not a reference to a property")
        rest = f"{rest[: inner.start()]}X{rest[inner.end() :]}"
    if "${" in rest:
        raise InvalidProperty("contains '${' without its '}'")


def _boolean(value):
    if value not in ("true", "false"):
        raise InvalidProperty("must be true or false")


def _integer(value):
    if not re.fullmatch(r"-?\d+", value):
        raise InvalidProperty("must be a whole number")


def _port(value):
    if not PORT.fullmatch(value) or int(value) > 65535:
        raise InvalidProperty("must be a port from 0 to 65535")


def _port_range(value):
    for part in filter(None, value.split(",")):
        first, _dash, last = part.strip().partition("-")
        _port(first)
        _port(last or first)
        if last and int(last) < int(first):
            raise InvalidProperty(f"the range {part.strip()} ends before it begins")


def _address(value):
    if not value:
        return
    host, colon, port = value.rpartition(":")
    if re.search(r"[\s,]", value):
        raise InvalidProperty("must be one host:port")
    if "://" in value:
        _uri(value)
    elif colon:
        if not host:
            raise InvalidProperty("must be host:port; 0.0.0.0 listens on all addresses")
        _port(port)


def _uri(value):
    for part in filter(None, value.split(",")):
        scheme = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)", part.strip(), re.DOTALL)
        # "master1:8020" parses as the scheme "master1", which nobody means.
        if not scheme or (not scheme[2].startswith("/") and _is_port(scheme[2])):
            raise InvalidProperty("must be a URI such as hdfs://nameservice or https://host:port")
        authority = re.match(r"//([^/?#;]*)", scheme[2])
        port = authority and re.fullmatch(r"(?:[^\[\]]*|.*\]):(\d*|[^:@]*)", authority[1])
        if port and port[1] and "@" not in authority[1]:
            _port(port[1])


def _is_port(text):
    return PORT.fullmatch(text.rstrip("/")) is not None


def _principal(value):
    if value and value != "*" and not re.fullmatch(r"[^\s/@]+(/[^\s/@]+)?(@[^\s/@]+)?", value):
        raise InvalidProperty("must be a principal such as nn/_HOST@REALM")


def _octal(value):
    if not re.fullmatch(r"[0-7]{1,4}", value) and not re.fullmatch(r"[ugoa]*[=+-].*", value):
        raise InvalidProperty("must be an octal mode such as 027")


RULE = re.compile(
    r"\s*(DEFAULT|RULE:\[\d*:[^\]]*\](\([^)]*\))?(s/[^/]*/[^/]*/g?)?(/L)?)\s*", re.DOTALL
)


def _auth_to_local(value):
    rest = value.strip()
    while rest:
        rule = RULE.match(rest)
        if not rule or not rule[0]:
            raise InvalidProperty(
                f"Hadoop cannot read the rule at {rest.splitlines()[0]!r}; mind that no ')' may"
                " stand inside its parentheses: write [rn]m, not (rm|nm)"
            )
        rest = rest[rule.end() :]


def _one_of(*choices):
    def judge(value):
        for part in value.split(","):
            if part.strip() not in choices:
                raise InvalidProperty(f"must be one of {', '.join(choices)}")

    return judge


_POLICY = _one_of("HTTP_ONLY", "HTTPS_ONLY", "HTTP_AND_HTTPS")
_PROTECTION = _one_of("authentication", "integrity", "privacy")

EXACT = {
    "fs.defaultFS": _uri,
    "hadoop.security.authentication": _one_of("simple", "kerberos"),
    "hadoop.security.authorization": _boolean,
    "hadoop.security.auth_to_local": _auth_to_local,
    "hadoop.rpc.protection": _PROTECTION,
    "hadoop.http.authentication.simple.anonymous.allowed": _boolean,
    "hadoop.ssl.require.client.cert": _boolean,
    "dfs.data.transfer.protection": _PROTECTION,
    "dfs.encrypt.data.transfer": _boolean,
    "dfs.block.access.token.enable": _boolean,
    # These two are named like a port and a URI.
    "dfs.namenode.audit.log.with.remote.port": _boolean,
    "dfs.client.ignore.namenode.default.kms.uri": _boolean,
    "dfs.http.policy": _POLICY,
    "dfs.permissions": _boolean,
    "dfs.replication": _integer,
    "dfs.datanode.failed.volumes.tolerated": _integer,
    "mapreduce.jobhistory.http.policy": _POLICY,
    "yarn.http.policy": _POLICY,
    "yarn.acl.enable": _boolean,
}
# By the end of the name, or by its middle where a nameservice or host follows.
PATTERNS = [
    (re.compile(r"[.-](enabled?)$"), _boolean),
    (re.compile(r"[.-]port-ranges?$"), _port_range),
    (re.compile(r"(^|[.-])port$"), _port),
    (re.compile(r"(^|[.-])address(\.[^.]+){0,2}$"), _address),
    (re.compile(r"(^|[.-])(uri|uris|url|URL)$"), _uri),
    (re.compile(r"[.-]principal$"), _principal),
    (re.compile(r"[.-](handler[.-]count|memory-mb|memory\.mb|vcores|replication)$"), _integer),
    (re.compile(r"[.-]umask-mode$"), _octal),
]


def _check_type(name, value):
    judge = EXACT.get(name) or next((j for pattern, j in PATTERNS if pattern.search(name)), None)
    if judge:
        judge(value)


# --- XML --------------------------------------------------------------------------------------


def overrides_name(name):
    """The inventory's variable for a file: hdfs_site_overrides of hdfs-site.xml."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name.rpartition(".")[0] or name).lower() + "_overrides"


def _header(name):
    return (
        "Written by Ansible (deitos.cluster.hadoop_config): changes made here are overwritten.",
        f"Set properties in the inventory: {overrides_name(name)}.",
    )


def render_xml(name, properties):
    """A Hadoop XML file, always the same bytes for the same properties."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    lines += [f"<!-- {line} -->" for line in _header(name)]
    lines.append("<configuration>")
    for key, found in properties.items():
        lines.append("  <property>")
        if found.origin in ORIGINS:
            lines.append(f"    <!-- {ORIGINS[found.origin]} -->")
        lines.append(f"    <name>{_xml(key)}</name>")
        lines.append(f"    <value>{_xml(found.value)}</value>")
        if found.final:
            lines.append("    <final>true</final>")
        lines.append("  </property>")
    lines.append("</configuration>")
    return "\n".join(lines) + "\n"


def _xml(text):
    # A parser turns a bare carriage return into a line feed.
    return escape(text, {"\r": "&#13;"})


def parse_xml(data):
    """The properties of a Hadoop XML file; a repeated name or broken XML is an error."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    try:
        root = ElementTree.fromstring(data, parser)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidProperty(f"not well-formed XML: {error}") from None
    if root.tag != "configuration":
        raise InvalidProperty(f"the root element is <{root.tag}>, not <configuration>")
    found = {}
    for element in root.iter("property"):
        name = (element.findtext("name") or element.get("name") or "").strip()
        if name in found:
            raise InvalidProperty(f"{name}: appears twice")
        value = element.findtext("value")
        comments = [
            (part.text or "").strip() for part in element if part.tag is ElementTree.Comment
        ]
        found[name] = Property(
            value if value is not None else element.get("value", ""),
            final=(element.findtext("final") or element.get("final", "")).strip() == "true",
            secret=ORIGINS["secret"] in comments,
        )
    return found


# --- key=value --------------------------------------------------------------------------------


def render_properties(name, properties):
    """A key=value file, as java.util.Properties and Hadoop's native helpers both read it."""
    lines = [f"# {line}" for line in _header(name)]
    for key, found in properties.items():
        if found.origin in ORIGINS:
            lines.append(f"# {ORIGINS[found.origin]}")
        # Keys with ':' would end there; values keep their inner characters.
        escaped = key.replace(":", "\\:")
        lines.append(f"{escaped}={_property_value(found.value)}")
    return "\n".join(lines) + "\n"


def _property_value(text):
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    text = text.replace("\t", "\\t")
    if text.startswith(" "):
        text = "\\" + text
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2)]
    return "".join(chr(c) if c < 0x7F else f"\\u{c:04x}" for c in codes)


def parse_properties(data):
    """The pairs of a key=value file as java.util.Properties reads them."""
    text = data.decode("utf-8", "replace")
    # A line that ends in an odd number of backslashes goes on in the next one.
    text = re.sub(r"(?<!\\)((?:\\\\)*)\\\r?\n[ \t]*", r"\1", text)
    found = {}
    comment = None
    for line in text.splitlines():
        line = line.lstrip(" \t\f")
        if not line or line[0] in "#!":
            comment = line[1:].strip()
            continue
        pair = re.fullmatch(r"((?:\\.|[^\\=: \t])*)[ \t]*[=:]?[ \t]*(.*)", line, re.DOTALL)
        key, value = (pair[1], pair[2]) if pair else (line, "")
        name = _unescape(key)
        if name in found:
            raise InvalidProperty(f"{name}: appears twice")
        found[name] = Property(_unescape(value), secret=comment == ORIGINS["secret"])
        comment = None
    return found


def _unescape(text):
    short = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
    joined = re.sub(
        r"\\(?:u([0-9A-Fa-f]{4})|(.))",
        lambda m: chr(int(m[1], 16)) if m[1] else short.get(m[2], m[2]),
        text,
        flags=re.DOTALL,
    )
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# --- Diffs ------------------------------------------------------------------------------------


def readable(properties, others=None):
    """The properties one a line for a diff, secrets masked.

    others: the properties on the other side; a secret that differs from it says so.
    """
    lines = []
    for name, found in sorted(properties.items()):
        value = found.value
        other = (others or {}).get(name)
        if found.secret or SECRET_NAME.search(name) or (other and other.secret):
            value = "(secret)"
            if others is not None and other and other.value != found.value:
                value = "(secret, changed)"
        lines.append(f"{name} = {value}{' (final)' if found.final else ''}\n")
    return "".join(lines)
