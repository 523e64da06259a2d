"""The server's application (ASGI): who may ask, how much, and in which form it is answered.

It knows nothing of llama.cpp; what generates is an engine (engine.py), one slot for each request
that runs at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

LOG = logging.getLogger("deitos-llama")
COMPLETION, CHAT, MODELS, DEITOS = "completion", "chat", "models", "deitos"
ROUTES = {
    ("POST", "/v1/completions"): COMPLETION,
    ("POST", "/v1/chat/completions"): CHAT,
    ("GET", "/v1/models"): MODELS,
    ("POST", "/llama"): DEITOS,
}
PATHS = {path for _method, path in ROUTES}
# What the engine would take and this server does not offer, unless it has this value. Grammars, and
# the schemas that become such, can be made to cost any amount of memory.
NOT_OFFERED = {
    "n": 1,
    "best_of": 1,
    "min_tokens": 0,
    "logprobs": False,
    "logit_bias_type": None,
    "grammar": None,
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "none",
}
FORMATS = ({"type": "text"}, {"type": "json_object"})
TOKEN = re.compile(r"[0-9]{1,9}")
# How much more than the limit is read of a body that is too large, so that its sender hears why.
DRAINED = 8


class Refused(Exception):
    """A request that is not served: its status, and what the caller may know."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


class Gone(Exception):
    """The caller has hung up."""


@dataclass(frozen=True)
class Limits:
    """What one request may cost."""

    max_body_bytes: int = 1 << 20
    max_tokens: int = 1024
    queue: int = 8
    request_seconds: float = 120.0


class Slot(Protocol):
    """What serves one request at a time."""

    def begin(self) -> None:
        """Forget an earlier abort."""

    def abort(self) -> None:
        """Have `run` end soon; called while it runs in another thread."""

    def run(self, kind: str, arguments: dict) -> Iterator[dict]:
        """The answer, or its parts when arguments["stream"]. ValueError, Refused: the caller's."""


class Engine(Protocol):
    """What generates."""

    model: str
    vocabulary: int
    slots: list[Slot]

    def parse(self, kind: str, body: dict) -> dict:
        """The arguments for `run`; Refused when the body is not of this kind."""


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def finite(text: str) -> float:
    """A number of JSON's, which knows neither infinity nor what is no number."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def in_words(messages: Any) -> Any:
    """Messages whose parts are all text as one text each; other parts are not offered."""
    if not isinstance(messages, list):
        return messages
    found = []
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            texts = [part.get("text") if isinstance(part, dict) else None for part in content]
            content = "".join(texts) if all(isinstance(text, str) for text in texts) else None
        if not isinstance(content, str):
            place = f"messages.{number}.content"
            raise Refused(400, f"{place} must be text", "invalid_type", place)
        found.append({**message, "content": content})
    return found


def chat_of(body: dict) -> dict:
    """The Deitos form of a request as a chat."""
    names = ("system_message", "user_message", "max_tokens")
    if any(body.get(name) is None for name in names):
        raise Refused(400, "Missing required parameters", "missing_parameters")
    for name in names[:2]:
        if not isinstance(body[name], str):
            raise Refused(400, f"{name} must be a text", "invalid_type", name)
    return {
        "messages": [
            {"role": "system", "content": body["system_message"]},
            {"role": "user", "content": body["user_message"]},
        ],
        "max_tokens": body["max_tokens"],
    }


def text_of(answer: dict) -> dict:
    """The answer to a chat as a completion of text."""
    choices = [
        {
            "text": choice["message"].get("content") or "",
            "index": choice["index"],
            "logprobs": None,
            "finish_reason": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]
    identity = "cmpl-" + answer["id"].removeprefix("chatcmpl-")
    return {**answer, "id": identity, "object": "text_completion", "choices": choices}


class Application:
    """Answers requests; everything but /health and /ready wants a key."""

    def __init__(self, keys, limits: Limits) -> None:
        self.keys = keys
        self.limits = limits
        self.engine: Engine | None = None
        self.created = int(time.time())
        self.free: asyncio.Queue[Slot] = asyncio.Queue()
        self.taken = 0
        self.threads: ThreadPoolExecutor | None = None

    def ready(self, engine: Engine) -> None:
        """The model is loaded: serve."""
        self.threads = ThreadPoolExecutor(len(engine.slots), thread_name_prefix="slot")
        for slot in engine.slots:
            self.free.put_nowait(slot)
        self.engine = engine

    # --- One request ------------------------------------------------------------------------

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        started = time.monotonic()
        name = "-"
        try:
            if await self._public(exchange):
                return
            name = self._authenticate(scope)
            await self._serve(exchange, started + self.limits.request_seconds)
        except Refused as refused:
            await exchange.refuse(refused)
        except Gone:
            exchange.status = 499
        except Exception:
            number = secrets.token_hex(8)
            LOG.exception("error %s", number)
            await exchange.refuse(Refused(500, f"internal error {number}", "internal_error"))
        took = (time.monotonic() - started) * 1000
        LOG.info("%s %s %s %s %.0f ms", name, scope["method"], exchange.path, exchange.status, took)

    async def _public(self, exchange) -> bool:
        if exchange.method not in ("GET", "HEAD") or exchange.path not in ("/health", "/ready"):
            return False
        if exchange.path == "/health":
            await exchange.json(200, {"status": "ok"})
        elif self.engine:
            await exchange.json(200, {"status": "ready"})
        else:
            await exchange.json(503, {"status": "loading"})
        return True

    def _authenticate(self, scope) -> str:
        for key, value in scope["headers"]:
            if key == b"authorization":
                kind, _, credentials = value.decode("latin-1").partition(" ")
                if kind.lower() == "bearer" and (name := self.keys.owner(credentials.strip())):
                    return name
        raise Refused(401, "a valid API key is required", "invalid_api_key")

    async def _serve(self, exchange, deadline: float) -> None:
        kind = ROUTES.get((exchange.method, exchange.path))
        if not kind:
            if exchange.path in PATHS:
                raise Refused(405, "this method is not offered here", "method_not_allowed")
            raise Refused(404, "there is no such resource", "not_found")
        if not self.engine:
            raise Refused(503, "the model is not loaded yet", "not_ready")
        if kind == MODELS:
            await exchange.json(200, {"object": "list", "data": [self._model()]})
            return
        body = await exchange.body(self.limits.max_body_bytes, deadline)
        arguments = self._arguments(kind, body)
        slot = await self._slot(deadline)
        answer = asyncio.Queue()
        work = self._start(slot, CHAT if kind == DEITOS else kind, arguments, answer)
        try:
            await self._answer(exchange, kind, arguments, answer, deadline)
        finally:
            if not work.done():
                slot.abort()

    def _model(self) -> dict:
        return {
            "id": self.engine.model,
            "object": "model",
            "created": self.created,
            "owned_by": "deitos",
        }

    def _arguments(self, kind: str, body: dict) -> dict:
        """What the engine is asked, within the limits."""
        if kind == DEITOS:
            body = chat_of(body)
        if kind == CHAT:
            body = {**body, "messages": in_words(body.get("messages", []))}
            if whole(body.get("max_completion_tokens")):
                body["max_tokens"] = body["max_completion_tokens"]
        for name, value in NOT_OFFERED.items():
            if body.get(name) not in (None, value):
                raise Refused(400, f"{name} is not offered", "unsupported_parameter", name)
        if body.get("response_format") not in (None, *FORMATS):
            message = "response_format is text or json_object, without a schema"
            raise Refused(400, message, "unsupported_parameter", "response_format")
        if body.get("model") not in (None, self.engine.model):
            message = f"there is no such model; there is {self.engine.model}"
            raise Refused(404, message, "model_not_found", "model")
        bias = body.get("logit_bias")
        if isinstance(bias, dict) and not all(self._is_token(name) for name in bias):
            message = f"logit_bias wants numbers of tokens, below {self.engine.vocabulary}"
            raise Refused(400, message, "invalid_type", "logit_bias")
        most = self.limits.max_tokens
        tokens = body.get("max_tokens")
        if tokens is None:
            tokens = min(16, most) if kind == COMPLETION else most
        if not whole(tokens) or tokens < 1:
            raise Refused(400, "max_tokens must be a positive number", "invalid_type", "max_tokens")
        if tokens > most:
            raise Refused(400, f"max_tokens is at most {most}", "too_many_tokens", "max_tokens")
        return self.engine.parse(
            CHAT if kind == DEITOS else kind, {**body, "max_tokens": tokens, "logprobs": None}
        )

    def _is_token(self, name: str) -> bool:
        return bool(TOKEN.fullmatch(name)) and int(name) < self.engine.vocabulary

    # --- Slots ------------------------------------------------------------------------------

    async def _slot(self, deadline: float) -> Slot:
        """A free slot, after waiting in a short queue."""
        if self.taken >= len(self.engine.slots) + self.limits.queue:
            raise Refused(429, "too many requests at once: try again later", "rate_limit_exceeded")
        self.taken += 1
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                slot = await self.free.get()
        except BaseException as error:
            self.taken -= 1
            if isinstance(error, TimeoutError):
                raise Refused(503, "busy: try again later", "busy") from None
            raise
        slot.begin()
        return slot

    def _start(self, slot: Slot, kind: str, arguments: dict, answer: asyncio.Queue):
        """Run in a thread, which fills `answer`; the slot is free when the thread is done."""
        loop = asyncio.get_running_loop()

        def put(item) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed at the end of the server
                loop.call_soon_threadsafe(answer.put_nowait, item)

        def work() -> None:
            try:
                for item in slot.run(kind, arguments):
                    put(item)
                put(None)
            except Exception as error:
                put(error)

        def done(_future) -> None:
            self.taken -= 1
            self.free.put_nowait(slot)

        future = loop.run_in_executor(self.threads, work)
        future.add_done_callback(done)
        return future

    # --- Answers ----------------------------------------------------------------------------

    async def _answer(self, exchange, kind, arguments, answer, deadline) -> None:
        gone = asyncio.create_task(exchange.hung_up())
        try:
            first = await self._next(answer, gone, deadline)
            if not arguments.get("stream"):
                await exchange.json(200, text_of(first) if kind == DEITOS else first)
                return
            await exchange.start(200, [(b"content-type", b"text/event-stream; charset=utf-8")])
            item = first
            try:
                # Also bounds the time for which a caller may not take what is sent.
                async with asyncio.timeout(deadline - time.monotonic()):
                    while item is not None:
                        await exchange.event(json.dumps(item))
                        item = await self._next(answer, gone, deadline)
                await exchange.event("[DONE]")
            except TimeoutError:
                await exchange.event(json.dumps(error_body(exchange.path, out_of_time())))
            except Refused as refused:
                await exchange.event(json.dumps(error_body(exchange.path, refused)))
            await exchange.end()
        finally:
            gone.cancel()

    async def _next(self, answer, gone, deadline):
        """The next part; raises what ended the work instead."""
        get = asyncio.create_task(answer.get())
        try:
            await asyncio.wait(
                {get, gone},
                timeout=max(0.0, deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if get.done():
                item = get.result()
            elif gone.done():
                raise Gone
            else:
                raise out_of_time()
        finally:
            get.cancel()
        if isinstance(item, Exception):
            raise item
        return item


def out_of_time() -> Refused:
    return Refused(504, "the answer took too long: ask for fewer tokens", "timeout")


def error_body(path: str, refused: Refused) -> dict:
    """The Deitos route says it in a word; the others as OpenAI does."""
    if path == "/llama":
        return {"error": refused.message}
    kind = "invalid_request_error" if refused.status < 500 else "server_error"
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(refused.status, kind)
    error = {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}
    return {"error": error}


class Exchange:
    """One request and its response."""

    def __init__(self, scope, receive, send) -> None:
        self.scope = scope
        self.method = scope["method"]
        self.path = scope["path"]
        self.receive = receive
        self.send = send
        self.status: int | None = None
        self.complete = False

    async def body(self, most: int, deadline: float) -> dict:
        """The request's body: a JSON object of at most so many bytes."""
        data, size, more = bytearray(), 0, True
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while more and size <= DRAINED * most:
                    message = await self.receive()
                    if message["type"] == "http.disconnect":
                        raise Gone
                    part = message.get("body", b"")
                    size += len(part)
                    data += part if size <= most else b""
                    more = message.get("more_body", False)
        except TimeoutError:
            raise Refused(408, "the request took too long to arrive", "timeout") from None
        if size > most:
            raise Refused(413, f"a request has at most {most} bytes", "request_too_large")
        self.complete = True
        try:
            found = json.loads(data, parse_float=finite, parse_constant=finite)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is not JSON", "invalid_json") from None
        if not isinstance(found, dict):
            raise Refused(400, "the body is not a JSON object", "invalid_json")
        return found

    async def hung_up(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: list) -> None:
        self.status = status
        common = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        start = {"type": "http.response.start", "status": status, "headers": [*headers, *common]}
        await self.send(start)

    async def json(self, status: int, body: dict, headers: tuple = ()) -> None:
        data = json.dumps(body).encode()
        length = (b"content-length", str(len(data)).encode())
        await self.start(status, [(b"content-type", b"application/json"), length, *headers])
        await self.send({"type": "http.response.body", "body": data})

    async def event(self, data: str) -> None:
        body = f"data: {data}\n\n".encode()
        await self.send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        await self.send({"type": "http.response.body", "body": b""})

    async def refuse(self, refused: Refused) -> None:
        if self.status is not None:  # the answer has begun: it can only stop
            return
        headers = []
        if refused.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if refused.status in (429, 503):
            headers.append((b"retry-after", b"5"))
        if not self.complete:  # what is still to come is not read
            headers.append((b"connection", b"close"))
        await self.json(refused.status, error_body(self.path, refused), tuple(headers))
