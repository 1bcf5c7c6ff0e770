"""Fixtures for tests that need a network, and the rule that CI may not skip them."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from place import BEYOND_US
from world import Host, Place, World, why_no_world

REQUIRED = os.environ.get("MCASTCTL_REQUIRE_NETNS") == "1"
reason_without_world = functools.cache(why_no_world)


class Pair(NamedTuple):
    """Two hosts on one cable: interfaces a0 and b0."""

    a: Host
    b: Host


class Trio(NamedTuple):
    """An asker (a0) and three responders (x0, y0, z0) on one switch."""

    asker: Host
    responders: tuple[Host, ...]


def pytest_configure() -> None:
    # A shell's background job ignores SIGINT, one of nohup SIGHUP, and so would every command we
    # start: undo that, or tests of these signals fail only there.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "namespaces" in getattr(item, "fixturenames", ()):
            item.add_marker("netns")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if REQUIRED and skipped and item.get_closest_marker("netns"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        if any(words in str(reason) for words in BEYOND_US):
            return report
        report.outcome = "failed"
        report.longrepr = f"skipped although MCASTCTL_REQUIRE_NETNS=1: {reason}"
    return report


@pytest.fixture
def namespaces() -> None:
    """Skips where network namespaces cannot be made."""
    if reason := reason_without_world():
        pytest.skip(reason)


@pytest.fixture
def world(namespaces: None) -> Iterator[World]:
    """An empty world."""
    with World() as world:
        yield world


@pytest.fixture
def pair(world: World) -> Pair:
    """Hosts a and b, linked."""
    a, b = world.host("a"), world.host("b")
    world.link(a, b)
    return Pair(a, b)


@pytest.fixture
def trio(world: World) -> Trio:
    """One host to ask and three to answer, on a switch that floods."""
    asker, *responders = (world.host(name) for name in "axyz")
    world.bridge("sw", asker, *responders)
    return Trio(asker, tuple(responders))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """The machine itself, for commands that send nothing."""
    place = Place(tmp_path)
    try:
        yield place
    finally:
        place.stop()
