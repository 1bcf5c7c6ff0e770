"""`--metrics` and `--metrics-listen`: readings of a run to a file and to who asks, beside it.

What cannot be written in the middle of a run is told once, and does not end it.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from mcastctl import __version__
from mcastctl.cli import options as shared
from mcastctl.cli import params as p
from mcastctl.model.errors import ValueRangeError
from mcastctl.model.records import Notice

if TYPE_CHECKING:
    from mcastctl.model.aside import Aside
    from mcastctl.model.metrics import Family, Labels, Reading
    from mcastctl.net.scrape import Server
    from mcastctl.output.metricsfile import MetricsError, MetricsFile

PERIOD_S = 1.0
SHORTEST_S = 0.1


def parse_listen(text: str) -> tuple[str, int]:
    """Parse 'PORT', ':PORT' (loopback) or 'ADDR:PORT'; port 0 is any that is free."""
    from mcastctl.model import units

    if text.isascii() and text.isdigit():
        return "127.0.0.1", units.parse_whole(text, "port", 0, 65535)
    if text.endswith(":0"):
        return p.parse_bind(text[:-2])[0] or "127.0.0.1", 0
    host, port = p.parse_bind(text)
    if port is None:
        raise ValueRangeError(
            f"'{text}' names no port", hint="write PORT (on loopback) or ADDR:PORT, such as 9464"
        )
    return host or "127.0.0.1", units.parse_whole(str(port), "port", 1, 65535)


options = shared.bundle(
    click.option(
        "--metrics",
        "metrics_file",
        type=p.FILE,
        help="Keep counters in FILE: .prom for node_exporter, .jsonl for rows.",
    ),
    click.option(
        "--metrics-listen",
        type=p.Parsed("[addr:]port", parse_listen),
        help="Serve them at http://ADDR:PORT/metrics (loopback).",
    ),
    click.option("--metrics-interval", type=p.TIME, help="How often metrics are read (1s)."),
    click.option("--node-id", metavar="NAME", help="Name of this node in metrics."),
)


def exporter(command: str, given: Mapping[str, Any], endpoints: list[str]) -> "Exporter | None":
    """Return what keeps the metrics that were asked for, None for none.

    Everything is opened here, before anything else is: what cannot be written is refused.
    """
    path, where = given["metrics_file"], given["metrics_listen"]
    period_s = _period_s(command, given)
    if path is None and where is None:
        return None
    if path == "":
        raise ValueRangeError("--metrics '' names no file", hint="write --metrics FILE.prom")
    import socket

    from mcastctl.output import exposition, metricsfile

    node = given["node_id"] or (socket.gethostname() if path is None else metricsfile.node_id(path))
    common = [("command", command), ("node", node)]
    common += [] if path is None else [("run", metricsfile.run_name(path))]
    files: list[MetricsFile] = []
    if path is not None and path.endswith(".jsonl"):
        role = "receiver" if command == "listen" else "sender"
        flags: dict[str, object] = {"role": role, "transport": "udp-multicast"}
        flags |= {"endpoints": endpoints, "ifaces": list(given["iface"])}
        header = exposition.header(command, node, f"mcastctl/{__version__}", time.time_ns(), flags)
        files.append(metricsfile.Rows(path, header))
    elif path is not None:
        files.append(metricsfile.Page(path, tuple(common)))
    server = None
    if where is not None:
        from mcastctl.net import scrape

        server = scrape.Server(where[0], where[1], exposition.CONTENT_TYPE)
    return Exporter(files, server, tuple(common), period_s)


def _period_s(command: str, given: Mapping[str, Any]) -> float:
    """Return how often to read; as often as `listen` reports, which `send` does not (--interval
    is the distance of its rounds)."""
    asked: float | None = given["metrics_interval"]
    nowhere = given["metrics_file"] is None and given["metrics_listen"] is None
    for name in ("metrics_interval", "node_id"):
        if nowhere and given[name] is not None and shared.typed(name):
            raise ValueRangeError(
                f"--{name.replace('_', '-')} concerns metrics, which were not asked for",
                hint="add --metrics FILE or --metrics-listen PORT",
            )
    if asked is not None and asked < SHORTEST_S:
        raise ValueRangeError(
            f"--metrics-interval: {asked:g} s is too short", hint="write 100ms or more"
        )
    if asked is None and command == "listen" and given["interval"] is not None:
        return max(float(given["interval"]), SHORTEST_S)
    return PERIOD_S if asked is None else asked


class Exporter:
    """Reads the counters of a run in its own turns, and hands the readings out."""

    descriptor: int | None = None

    def __init__(
        self,
        files: "list[MetricsFile]",
        server: "Server | None",
        common: "Labels",
        period_s: float,
    ) -> None:
        self._files = files
        self._server = server
        self._common = common
        self._period_ns = int(period_s * 1e9)
        self._read: Callable[[], list[Family]] = list
        self._tell: Callable[[Notice], None] = lambda _: None
        self._started_ns = self._last_ns = self._next_ns = 0
        self._highest: dict[str, float] = {}
        self._failing = self._ended = self._closed = False

    def of(self, read: "Callable[[], list[Family]]") -> "Exporter":
        """Read the counters so."""
        self._read = read
        return self

    def beside(self, aside: "Aside | None", tell: Callable[[Notice], None]) -> "Aside":
        """Return this with another that has turns; `tell` takes what has to be told."""
        from mcastctl.net.beside import Beside

        self._tell = tell
        return self if aside is None else Beside(aside, self)

    def enter(self, stop: Callable[[], None]) -> None:
        """Wait for `begin`: what is told comes after the first line of the run."""

    def begin(self) -> None:
        """Give the first reading, of nothing yet; rows begin when there is something."""
        self._started_ns = time.time_ns()
        self._last_ns = time.monotonic_ns()
        self._next_ns = self._last_ns + self._period_ns
        if self._server is not None:
            text = f"metrics at {self._server.url}"
            self._tell(Notice(time.time_ns(), "info", "metrics", text))
        self._export(first=True)

    def next_ns(self) -> float:
        """Return when the next reading is due."""
        return self._next_ns

    def turn(self) -> None:
        """Give a reading."""
        self._export()
        behind = max(time.monotonic_ns() - self._next_ns, 0)
        self._next_ns += (behind // self._period_ns + 1) * self._period_ns  # no drift

    def clear(self) -> None:
        """Nothing is on the terminal."""

    def finish(self) -> None:
        """Give the last reading, once."""
        if not self._ended:
            self._ended = True
            self._export()

    def leave(self) -> None:
        """Give the last reading, if the run could not, and let everything go."""
        self.finish()
        if not self._closed:
            self._closed = True
            for one in self._files:
                one.close()
            if self._server is not None:
                self._server.close()

    def _export(self, *, first: bool = False) -> None:
        from mcastctl.output import exposition, metricsfile

        reading = self._reading()
        if self._server is not None:
            self._server.publish(exposition.text(reading, self._common))
        for one in self._files:
            if first and isinstance(one, metricsfile.Rows):
                continue
            try:
                one.write(reading)
                self._failing = False
            except metricsfile.MetricsError as error:
                self._warn(error)

    def _reading(self) -> "Reading":
        from mcastctl.model import metrics

        now_ns = time.monotonic_ns()
        interval_s, self._last_ns = (now_ns - self._last_ns) / 1e9, now_ns
        families = [
            metrics.Family("build_info", metrics.GAUGE, "What runs.", ((_VERSION, 1),)),
            metrics.gauge("start_time_seconds", "When the run began.", self._started_ns / 1e9),
            metrics.gauge(
                "active", "1 while the run goes on, 0 as it ended.", int(not self._ended)
            ),
            *map(self._never_falling, self._read()),
        ]
        return metrics.Reading(time.time_ns(), interval_s, families)

    def _never_falling(self, family: "Family") -> "Family":
        """Hold a counter of the run where it was: a stream that turns out to have no numbers
        takes what was counted by them with it, and a fall would be read as a new beginning."""
        from mcastctl.model import metrics

        ((labels, value), *rest) = family.samples or (((("", ""),), 0.0),)
        if family.kind != metrics.COUNTER or labels or rest:
            return family
        highest = self._highest[family.name] = max(value, self._highest.get(family.name, value))
        return family._replace(samples=((labels, highest),))

    def _warn(self, error: "MetricsError") -> None:
        """Tell once that it fails, until it succeeds again."""
        if not self._failing:
            self._tell(Notice(time.time_ns(), "warning", "metrics", error.message, error.hint))
        self._failing = True


_VERSION = (("version", __version__),)
