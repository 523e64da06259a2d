"""A person with a browser: she logs in, opens the notebook and runs it, and sees what it says.

The screenshot of docs/notebooks.md is one that this test left in RESULTS.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import browser
import pytest
from labhosts import CA, ROOT
from notebooks import PORT, notebook
from people import NEW_PASSWORD, People
from playwright.sync_api import Error, expect

SHIPPED = ROOT / "examples/pyspark.ipynb"
SHOT = Path(os.environ.get("RESULTS") or ROOT / "results") / "notebook.png"
# A busy machine takes its time.
PATIENCE = 300_000


@pytest.fixture(scope="module", autouse=True)
def chromium():
    subprocess.run(["sh", str(ROOT / "tests/browser.sh")], check=True)


@pytest.fixture(scope="module")
def alice(converged, tmp_path_factory):
    """alice with a password of her own; as on her first day in the end."""
    people = People(converged, tmp_path_factory.mktemp("people"))
    converged.first("jupyter").run("rm -f /home/alice/pyspark.ipynb")
    assert people.change("alice", people.renew("alice"), NEW_PASSWORD).rc == 0
    yield NEW_PASSWORD
    people.renew("alice")


@pytest.fixture
def page(converged, tmp_path):
    authority = converged.first("jupyter").file(CA).content_string
    with browser.page(tmp_path, authority) as page:
        page.set_default_timeout(PATIENCE)
        yield page


@pytest.fixture(scope="module")
def url(converged):
    return f"https://{converged.fqdn('jupyter')}:{PORT}"


def test_a_browser_that_does_not_know_the_authority_stays_away(url, tmp_path):
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    other = [*command.split(), "-keyout", "/dev/null", "-subj", "/CN=other"]
    made = subprocess.run(other, check=True, capture_output=True, text=True)
    with (
        browser.page(tmp_path, made.stdout) as page,
        pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"),
    ):
        page.goto(url)


def test_alice_runs_the_notebook(page, url, alice):
    log_in(page, url, "alice", alice)
    run_all(page, SHIPPED)
    for said in ("500 rows in kv1.txt", "Key: 0, Value: val_0", "rw-r-----"):
        expect(page.locator(".jp-OutputArea-output").filter(has_text=said)).to_have_count(1)
    expect(page.locator(".jp-RenderedText[data-mime-type*='error']")).to_have_count(0)
    SHOT.parent.mkdir(exist_ok=True)
    page.screenshot(path=SHOT)


def log_in(page, url, name, password):
    """Fill in the form, and see JupyterLab."""
    page.goto(url)
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/user/{name}/lab**")
    expect(page.locator("#jupyterlab-splash")).to_have_count(0)


def run_all(page, path):
    """Upload a notebook, open it and run it from top to bottom."""
    with page.expect_file_chooser() as chooser:
        page.get_by_title("Upload Files").click()
    chooser.value.set_files(path)
    page.get_by_role("listitem", name=path.name).dblclick()
    cells = notebook(path)
    prompts = page.locator(".jp-CodeCell .jp-InputArea-prompt")
    expect(prompts).to_have_count(len(cells))
    # Until its kernel has started, JupyterLab would ask for one.
    kernel = json.loads(path.read_text())["metadata"]["kernelspec"]["display_name"]
    expect(page.get_by_text(f"{kernel} | Idle")).to_be_visible(timeout=PATIENCE)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(prompts.last).to_have_text(f"[{len(cells)}]:", timeout=PATIENCE)
