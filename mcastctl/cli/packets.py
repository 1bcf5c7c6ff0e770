"""What shows a capture: its decoders and its sink, as the options of `sniff` choose them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcastctl.cli import views
from mcastctl.model.limits import Limits

if TYPE_CHECKING:
    from mcastctl.decode.explain import Explainer
    from mcastctl.output.sinks import Sink


def explain(given: dict[str, Any], name: str) -> "Explainer":
    """Return what turns frames into records; this loads the decoders."""
    from mcastctl.decode.explain import Explainer
    from mcastctl.decode.packet import Decoder
    from mcastctl.model.control import Commentary
    from mcastctl.model.watch import Watch

    watched = given["streams"] or name != "text"
    return Explainer(
        Decoder(deep=given["verbose"] > 1),
        Watch() if watched else None,
        Commentary() if given["control"] else None,
    )


def open_sink(
    name: str,
    given: dict[str, Any],
    explainer: "Explainer",
    counts: Callable[[], dict[str, int]],
    live: Limits | None = None,
) -> "Sink":
    """Return what prints packets; with the limits of a live capture also blocks of a ring.

    `counts` is what a view tells of the run so far.
    """
    from mcastctl.decode.protocols import is_plain
    from mcastctl.output import packets, streams

    quiet, verbose = given["quiet"], given["verbose"]
    if name != "text":
        return packets.PacketJson(quiet=max(quiet, given["streams"]))
    if given["streams"] and explainer.watch is not None:
        if views.drawn(given):
            return views.streams(given, explainer.watch.rows, counts, packets.captured)
        return streams.StreamTable(explainer.watch.rows, quiet=quiet, verbose=verbose)
    if given["control"]:
        return streams.Comments(quiet=quiet, verbose=verbose)
    look = packets.Look(given["detail"] or "", given["link"], verbose)
    if live is not None:
        from mcastctl.output.live import LiveText

        return LiveText(explainer, is_plain, look, live, quiet=quiet)
    return packets.PacketText(explainer.decoder.decode, is_plain, look, quiet=quiet)
