#!/usr/bin/env python3
"""Assemble release tarballs in Apache's layout from artifacts on Maven Central and PyPI.

For machines that cannot reach Apache's mirrors. Each directory beside this file that holds a
release.toml is one release:

    release.toml     the layout: which artifact goes where; packages of PyPI
    pom.xml, *.xml   the artifacts, for Maven
    artifacts.lock   digest, artifact and place of every file (written by --relock)
    layout/          files of our own that go into the release as they are
    pin.json         digest of the finished archive and of its recipe (written by --pin)

Only what matches artifacts.lock enters an archive, and only an archive that matches pin.json gets
its final name, so a file of that name is always whole and the one meant.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import fnmatch
import hashlib
import io
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
LAB_VERSIONS = HERE.parent.parent / "inventories/lab/group_vars/all/versions.yml"
# Part of every recipe: raise it when the same inputs begin to give other bytes.
FORMAT = 1
POM = "{http://maven.apache.org/POM/4.0.0}"
# Stands for the group of what comes from PyPI.
PYPI = "pypi"
ARTIFACTS = (".jar", ".tar.gz")
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class BuildError(Exception):
    """A release cannot be built; the text says what to do."""


def default_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "deitos-cluster"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True, order=True)
class Artifact:
    """One line of artifacts.lock."""

    # group/artifact/version/file, as in any Maven repository, or pypi/package/version/file
    repository_path: str
    sha256: str
    path: str  # its place in the release; "-" for one of which only parts are taken

    @property
    def file(self) -> str:
        return self.repository_path.rsplit("/", 1)[1]

    @property
    def key(self) -> str:
        """group:artifact[:classifier], as [[part]] names it."""
        group, name, version, file = self.repository_path.rsplit("/", 3)
        key = f"{group.replace('/', '.')}:{name}"
        rest = file.removeprefix(f"{name}-{version}")
        classifier = re.sub(r"\.(jar|tar\.gz)$", "", rest).removeprefix("-")
        return f"{key}:{classifier}" if classifier else key


class Release:
    """What one directory describes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self.lock_file = directory / "artifacts.lock"
        self.pin_file = directory / "pin.json"
        with (directory / "release.toml").open("rb") as stream:
            data = tomllib.load(stream)
        self.archive: str = data["archive"]
        self.root: str = data["root"]
        self.mtime: int = data["mtime"]
        self.checksum_variable: str = data["checksum_variable"]
        self.modules: list[dict] = data.get("module", [])
        self.packages: dict[str, str] = data.get("pypi", {})
        self.parts: list[dict] = data.get("part", [])
        self.nested: list[dict] = data.get("nested", [])

    def artifacts(self) -> list[Artifact]:
        if not self.lock_file.exists():
            raise BuildError(f"{self.name}: no artifacts.lock; write it with --relock")
        artifacts = []
        for line in self.lock_file.read_text().splitlines():
            if line and not line.startswith("#"):
                digest, repository_path, path = line.split()
                artifacts.append(Artifact(repository_path, digest, path))
        return artifacts

    def pin(self) -> dict[str, str]:
        if not self.pin_file.exists():
            raise BuildError(f"{self.name}: no pin.json; write it with --pin")
        return json.loads(self.pin_file.read_text())

    def own_files(self) -> list[tuple[str, Path, bool]]:
        """Path in the release, file and whether it is a program, of everything in layout/."""
        layout = self.directory / "layout"
        return [
            (file.relative_to(layout).as_posix(), file, bool(file.stat().st_mode & stat.S_IXUSR))
            for file in sorted(layout.rglob("*"))
            if file.is_file() and "__pycache__" not in file.parts
        ]

    def recipe(self) -> str:
        """Digest of all that decides the archive's bytes."""
        digest = hashlib.sha256(f"{FORMAT}\n".encode())
        inputs = [("release.toml", self.directory / "release.toml", False)]
        inputs += [("artifacts.lock", self.lock_file, False)]
        for path, file, program in inputs + self.own_files():
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{path} {int(program)} {content}\n".encode())
        return digest.hexdigest()


def releases(names: list[str]) -> list[Release]:
    known = {path.parent.name: path.parent for path in sorted(HERE.glob("*/release.toml"))}
    for name in names:
        if name not in known:
            raise BuildError(f"no release {name!r}; there are: {', '.join(known)}")
    return [Release(known[name]) for name in names or known]


# --- Artifacts --------------------------------------------------------------------------------


def run_maven(release: Release, directory: Path) -> None:
    """Have Maven put what each module names, and what that needs, in a directory of its own."""
    maven = shutil.which("mvn")
    if not maven:
        raise BuildError("Maven is not installed: apt-get install maven")
    command = [
        *(maven, "--batch-mode", "-f", str(release.directory)),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={directory}/${{project.artifactId}}",
    ]
    say(f"{release.name}: fetching from Maven repositories")
    output = []
    downloads, last = 0, time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as run:
        for line in run.stdout:
            if "Download" not in line:
                output.append(line.rstrip())
            downloads += "Downloaded from" in line
            if time.monotonic() - last > 10:
                last = time.monotonic()
                say(f"{release.name}: {downloads} files downloaded so far")
    if run.returncode:
        errors = [line for line in output if "[ERROR]" in line]
        tail = "\n".join(errors[:12] or output[-12:])
        raise BuildError(f"{release.name}: Maven failed:\n{tail}")


# pip wants a package's metadata even to download it only, and would run the package's own code for
# that. Found in place of setuptools, this hands out what the package says in its PKG-INFO.
BACKEND = """
import email
import sys
from pathlib import Path

__legacy__ = sys.modules[__name__]


def prepare_metadata_for_build_wheel(directory, settings=None):
    text = Path("PKG-INFO").read_bytes()
    known = email.message_from_bytes(text)
    name = known["Name"].replace("-", "_")
    metadata = Path(directory, f"{name}-{known['Version']}.dist-info")
    metadata.mkdir()
    metadata.joinpath("METADATA").write_bytes(text)
    return metadata.name
"""


def run_pip(release: Release, directory: Path) -> dict[str, Path]:
    """Have pip download source packages; return each by its repository path."""
    backend = directory / "backend/setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(BACKEND)
    environment = {**os.environ, "PYTHONPATH": str(backend.parent), "TMPDIR": str(directory)}
    if Path(AUTHORITIES).exists():
        # pip's own list of authorities does not know those that a site adds to the system's.
        environment.setdefault("PIP_CERT", AUTHORITIES)
    venv = directory / "venv"
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if made.returncode:
        raise BuildError("no virtual environment can be made: apt-get install python3-venv")
    files = {}
    for name, version in release.packages.items():
        say(f"{release.name}: fetching {name} {version} from the index of Python packages")
        target = directory / name
        command = [
            *(str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "download"),
            *("--no-deps", "--no-binary", name, "--no-build-isolation", "--use-pep517"),
            *("--no-cache-dir", "--dest", str(target), f"{name}=={version}"),
        ]
        if subprocess.run(command, stdout=sys.stderr, env=environment).returncode:
            raise BuildError(f"{release.name}: pip failed; the lines above say why")
        files |= {f"{PYPI}/{name}/{version}/{file.name}": file for file in target.iterdir()}
    return files


def files_below(base: Path) -> dict[str, Path]:
    """The artifacts in a directory where Maven put its notes too, by their repository path."""
    return {
        file.relative_to(base).as_posix(): file
        for file in sorted(base.rglob("*"))
        if file.name.endswith(ARTIFACTS)
    }


def module_directory(release: Release, module: str, directory: Path) -> Path:
    """Where run_maven put the artifacts of a module."""
    pom = ElementTree.parse(release.directory / f"{module}.xml")
    return directory / pom.getroot().findtext(f"{POM}artifactId", "")


def lock(release: Release, directory: Path, packages: dict[str, Path]) -> list[Artifact]:
    """Decide a place for everything that was fetched."""
    named: dict[tuple[str, str], str] = {}
    for module in release.modules:
        pom = ElementTree.parse(release.directory / f"{module['name']}.xml")
        for dependency in pom.getroot().iter(f"{POM}dependency"):
            group, name, classifier = (
                dependency.findtext(f"{POM}{tag}", "")
                for tag in ("groupId", "artifactId", "classifier")
            )
            if not classifier:
                named.setdefault((group, name), module["name"])

    found: dict[str, Artifact] = {}
    versions: dict[str, str] = {}
    for module in release.modules:
        base = module_directory(release, module["name"], directory)
        for path, file in files_below(base).items():
            if path in found:
                continue
            artifact = Artifact(path, sha256_of(file), "-")
            if other := versions.get(artifact.key):
                raise BuildError(f"{release.name}: both {other} and {path}: manage its version")
            versions[artifact.key] = path
            group, name = artifact.key.split(":")[:2]
            owner = named.get((group, name))
            if "jars" in module:
                home = next((m for m in release.modules if m["name"] == owner), None)
                place = home["jars"] if home else module["lib"]
                place = (Path(place) / artifact.file).as_posix()
                artifact = Artifact(path, artifact.sha256, place)
            found[path] = artifact
    for path, file in packages.items():
        found[path] = Artifact(path, sha256_of(file), "-")
    places: dict[str, str] = {}
    for artifact in found.values():
        if artifact.path != "-" and places.setdefault(artifact.path, artifact.key) != artifact.key:
            raise BuildError(f"{release.name}: two artifacts named {artifact.path}")
    return sorted(found.values())


def write_lock(release: Release, artifacts: list[Artifact]) -> None:
    lines = ["# Written by build.py --relock: SHA-256, artifact, place in the release."]
    lines += [f"{a.sha256} {a.repository_path} {a.path}" for a in artifacts]
    release.lock_file.write_text("\n".join(lines) + "\n")


def stored(store: Path, artifact: Artifact) -> Path:
    return store / artifact.sha256[:2] / artifact.sha256


def keep(file: Path, target: Path) -> None:
    """Put a file in its final place whole, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
    file.replace(target)


def fetch(release: Release, store: Path, work: Path) -> None:
    """Complete the store, which holds artifacts by digest, with what this release needs."""
    artifacts = release.artifacts()
    missing = [a for a in artifacts if not stored(store, a).exists()]
    if not missing:
        return
    fetched = {}
    wanted = {artifact.repository_path.startswith(f"{PYPI}/") for artifact in missing}
    say(f"{release.name}: {len(missing)} of {len(artifacts)} artifacts are not in {store}")
    if False in wanted:
        run_maven(release, work / "maven")
        for module in release.modules:
            fetched |= files_below(module_directory(release, module["name"], work / "maven"))
    if True in wanted:
        fetched |= run_pip(release, work / "pip")
    extra = set(fetched) - {a.repository_path for a in artifacts}
    if extra:
        raise BuildError(f"{release.name}: not in artifacts.lock: {', '.join(sorted(extra))}")
    for artifact in missing:
        file = fetched.get(artifact.repository_path)
        if not file:
            raise BuildError(f"{release.name}: not found: {artifact.repository_path}")
        digest = sha256_of(file)
        if digest != artifact.sha256:
            raise BuildError(
                f"{release.name}: {artifact.repository_path} has SHA-256 {digest}, "
                f"artifacts.lock says {artifact.sha256}: the artifact is damaged or was replaced; "
                "remove it from Maven's local repository and try again"
            )
        keep(file, stored(store, artifact))


def checked(store: Path, artifact: Artifact) -> Path:
    """An artifact's file, checked at each use; one that rotted is removed and named."""
    file = stored(store, artifact)
    if sha256_of(file) != artifact.sha256:
        file.unlink()
        raise BuildError(f"{artifact.file} was damaged in {store} and is removed: run again")
    return file


# --- Archives ---------------------------------------------------------------------------------


class StoredGzip(io.RawIOBase):
    """A gzip stream of stored blocks.

    Jars are compressed already. Stored, they unpack at the speed of the disk, and the bytes do not
    depend on which deflate a machine's zlib implements, so one digest holds for all builders.
    """

    BLOCK = 65535

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.crc = 0
        self.size = 0
        self.pending = bytearray()
        out.write(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.size += len(data)
        self.pending += data
        start = 0
        # One byte stays back, so that the last block is never empty.
        while len(self.pending) - start > self.BLOCK:
            self._block(self.pending[start : start + self.BLOCK], last=False)
            start += self.BLOCK
        del self.pending[:start]
        return len(data)

    def _block(self, data: bytes | bytearray, *, last: bool) -> None:
        self.out.write(struct.pack("<BHH", last, len(data), len(data) ^ 0xFFFF))
        self.out.write(data)

    def close(self) -> None:
        if not self.closed:
            self._block(self.pending, last=True)
            self.out.write(struct.pack("<II", self.crc, self.size & 0xFFFFFFFF))
        super().close()


def entries(file: Path, name: str) -> Iterator[tuple[str, Callable[[], bytes], bool]]:
    """Name, reader and whether it is a program, of every file in a jar or a tar archive."""
    if name.endswith(".tar.gz"):
        with tarfile.open(file) as tar:
            for member in tar:
                if member.isfile():
                    program = bool(member.mode & stat.S_IXUSR)
                    yield member.name, lambda member=member: tar.extractfile(member).read(), program
    else:
        with zipfile.ZipFile(file) as jar:
            for member in jar.namelist():
                if not member.endswith("/"):
                    yield member, lambda member=member: jar.read(member), False


def place_of(part: dict, name: str) -> str | None:
    """Where a [[part]] puts the member of this name, if it takes it."""
    wanted: str = part["member"]
    inside = wanted.endswith("/") and name.startswith(wanted)
    if not (inside or name == wanted):
        return None
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in part.get("without", [])):
        return None
    return part["path"] + name.removeprefix(wanted)


def parts_of(
    release: Release, store: Path, artifact: Artifact
) -> Iterator[tuple[str, bytes, bool]]:
    """What the release takes out of one artifact, in one pass over it."""
    parts = [part for part in release.parts if part["artifact"] == artifact.key]
    unseen = {part["member"] for part in parts}
    for name, read, program in entries(checked(store, artifact), artifact.file):
        for part in parts:
            if place := place_of(part, name):
                unseen.discard(part["member"])
                yield place, read(), program
    if unseen:
        raise BuildError(f"{release.name}: no {min(unseen)} in {artifact.key}")


def members(release: Release, store: Path) -> Iterator[tuple[str, bytes, bool]]:
    """Path, content and whether it is a program, of every file of a release."""
    artifacts = release.artifacts()
    for artifact in artifacts:
        if artifact.path != "-":
            yield artifact.path, checked(store, artifact).read_bytes(), False
    by_key = {artifact.key: artifact for artifact in artifacts}
    for key in dict.fromkeys(part["artifact"] for part in release.parts):
        yield from parts_of(release, store, by_key[key])
    for path, file, program in release.own_files():
        yield path, file.read_bytes(), program


Files = dict[str, tuple[bytes, bool]]


def write_tar(out: BinaryIO, root: str, mtime: int, files: Files) -> None:
    """Sorted, all root's, one time, so that equal files give equal bytes. A text is a link."""
    directories = {parent.as_posix() for path in files for parent in Path(path).parents} - {"."}
    with (
        StoredGzip(out) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in ["", *sorted([*directories, *files])]:
            info = tarfile.TarInfo(f"{root}/{path}".rstrip("/"))
            info.mtime = mtime
            info.uname = info.gname = "root"
            if path in files and isinstance(files[path][0], str):
                info.type = tarfile.SYMTYPE
                info.linkname, _program = files[path]
                info.mode = 0o777
                tar.addfile(info)
            elif path in files:
                content, program = files[path]
                info.size = len(content)
                info.mode = 0o755 if program else 0o644
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.DIRTYPE
                info.mode = 0o755
                tar.addfile(info)


def nest(release: Release, nested: dict, files: Files) -> None:
    """Put an archive of jars of the release into it, in place of those that it alone has."""
    inner = {
        path: file
        for path, file in files.items()
        if Path(path).parent.as_posix() in nested["copies"] and path.endswith(".jar")
    }
    for path in [path for path in files if path.startswith(nested["moves"])]:
        inner[path.removeprefix(nested["moves"])] = files.pop(path)
    out = io.BytesIO()
    write_tar(out, ".", release.mtime, inner)
    files[nested["path"]] = (out.getvalue(), False)


def write_archive(release: Release, store: Path, file: Path) -> None:
    files: Files = {}
    for path, content, program in members(release, store):
        if path in files:
            raise BuildError(f"{release.name}: two sources for {path}")
        files[path] = (content, program)
    for nested in release.nested:
        nest(release, nested, files)
    with file.open("wb") as out:
        write_tar(out, release.root, release.mtime, files)


def build(release: Release, out: Path, cache: Path, *, pin: bool = False) -> Path:
    """Return the finished archive of a release, made if it is not there."""
    target = out / release.archive
    recipe = release.recipe()
    if not pin:
        pinned = release.pin()
        if pinned["recipe"] != recipe:
            raise BuildError(
                f"{release.name}: layout/, release.toml or artifacts.lock changed since the "
                "archive was pinned: run build.py --pin"
            )
        if target.exists():
            if sha256_of(target) == pinned["sha256"]:
                say(f"{release.name}: {target} is complete")
                return target
            say(f"{release.name}: {target} is not the pinned archive: building it again")
    store = cache / "artifacts"
    store.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with (
        workspace(store) as work,
        tempfile.TemporaryDirectory(prefix=".building-", dir=out) as unfinished,
    ):
        fetch(release, store, work)
        say(f"{release.name}: writing {target}")
        archive = Path(unfinished) / release.archive
        write_archive(release, store, archive)
        digest = sha256_of(archive)
        if pin:
            write_pin(release, digest, recipe)
        elif digest != pinned["sha256"]:
            raise BuildError(
                f"{release.name}: built an archive of SHA-256 {digest}, "
                f"pin.json says {pinned['sha256']}"
            )
        archive.chmod(0o644)
        keep(archive, target)
    return target


@contextlib.contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """A directory on the store's file system, for one builder at a time."""
    with (store / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for stale in store.glob(".work-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".work-", dir=store) as directory:
            yield Path(directory)


def write_pin(release: Release, digest: str, recipe: str) -> None:
    pin = {"archive": release.archive, "sha256": digest, "recipe": recipe}
    release.pin_file.write_text(json.dumps(pin, indent=2) + "\n")
    if LAB_VERSIONS.exists():
        line = rf"^({release.checksum_variable}: )sha256:[0-9a-f]*$"
        text = LAB_VERSIONS.read_text()
        LAB_VERSIONS.write_text(re.sub(line, rf"\g<1>sha256:{digest}", text, flags=re.M))
    say(f"{release.name}: pinned {digest}")


def relock(release: Release, cache: Path) -> None:
    store = cache / "artifacts"
    store.mkdir(parents=True, exist_ok=True)
    with workspace(store) as work:
        if release.modules:
            run_maven(release, work / "maven")
        packages = run_pip(release, work / "pip") if release.packages else {}
        artifacts = lock(release, work / "maven", packages)
        write_lock(release, artifacts)
        for artifact in artifacts:
            if file := packages.get(artifact.repository_path):
                keep(file, stored(store, artifact))
    say(f"{release.name}: locked {len(artifacts)} artifacts")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("names", nargs="*", help="releases to build (all)")
    parser.add_argument(
        "--out", type=Path, help="directory for the archives (releases/ in the cache)"
    )
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="cache directory (%(default)s)"
    )
    parser.add_argument(
        "--relock", action="store_true", help="write artifacts.lock anew, then pin (maintainers)"
    )
    parser.add_argument(
        "--pin", action="store_true", help="accept what is built as the release (maintainers)"
    )
    options = parser.parse_args(arguments)
    try:
        for release in releases(options.names):
            if options.relock:
                relock(release, options.cache)
            out = options.out or options.cache / "releases"
            print(build(release, out, options.cache, pin=options.pin or options.relock))
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
