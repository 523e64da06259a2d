# Copyright (c) the Deitos Cluster authors
# SPDX-License-Identifier: Apache-2.0
"""The key that a password makes (RFC 3962 and RFC 8009), to tell whether a principal has it.

It lets `update_password: always` see that nothing is to be done, without a login attempt, which
could count as a failure and would need a running KDC.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

_SHA1 = {17: 16, 18: 32}
_SHA2 = {
    19: ("sha256", 16, b"aes128-cts-hmac-sha256-128"),
    20: ("sha384", 32, b"aes256-cts-hmac-sha384-192"),
}


def string_to_key(enctype, password, salt):
    """The key as bytes, or None for an encryption type not known here."""
    if enctype in _SHA2:
        digest, size, name = _SHA2[enctype]
        start = hashlib.pbkdf2_hmac(digest, password, name + b"\0" + salt, 32768, size)
        block = struct.pack(">I", 1) + b"kerberos\0" + struct.pack(">I", size * 8)
        return hmac.new(start, block, digest).digest()[:size]
    if enctype in _SHA1:
        size = _SHA1[enctype]
        start = hashlib.pbkdf2_hmac("sha1", password, salt, 4096, size)
        rounds = _key_schedule(start)
        # DR(): the folded constant, enciphered again and again until there are enough bytes.
        block, key = n_fold(b"kerberos", 16), b""
        while len(key) < size:
            block = _encrypt_block(rounds, block)
            key += block
        return key[:size]
    return None


def n_fold(data, size):
    """RFC 3961's n-fold: the input, rotated by 13 bits a copy, added up with end-around carry."""
    bits = len(data) * 8
    value = int.from_bytes(data, "big")
    copies, total = size, len(data)
    while copies % total:
        copies += size
    stream = b""
    for number in range(copies // total):
        shift = 13 * number % bits
        rotated = (value >> shift | value << (bits - shift)) & ((1 << bits) - 1)
        stream += rotated.to_bytes(total, "big")
    mask, folded = (1 << size * 8) - 1, 0
    for start in range(0, len(stream), size):
        folded += int.from_bytes(stream[start : start + size], "big")
        folded = (folded & mask) + (folded >> size * 8)
    return folded.to_bytes(size, "big")


# AES' forward cipher: the standard library has none, and a dozen blocks need no speed.


def _double(byte):
    byte <<= 1
    return byte ^ 0x11B if byte & 0x100 else byte


def _make_sbox():
    box, p, q = [0] * 256, 1, 1
    box[0] = 0x63
    while True:
        p ^= _double(p)
        for shift in (1, 2, 4):
            q = (q ^ q << shift) & 0xFF
        if q & 0x80:
            q ^= 0x09
        turned = q
        for shift in (1, 2, 3, 4):
            turned ^= (q << shift | q >> (8 - shift)) & 0xFF
        box[p] = turned ^ 0x63
        if p == 1:
            return bytes(box)


_SBOX = _make_sbox()


def _key_schedule(key):
    words = [key[at : at + 4] for at in range(0, len(key), 4)]
    count, constant = len(words), 1
    for number in range(count, 4 * (count + 7)):
        word = words[-1]
        if number % count == 0:
            word = word[1:] + word[:1]
            word = bytes(_SBOX[byte] for byte in word)
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _double(constant)
        elif count > 6 and number % count == 4:
            word = bytes(_SBOX[byte] for byte in word)
        words.append(bytes(a ^ b for a, b in zip(words[-count], word)))
    joined = b"".join(words)
    return [joined[at : at + 16] for at in range(0, len(joined), 16)]


def _encrypt_block(rounds, block):
    state = bytes(a ^ b for a, b in zip(block, rounds[0]))
    for number in range(1, len(rounds)):
        state = [_SBOX[byte] for byte in state]
        # Rows move left: byte r of column c comes from column c + r.
        state = [state[(4 * (at // 4 + at % 4) + at % 4) % 16] for at in range(16)]
        if number < len(rounds) - 1:
            state = _mix_columns(state)
        state = bytes(a ^ b for a, b in zip(state, rounds[number]))
    return state


def _mix_columns(state):
    mixed = []
    for at in range(0, 16, 4):
        column = state[at : at + 4]
        every = column[0] ^ column[1] ^ column[2] ^ column[3]
        mixed += [
            column[row] ^ every ^ _double(column[row] ^ column[(row + 1) % 4]) for row in range(4)
        ]
    return mixed
