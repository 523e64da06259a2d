"""The model server, asked by OpenAI's own client and by hand; denials beside what is allowed."""

from __future__ import annotations

import concurrent.futures
import json
import re
import runpy
import shlex
import ssl

import httpx2
import openai
import pytest
from labhosts import CA, ROOT, Cluster, names_resolve
from siterun import run_site
from sockets import addresses, knock, undocumented

if not Cluster().inventory.get("llama"):
    pytest.skip("the inventory has no group llama", allow_module_level=True)

PORT = 11443
CONF = "/etc/llama/server.json"
MODEL = "tiny"
# llama-cpp-python does not stop in the middle of a character, and this model says odd bytes.
HALF = 3
LLAMA = {"system_message": "Be short.", "user_message": "Hello", "max_tokens": 8}


@pytest.fixture(scope="module")
def host(cluster):
    return cluster.first("llama")


@pytest.fixture(scope="module")
def trust(host):
    """TLS as a client has it: this cluster's authority and no other."""
    return ssl.create_default_context(cadata=host.file(CA).content_string)


@pytest.fixture(scope="module")
def url(cluster):
    """The server's address; its name resolves here as on the cluster's hosts."""
    with names_resolve():
        yield f"https://{cluster.fqdn('llama')}:{PORT}"


@pytest.fixture(scope="module")
def key(host):
    """The key that the inventory asked for."""
    return host.file("/etc/llama/issued/tests").content_string.strip()


@pytest.fixture(scope="module")
def web(trust):
    with httpx2.Client(verify=trust, timeout=90) as client:
        yield client


@pytest.fixture(scope="module")
def ask(url, web):
    """One request by hand."""

    def ask(method, path, body=None, key=None):
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return web.request(method, url + path, content=data, headers=headers)

    return ask


@pytest.fixture(scope="module")
def client(url, web, key):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, http_client=web, max_retries=0)


def new_key(host, name):
    """A key made by hand, as an administrator does."""
    host.run(f"deitos-llama-key revoke {name}")
    done = host.run(f"deitos-llama-key add {name}")
    assert done.rc == 0, done.stderr
    return done.stdout.strip()


def started(host):
    return host.run("systemctl show --value -p ExecMainStartTimestampMonotonic llama").stdout


# --- OpenAI's interface -------------------------------------------------------------------------


def test_models(client):
    assert [model.id for model in client.models.list()] == [MODEL]


def test_completion(client):
    answer = client.completions.create(model=MODEL, prompt="You may", max_tokens=12, seed=1)
    assert answer.object == "text_completion"
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert 0 < answer.usage.completion_tokens <= 12 + HALF
    assert answer.usage.prompt_tokens > 0


def test_the_same_seed_gives_the_same_answer(client):
    words = {"model": MODEL, "prompt": "You may", "max_tokens": 12, "seed": 7}
    texts = {client.completions.create(**words).choices[0].text for _ in range(3)}
    assert len(texts) == 1


def test_chat(client):
    messages = [{"role": "user", "content": "What is a licence?"}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert 0 < answer.usage.completion_tokens <= 12 + HALF


def test_streams_say_what_whole_answers_say(client):
    words = {"model": MODEL, "prompt": "You may", "max_tokens": 12, "temperature": 0, "seed": 3}
    whole = client.completions.create(**words).choices[0].text
    parts = [part.choices[0].text for part in client.completions.create(**words, stream=True)]
    assert len(parts) > 1
    assert "".join(parts) == whole
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12}
    deltas = [p.choices[0].delta for p in client.chat.completions.create(**chat, stream=True)]
    assert deltas[0].role == "assistant"


def test_the_client_understands_refusals(client):
    with pytest.raises(openai.BadRequestError, match="max_tokens is at most 256"):
        client.completions.create(model=MODEL, prompt="x", max_tokens=257)
    with pytest.raises(openai.NotFoundError, match="there is tiny"):
        client.completions.create(model="gpt-4", prompt="x")
    with pytest.raises(openai.BadRequestError, match="exceed context window"):
        client.completions.create(model=MODEL, prompt="word " * 2000, max_tokens=1)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="dl_tests_" + "0" * 64).models.list()


def test_the_documented_cell(url, host, key, tmp_path, monkeypatch, capsys):
    """Two lines of docs/llama.md as they stand there, but for names, trusting what hosts trust."""
    text = (ROOT / "docs/llama.md").read_text()
    lines = re.findall(r"^    (import openai; llama = .*|print\(llama\..*)$", text, re.M)
    assert len(lines) == 2
    (tmp_path / "llama.key").write_text(f"{key}\n")
    authorities = tmp_path / "authorities.crt"
    authorities.write_text(host.file("/etc/ssl/certs/ca-certificates.crt").content_string)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    cell = "\n".join(lines).replace("https://edge1.example.org:11443", url)
    (tmp_path / "cell.py").write_text(cell.replace('"NAME"', f'"{MODEL}"'))
    runpy.run_path(str(tmp_path / "cell.py"))
    assert capsys.readouterr().out.strip()


# --- The Deitos interface -----------------------------------------------------------------------


def test_llama(ask, key):
    answer = ask("POST", "/llama", LLAMA, key)
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == {"id", "object", "created", "model", "choices", "usage"}
    assert (found["object"], found["model"]) == ("text_completion", MODEL)
    (choice,) = found["choices"]
    assert set(choice) == {"text", "index", "logprobs", "finish_reason"}
    assert 0 < found["usage"]["completion_tokens"] <= 8 + HALF


@pytest.mark.parametrize("missing", sorted(LLAMA))
def test_llama_wants_all_parameters(ask, key, missing):
    answer = ask("POST", "/llama", {k: v for k, v in LLAMA.items() if k != missing}, key)
    assert (answer.status_code, answer.json()) == (400, {"error": "Missing required parameters"})


# --- Denials ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/v1/models", None), ("POST", "/llama", LLAMA),
     ("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1})],
)  # fmt: skip
def test_a_key_is_needed(ask, key, method, path, body):
    assert ask(method, path, body, key).status_code == 200
    for wrong in (None, "x", "dl_tests_" + "0" * 64, key[:-1]):
        answer = ask(method, path, body, wrong)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_is_refused_at_once(host, ask):
    before = started(host)
    key = new_key(host, "visitor")
    assert ask("POST", "/llama", LLAMA, key).status_code == 200
    assert host.run("deitos-llama-key revoke visitor").rc == 0
    assert ask("POST", "/llama", LLAMA, key).status_code == 401
    again = new_key(host, "visitor")
    assert ask("POST", "/llama", LLAMA, again).status_code == 200
    assert ask("POST", "/llama", LLAMA, key).status_code == 401
    host.run("deitos-llama-key revoke visitor")
    assert started(host) == before


def test_keys_are_hashed_and_private(host, key):
    kept = host.file("/etc/llama/keys.json")
    assert (kept.user, kept.group, kept.mode) == ("root", "llama", 0o640)
    assert key.rpartition("_")[2] not in kept.content_string
    issued = host.file("/etc/llama/issued/tests")
    assert (issued.user, issued.mode) == ("root", 0o400)
    assert host.run("runuser -u llama -- cat /etc/llama/issued/tests").rc != 0
    assert host.run("runuser -u nobody -- cat /etc/llama/keys.json").rc != 0
    listed = host.run("deitos-llama-key list").stdout
    assert "tests" in listed and key.rpartition("_")[2] not in listed


def test_health_and_readiness_reveal_nothing_else(ask):
    assert ask("GET", "/health").json() == {"status": "ok"}
    answer = ask("GET", "/ready")
    assert answer.json() == {"status": "ready"}
    assert "server" not in answer.headers
    for path in ("/docs", "/openapi.json", "/metrics", "/extras/tokenize"):
        assert ask("GET", path).status_code == 401


def test_there_is_no_plain_text(cluster, host, ask):
    assert ask("GET", "/health").status_code == 200
    places = [place for place in addresses(cluster, "tls") if place[1] == PORT]
    assert places
    for answer in knock(host, "plain", places):
        assert "HTTP/" not in answer.get("said", "")
    for answer in knock(host, "tls", places):
        assert (answer["error"], answer["version"] in ("TLSv1.2", "TLSv1.3")) == (None, True)
    assert undocumented(cluster, cluster.hosts("llama")[0]) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**LLAMA, "user_message": "x" * 60000, "max_tokens": 1}, 400),
        ({**LLAMA, "user_message": "x" * 70000, "max_tokens": 1}, 413),
        ({**LLAMA, "user_message": "x" * 500000, "max_tokens": 1}, 413),
        ({**LLAMA, "max_tokens": 257}, 400),
        ({**LLAMA, "max_tokens": "many"}, 400),
        ({**LLAMA, "user_message": 5}, 400),
        (b"{", 400),
        (b"\xff\xfe", 400),
        (b"[" * 60000, 400),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_too_much_is_said_in_json(ask, key, body, status):
    assert ask("POST", "/llama", {**LLAMA, "max_tokens": 256}, key).status_code == 200
    answer = ask("POST", "/llama", body, key)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"messages": "x"},
        {"messages": []},
        {"messages": [{"role": "user", "content": "x"}], "temperature": "hot"},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "x"}], "n": 3},
        {"messages": [{"role": "user", "content": "x"}], "logit_bias": {"5000": 1}},
        {"messages": [{"role": "user", "content": "x"}], "logprobs": True},
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_chats_are_the_caller_s_fault(ask, key, body):
    answer = ask("POST", "/v1/chat/completions", body, key)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]


def test_too_many_at_once_are_turned_away(ask, key):
    """Two run and two wait; of twelve at once some hear 429, and all others are answered."""
    long = {**LLAMA, "max_tokens": 256}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: ask("POST", "/llama", long, key), range(12)))
    seen = {answer.status_code for answer in answers}
    assert seen == {200, 429}
    turned = next(answer for answer in answers if answer.status_code == 429)
    assert turned.headers["Retry-After"]
    assert ask("POST", "/llama", long, key).status_code == 200


def test_verify_asks_with_and_without_a_key_and_leaves_none(host):
    before = host.check_output("deitos-llama-key list")
    run = run_site("--tags llama", playbook="playbooks/verify.yml")
    assert (run.status, run.failed) == ("successful", [])
    log = host.check_output("journalctl -u llama --no-pager -n 20")
    assert re.search(r"verify-\d+ POST /v1/completions 200", log), log
    assert len(re.findall(r"- POST /v1/completions 401", log)) >= 2, log
    assert host.check_output("deitos-llama-key list") == before


# --- The unit -----------------------------------------------------------------------------------


def test_the_unit_is_hardened(host):
    shown = host.run(
        "systemctl show llama -p User,MemoryMax,NoNewPrivileges,ProtectSystem,CapabilityBoundingSet"
    ).stdout
    for line in ("User=llama", "MemoryMax=1073741824", "NoNewPrivileges=yes"):
        assert line in shown
    assert "ProtectSystem=strict" in shown and "CapabilityBoundingSet=\n" in shown + "\n"


def test_nothing_secret_is_logged(host, ask, key):
    word = "a-word-that-nobody-else-says"
    assert ask("POST", "/llama", {**LLAMA, "user_message": word}, key).status_code == 200
    log = host.run("journalctl -u llama --no-pager").stdout
    assert re.search(r"tests POST /llama 200", log)
    assert word not in log and key.rpartition("_")[2] not in log


def test_a_wrong_model_is_refused_with_the_reason(host):
    """What the role does before it puts a configuration in place."""
    place = "/tmp/wrong-models"
    host.run(f"mkdir -p {place} && chmod 755 {place}")
    config = json.loads(host.file(CONF).content_string)
    good = config["model_path"]
    host.run(f"cp {good} {place}/good.gguf && chmod 644 {place}/good.gguf")
    host.run(f"head -c 300000 {place}/good.gguf > {place}/short.gguf")
    host.run(f"head -c 3000 {place}/good.gguf > {place}/stump.gguf")
    host.run(f"echo no model > {place}/text.gguf")

    def check(name, **more):
        changes = {"model_path": f"{place}/{name}.gguf", "checksum": "", **more}
        text = json.dumps({**config, **changes})
        host.run(f"printf %s {shlex.quote(text)} > {place}/config.json")
        return host.run(f"/usr/local/libexec/deitos/llama-server check {place}/config.json")

    assert config["checksum"]
    done = check("good", checksum=config["checksum"])
    assert (done.rc, "tiny (llama)" in done.stdout) == (0, True), done.stderr
    # What is not the file that was named is not read as a model at all.
    done = check("short", checksum=config["checksum"])
    assert (done.rc, "its digest is sha256:" in done.stderr) == (1, True), done.stderr
    for name, reason in (
        *(("text", "is not a GGUF file"), ("missing", "No such file"), ("short", "tensor")),
        ("stump", "stump.gguf"),
    ):
        done = check(name)
        assert done.rc == 1
        assert reason in done.stderr, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
    done = check("good", context=100000)
    assert (done.rc, "was trained for contexts of 512" in done.stderr) == (1, True)
    host.run(f"rm -r {place}")


def test_a_run_with_a_wrong_model_leaves_the_server_alone(host, ask, key):
    before = started(host)
    good = json.loads(host.file(CONF).content_string)["model_path"]
    host.run(f"head -c 300000 {good} > /opt/wrong.gguf")
    choice = "-e llama_model_url= -e llama_model_checksum= -e llama_model_path="
    try:
        run = run_site(choice + "/opt/wrong.gguf", playbook="playbooks/llama.yml")
        assert run.status == "failed"
        (failed,) = run.failed
        assert "is not within the file bounds" in failed[2]
        assert json.loads(host.file(CONF).content_string)["model_path"] == good
        assert started(host) == before
        assert ask("POST", "/llama", LLAMA, key).status_code == 200
    finally:
        host.run("rm /opt/wrong.gguf")


def test_a_run_with_a_wrong_release_leaves_the_server_alone(host, ask, key):
    """One that does not load the model: the old one serves on, after a restart too."""
    before = started(host)
    config = host.file(CONF).content_string
    good = json.loads(config)["release"]
    wrong = "/opt/llama-cpp-python-0.0.1"
    host.run(
        f"cp -r {good} /root/wrong && echo 'raise OSError(\"no such library\")'"
        " > /root/wrong/site-packages/llama_cpp/__init__.py"
        " && tar -czf /root/wrong.tar.gz -C /root wrong"
    )
    digest = host.check_output("sha256sum /root/wrong.tar.gz").split()[0]
    choice = "-e llama_version=0.0.1 -e llama_release_url=file:///root/wrong.tar.gz"
    try:
        run = run_site(
            f"{choice} -e llama_release_checksum=sha256:{digest}",
            playbook="playbooks/llama.yml",
        )
        assert run.status == "failed"
        (failed,) = run.failed
        assert "no such library" in failed[2]
        assert host.file(wrong).is_directory
        assert host.file(CONF).content_string == config
        assert started(host) == before
        assert host.run("systemctl restart llama").rc == 0
        assert ask("POST", "/llama", LLAMA, key).status_code == 200
    finally:
        host.run(f"rm -r /root/wrong /root/wrong.tar.gz {wrong}")


def test_a_restart_is_ready_when_it_is_done(host, ask, key):
    before = started(host)
    assert host.run("systemctl restart llama").rc == 0
    assert started(host) != before
    assert ask("GET", "/ready").status_code == 200
    assert ask("POST", "/llama", LLAMA, key).status_code == 200


def test_a_slow_answer_is_ended(host, ask, key):
    """With very little time for an answer, a long one ends with 504, and a short one is given."""
    config = json.loads(host.file(CONF).content_string)
    limits = {**config["limits"], "request_seconds": 0.1, "max_tokens": 480}
    text = json.dumps({**config, "limits": limits, "parallel": 1}, indent=1)
    host.run(f"cp -p {CONF} /root/server.json && printf %s {shlex.quote(text)} > {CONF}")
    short = {"prompt": "You", "max_tokens": 1}
    long = {"prompt": "You", "max_tokens": 480, "logit_bias": {"0": -100}}
    try:
        assert host.run("systemctl restart llama").rc == 0
        # This machine may be busy: one of many.
        tries = (ask("POST", "/v1/completions", short, key).status_code for _ in range(50))
        assert 200 in tries
        answer = ask("POST", "/v1/completions", long, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timeout")
        # The one place is free again: nothing goes on behind the answer.
        tries = (ask("POST", "/v1/completions", short, key).status_code for _ in range(50))
        assert 200 in tries
    finally:
        host.run(f"cp -p /root/server.json {CONF} && rm /root/server.json")
        assert host.run("systemctl restart llama").rc == 0
