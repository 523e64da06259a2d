"""The server's side of the lines on which kernels call it.

A line is good for one launch. It is opened by the kernel with one signed message, which holds
nothing secret; the server says with one byte that it was taken. Then it is held without a word: its
end tells either side that the other is gone.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
from collections import Counter

from .launcher import bound_socket, keep_alive, port_range, proof

LONGEST_MESSAGE = 8192
SECONDS_TO_SPEAK = 5
# So many may be about to speak: who only connects does not take all of a server's files, nor the
# turn of a kernel, which speaks at once.
MOST_UNPROVEN = 64
TAKEN = b"\n"


class Line:
    """What one kernel is expected to say, and the connection that it holds."""

    def __init__(self):
        self.launch = secrets.token_hex(16)
        self.key = secrets.token_hex(32)
        self.said = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.writer = None

    def hang_up(self):
        self.gone.set()
        if self.writer is not None:
            self.writer.close()


class Lines:
    """All lines of this server, on one port."""

    def __init__(self, host, ports):
        self.host = host
        self.ports = port_range(ports)
        self.expected = {}
        self.server = None
        # {writer: address of who has not spoken yet}, the longest silent first.
        self.unproven = {}

    async def serve(self):
        """Listen, from the first launch on."""
        if self.server is None:
            self.server = await asyncio.start_server(
                self.answer, sock=bound_socket(self.host, self.ports), limit=LONGEST_MESSAGE
            )

    @property
    def address(self):
        return f"{self.host}:{self.server.sockets[0].getsockname()[1]}"

    def expect(self):
        line = Line()
        self.expected[line.launch] = line
        return line

    def forget(self, line):
        line.hang_up()
        self.expected.pop(line.launch, None)

    async def answer(self, reader, writer):
        try:
            line, message = await self.proven(reader, writer)
            if line is None or line.said.done() or line.gone.is_set() or writer.is_closing():
                return
            keep_alive(writer.get_extra_info("socket"))
            writer.write(TAKEN)
            line.writer = writer
            line.said.set_result(message)
            try:
                await reader.read(1)
            finally:
                line.gone.set()
        except (OSError, ValueError, TimeoutError):
            pass
        finally:
            writer.close()

    async def proven(self, reader, writer):
        if len(self.unproven) >= MOST_UNPROVEN:
            self.make_room()
        self.unproven[writer], *_ = writer.get_extra_info("peername") or [""]
        try:
            return await asyncio.wait_for(self.listen(reader), SECONDS_TO_SPEAK)
        finally:
            self.unproven.pop(writer, None)

    def make_room(self):
        """Hang up on the longest silent, of the address that most of them are at."""
        ((crowded, _count),) = Counter(self.unproven.values()).most_common(1)
        silent = next(one for one, address in self.unproven.items() if address == crowded)
        del self.unproven[silent]
        silent.transport.abort()

    async def listen(self, reader):
        """Whose line it is and what the kernel says; nothing for who cannot prove it."""
        text = (await reader.readline()).decode()
        launch, given, body = text.rstrip("\n").split(" ", 2)
        line = self.expected.get(launch)
        if line is None:
            return None, None
        if not hmac.compare_digest(given.encode(), proof(line.key, launch, body).encode()):
            return None, None
        return line, json.loads(body)
