"""The active tests of a receiving host: inject, join, and report by hand where nothing comes.

All waits of a run together stay under two seconds.
"""

from contextlib import ExitStack

from mcastctl.doctor.probe import injecting, joining
from mcastctl.doctor.probe.results import Probed
from mcastctl.doctor.probe.scene import Scene


def probe(scene: Scene, stack: ExitStack) -> Probed:
    """Run the tests in the order of what they need unchanged; nothing is left when they end."""
    done = Probed(scene.link.name)
    silent = scene.wire is not None and not scene.facts.arrived_here()
    ingress = injecting.ingress(scene, stack)
    scene.trace(stack, ours=ingress is not None or silent)
    if ingress is not None:
        done = done._replace(
            injected=injecting.inject(scene, ingress), queries=injecting.query(scene, ingress)
        )
    with ExitStack() as joins:
        if not scene.over():
            done = joining.join(scene, joins, done)
        if silent and not scene.over() and done.joined and not done.joined.fresh:
            done = done._replace(reports=joining.report_other(scene, joins))
        if ingress is None and done.joined and done.joined.heard == 0 and not scene.over():
            done = done._replace(injected=injecting.loop_back(scene, joins, done.joined))
        if silent and not scene.over() and not scene.came():
            done = done._replace(crafted=joining.craft(scene, joins))
    return done._replace(verdicts=scene.verdicts())
