"""The model server's keys, limits and answers; what generates is a stand-in that counts."""

from __future__ import annotations

import asyncio
import grp
import hashlib
import json
import os
import sys
import threading
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles/llama/files"
sys.path.insert(0, str(FILES))
from deitos_llama import app as server  # noqa: E402  it lies beside the role, not on the path
from deitos_llama import keys as keyring  # noqa: E402
from deitos_llama import server as process  # noqa: E402

GROUP = grp.getgrgid(os.getgid()).gr_name
LIMITS = server.Limits(max_body_bytes=1000, max_tokens=50, queue=1, request_seconds=5)


class Slot:
    """Counts to max_tokens; `hold` makes it wait until it is told to go on, or aborted."""

    def __init__(self):
        self.hold = threading.Event()
        self.hold.set()
        self.aborted = threading.Event()

    def begin(self):
        self.aborted.clear()

    def abort(self):
        self.aborted.set()
        self.hold.set()

    def run(self, kind, arguments):
        if "fail" in arguments:
            raise RuntimeError("a path: /secret/place")
        self.hold.wait(20)
        if self.aborted.is_set():
            return
        text = " ".join(str(i) for i in range(arguments["max_tokens"]))
        if arguments.get("stream"):
            yield from ({"choices": [{"text": word}]} for word in text.split())
            return
        choice = {"index": 0, "logprobs": None, "finish_reason": "length"}
        choice |= {"message": {"role": "assistant", "content": text}} if kind == server.CHAT else {}
        yield {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "tiny",
            "choices": [choice],
            "usage": {"total_tokens": 1},
        }


class Engine:
    def __init__(self, slots=1):
        self.model = "tiny"
        self.vocabulary = 100
        self.slots = [Slot() for _ in range(slots)]

    def parse(self, kind, body):
        return body


@pytest.fixture
def store(tmp_path):
    return keyring.Store(tmp_path / "keys.json", GROUP)


@pytest.fixture
def key(store):
    return store.add("alice")


@pytest.fixture
def application(store, key):
    made = server.Application(keyring.Keys(store.path), LIMITS)
    return made


async def ask(application, method, path, body=b"", headers=(), more=None):
    """One request; (status, headers, body)."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    incoming = [{"type": "http.request", "body": data, "more_body": False}]
    sent = []

    async def receive():
        if incoming:
            return incoming.pop(0)
        if more:
            await more.wait()
            return {"type": "http.disconnect"}
        return await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    await application(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    head = sent[0] if sent else {"status": None, "headers": []}
    return head["status"], dict(head["headers"]), answer


def bearer(key):
    return [(b"authorization", f"Bearer {key}".encode())]


def run(application, *words, slots=1, **more):
    async def once():
        application.ready(Engine(slots))
        return await ask(application, *words, **more)

    return asyncio.run(once())


LLAMA = {"system_message": "Be short.", "user_message": "Hello", "max_tokens": 3}


# --- Keys ---------------------------------------------------------------------------------------


def test_a_key_is_its_owner_s_until_it_is_revoked(store):
    key = store.add("alice")
    keys = keyring.Keys(store.path)
    assert keys.owner(key) == "alice"
    store.revoke("alice")
    assert keys.owner(key) is None
    again = store.add("alice")
    assert (keys.owner(key), keys.owner(again)) == (None, "alice")


def test_nobody_else_s_key_is_taken(store):
    alice, bob = store.add("alice"), store.add("bob")
    keys = keyring.Keys(store.path)
    assert keys.owner(bob) == "bob"
    swapped = f"dl_alice_{bob.rpartition('_')[2]}"
    for wrong in ("", "dl_alice_", alice[:-1], alice.upper(), f"{alice}0", swapped):
        assert keys.owner(wrong) is None, wrong
    assert keys.owner(f"dl_carol_{'0' * 64}") is None


def test_the_file_holds_no_key_and_is_for_its_group(store):
    key = store.add("alice")
    text = store.path.read_text()
    assert key not in text and key.rpartition("_")[2] not in text
    assert store.path.stat().st_mode & 0o777 == 0o640


def test_a_missing_or_damaged_file_admits_nobody(store):
    key = store.add("alice")
    keys = keyring.Keys(store.path)
    assert keys.owner(key) == "alice"
    store.path.write_text("{")
    with pytest.raises(ValueError, match="Expecting"):
        keys.owner(key)
    assert keys.entries == {}
    store.path.unlink()
    assert keys.owner(key) is None


def test_missing_keys_are_made_once_for_root(store, tmp_path):
    issued = tmp_path / "issued"
    assert store.ensure(["a", "b"], issued, check=True) == ["a", "b"]
    assert not issued.exists()
    assert store.ensure(["a", "b"], issued, check=False) == ["a", "b"]
    assert store.ensure(["a", "b"], issued, check=False) == []
    assert issued.stat().st_mode & 0o777 == 0o700
    key = (issued / "a").read_text().strip()
    assert (issued / "a").stat().st_mode & 0o777 == 0o400
    assert keyring.Keys(store.path).owner(key) == "a"


def test_a_run_that_ends_early_leaves_no_key_that_nobody_has(store, tmp_path):
    """Before the key is in its file, and after that; the next run makes one that is good."""
    issued = tmp_path / "issued"
    issued.touch()
    with pytest.raises(FileExistsError):
        store.ensure(["a"], issued, check=False)
    assert keyring.load(store.path) == {}
    issued.unlink()
    store.group, store.entries = "no-such-group", {}
    with pytest.raises(KeyError):
        store.ensure(["a"], issued, check=False)
    assert keyring.load(store.path) == {}
    store.group, store.entries = GROUP, {}
    assert store.ensure(["a"], issued, check=False) == ["a"]
    assert keyring.Keys(store.path).owner((issued / "a").read_text().strip()) == "a"


@pytest.mark.parametrize("name", ["", "Alice", "a_b", "../x", "a" * 32])
def test_odd_names_are_refused(store, name):
    with pytest.raises(ValueError, match="a name is"):
        store.add(name)


def test_a_name_has_one_key(store):
    store.add("alice")
    with pytest.raises(ValueError, match="revoke it first"):
        store.add("alice")


# --- Who may ask --------------------------------------------------------------------------------


def test_health_and_readiness_say_no_more_than_that(application):
    async def both():
        before = [await ask(application, "GET", path) for path in ("/health", "/ready")]
        application.ready(Engine())
        return before, [await ask(application, "GET", path) for path in ("/health", "/ready")]

    before, after = asyncio.run(both())
    assert [(status, json.loads(body)) for status, _, body in before] == [
        (200, {"status": "ok"}),
        (503, {"status": "loading"}),
    ]
    assert [(status, json.loads(body)) for status, _, body in after] == [
        (200, {"status": "ok"}),
        (200, {"status": "ready"}),
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/v1/chat/completions")),
        *(("POST", "/llama"), ("GET", "/docs"), ("GET", "/openapi.json"), ("OPTIONS", "/llama")),
        *(("POST", "/health"), ("GET", "/")),
    ],
)
def test_everything_else_wants_a_key(application, key, method, path):
    status, headers, body = run(application, method, path, LLAMA)
    assert (status, headers[b"www-authenticate"]) == (401, b"Bearer")
    assert b"valid API key" in body
    wrong = bearer(f"dl_alice_{'0' * 64}")
    assert run(application, method, path, LLAMA, headers=wrong)[0] == 401
    assert run(application, method, path, LLAMA, headers=bearer(key))[0] != 401


def test_nothing_is_served_before_the_model_is_loaded(application, key):
    status, headers, _ = asyncio.run(ask(application, "GET", "/v1/models", headers=bearer(key)))
    assert (status, headers[b"retry-after"]) == (503, b"5")


# --- Answers ------------------------------------------------------------------------------------


def test_the_deitos_form(application, key):
    status, _, body = run(application, "POST", "/llama", LLAMA, headers=bearer(key))
    assert status == 200
    assert json.loads(body) == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"text": "0 1 2", "index": 0, "logprobs": None, "finish_reason": "length"}],
        "usage": {"total_tokens": 1},
    }


@pytest.mark.parametrize("missing", sorted(LLAMA))
def test_the_deitos_form_wants_all_of_its_parameters(application, key, missing):
    for body in ({k: v for k, v in LLAMA.items() if k != missing}, {**LLAMA, missing: None}):
        status, _, answer = run(application, "POST", "/llama", body, headers=bearer(key))
        assert (status, json.loads(answer)) == (400, {"error": "Missing required parameters"})


def test_models(application, key):
    status, _, body = run(application, "GET", "/v1/models", headers=bearer(key))
    assert status == 200
    assert [model["id"] for model in json.loads(body)["data"]] == ["tiny"]


def test_a_stream_ends_with_done(application, key):
    body = {"prompt": "x", "max_tokens": 3, "stream": True}
    status, headers, answer = run(application, "POST", "/v1/completions", body, headers=bearer(key))
    assert (status, headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
    *parts, last, _end = answer.decode().split("\n\n")
    assert [json.loads(part[6:])["choices"][0]["text"] for part in parts] == ["0", "1", "2"]
    assert last == "data: [DONE]"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/completions", b"{", 400, "invalid_json"),
        ("/v1/completions", b"[" * 900, 400, "invalid_json"),
        ("/v1/completions", b"[]", 400, "invalid_json"),
        ("/v1/completions", b"\xff", 400, "invalid_json"),
        ("/v1/completions", {"prompt": "x" * 1001}, 413, "request_too_large"),
        ("/v1/completions", {"prompt": "x" * 20000}, 413, "request_too_large"),
        ("/v1/completions", {"prompt": "x", "max_tokens": 51}, 400, "too_many_tokens"),
        ("/v1/completions", {"prompt": "x", "max_tokens": -1}, 400, "invalid_type"),
        ("/v1/completions", {"prompt": "x", "max_tokens": "9"}, 400, "invalid_type"),
        ("/v1/completions", {"prompt": "x", "max_tokens": True}, 400, "invalid_type"),
        ("/v1/completions", {"prompt": "x", "n": 2}, 400, "unsupported_parameter"),
        ("/v1/completions", {"prompt": "x", "grammar": "root ::= 1"}, 400, "unsupported_parameter"),
        ("/v1/completions", {"prompt": "x", "model": "gpt-4"}, 404, "model_not_found"),
        ("/v1/completions", b'{"prompt": "x", "temperature": NaN}', 400, "invalid_json"),
        ("/v1/completions", b'{"prompt": "x", "temperature": 1e999}', 400, "invalid_json"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"100": 1}}, 400, "invalid_type"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"-1": 1}}, 400, "invalid_type"),
        ("/v1/completions", {"prompt": "x", "logit_bias": {"9" * 900: 1}}, 400, "invalid_type"),
        ("/v1/chat/completions", {"logit_bias": {"you": 1}}, 400, "invalid_type"),
        ("/v1/chat/completions", {"max_completion_tokens": 51}, 400, "too_many_tokens"),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, 400, "invalid_type"),
        ("/v1/chat/completions", {"messages": ["x"]}, 400, "invalid_type"),
        ("/v1/chat/completions", {"tools": [{}]}, 400, "unsupported_parameter"),
        (
            "/v1/chat/completions",
            {"response_format": {"type": "json_object", "schema": {}}},
            400,
            "unsupported_parameter",
        ),
        ("/v1/embeddings", {"input": "x"}, 404, "not_found"),
        ("/v1/models", {}, 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_served_is_said(application, key, path, body, status, code):
    seen, _, answer = run(application, "POST", path, body, headers=bearer(key))
    assert (seen, json.loads(answer)["error"]["code"]) == (status, code)


def test_parts_of_text_are_one_text():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert server.in_words([{"role": "user", "content": parts}]) == [
        {"role": "user", "content": "ab"}
    ]
    image = [{"type": "image_url", "image_url": "http://localhost/"}]
    with pytest.raises(server.Refused, match=r"messages.0.content must be text"):
        server.in_words([{"role": "user", "content": image}])


def test_tokens_of_the_model_may_be_made_likelier(application, key):
    body = {"prompt": "x", "max_tokens": 1, "logit_bias": {"0": -100, "99": 1}}
    assert run(application, "POST", "/v1/completions", body, headers=bearer(key))[0] == 200


def test_the_most_tokens_are_granted(application, key):
    body = {**LLAMA, "max_tokens": 50}
    assert run(application, "POST", "/llama", body, headers=bearer(key))[0] == 200
    body = {**LLAMA, "max_tokens": 51}
    status, _, answer = run(application, "POST", "/llama", body, headers=bearer(key))
    assert (status, json.loads(answer)) == (400, {"error": "max_tokens is at most 50"})


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_an_error_of_ours_tells_nothing(application, key, path):
    status, _, answer = run(application, "POST", path, {"fail": 1}, headers=bearer(key))
    assert status == 500
    assert b"secret" not in answer and b"Traceback" not in answer
    assert json.loads(answer)["error"]["code"] == "internal_error"


# --- The model that is named ---------------------------------------------------------------------


def test_a_model_with_another_digest_is_refused(tmp_path):
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    for name in ("sha256", "sha512"):
        digest = hashlib.new(name, b"GGUF").hexdigest()
        process.see_digest(model, f"{name}:{digest}")
        process.see_digest(model, f"{name}:{digest.upper()}")
    with pytest.raises(SystemExit, match=r"its digest is sha256:.*, and sha256:0000 is named"):
        process.see_digest(model, "sha256:0000")
    with pytest.raises(SystemExit, match="unsupported"):
        process.see_digest(model, "sha999:0000")
    with pytest.raises(SystemExit, match="No such file"):
        process.see_digest(tmp_path / "other.gguf", "sha256:0000")


# --- Concurrency and time -----------------------------------------------------------------------


def test_too_many_at_once_are_turned_away(application, key):
    """One runs, one waits (queue=1), the third hears 429; then both are answered."""

    async def three():
        engine = Engine()
        (slot,) = engine.slots
        slot.hold.clear()
        application.ready(engine)
        request = ("POST", "/llama", LLAMA, bearer(key))
        first, second = (asyncio.create_task(ask(application, *request)) for _ in range(2))
        while application.taken < 2:
            await asyncio.sleep(0)
        third = await ask(application, *request)
        slot.hold.set()
        return [await first, await second, third]

    answers = asyncio.run(three())
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1][b"retry-after"] == b"5"


def test_an_answer_that_takes_too_long_is_ended(store, key):
    async def late():
        application = server.Application(
            keyring.Keys(store.path), server.Limits(request_seconds=0.2)
        )
        engine = Engine()
        (slot,) = engine.slots
        slot.hold.clear()
        application.ready(engine)
        first = await ask(application, "POST", "/llama", LLAMA, bearer(key))
        while application.taken:
            await asyncio.sleep(0.01)
        second = await ask(application, "POST", "/llama", LLAMA, bearer(key))
        return first, slot.aborted.is_set(), second

    first, _, second = asyncio.run(late())
    assert first[0] == 504
    assert second[0] == 200


def test_who_waits_too_long_hears_busy(store, key):
    async def busy():
        application = server.Application(
            keyring.Keys(store.path), server.Limits(request_seconds=0.2)
        )
        engine = Engine()
        application.ready(engine)
        await application.free.get()
        return await ask(application, "POST", "/llama", LLAMA, bearer(key))

    assert asyncio.run(busy())[0] == 503


def test_a_body_that_never_comes_is_not_waited_for(store, key):
    async def slow():
        application = server.Application(
            keyring.Keys(store.path), server.Limits(request_seconds=0.1)
        )
        application.ready(Engine())
        sent = []

        async def receive():
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/llama", "headers": bearer(key)}
        await application(scope, receive, send)
        return sent[0]["status"]

    assert asyncio.run(slow()) == 408


def test_a_caller_who_hangs_up_ends_the_work(application, key):
    async def leave():
        engine = Engine()
        (slot,) = engine.slots
        slot.hold.clear()
        application.ready(engine)
        gone = asyncio.Event()
        asked = asyncio.create_task(
            ask(application, "POST", "/llama", LLAMA, bearer(key), more=gone)
        )
        while not application.taken:
            await asyncio.sleep(0)
        gone.set()
        status, _, _ = await asked
        while application.taken:
            await asyncio.sleep(0.01)
        return status, application.free.qsize()

    assert asyncio.run(leave()) == (None, 1)
