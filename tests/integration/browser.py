"""Debian's Chromium without a window, trusting the lab's authority and knowing the lab's names."""

from __future__ import annotations

import contextlib
import os
import subprocess

from labhosts import names_resolve
from playwright.sync_api import sync_playwright

QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


@contextlib.contextmanager
def page(home, authority, size=(1280, 860)):
    """A page of a browser whose home is an empty directory, and whose database one authority."""
    database = f"sql:{home}/.pki/nssdb"
    (home / ".pki/nssdb").mkdir(parents=True)
    (home / "ca.crt").write_text(authority)
    certutil = ["certutil", "-d", database]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    words = ["-A", "-n", "lab", "-t", "C,,", "-i", str(home / "ca.crt")]
    subprocess.run([*certutil, *words], check=True)
    with names_resolve() as lab, sync_playwright() as playwright:
        rules = ", ".join(f"MAP {name} {address}" for name, address in lab.items())
        # Chromium has no sandbox for root.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=[*QUIET, *root, f"--host-resolver-rules={rules}"],
            env={**os.environ, "HOME": str(home)},
        )
        width, height = size
        yield browser.new_page(viewport={"width": width, "height": height})
        browser.close()
