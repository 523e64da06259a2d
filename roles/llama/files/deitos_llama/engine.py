"""llama.cpp as the application's engine: one context for each request that runs at once."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
from jinja2 import TemplateError
from llama_cpp.server.types import CreateChatCompletionRequest, CreateCompletionRequest
from pydantic import ValidationError

from deitos_llama.app import CHAT, COMPLETION, Refused

REQUESTS = {COMPLETION: CreateCompletionRequest, CHAT: CreateChatCompletionRequest}
# Refused or answered by the application, or not for llama.cpp.
NOT_PASSED = {"model", "n", "best_of", "user", "min_tokens", "grammar", "logit_bias_type"}
NOT_PASSED |= {"logprobs", "top_logprobs"}
NEWEST_GGUF = 3
ERROR_LEVEL = 4


class BadModel(Exception):
    """The model cannot be served; the text says why."""


# What llama.cpp says of a model that it does not load, it says to its log alone.
SAID: list[str] = []


@llama_cpp.llama_log_callback
def remember(level: int, text: bytes, _data) -> None:
    if level == ERROR_LEVEL:
        SAID.append(text.decode(errors="replace").strip())


def see_header(path: Path) -> None:
    """Refuse what is no model at all, in words."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise BadModel(f"{path}: {error.strerror}") from None
    if len(start) < 8 or start[:4] != b"GGUF":
        raise BadModel(f"{path}: is not a GGUF file")
    (version,) = struct.unpack("<I", start[4:])
    if not 2 <= version <= NEWEST_GGUF:
        raise BadModel(f"{path}: is GGUF of version {version}; known are 2 to {NEWEST_GGUF}")


def load(config: dict, **more) -> llama_cpp.Llama:
    """One context on the model, or BadModel with llama.cpp's own words."""
    path = Path(config["model_path"])
    threads = config["threads"] or max(1, len(os.sched_getaffinity(0)) // config["parallel"])
    see_header(path)
    SAID.clear()
    llama_cpp.llama_log_set(remember, ctypes.c_void_p(0))
    try:
        return llama_cpp.Llama(
            model_path=str(path),
            n_ctx=config["context"],
            n_batch=config["batch"],
            n_threads=threads,
            n_threads_batch=threads,
            n_gpu_layers=config["gpu_layers"],
            chat_format=config["chat_format"] or None,
            verbose=False,
            **more,
        )
    except (ValueError, RuntimeError, MemoryError) as error:
        reason = "; ".join(dict.fromkeys([*SAID, str(error)]))
        raise BadModel(f"{path}: {reason}") from None


def check(config: dict) -> str:
    """Read the model's description and vocabulary, not its weights; say what it is."""
    llama = load(config, vocab_only=True)
    try:
        metadata = llama.metadata
        kind = metadata.get("general.architecture", "?")
        trained = metadata.get(f"{kind}.context_length")
        if trained and config["context"] > int(trained):
            raise BadModel(
                f"{config['model_path']}: was trained for contexts of {trained} tokens, "
                f"and {config['context']} are configured"
            )
        return f"{metadata.get('general.name', '?')} ({kind}), {llama.n_vocab()} tokens"
    finally:
        llama.close()


def read_flag():
    """A C function that says whether a flag is set: llama.cpp asks at every step, from its own
    threads, where a function of Python's would cost its lock each time. strlen does it."""
    address = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
    return llama_cpp.ggml_abort_callback(address)


class Slot:
    """A context, for one request at a time."""

    def __init__(self, llama: llama_cpp.Llama, model: str) -> None:
        self.llama = llama
        self.model = model
        self.flag = ctypes.create_string_buffer(2)
        self.read_flag = read_flag()
        data = ctypes.cast(self.flag, ctypes.c_void_p)
        llama_cpp.llama_set_abort_callback(llama.ctx, self.read_flag, data)

    def begin(self) -> None:
        self.flag[0] = 0

    def abort(self) -> None:
        self.flag[0] = 1

    def run(self, kind: str, arguments: dict) -> Iterator[dict]:
        call = self.llama.create_chat_completion if kind == CHAT else self.llama.create_completion
        try:
            answer = call(**arguments, model=self.model)
            if arguments["stream"]:
                yield from answer
            else:
                yield answer
        except (ValueError, TemplateError) as error:
            raise self._refused(error) from None
        except RuntimeError:
            # After an abort too: what was begun is forgotten.
            self.llama.reset()
            if self.flag[0] == b"\0":
                raise

    def _refused(self, error: Exception) -> Refused:
        said = " ".join(str(error).split())[:300]
        if "exceed context window" in said:
            return Refused(400, said, "context_length_exceeded", "messages")
        return Refused(400, f"the request cannot be processed: {said}", "invalid_request")


class Engine:
    """The model, and as many slots as requests run at once; they share its weights in memory."""

    def __init__(self, config: dict) -> None:
        self.model = config["model_name"]
        self.slots = [Slot(load(config), self.model) for _ in range(config["parallel"])]
        self.vocabulary = self.slots[0].llama.n_vocab()

    def parse(self, kind: str, body: dict) -> dict:
        try:
            request = REQUESTS[kind].model_validate(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            raise Refused(400, f"{place}: {first['msg']}", "invalid_type", place) from None
        arguments = request.model_dump(exclude=NOT_PASSED)
        if kind == COMPLETION and isinstance(arguments["prompt"], list):
            if len(arguments["prompt"]) != 1:
                raise Refused(400, "prompt must be one text", "unsupported_parameter", "prompt")
            (arguments["prompt"],) = arguments["prompt"]
        if kind == COMPLETION and not arguments["prompt"]:
            raise Refused(400, "prompt must not be empty", "invalid_type", "prompt")
        if kind == CHAT and not arguments["messages"]:
            raise Refused(400, "messages must not be empty", "invalid_type", "messages")
        return arguments
