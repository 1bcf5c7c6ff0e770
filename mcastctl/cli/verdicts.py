"""What `listen` is to expect, and how what it heard is judged."""

from typing import Any

import click

from mcastctl.cli import options as shared
from mcastctl.cli import params as p
from mcastctl.cli import run
from mcastctl.model.errors import COULD_NOT_ASK, NO, YES, VerdictError
from mcastctl.model.limits import Limits
from mcastctl.model.verdict import Expectation
from mcastctl.net import listener

options = shared.bundle(
    click.option("--expect", type=p.COUNT, help="At least N datagrams must come."),
    click.option("--expect-none", is_flag=True, help="Nothing may come."),
    click.option("--expect-from", type=p.ADDRESS, multiple=True, help="This sender must be heard."),
    click.option("--max-loss", type=p.PERCENT, help="Most loss allowed, of each stream."),
    click.option("--max-jitter", type=p.TIME, help="Most jitter allowed."),
)


def outcome(listening: listener.Listening, limits: Limits, wanted: Expectation) -> run.Outcome:
    """Return how a run of `listen` ended, judged."""
    fields = listening.summary()
    try:
        unmet = wanted.unmet(listening.statistics, listening.unheard())
    except VerdictError as error:
        return run.Outcome(limits.reason, {**fields, "unmet": []}, COULD_NOT_ASK, error)
    return run.Outcome(limits.reason, {**fields, "unmet": unmet}, NO if unmet else YES)


def expectation(given: dict[str, Any]) -> Expectation:
    """Return what the options expect."""
    bounded = given["timeout"] is not None or given["idle"] is not None
    enough = given["count"] or (None if bounded or given["expect_none"] else given["expect"])
    jitter = given["max_jitter"]
    return Expectation(
        enough,
        given["expect"],
        given["expect_none"],
        given["expect_from"],
        given["max_loss"],
        None if jitter is None else jitter * 1e3,
    )
