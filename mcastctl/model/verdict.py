"""What a script asked of a listen, and whether it was so."""

from typing import NamedTuple

from mcastctl.model.errors import VerdictError
from mcastctl.model.hearing import HEARD, Unheard
from mcastctl.model.stats import Statistics


class Expectation(NamedTuple):
    """The verdict options; None or empty where nothing was asked.

    `enough_at` is the count that both ends the run and is the least that satisfies.
    """

    enough_at: int | None = None
    expect: int | None = None
    expect_none: bool = False
    expect_from: tuple[str, ...] = ()
    max_loss_percent: float | None = None
    max_jitter_ms: float | None = None

    @property
    def enough(self) -> int | None:
        """Return the count that ends the run early, None without one."""
        if self.expect_none:
            return 1
        return self.enough_at

    def unmet(self, heard: Statistics, unheard: Unheard = HEARD) -> list[str]:
        """Return what was asked and is not so, one phrase each; empty means yes.

        Raises VerdictError when loss or jitter was asked of streams that carry no numbers, and
        when a yes would only mean that nothing could be heard.
        """
        if self.expect_none and heard.packets:
            return [f"expected nothing, heard {heard.packets}"]
        if self.expect_none:
            if unheard.seconds or unheard.still:
                raise _blind("that nothing came", unheard)
            return []
        wanted = max(self.enough_at or 0, self.expect or 0, 1)
        found = []
        if heard.packets < wanted:
            number = heard.packets or "none"
            found.append(f"heard {number} of {wanted} expected")
        sources = {stream.src for stream in heard.streams.values()}
        found += [f"heard nothing from {one}" for one in self.expect_from if one not in sources]
        if heard.packets:
            found += self._unmet_quality(heard)
        limited = self.max_loss_percent is not None or self.max_jitter_ms is not None
        if limited and unheard.still and not found:
            raise _blind("loss or jitter", unheard)
        return found

    def _unmet_quality(self, heard: Statistics) -> list[str]:
        if self.max_loss_percent is None and self.max_jitter_ms is None:
            return []
        if not heard.numbered:
            raise VerdictError(
                "cannot judge loss or jitter: what was heard carries no sequence numbers",
                hint="send with 'mcastctl send --probe', RTP or MPEG-TS",
            )
        if self.max_jitter_ms is not None and not heard.timed:
            raise VerdictError(
                "cannot judge jitter: what was heard carries no send times",
                hint="send with 'mcastctl send --probe' or RTP",
            )
        found = []
        if self.max_loss_percent is not None:
            worst = max(stream.loss_percent for stream in heard.streams.values())
            if worst > self.max_loss_percent:
                found.append(f"lost {worst:.4g} %, allowed {self.max_loss_percent:g} %")
        if self.max_jitter_ms is not None:
            jitter_ms = heard.jitter_ns / 1e6
            if jitter_ms > self.max_jitter_ms:
                found.append(f"jitter {jitter_ms:.3f} ms, allowed {self.max_jitter_ms:g} ms")
        return found


def _blind(what: str, unheard: Unheard) -> VerdictError:
    why = "it was deaf at the end" if unheard.still else f"it was deaf for {unheard.seconds:.3f} s"
    hint = "repeat it while every interface listened on is up; the notices tell which was not"
    return VerdictError(f"cannot judge {what}: {why}", hint=hint)
