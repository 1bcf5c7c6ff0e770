"""The run behind `matrix`: look at every host, let all listen, let each ask, explain the silences.

What runs on a host is mcastctl itself: `ifaces` and `routes` tell its addresses, `echo` listens
and answers, `ping` asks, `doctor` explains while `send` sends once more.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from mcastctl.model import matrix, testimony
from mcastctl.model.endpoint import Endpoint, format_endpoint
from mcastctl.model.errors import ValueRangeError
from mcastctl.net import reach
from mcastctl.net.fleet import Fleet, Session
from mcastctl.net.reach import Target

T = TypeVar("T")
_SLACK_S = 10.0
"""Seconds for a host to start and end a program, beside what the program itself takes."""
_STREAMS = ("echo", "ping", "send")
"""Commands that print more than their summary unless told not to."""
_FEWEST = 2
"""Hosts without which nothing is sent: there is nobody to hear it."""
_LOOK_S = 3.0
"""Seconds each doctor watches."""


class Plan(NamedTuple):
    """What to ask: `requests` from each host, `interval_s` apart; times in seconds.

    `existing` asks the `mcastctl echo` that runs there already; `explain` bounds how many silences
    are looked into.
    """

    endpoint: Endpoint
    requests: int
    interval_s: float
    wait_s: float
    ttl: int
    iface: str | None
    connect_s: float
    parallel: int
    ssh: list[str]
    remote: list[str]
    existing: bool
    explain: int

    @property
    def group(self) -> str:
        """The group, as records name it."""
        return self.endpoint.group

    @property
    def asking_s(self) -> float:
        """Seconds one host takes to ask."""
        return self.requests * self.interval_s + self.wait_s + _SLACK_S


class Answer(NamedTuple):
    """Everything found out: a host's own state, each pair, the doctors' findings."""

    hosts: list[matrix.Host]
    pairs: list[matrix.Pair]
    explained: list[matrix.Explained]


def ask(targets: Sequence[Target], plan: Plan, tell: Callable[[str], None]) -> Answer:
    """Ask every host; `tell` is called with a line at each step."""
    with Fleet(plan.parallel) as fleet:
        survey = _Survey(fleet, targets, plan)
        tell(f"{len(targets)} hosts: looking at each")
        survey.look()
        if len(survey.able) < _FEWEST:
            return Answer(survey.hosts(), list(matrix.merge(survey.hosts(), {}, {})), [])
        listening = {} if plan.existing else survey.listen()
        tell(f"{len(survey.able)} of them take part: each asks {plan.requests} times")
        senders = survey.ask()
        fleet.finish(listening.values(), _SLACK_S)
        hosts, receivers = survey.heard(listening, senders)
        merged = matrix.merge(hosts, senders, receivers)
        pairs = [pair for pair in merged if survey.may_ask(pair.sender)]
        groups = matrix.causes(pairs)
        explained = []
        if groups and plan.explain:
            tell(f"silent for {len(groups)} reasons at most: asking the doctor")
            explained = list(survey.explain([group[0] for group in groups[: plan.explain]]))
        return Answer(hosts, _with_findings(pairs, groups, explained), explained)


def _with_findings(
    pairs: list[matrix.Pair],
    groups: list[list[matrix.Pair]],
    explained: list[matrix.Explained],
) -> list[matrix.Pair]:
    """Return the pairs with the cause that was found for one of each group."""
    said = {(one.sender, one.receiver): str(one.finding["id"]) for one in reversed(explained)}
    shared = {
        (pair.sender, pair.receiver): said.get((group[0].sender, group[0].receiver))
        for group in groups
        for pair in group
    }
    return [pair._replace(finding=shared.get((pair.sender, pair.receiver))) for pair in pairs]


class _Survey:
    """The steps of one run; `able` are the hosts that take part, in order."""

    def __init__(self, fleet: Fleet, targets: Sequence[Target], plan: Plan) -> None:
        self._fleet = fleet
        self._targets = {one.name: one for one in targets}
        self._plan = plan
        self._lost: dict[str, str] = {}
        self._addresses: dict[str, tuple[str, ...]] = {}
        self._versions: dict[str, str | None] = dict.fromkeys(self._targets)
        self._sources: dict[str, str] = {}

    @property
    def able(self) -> list[Target]:
        """The hosts that can still be asked."""
        return [one for one in self._targets.values() if one.name not in self._lost]

    def look(self) -> None:
        """Read every host's addresses: whoever cannot tell them is lost."""
        sessions = [self._session(one, "ifaces") for one in self.able]
        self._fleet.run(sessions, self._plan.connect_s + _SLACK_S, _never)
        for session in sessions:
            found = [one for one in session.records() if one.get("type") == "interface"]
            if session.status != 0 or not found:
                self._lose(session)
            else:
                self._addresses[session.name] = (
                    self._read(session, testimony.addresses, found) or ()
                )
            session.forget()
        if self.able and not any(self.may_ask(one.name) for one in self._targets.values()):
            raise ValueRangeError(
                f"no host has the address {' or '.join(self._plan.endpoint.sources)}",
                hint="the source in SRC@GROUP is one of the hosts' own: it alone asks",
            )

    def listen(self) -> dict[str, Session]:
        """Start a listener on each host; return those that have joined."""
        plan = self._plan
        turns = math.ceil(len(self.able) / plan.parallel)
        joining_s = turns * (plan.connect_s + _SLACK_S)
        longest_s = joining_s + (turns + 1) * (plan.asking_s + plan.connect_s) + _SLACK_S
        sessions = [
            self._session(one, "echo", self._group, "-T", f"{longest_s:.0f}s") for one in self.able
        ]
        self._fleet.run(sessions, plan.connect_s + _SLACK_S, _joined)
        for session in sessions:
            if not _joined(session) or session.status is not None:
                self._lose(session)
        return {one.name: one for one in sessions if one.name not in self._lost}

    def ask(self) -> dict[str, matrix.Asked]:
        """Let each host ask; return what those say that could."""
        plan = self._plan
        times = ["-c", str(plan.requests), "--interval", f"{plan.interval_s}s"]
        times += ["--wait", f"{plan.wait_s}s", "-t", str(plan.ttl)]
        asking = [one for one in self.able if self.may_ask(one.name)]
        sessions = [self._session(one, "ping", self._speaking(one.name), *times) for one in asking]
        self._fleet.run(sessions, plan.asking_s + plan.connect_s, _never)
        said: dict[str, matrix.Asked] = {}
        for session in sessions:
            summary = _last(session, "summary")
            if summary is None:
                self._lose(session)
                continue
            start = _last(session, "start") or {}
            self._versions[session.name] = testimony.version(start)
            run = self._read(session, testimony.asked, summary)
            if run is not None and run.sent:
                said[session.name] = run
            elif run is not None:
                self._lose(session)  # every request was refused, for the reason it gives
            session.forget()
        return said

    def may_ask(self, name: str) -> bool:
        """Whether what a host sends is let in: it has a source that is named, or none is."""
        wanted = self._plan.endpoint
        if wanted.exclude or not wanted.sources or name in self._lost:
            return True
        return bool(self._named(name))

    def _named(self, name: str) -> tuple[str, ...]:
        """Return the addresses of a host that the endpoint names."""
        return tuple(one for one in self._plan.endpoint.sources if one in self._addresses[name])

    def _speaking(self, name: str) -> str:
        """Return the endpoint a host sends to, by the source that is named if it has that."""
        wanted = self._plan.endpoint
        sources = () if wanted.exclude else self._named(name)[:1]
        return format_endpoint(wanted._replace(sources=sources, exclude=False))

    def heard(
        self, listening: Mapping[str, Session], senders: Mapping[str, matrix.Asked]
    ) -> tuple[list[matrix.Host], dict[str, dict[str, matrix.Heard]]]:
        """Return every host, and what each listener heard of each stream."""
        receivers = {}
        for name, session in listening.items():
            summary = _last(session, "summary")
            if summary is None:
                self._lose(session)
                continue
            listened = self._read(session, partial(testimony.heard, self._plan.group), summary)
            if listened is not None:
                receivers[name] = listened
            session.forget()
        hosts = self.hosts()
        if self._plan.existing:
            receivers = matrix.answered(hosts, senders)
        by_stream = {
            stream: one.source
            for listened in receivers.values()
            for stream, one in listened.items()
            if one.source
        }
        for name, run in senders.items():
            if run.stream in by_stream:
                self._sources[name] = by_stream[run.stream]
        return hosts, receivers

    def hosts(self) -> list[matrix.Host]:
        """Return how every host stands."""
        return [
            matrix.Host(
                name,
                matrix.LOST if name in self._lost else matrix.ASKED,
                self._lost.get(name, ""),
                self._versions[name],
                self._addresses.get(name, ()),
            )
            for name in self._targets
        ]

    def explain(self, silent: Sequence[matrix.Pair]) -> Iterator[matrix.Explained]:
        """Ask the doctor about silent pairs: a sender's together, while it sends."""
        for sender in dict.fromkeys(pair.sender for pair in silent):
            receivers = [pair.receiver for pair in silent if pair.sender == sender]
            yield from self._explain(self._targets[sender], receivers)

    def _explain(self, sender: Target, receivers: Sequence[str]) -> Iterator[matrix.Explained]:
        plan = self._plan
        asked = [self._targets[name] for name in receivers if name not in self._lost]
        turns = math.ceil((len(asked) + 1) / plan.parallel)
        span = f"{turns * (_LOOK_S + _SLACK_S):.0f}s"
        repeated = ("--probe", "--pps", "20", "-t", str(plan.ttl))
        spoken = self._speaking(sender.name)
        sending = self._session(sender, "send", spoken, *repeated, "-T", span)
        serving = (
            []
            if plan.existing
            else [self._session(one, "echo", self._group, "-T", span) for one in asked]
        )
        self._fleet.start(sending)
        self._fleet.run(serving, plan.connect_s + _SLACK_S, _joined)
        look = ("-T", f"{_LOOK_S}s")
        known = self._named(sender.name)[:1]
        if sender.name in self._sources:
            known = (self._sources[sender.name],)
        expected = plan.endpoint
        if known:
            expected = expected._replace(sources=known, exclude=False)
        sought = format_endpoint(expected)
        doctors = [self._session(one, "doctor", sought, *look) for one in asked]
        doctors.append(self._session(sender, "doctor", spoken, *look, "--role", "sender"))
        self._fleet.run(doctors, _LOOK_S + _SLACK_S + plan.connect_s, _never)
        self._fleet.finish([sending, *serving], _SLACK_S)
        own = _first_error(doctors[-1])
        for session in doctors[:-1]:
            finding, host = _first_error(session), session.name
            if own is not None and (finding is None or finding["where"] != "host"):
                finding, host = own, sender.name
            if finding is not None:
                yield matrix.Explained(host, sender.name, session.name, finding)

    @property
    def _group(self) -> str:
        return format_endpoint(self._plan.endpoint)

    def _session(self, target: Target, command: str, *words: str) -> Session:
        """Return a run of mcastctl on a host, by its interface where one is named.

        The first of `words` is the endpoint, which another host may have had a part in: it comes
        last, behind '--'.
        """
        asked = [*reach.program(target, self._plan.remote), command, "-j", *words[1:]]
        if command in _STREAMS:
            asked.append("-q")
        iface = target.iface or self._plan.iface
        if iface and words:
            asked += ["-i", iface]
        script = reach.line([*asked, *(("--", words[0]) if words else ())])
        return Session(target.name, reach.argv(target, self._plan.ssh, script))

    def _read(self, session: Session, read: Callable[[Any], T], said: Any) -> T | None:
        """Read what a host said; one whose answer is no answer of ours is lost, not the run."""
        try:
            return read(said)
        except testimony.NotOurs as error:
            self._lost.setdefault(session.name, f"says what no mcastctl says: {error}")
            return None

    def _lose(self, session: Session) -> None:
        said = testimony.reason(_last(session, "notice") or {})
        self._lost.setdefault(session.name, said or session.complaint)


def _never(session: Session) -> bool:
    return False


def _joined(session: Session) -> bool:
    return session.has("joined")


def _last(session: Session, kind: str) -> dict[str, Any] | None:
    found = [one for one in session.records() if one.get("type") == kind]
    return found[-1] if found else None


def _first_error(session: Session) -> dict[str, object] | None:
    return next(filter(None, map(testimony.finding, session.records())), None)
