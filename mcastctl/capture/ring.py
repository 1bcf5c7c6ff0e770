"""A TPACKET_V3 ring: frames of one or more interfaces in memory shared with the kernel.

The kernel fills blocks and hands them over whole; nothing is copied and no call is made per
frame. Source: Linux Documentation/networking/packet_mmap.rst, <linux/if_packet.h>.
"""

import _socket as socket
import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress

from mcastctl.capture import packet
from mcastctl.capture.program import REJECT, Program
from mcastctl.model import refusal
from mcastctl.model.errors import SocketError
from mcastctl.model.ring import Slice

BLOCK = 1 << 18
"""Bytes of one block: more than the longest super-packet, few enough to be many."""
RETIRE_MS = 50
"""A block that is not full is handed over after this time: the delay of what is shown."""
LEAST, MOST = 4 * BLOCK, 1 << 30
"""Smallest and largest ring, in bytes."""

_USER = 1
"""TP_STATUS_USER: the block is ours."""

_block_head = struct.Struct("=II").unpack_from  # status, frames; at 8 of a block
_first_frame = struct.Struct("=I").unpack_from  # at 16


_FORMER = 4096
"""Names remembered of interfaces that are gone."""


class _Names(dict[int, str]):
    """Interface names by index, asked once; of one that is gone, the last."""

    def __init__(self) -> None:
        super().__init__()
        self._former: dict[int, str] = {}

    def __missing__(self, index: int) -> str:
        try:
            name = socket.if_indextoname(index)
        except OSError:
            name = self._former.get(index, f"if{index}")
        self[index] = name
        return name

    def forget(self) -> None:
        """Ask again; frames of an interface that is gone may still lie in the ring."""
        if len(self._former) > _FORMER:
            self._former.clear()
        self._former |= self
        self.clear()


class Ring:
    """A capture on one interface, several, or all; closes with `close`.

    `vnet` tells whether a struct virtio_net_hdr stands before each frame.
    """

    def __init__(self, size: int, device: str) -> None:
        """Make a ring of about `size` bytes that hears nothing of `device` yet ('' for all).

        SocketError when the kernel has no packet sockets for us, or not that much memory.
        """
        self._sock = packet.open_socket(every=not device)
        self.vnet = packet.tell_gso(self._sock)
        self._blocks = max(LEAST, min(size, MOST)) // BLOCK
        try:
            packet.make_ring(self._sock, BLOCK, self._blocks, RETIRE_MS)
            self._map = mmap.mmap(self.fileno(), self._blocks * BLOCK)
        except OSError as error:
            self._sock.close()
            raise SocketError(
                f"cannot make a capture ring of {self._blocks * BLOCK} bytes: "
                f"{refusal.cause(error.errno, error.strerror)}",
                hint="ask for less with --rcvbuf",
                errno=error.errno,
            ) from error
        self._memory = memoryview(self._map)
        self._next = 0
        self._device = device
        self._counted = packet.Drops(0, 0)
        self._names = _Names()

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self._blocks * BLOCK

    def fileno(self) -> int:
        """Return the descriptor; readable when a block is ready."""
        return self._sock.fileno()

    def listen(
        self, members: Sequence[tuple[str, int]], program: Program, *, promisc: bool
    ) -> None:
        """Begin to capture what the program lets through.

        `members` are name and index of the interfaces to open for groups of others.
        """
        try:
            packet.statistics(self._sock)  # what it counted before is not ours
            self.listen_again(members, program, promisc=promisc)
        except OSError as error:
            raise SocketError(
                f"cannot capture on {self._device or 'all interfaces'}: "
                f"{refusal.cause(error.errno, error.strerror)}",
                hint="see 'mcastctl ifaces' for the interfaces of this host and their state",
                errno=error.errno,
            ) from error

    def listen_again(
        self,
        members: Sequence[tuple[str, int]],
        program: Program,
        *,
        promisc: bool,
        device: str = "",
    ) -> None:
        """Capture from interfaces that came back, now called `device` if it is one; OSError.

        Nothing of this needs privilege once the socket is open (packet(7)).
        """
        self._device = device or self._device
        for _, index in members:
            packet.hear_groups(self._sock, index, promisc=promisc)
        packet.attach(self._sock, program)
        if self._device:
            packet.listen(self._sock, self._device)

    def forget_names(self) -> None:
        """Ask for the names of interfaces again."""
        self._names.forget()

    def ready(self) -> Iterator[Slice]:
        """Yield the blocks that are ready; each goes back to the kernel with the next."""
        memory = self._memory
        while True:
            at = self._next * BLOCK
            status, count = _block_head(memory, at + 8)
            if not status & _USER:
                return
            start = at + _first_frame(memory, at + 16)[0]
            try:
                yield Slice(memory, start, at + BLOCK, count, self.vnet, self._names)
            finally:
                memory[at + 8 : at + 12] = b"\0\0\0\0"
                self._next = (self._next + 1) % self._blocks

    def pending(self) -> bool:
        """Tell whether frames lie in a block that the kernel still holds."""
        status, count = _block_head(self._memory, self._next * BLOCK + 8)
        return bool(count and not status & _USER)

    def shut(self) -> None:
        """Let no further frame in; what is in the ring stays."""
        packet.attach(self._sock, REJECT)

    def statistics(self) -> packet.Drops:
        """Return how many frames passed the filter so far and how many of them were dropped."""
        now = packet.statistics(self._sock)
        self._counted = packet.Drops(
            self._counted.passed + now.passed, self._counted.dropped + now.dropped
        )
        return self._counted

    def error(self) -> int:
        """Return the errno the socket holds, 0 for none (ENETDOWN: the interface went down)."""
        return self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """End the capture."""
        self._sock.close()
        with suppress(BufferError):  # whoever still looks at the memory may go on
            self._memory.release()
            self._map.close()
