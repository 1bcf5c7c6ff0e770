"""Whether an interface's queueing discipline deals with single datagrams, asked over rtnetlink(7).

Some cut a super-packet themselves and may then drop a part of what they took as one; others let
it pass, lose it or delay it as one datagram, which it is not.
"""

import struct

from mcastctl.net import routing
from mcastctl.net.platforms import HERE

_BY_DATAGRAM = frozenset((b"cake", b"etf", b"netem", b"taprio", b"tbf"))
"""Linux net/sched/sch_*.c: tbf_segment, cake_enqueue, netem_enqueue, taprio_enqueue_segmented."""
_RTM_GETQDISC = 38
_TC_H_ROOT = 0xFFFFFFFF
_TCA_KIND = 1
_MESSAGE = struct.Struct("=BxxxiIII")  # struct tcmsg, <linux/rtnetlink.h>


def by_datagram(ifindex: int) -> bool:
    """Tell whether the root queueing discipline is one for which datagrams must not be joined."""
    if HERE.name != "linux":
        return False
    answer = routing.ask(_RTM_GETQDISC, _MESSAGE.pack(0, ifindex, 0, _TC_H_ROOT, 0))
    return answer is not None and parse_kind(answer) in _BY_DATAGRAM


def parse_kind(answer: bytes) -> bytes | None:
    """Return TCA_KIND of an RTM_NEWQDISC answer, None for anything else: no queue, for one."""
    begin = routing.HEADER.size + _MESSAGE.size
    if len(answer) < begin or routing.HEADER.unpack_from(answer)[1] == routing.NLMSG_ERROR:
        return None
    kind = routing.attribute(answer, begin, _TCA_KIND)
    return None if kind is None else kind.rstrip(b"\0")
