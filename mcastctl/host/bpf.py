"""Small programs for the kernel's own virtual machine: an assembler and the bpf(2) calls.

Just enough of eBPF to count events and to turn frames round: 64-bit registers, the 512-byte stack,
reads of kernel memory, a hash map, raw tracepoints and traffic classifiers; and to tell which
programs of others are attached. Sources: bpf(2), <linux/bpf.h>,
Documentation/bpf/standardization/instruction-set.rst. Linux only.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from typing import Literal

from mcastctl.host import syscall

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_NEXT, _PROG_LOAD, _RAW_OPEN = 0, 1, 2, 4, 5, 17
_PROG_BY_ID, _INFO_BY_FD, _PROG_QUERY, _LINK_CREATE = 13, 15, 16, 28
_TCX_EGRESS = 47
_MAP_TYPE_HASH, _PROG_TYPE_SCHED_CLS, _PROG_TYPE_RAW_TRACEPOINT = 1, 3, 17
_LOG_BYTES = 1 << 16
_MOST_PROGRAMS = 64  # BPF_MPROG_MAX, BPF_CGROUP_MAX_PROGS
_INFO_BYTES, _INFO_NAME = 128, slice(64, 80)  # of struct bpf_prog_info
_ATTRIBUTE_BYTES = 128  # of union bpf_attr; the kernel accepts zeros beyond what it knows

_FRAME = 10  # the register that points past the stack
_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_LOOKUP_ELEMENT, _UPDATE_ELEMENT, _READ_KERNEL = 1, 2, 113
_TESTS = {"==": 0x10, "!=": 0x50, "<": 0xA0}
_LITERALS = {"+": 0x07, "<<": 0x67, ">>": 0x77, "&": 0x57, "=": 0xB7}

Test = Literal["==", "!=", "<"]
Operator = Literal["+", "<<", ">>", "&", "="]


class Assembler:
    """Instructions in order; jumps go forward to labels, the stack is addressed from its top."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}

    def _add(self, code: int, to: int = 0, by: int = 0, off: int | str = 0, imm: int = 0) -> None:
        self._lines.append((code, to, by, off, imm))

    def label(self, name: str) -> None:
        """Name the next instruction."""
        self._labels[name] = len(self._lines)

    def literal(self, register: int, operator: Operator, value: int) -> None:
        """Register operator= value (32 bits, sign-extended)."""
        self._add(_LITERALS[operator], register, imm=value)

    def move(self, to: int, by: int) -> None:
        """Copy a register."""
        self._add(0xBF, to, by)

    def add(self, to: int, by: int) -> None:
        """Add a register to another."""
        self._add(0x0F, to, by)

    def load(self, to: int, size: int, by: int, offset: int) -> None:
        """Load size bytes from what register `by` points to (context, stack or map value)."""
        self._add(0x61 | _SIZES[size], to, by, offset)

    def store(self, offset: int, size: int, by: int) -> None:
        """Store size bytes of a register on the stack, at a negative offset."""
        self._add(0x63 | _SIZES[size], _FRAME, by, offset)

    def store_at(self, register: int, offset: int, size: int, by: int) -> None:
        """Store size bytes of a register to what another one points to."""
        self._add(0x63 | _SIZES[size], register, by, offset)

    def on_stack(self, to: int, size: int, offset: int) -> None:
        """Load size bytes from the stack."""
        self.load(to, size, _FRAME, offset)

    def jump(self, to: str) -> None:
        """Go on at a label further down."""
        self._add(0x05, off=to)

    def jump_if(self, register: int, test: Test, value: int, to: str) -> None:
        """Compare the lower 32 bits of a register with an unsigned number."""
        signed = value - (1 << 32) if value >= 1 << 31 else value
        self._add(0x06 | _TESTS[test], register, off=to, imm=signed)

    def jump_if_null(self, register: int, to: str) -> None:
        """Test all 64 bits of a register, as for a pointer."""
        self._add(0x15, register, off=to)

    def read(self, offset: int, size: int, address: int, at: int, failed: str) -> None:
        """Copy size bytes of kernel memory at register `address` + at to the stack.

        An address that is not mapped is not an error of the program: it jumps to `failed`.
        Clobbers registers 0 to 5, as every call does.
        """
        self.move(1, _FRAME)
        self.literal(1, "+", offset)
        self.literal(2, "=", size)
        self.move(3, address)
        self.literal(3, "+", at)
        self.call(_READ_KERNEL)
        self._add(0x55, 0, off=failed)

    def count(self, table: int, key: int, amount: int, scratch: int) -> None:
        """Add a register to the 64-bit value of the key on the stack, in the map `table`.

        A new key begins with it; scratch is 8 bytes of stack. Then the program returns 0. amount
        must be one of the registers 6 to 9.
        """
        self._map_and_key(table, key)
        self.call(_LOOKUP_ELEMENT)
        self.jump_if_null(0, "new key")
        self._add(0xDB, 0, amount)  # atomic add, which every kernel with eBPF has
        self.leave()
        self.label("new key")
        self.store(scratch, 8, amount)
        self._map_and_key(table, key)
        self.move(3, _FRAME)
        self.literal(3, "+", scratch)
        self.literal(4, "=", 0)  # BPF_ANY
        self.call(_UPDATE_ELEMENT)
        self.leave()

    def _map_and_key(self, table: int, key: int) -> None:
        self._add(0x18, 1, 1, imm=table)  # BPF_PSEUDO_MAP_FD, an instruction of two slots
        self._add(0)
        self.move(2, _FRAME)
        self.literal(2, "+", key)

    def call(self, function: int) -> None:
        """Call a function of the kernel (enum bpf_func_id); the answer is in register 0."""
        self._add(0x85, imm=function)

    def leave(self) -> None:
        """Return 0."""
        self.literal(0, "=", 0)
        self.end()

    def end(self) -> None:
        """Return what is in register 0."""
        self._add(0x95)

    def code(self) -> bytes:
        """Return the program as struct bpf_insn, whose two 4-bit fields follow the byte order."""
        lines = []
        for number, (code, to, by, off, imm) in enumerate(self._lines):
            distance = off if isinstance(off, int) else self._labels[off] - number - 1
            registers = by << 4 | to if sys.byteorder == "little" else to << 4 | by
            lines.append(struct.pack("=BBhi", code, registers, distance, imm))
        return b"".join(lines)


class Refused(OSError):
    """bpf(2) failed; `step` says at what, `log` what the kernel's verifier said last."""

    def __init__(self, step: str, number: int, log: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.step, self.log = step, log


def _bpf(step: str, command: int, attribute: bytes) -> int:
    given = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    try:
        return syscall.call("bpf", command, given, _ATTRIBUTE_BYTES)
    except OSError as error:
        raise Refused(step, error.errno or 0) from error


class Counters:
    """A hash map from keys of fixed size to 64-bit counts that programs and we both see."""

    def __init__(self, key_bytes: int, entries: int) -> None:
        """Raises Refused."""
        attribute = struct.pack("=IIII", _MAP_TYPE_HASH, key_bytes, 8, entries)
        self.fd = _bpf("make a map", _MAP_CREATE, attribute)
        self._key_bytes, self._entries = key_bytes, entries

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield each key and its count; keys that come meanwhile may be among them."""
        key: ctypes.Array[ctypes.c_char] | None = None
        value = ctypes.c_uint64()
        for _ in range(self._entries):
            following = ctypes.create_string_buffer(self._key_bytes)
            try:
                self._ask(_MAP_NEXT, ctypes.addressof(key) if key else 0, following)
                self._ask(_MAP_LOOKUP, ctypes.addressof(following), value)
            except Refused:  # ENOENT: that was the last one
                return
            yield following.raw, value.value
            key = following

    def _ask(
        self, command: int, key: int, answer: ctypes.Array[ctypes.c_char] | ctypes.c_uint64
    ) -> None:
        attribute = struct.pack("=IxxxxQQQ", self.fd, key, ctypes.addressof(answer), 0)
        _bpf("read a map", command, attribute)

    def close(self) -> None:
        """Let go of the map; the kernel frees it with its last program."""
        os.close(self.fd)


def load_raw_tracepoint(code: bytes) -> int:
    """Load a program and return its descriptor; raises Refused with the verifier's last words."""
    return _load_or_explain(_PROG_TYPE_RAW_TRACEPOINT, code)


def load_classifier(code: bytes) -> int:
    """Load a program that decides over frames and return its descriptor; raises as above."""
    return _load_or_explain(_PROG_TYPE_SCHED_CLS, code)


def _load_or_explain(kind: int, code: bytes) -> int:
    try:
        return _load(kind, code, None)
    except Refused as refused:
        if refused.errno not in (errno.EACCES, errno.EINVAL):
            raise
    log = ctypes.create_string_buffer(_LOG_BYTES)
    try:
        return _load(kind, code, log)
    except Refused as refused:
        said = log.value.decode("ascii", "replace").splitlines()
        # The verifier ends with statistics; what it objected to is the line before them.
        words = [
            line for line in said if line and not line.startswith(("processed", "verification"))
        ]
        raise Refused(refused.step, refused.errno or 0, words[-1] if words else "") from refused


def _load(kind: int, code: bytes, log: ctypes.Array[ctypes.c_char] | None) -> int:
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attribute = struct.pack(
        "=IIQQIIQII16s",
        *(kind, len(code) // 8),
        *(ctypes.addressof(instructions), ctypes.addressof(licence)),
        *((1, _LOG_BYTES, ctypes.addressof(log)) if log else (0, 0, 0)),
        *(0, 0, b"mcastctl"),
    )
    return _bpf("load a program", _PROG_LOAD, attribute)


def attach_raw_tracepoint(name: str, program: int) -> int:
    """Run a program at every event of a tracepoint until the returned descriptor is closed.

    Raises Refused: EINVAL when the program reads an argument that the event has not.
    """
    text = ctypes.create_string_buffer(name.encode())
    attribute = struct.pack("=QI", ctypes.addressof(text), program)
    return _bpf(f"attach to {name}", _RAW_OPEN, attribute)


def attached(target: int, kind: int, *, effective: bool = False) -> list[int]:
    """Return the ids of the programs at a hook: enum bpf_attach_type, and where.

    The target is an interface index (tcx) or the descriptor of a control group; `effective` counts
    in what its ancestors hand down. Raises Refused: EPERM without CAP_BPF and CAP_NET_ADMIN.
    """
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attribute = struct.pack(
        "=IIIIQI", target, kind, int(effective), 0, ctypes.addressof(ids), _MOST_PROGRAMS
    )
    given = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
    try:
        syscall.call("bpf", _PROG_QUERY, given, _ATTRIBUTE_BYTES)
    except OSError as error:
        raise Refused("list programs", error.errno or 0) from error
    (count,) = struct.unpack_from("=I", given.raw, 24)
    return list(ids[:count])


def name(number: int) -> str:
    """Return the name of a program by its id, '' where it has none; raises Refused."""
    program = _bpf("open a program", _PROG_BY_ID, struct.pack("=I", number))
    try:
        told = ctypes.create_string_buffer(_INFO_BYTES)
        attribute = struct.pack("=IIQ", program, _INFO_BYTES, ctypes.addressof(told))
        _bpf("read about a program", _INFO_BY_FD, attribute)
    finally:
        os.close(program)
    return told.raw[_INFO_NAME].rstrip(b"\0").decode(errors="replace")


def attach_egress(ifindex: int, program: int) -> int:
    """Run a classifier on what leaves by an interface until the returned descriptor is closed.

    Raises Refused: EINVAL before Linux 6.6, which has no tcx.
    """
    attribute = struct.pack("=IIII", program, ifindex, _TCX_EGRESS, 0)
    return _bpf("attach to an interface", _LINK_CREATE, attribute)
