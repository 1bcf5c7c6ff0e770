"""Publications and receptions awaited: the event loop watches their descriptors, no thread does."""

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from mcastctl.model.errors import QueueFullError, SocketError
from mcastctl.net.publisher import Publication, SendReport

_TURN = 64
"""Datagrams moved without waiting before the other tasks of the loop get their turn."""

_Waiting = dict[tuple[int, bool], set["asyncio.Future[None]"]]
_waiting: "WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting]" = WeakKeyDictionary()
"""Who waits for which descriptor, to read or (True) to write: a loop knows one of them only."""

T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """A Reception, which gives datagrams, or a Subscriber, which gives Received."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def receive(self) -> T_co | None:
        """Return what is there now, None for nothing."""


class _Turns:
    """One caller at a time, who waits for a descriptor where needed and is never greedy."""

    def __init__(self) -> None:
        self.alone = asyncio.Lock()
        self._moved = 0

    async def moved(self) -> None:
        """Count a datagram; let others run every so often."""
        self._moved += 1
        if self._moved >= _TURN:
            self._moved = 0
            await asyncio.sleep(0)

    async def ready(self, descriptor: int, *, writable: bool) -> None:
        """Wait until a descriptor can be read or written."""
        loop = asyncio.get_running_loop()
        watch, unwatch = (
            (loop.add_writer, loop.remove_writer)
            if writable
            else (loop.add_reader, loop.remove_reader)
        )
        woken: asyncio.Future[None] = loop.create_future()
        others = _waiting.setdefault(loop, {}).setdefault((descriptor, writable), set())
        if others:
            unwatch(descriptor)  # its number may have become another's meanwhile
        try:
            watch(descriptor, _wake, others)
        except NotImplementedError as error:
            raise SocketError(
                "this event loop watches no sockets", hint="use asyncio.SelectorEventLoop"
            ) from error
        self._moved = 0
        others.add(woken)
        try:
            await woken
        finally:
            others.discard(woken)
            if not others:
                unwatch(descriptor)


def _wake(waiting: "set[asyncio.Future[None]]") -> None:
    for woken in waiting:
        if not woken.done():
            woken.set_result(None)


class AsyncSender:
    """A publication whose `send` waits for room, for any number of tasks.

    The publication stays the caller's, who closes it once nobody waits.
    """

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self._turns = _Turns()

    async def send(self, payload: bytes) -> SendReport:
        """Send one datagram. Raises SocketError when the kernel refuses."""
        async with self._turns.alone:
            while True:
                try:
                    report = self.publication.send(payload)
                except QueueFullError:
                    await self._turns.ready(self.publication.fileno(), writable=True)
                else:
                    await self._turns.moved()
                    return report


class AsyncReceiver(Generic[T_co]):
    """A reception or subscriber whose `receive` waits, and which `async for` reads for ever.

    Any number of tasks may share it; each datagram goes to one of them. The source stays the
    caller's, who closes it once nobody waits: cancel first (asyncio.timeout, ...).
    """

    def __init__(self, source: Readable[T_co]) -> None:
        self.source = source
        self._turns = _Turns()

    async def receive(self) -> T_co:
        """Return the next datagram. Raises SocketError."""
        async with self._turns.alone:
            while (heard := self.source.receive()) is None:
                await self._turns.ready(self.source.fileno(), writable=False)
            await self._turns.moved()
            return heard

    def __aiter__(self) -> AsyncIterator[T_co]:
        return self

    async def __anext__(self) -> T_co:
        return await self.receive()
