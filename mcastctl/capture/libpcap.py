"""libpcap on a live interface, through the bindings scapy ships: compiling, and dumping.

Loaded only for a filter expression or -w, and not as root (`capture.privilege`).
"""

import ctypes

from mcastctl.capture.bpf import FilterError, library
from mcastctl.capture.program import Instruction, Program
from mcastctl.model.errors import SocketError
from mcastctl.model.frame import LINUX_SLL2

_HINT = "write it as for tcpdump, quoted: 'udp port 5004 and net 239.0.0.0/8' (man 7 pcap-filter)"
_NETMASK_UNKNOWN = 0xFFFFFFFF
_SMALL = 1 << 18


class Handle:
    """An activated libpcap capture; `pcap` are the bindings, `pointer` the pcap_t."""

    def __init__(
        self, device: str, snaplen: int, *, buffer: int = _SMALL, promisc: bool = False
    ) -> None:
        """Open `device` ('any' for all). Raises SocketError in libpcap's words."""
        self.pcap = library()
        said = ctypes.create_string_buffer(256)
        self.pointer = self.pcap.pcap_create(device.encode(errors="surrogateescape"), said)
        if not self.pointer:
            raise _refused(device, said.value)
        self.pcap.pcap_set_snaplen(self.pointer, snaplen)
        self.pcap.pcap_set_promisc(self.pointer, int(promisc and device != "any"))
        self.pcap.pcap_set_buffer_size(self.pointer, buffer)
        self.pcap.pcap_set_timeout(self.pointer, 50)
        status = self.pcap.pcap_activate(self.pointer)
        if status < 0:
            why = self.said() or self.pcap.pcap_statustostr(status)
            self.close()
            raise _refused(device, why)
        self.linktype = int(self.pcap.pcap_datalink(self.pointer))

    def keep_interfaces(self) -> None:
        """Let the cooked header of all interfaces say which one it was (libpcap 1.10)."""
        if not self.pcap.pcap_set_datalink(self.pointer, LINUX_SLL2):
            self.linktype = LINUX_SLL2

    def said(self) -> bytes:
        """Return libpcap's last error."""
        return ctypes.string_at(self.pcap.pcap_geterr(self.pointer))

    def compile(self, expression: str) -> list[Instruction]:
        """Return the program of an expression for this interface. Raises FilterError."""
        if "\0" in expression:
            raise FilterError("a filter cannot hold a null character", hint=_HINT)
        compiled = self.pcap.bpf_program()
        text = expression.encode(errors="surrogateescape")
        if self.pcap.pcap_compile(self.pointer, ctypes.byref(compiled), text, 1, _NETMASK_UNKNOWN):
            why = self.said().decode(errors="replace")
            raise FilterError(f"filter '{expression}': {why}", hint=_HINT)
        rows = [compiled.bf_insns[number] for number in range(compiled.bf_len)]
        code = [Instruction(row.code, row.jt, row.jf, row.k) for row in rows]
        self.pcap.pcap_freecode(ctypes.byref(compiled))
        return code

    def filter(self, code: Program) -> None:
        """Let only frames through that the program accepts."""
        from scapy.libs.structures import bpf_insn

        rows = (bpf_insn * len(code))(*(bpf_insn(*one) for one in code))
        program = self.pcap.bpf_program(len(code), rows)
        if self.pcap.pcap_setfilter(self.pointer, ctypes.byref(program)):
            raise FilterError(
                f"libpcap refuses the filter: {self.said().decode(errors='replace')}", hint=_HINT
            )

    def close(self) -> None:
        """End the capture."""
        self.pcap.pcap_close(self.pointer)


def _refused(device: str, why: bytes) -> SocketError:
    return SocketError(
        f"cannot capture on {device}: {why.decode(errors='replace')}",
        hint="capturing needs root or CAP_NET_RAW; see 'mcastctl ifaces' for the interfaces",
    )


def compile_for(device: str, expression: str, snaplen: int) -> tuple[list[Instruction], int]:
    """Return the program of an expression on a live interface, and the link type it is for.

    libpcap compiles otherwise for a live interface than for a file: the kernel keeps VLAN
    tags and directions beside the frame.
    """
    handle = Handle(device, snaplen)
    try:
        return handle.compile(expression), handle.linktype
    finally:
        handle.close()
