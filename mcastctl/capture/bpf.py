"""Capture filters: tcpdump's expressions, compiled and run by libpcap.

The language is pcap-filter(7). Nothing is opened for it, and no program is started.
"""

import ctypes
from typing import Any

from mcastctl.model import frame
from mcastctl.model.errors import McastError

_DLT = {frame.RAW: 12, 14: 12, 100: 11}
"""Where libpcap's number for a link type is not the one files carry (pcap-common.c)."""

_NETMASK_UNKNOWN = 0xFFFFFFFF
_HINT = "write it as for tcpdump, quoted: 'udp port 5004 and net 239.0.0.0/8' (man 7 pcap-filter)"


class FilterError(McastError):
    """A filter expression that libpcap refuses, or no libpcap to ask."""


class LibraryError(FilterError):
    """No libpcap to ask."""


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Header(ctypes.Structure):
    _fields_ = (
        ("sec", ctypes.c_long),
        ("usec", ctypes.c_long),
        ("captured", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
    )


def library() -> Any:
    """Return the bindings of libpcap. Raises LibraryError where there is none."""
    try:
        from scapy.libs import winpcapy
    except OSError as error:
        raise LibraryError(
            f"a filter expression needs libpcap: {error}",
            hint="install libpcap (libpcap0.8 on Debian), or leave the filter out",
        ) from error
    return winpcapy


class Program:
    """A compiled filter for one link type; `match` runs it over captured bytes."""

    def __init__(self, expression: str, linktype: int, snaplen: int = frame.MAX_FRAME) -> None:
        """Compile. Raises FilterError in libpcap's words."""
        if "\0" in expression:
            raise FilterError("a filter cannot hold a null character", hint=_HINT)
        self._pcap = library()
        handle = self._pcap.pcap_open_dead(_DLT.get(linktype, linktype), snaplen)
        self._program = self._pcap.bpf_program()
        encoded = expression.encode(errors="surrogateescape")
        failed = self._pcap.pcap_compile(
            handle, ctypes.byref(self._program), encoded, 1, _NETMASK_UNKNOWN
        )
        said = ctypes.string_at(self._pcap.pcap_geterr(handle)) if failed else b""
        self._pcap.pcap_close(handle)
        if failed:
            why = said.decode(errors="replace")
            raise FilterError(f"filter '{expression}': {why}", hint=_HINT)
        self._run = self._pcap._lib.pcap_offline_filter
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        self._run.restype = ctypes.c_int
        self._header = _Header()
        self._at = ctypes.addressof(self._header)
        self._where = ctypes.addressof(self._program)

    def match(self, data: bytes, length: int) -> bool:
        """Tell whether a frame of `length` bytes on the wire, captured as `data`, passes."""
        self._header.captured = len(data)
        self._header.length = length
        return bool(self._run(self._where, self._at, data))

    def instructions(self) -> list[tuple[int, int, int, int]]:
        """Return (code, jt, jf, k) of each instruction, as SO_ATTACH_FILTER takes them."""
        first = ctypes.cast(self._program.bf_insns, ctypes.POINTER(_Instruction))
        return [(one.code, one.jt, one.jf, one.k) for one in first[: self._program.bf_len]]

    def close(self) -> None:
        """Free what libpcap allocated."""
        self._pcap.pcap_freecode(ctypes.byref(self._program))
