"""A live capture to a pcap file through libpcap, with no Python for each packet.

libpcap's own dump function is the callback; it writes to a stream in memory, so that whole
records go to the file in large pieces and nothing is lost in a stdio buffer.
"""

import _socket as socket
import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import suppress

from mcastctl.capture import packet, program
from mcastctl.capture.bpf import LibraryError
from mcastctl.capture.libpcap import Handle
from mcastctl.capture.live import Kinds, Present, Waiter, Wanted, all_interfaces
from mcastctl.capture.savefile import Savefile
from mcastctl.model.errors import SocketError
from mcastctl.model.frame import ETHERNET, LINUX_SLL, LINUX_SLL2, RAW
from mcastctl.model.limits import Limits
from mcastctl.model.records import Notice

_MOST, _CHUNK = 8192, 512 << 10
"""Packets and bytes of one call: enough to make it cheap, few enough to end in time."""
_RETIRE_NS = 80_000_000
"""How long libpcap may keep a block that is not full, and some."""
_UNREST_NS = 1_000_000_000
"""How long an error may be about an interface whose news comes a little later."""
_DIRECTIONS = {"": 0, "in": 1, "out": 2}
"""pcap_direction_t."""
_LINKTYPES = {1: ETHERNET, 12: RAW, 14: RAW, 101: RAW, 113: LINUX_SLL, 276: LINUX_SLL2}
"""DLT_ numbers for which there is a default filter."""


class Dump:
    """One live capture into a savefile: iterate `run`, ask for `drops`, close."""

    def __init__(self, wanted: Wanted, savefile: Savefile, present: Present) -> None:
        """Open the capture. Raises SocketError and FilterError."""
        self._wanted = wanted
        self._present = present
        self._savefile = savefile
        self._most = _MOST
        self._failed_ns = 0
        try:
            handle = Handle(
                wanted.device, wanted.snaplen, buffer=wanted.ring, promisc=wanted.promisc
            )
        except LibraryError as error:
            hint = "install libpcap (libpcap0.8 on Debian), or write pcapng: -w FILE.pcapng"
            raise SocketError("writing pcap needs libpcap, and it is missing", hint=hint) from error
        self._handle = handle
        if wanted.device == "any":
            handle.keep_interfaces()
        library = handle.pcap._lib
        said = ctypes.create_string_buffer(256)
        handle.pcap.pcap_setnonblock(handle.pointer, 1, said)
        self._open_groups(wanted)
        if wanted.expression:
            code = handle.compile(wanted.expression)
        else:
            linktype = _LINKTYPES.get(handle.linktype, handle.linktype)
            code = program.multicast(linktype, wanted.snaplen)
        handle.filter(code)
        if wanted.direction:
            library.pcap_setdirection(handle.pointer, _DIRECTIONS[wanted.direction])
        # Prototypes of our own: scapy's wrap the callback, ours is C all the way.
        pointer = ctypes.c_void_p
        dispatch = ctypes.CFUNCTYPE(ctypes.c_int, pointer, ctypes.c_int, pointer, pointer)
        self._dispatch = dispatch(("pcap_dispatch", library))
        self._dump = ctypes.cast(library.pcap_dump, pointer)
        self._pcap = ctypes.cast(handle.pointer, pointer)
        self._memory = _Memory()
        begin = ctypes.CFUNCTYPE(pointer, pointer, pointer)(("pcap_dump_fopen", library))
        if not begin(self._pcap, self._memory.file):
            why = handle.said().decode(errors="replace")
            raise SocketError(f"cannot write this link type: {why}", hint="use -i any")
        savefile.begin(bytes(self._memory.take()))
        self.descriptor = int(handle.pcap.pcap_get_selectable_fd(handle.pointer))

        self._same = socket.socket(fileno=os.dup(self.descriptor))
        self._kinds = Kinds(wanted.interfaces)

    def _open_groups(self, wanted: Wanted) -> None:
        """Let the interfaces pass groups of others; libpcap knows promiscuous mode only."""
        self._members = packet.open_socket(every=False)
        for name, index in wanted.interfaces or all_interfaces():
            if packet.hears_groups(name):
                packet.hear_groups(self._members, index, promisc=wanted.promisc)

    def run(self, loop: Waiter, limits: Limits) -> Iterator[Notice]:
        """Write what comes until a limit or a signal, with what came before it."""
        loop.watch(self.descriptor)
        if self._present.fileno() >= 0:
            loop.watch(self._present.fileno())
        while loop.stopped_by is None:
            held = self._pump(limits)
            if limits.reached(time.monotonic_ns(), quiet=not held):
                break
            if not held:
                again_ns = self._failed_ns + _UNREST_NS if self._failed_ns else None
                times = [limits.next_ns(), self._present.alarm_ns(), again_ns]
                loop.wait(min((one for one in times if one is not None), default=None))
            yield from self._present.attend(self._restore)
        if loop.stopped_by is not None:
            limits.reason = "signal"
        if limits.reason != "count":
            self._rest(limits)

    def _restore(self, before: int, found: tuple[str, int]) -> bool:
        """Hear an interface that is back, or a new one; False when it went again."""
        name, index = found
        if before and not self._kinds.back(before, found):
            return False
        try:
            if self._wanted.promisc or packet.hears_groups(name):
                packet.hear_groups(self._members, index, promisc=self._wanted.promisc)
            if self._wanted.interfaces:
                packet.listen(self._same, name)
        except OSError:
            return False
        return True

    def _pump(self, limits: Limits) -> int:
        """Write what is ready now; return the number of packets.

        libpcap calls an interface that went away an error, again and again.
        """
        most = limits.room(self._most)
        held = int(self._dispatch(self._pcap, most, self._dump, self._memory.file))
        if held < 0 and (self._present.deaf or time.monotonic_ns() < self._failed_ns + _UNREST_NS):
            return 0
        if held < 0 and not self._failed_ns:
            self._failed_ns = time.monotonic_ns()
            return 0
        if held < 0:
            raise SocketError(
                f"the capture ended: {self._handle.said().decode(errors='replace').lower()}",
                hint="see 'mcastctl ifaces'; what came before is in the file",
            )
        self._failed_ns = 0
        if held:
            records = self._memory.take()
            self._savefile.write(records, held)
            self._most = max(16, min(_MOST, _CHUNK * held // len(records)))
            limits.take(held, time.monotonic_ns())
        return held

    def _rest(self, limits: Limits) -> None:
        """Write what came in until now; the kernel hands an unfinished block over late."""
        import select

        packet.attach(self._same, program.REJECT)
        waiter = select.poll()
        waiter.register(self.descriptor, select.POLLIN)
        deadline = time.monotonic_ns() + _RETIRE_NS
        while self._pump(limits) or waiter.poll(max(0, deadline - time.monotonic_ns()) // 1000000):
            pass

    def drops(self) -> int:
        """Return how many packets that passed the filter found the ring full (pcap_stats)."""
        counted = self._handle.pcap.pcap_stat()
        self._handle.pcap.pcap_stats(self._handle.pointer, ctypes.byref(counted))
        return int(counted.ps_drop)

    def close(self) -> None:
        """End the capture."""
        self._memory.close()
        self._handle.close()
        self._same.close()
        self._members.close()


class _Memory:
    """A stdio stream in memory (open_memstream(3)), emptied by `take`."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        pointer = ctypes.c_void_p
        self._at, self._size = pointer(), ctypes.c_size_t()
        libc.open_memstream.restype = pointer
        self.file = pointer(libc.open_memstream(ctypes.byref(self._at), ctypes.byref(self._size)))
        if not self.file:
            raise MemoryError
        self._libc = libc

    def take(self) -> memoryview:
        """Return what was written; valid until the next write, which begins anew."""
        self._libc.fflush(self.file)
        address, size = self._at.value or 0, self._size.value
        data = (ctypes.c_char * size).from_address(address)
        self._libc.rewind(self.file)
        return memoryview(data).cast("B")

    def close(self) -> None:
        """Free the memory."""
        with suppress(OSError):
            self._libc.fclose(self.file)
        self._libc.free(self._at)
