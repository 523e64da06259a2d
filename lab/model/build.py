#!/usr/bin/env python3
"""Write a model that says nothing of sense and is real in every other way.

    build.py [FILE]    prints its SHA-256; without FILE, where the lab's releases are

The architecture and format are Llama's (GGUF, 32-bit floats), the weights random, the tokenizer
(byte-level BPE) learned here from the project's licence. The same bytes come out every time.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import sys
from collections import Counter
from pathlib import Path

import gguf
import numpy

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"
NAME = "tiny"
MERGES = 300
CONTEXT, HEADS = 512, 4
START, END = "<|im_start|>", "<|im_end|>"
CHAT = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def letters():
    """The character that stands for each byte, as GPT-2 has it."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(others)}


def learn(text, count):
    """Byte-pair encoding: the pairs that are merged, most frequent first."""
    table = letters()
    words = Counter(re.findall(r" ?\w+", text))
    parts = {word: [table[byte] for byte in word.encode()] for word in words}
    merges = []
    for _ in range(count):
        pairs = Counter()
        for word, number in words.items():
            for pair in zip(parts[word], parts[word][1:]):
                pairs[pair] += number
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, pieces in parts.items():
            i = 0
            while i + 1 < len(pieces):
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = ["".join(best)]
                i += 1
            parts[word] = pieces
    return merges


def write(path, *, width=64, layers=2, forward=128):
    merges = learn(TEXT.read_text(), MERGES)
    tokens = [END, START, *letters().values(), *dict.fromkeys("".join(pair) for pair in merges)]
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(forward)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control, control] + [normal] * (len(tokens) - 2))
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT)

    chance = random.Random(20260101)  # noqa: S311 weights are no secret

    def tensor(name, *shape):
        size = int(numpy.prod(shape))
        values = [chance.uniform(-0.5, 0.5) for _ in range(size)]
        writer.add_tensor(name, numpy.array(values, dtype=numpy.float32).reshape(shape))

    def ones(name):
        writer.add_tensor(name, numpy.ones(width, dtype=numpy.float32))

    tensor("token_embd.weight", len(tokens), width)
    for layer in range(layers):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm.weight")
        ones(f"{block}.ffn_norm.weight")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"{block}.{part}.weight", width, width)
        tensor(f"{block}.ffn_gate.weight", forward, width)
        tensor(f"{block}.ffn_up.weight", forward, width)
        tensor(f"{block}.ffn_down.weight", width, forward)
    ones("output_norm.weight")
    tensor("output.weight", len(tokens), width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def main():
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    default = cache / "deitos-cluster/releases/tiny.gguf"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: machines read it.
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        print(write(unfinished))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
