"""A TCP proxy before each broker, which cuts, delays and holds what goes through it.

Invariant: bytes arrive unchanged and in order, or their connection is cut; nothing in between.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

HOST: Final = "127.0.0.1"
_CHUNK: Final = 1 << 16
_START_S: Final = 10.0
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
Cuts = Callable[[bytes], bool]
"""Given what a client sends: whether its connection is cut instead of passing it on."""


class Gate:
    """What goes through to one broker; all of it on the proxy's event loop."""

    def __init__(self, port: int, cuts: Cuts | None = None) -> None:
        self._port = port
        self._cuts = cuts
        self._open = asyncio.Event()
        self._open.set()
        self._delay_s = 0.0
        self._transports: set[asyncio.WriteTransport] = set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, HOST, 0)

    def cut(self) -> int:
        """Reset every connection that there is; new ones are let through. Returns how many there were."""
        cut = list(self._transports)
        for transport in cut:
            # Without lingering, closing resets: who waits for an answer is told at once.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            transport.abort()
        return len(cut) // 2

    def delay(self, delay_s: float) -> None:
        """Pass each chunk of bytes on only so much later."""
        self._delay_s = delay_s

    def hold(self) -> None:
        """Pass nothing on, and cut nothing: the network is silent."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(HOST, self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer.transport, back.transport}
        self._transports |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, back, self._cuts))
                both.create_task(self._pass_on(there, writer))
        except* OSError:
            pass
        finally:
            self._transports -= ends
            writer.transport.abort()
            back.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cuts: Cuts | None = None
    ) -> None:
        while (chunk := await reader.read(_CHUNK)) and not (cuts is not None and cuts(chunk)):
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
        # Kafka's clients and brokers know no half of a connection.
        raise ConnectionResetError


class Proxy:
    """A gate for each of these ports, served by one thread.

    Args:
        ports: of the brokers behind it.
        cuts: asked of all that clients send; None cuts nothing by itself.
    """

    def __init__(self, ports: Sequence[int], cuts: Cuts | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._ports = ports
        self._cuts = cuts
        self.gates: dict[int, Gate] = {}
        self.addresses: dict[int, int] = {}
        """Port of the proxy for each port behind it."""
        self._servers: list[asyncio.Server] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(_START_S), "the proxy does not start"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)

    def cut(self, port: int) -> int:
        done: Future[int] = Future()
        self._loop.call_soon_threadsafe(lambda: done.set_result(self.gates[port].cut()))
        return done.result(_START_S)

    def delay(self, port: int, delay_s: float) -> None:
        self._loop.call_soon_threadsafe(self.gates[port].delay, delay_s)

    def hold(self, port: int) -> None:
        self._loop.call_soon_threadsafe(self.gates[port].hold)

    def release(self, port: int) -> None:
        self._loop.call_soon_threadsafe(self.gates[port].release)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            for server in self._servers:
                server.close()
            pending = asyncio.all_tasks(self._loop)
            for task in pending:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
            self._loop.close()

    async def _serve(self) -> None:
        for port in self._ports:
            gate = self.gates[port] = Gate(port, self._cuts)
            server = await gate.serve()
            self._servers.append(server)
            self.addresses[port] = server.sockets[0].getsockname()[1]
