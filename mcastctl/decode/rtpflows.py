"""Whether a payload that looks like RTP is RTP: only the header before it can tell."""

from collections import OrderedDict

from mcastctl.decode.draft import Draft
from mcastctl.model.mark import MPEGTS, PROBE, RTCP, RTP

_MOST_FLOWS = 4096
_NEAR = 3000  # MAX_DROPOUT of RFC 3550 appendix A.1


class RtpFlows:
    """The last RTP header of each flow and source, bounded."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[object, ...], int] = OrderedDict()

    def settle(self, draft: Draft) -> None:
        """Name the stream that a UDP payload belongs to, and its numbers."""
        mark = draft.mark
        if mark.kind == RTP and not self._follows(draft):
            return
        if mark.kind not in (RTP, RTCP, MPEGTS, PROBE):
            return
        draft.proto = mark.kind
        if mark.seq is not None:
            draft.fields["stream"] = f"{mark.ident:x}"
            draft.fields["seq"] = mark.seq
        if mark.kind == RTP:
            draft.fields["payload_type"] = draft.payload[1] & 0x7F
            draft.fields["marker"] = bool(draft.payload[1] & 0x80)
            draft.fields["rtp_timestamp"] = mark.stamp
        if mark.kind == MPEGTS:
            draft.fields["pids"] = sorted({pid for pid, _, _ in mark.counters})

    def _follows(self, draft: Draft) -> bool:
        seq = draft.mark.seq or 0
        key = (draft.src, draft.sport, draft.dst, draft.dport, draft.mark.ident)
        last = self._last.get(key)
        self._last[key] = seq
        if last is None:
            if len(self._last) > _MOST_FLOWS:
                self._last.popitem(last=False)
            return False
        step = (seq - last) & 0xFFFF
        return min(step, 0x10000 - step) <= _NEAR
