"""Frames put into the receive path of an interface, as if they had come in by the wire.

A program on the way out of the loopback interface takes frames with a mark of our own and hands
them to the ingress of another one (bpf_redirect with BPF_F_INGRESS, bpf-helpers(7)): taps, traffic
control, packet filter, routing code and sockets then see them arrive there. Nothing leaves the
host. The kernel takes the program away with its descriptor, however this process ends. Linux 6.6
and later; needs root of the machine.
"""

import _socket as socket
import os
import sys
from contextlib import ExitStack

from mcastctl.host import bpf
from mcastctl.host.bpf import Assembler

_LOOPBACK = 1  # LOOPBACK_IFINDEX, <net/flow.h>
_SO_MARK = 36
_MARK_AT = 8  # of struct __sk_buff, <linux/bpf.h>
_REDIRECT, _TO_INGRESS = 23, 1  # bpf_redirect, BPF_F_INGRESS
_PASS_ON = -1  # TCX_NEXT


class Ingress:
    """The way into an interface, open until the stack closes."""

    def __init__(self, ifindex: int, stack: ExitStack) -> None:
        """Raises OSError where the kernel refuses (bpf.Refused), or loopback is down."""
        mark = int.from_bytes(os.urandom(4)) | 1
        loaded = bpf.load_classifier(program(mark, ifindex))
        stack.callback(os.close, loaded)
        stack.callback(os.close, bpf.attach_egress(_LOOPBACK, loaded))
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        stack.callback(self._sock.close)
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark.to_bytes(4, sys.byteorder))
        self._sock.bind((socket.if_indextoname(_LOOPBACK), 0))

    def put(self, frame: bytes) -> None:
        """Let an Ethernet frame come in; raises OSError."""
        self._sock.send(frame)


def program(mark: int, ifindex: int) -> bytes:
    """Return the instructions: what carries the mark loses it and comes in by the interface."""
    asm = Assembler()
    asm.load(2, 4, 1, _MARK_AT)
    asm.jump_if(2, "==", mark, "ours")
    asm.literal(0, "=", _PASS_ON)
    asm.end()
    asm.label("ours")
    asm.literal(2, "=", 0)
    asm.store_at(1, _MARK_AT, 4, 2)
    asm.literal(1, "=", ifindex)
    asm.literal(2, "=", _TO_INGRESS)
    asm.call(_REDIRECT)
    asm.end()
    return asm.code()
