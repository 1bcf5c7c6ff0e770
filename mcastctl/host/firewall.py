"""The packet filter of this network namespace: rules that may drop, with their counters.

Read as `nft -j list ruleset` (libnftables-json(5)) and, where the old tables are in use, as
`iptables-legacy-save -c`. Both need CAP_NET_ADMIN; nothing is changed. Linux only.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcastctl.host import procnet

_PATIENCE_S = 1.5
_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin")
_DROPPING = ("drop", "reject", "queue")
_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward"}
_HOOKS |= {"OUTPUT": "output", "POSTROUTING": "postrouting"}
_SAVED = re.compile(r"(?:\[(\d+):\d+\] )?-A (\S+) (.*)")
_POLICY = re.compile(r":(\S+) (\S+) \[(\d+):\d+\]")


class Rule(NamedTuple):
    """A rule, or the policy of a chain, that drops what matches.

    `hooks` are those that lead to it, `devices` the interfaces of a netdev chain. `matches`
    are the expressions of libnftables-json(5) before the verdict, empty for legacy rules, whose
    words are in `text`. `packets` counts what matched, None without a counter.
    """

    family: str
    table: str
    chain: str
    handle: int | None
    hooks: tuple[str, ...]
    devices: tuple[str, ...]
    verdict: str
    matches: tuple[Mapping[str, Any], ...]
    packets: int | None
    text: str

    @property
    def key(self) -> tuple[str, str, str, int | None, str]:
        """What tells it from other rules, counters aside."""
        return self.family, self.table, self.chain, self.handle, self.text


class Ruleset(NamedTuple):
    """What may drop, and the rules that rewrite sources; `why_not` where it could not be read.

    `diverting` are those that send a packet, or a copy of it, out by another interface.
    """

    dropping: tuple[Rule, ...]
    rewriting: tuple[Rule, ...]
    why_not: str
    diverting: tuple[Rule, ...] = ()


def read() -> Ruleset:
    """Return the rules that drop, reject or rewrite, with their counters as they are now."""
    listed = _run(["nft", "-j", "list", "ruleset"])
    if listed is None:
        why = "run as root: the rules of the packet filter are readable by root only"
        nft = Ruleset((), (), "nft is not installed" if os.geteuid() == 0 else why)
    else:
        nft = parse(listed)
    legacy = tuple(_legacy())
    return nft._replace(dropping=nft.dropping + legacy)


def parse(text: str) -> Ruleset:
    """Return the rules of `nft -j list ruleset`; what is no such text is an empty ruleset."""
    try:
        objects = json.loads(text)["nftables"]
        found = [one for one in objects if isinstance(one, dict)]
        return _ruleset(
            [one["chain"] for one in found if _is_chain(one.get("chain"))],
            [one["rule"] for one in found if _is_rule(one.get("rule"))],
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return Ruleset((), (), "the answer of nft could not be read")


def _is_chain(one: Any) -> bool:
    """Tell whether an object has what places a chain, in the form that nft gives it."""
    if not _is_placed(one, "name"):
        return False
    devices = one.get("dev", [])
    listed = devices if isinstance(devices, list) else [devices]
    return all(isinstance(name, str) for name in [one.get("hook", ""), *listed])


def _is_rule(one: Any) -> bool:
    """Tell the same of a rule and its expressions."""
    if not _is_placed(one, "chain"):
        return False
    expressions = one.get("expr")
    return isinstance(expressions, list) and all(isinstance(each, dict) for each in expressions)


def _is_placed(one: Any, name: str) -> bool:
    words = ("family", "table", name)
    return isinstance(one, dict) and all(isinstance(one.get(word), str) for word in words)


def _ruleset(listed: list[Any], rules: list[Any]) -> Ruleset:
    chains = {_chain_key(one): one for one in listed}
    places = _places(chains, rules)
    dropping, rewriting, diverting = [], [], []
    for one in rules:
        words = {word for each in one["expr"] for word in each}
        if verdict := next((word for word in _DROPPING if word in words), ""):
            dropping.append(_rule(one, verdict, places))
        elif verdict := next((word for word in _REWRITING if word in words), ""):
            rewriting.append(_rule(one, verdict, places))
        if verdict := next((word for each in one["expr"] if (word := _diverts(each))), ""):
            diverting.append(_rule(one, verdict, places))
    policies = [one for one in chains.values() if one.get("policy") == "drop"]
    dropping += [_policy(one, places) for one in policies]
    return Ruleset(tuple(dropping), tuple(rewriting), "", tuple(diverting))


def _diverts(expression: Mapping[str, Any]) -> str:
    """Return the statement that sends packets elsewhere ('' for none): fwd, dup, or xt's TEE."""
    target = expression.get("xt")
    if isinstance(target, dict) and target.get("name") == "TEE":
        return "xt"
    return next((word for word in ("fwd", "dup") if word in expression), "")


_REWRITING = ("snat", "masquerade", "xt")
_Key = tuple[str, str, str]
_Places = dict[_Key, tuple[set[str], set[str]]]


def _chain_key(chain: Mapping[str, Any], name: str = "name") -> _Key:
    return chain["family"], chain["table"], chain[name]


def _places(chains: Mapping[_Key, Any], rules: list[Any]) -> _Places:
    """Return by chain the hooks that lead to it, by jumps too, and the devices."""
    found: _Places = {key: (set(), set()) for key in chains}
    for place, chain in chains.items():
        if "hook" in chain:
            found[place][0].add(chain["hook"])
            devices = chain.get("dev", [])
            found[place][1].update([devices] if isinstance(devices, str) else devices)
    jumps: set[tuple[_Key, _Key]] = set()
    for one in rules:
        for target in _targets(one["expr"]):
            jumps.add((_chain_key(one, "chain"), (one["family"], one["table"], target)))
    for _ in chains:  # as deep as a chain of jumps can be
        for origin, end in jumps:
            if origin in found and end in found:
                found[end][0].update(found[origin][0])
                found[end][1].update(found[origin][1])
    return found


def _targets(value: Any) -> Iterator[str]:
    """Yield the chains that an expression jumps to, also from within verdict maps."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("jump", "goto") and isinstance(inner, dict):
                yield str(inner.get("target", ""))
            else:
                yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)


def _rule(one: Mapping[str, Any], verdict: str, places: _Places) -> Rule:
    key = _chain_key(one, "chain")
    hooks, devices = places.get(key, (set(), set()))
    counters = [each["counter"] for each in one["expr"] if "counter" in each]
    counted = counters[0].get("packets") if counters and isinstance(counters[0], dict) else None
    matches = tuple(each for each in one["expr"] if not {"counter", verdict} & each.keys())
    return Rule(
        *(*key, one.get("handle"), tuple(sorted(hooks)), tuple(sorted(devices)), verdict),
        matches,
        counted,
        " ".join([*map(in_words, matches), verdict]),
    )


def _policy(chain: Mapping[str, Any], places: _Places) -> Rule:
    hooks, devices = places[_chain_key(chain)]
    head = (*_chain_key(chain), None, tuple(sorted(hooks)), tuple(sorted(devices)))
    return Rule(*head, "policy", (), None, "policy drop")


def in_words(expression: Mapping[str, Any]) -> str:
    """Return an expression nearly as nft writes it."""
    match = expression.get("match")
    if not isinstance(match, dict):
        return " ".join(expression)
    sign = {"==": "", "in": ""}.get(str(match.get("op", "")), f"{match.get('op')} ")
    return f"{_operand(match.get('left'))} {sign}{_operand(match.get('right'))}"


def _operand(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return " ".join(map(str, value)) if isinstance(value, list) else str(value)
    kind, inner = next(iter(value.items()))
    if kind == "payload" and isinstance(inner, dict) and "field" in inner:
        return f"{inner.get('protocol')} {inner['field']}"
    if kind == "meta" and isinstance(inner, dict):
        return str(inner.get("key"))
    if kind == "prefix" and isinstance(inner, dict):
        return f"{inner.get('addr')}/{inner.get('len')}"
    if kind == "set" and isinstance(inner, list):
        return "{ " + ", ".join(map(_operand, inner)) + " }"
    return json.dumps(value)


def _legacy() -> Iterator[Rule]:
    """Yield what the old tables drop; their modules are there only once somebody used them."""
    for version, names in (("", "ip_tables_names"), ("6", "ip6_tables_names")):
        if procnet.read(names).strip():
            saved = _run([f"ip{version}tables-legacy-save", "-c"])
            yield from legacy_rules(saved or "", f"ip{version}")


def legacy_rules(text: str, family: str) -> Iterator[Rule]:
    """Yield the dropping rules and policies of `iptables-legacy-save -c`."""
    table = ""
    parsed: list[tuple[str, str, str, int]] = []
    for line in text.split("\n"):
        rule, policy = _SAVED.fullmatch(line), _POLICY.fullmatch(line)
        if line.startswith("*"):
            table = line[1:]
        elif rule:
            parsed.append((table, rule[2], rule[3], int(rule[1] or 0)))
        elif policy and policy[2] == "DROP":
            parsed.append((table, policy[1], "policy DROP", int(policy[3])))
    for table, chain, words, packets in parsed:
        target = re.search(r"(?:-j|-g|policy) (\S+)$|-j (REJECT)", words)
        if target and (target[1] or target[2]) in ("DROP", "REJECT"):
            hooks = _legacy_hooks(table, chain, parsed)
            verdict = "policy" if words.startswith("policy") else "drop"
            name = f"{table} (iptables-legacy)"
            yield Rule(family, name, chain, None, hooks, (), verdict, (), packets, words)


def _legacy_hooks(
    table: str, chain: str, parsed: list[tuple[str, str, str, int]]
) -> tuple[str, ...]:
    chains = {chain}
    for _ in parsed:
        for where, origin, words, _packets in parsed:
            if where == table and re.search(rf"-[jg] ({'|'.join(map(re.escape, chains))})$", words):
                chains.add(origin)
    return tuple(sorted(_HOOKS[one] for one in chains if one in _HOOKS))


def _run(argv: list[str]) -> str | None:
    """Return what a program prints, None where it is missing or refuses."""
    folders = [one for one in (*os.get_exec_path(), *_SBIN) if one.startswith("/")]
    paths = [Path(folder) / argv[0] for folder in folders]  # never from the current directory
    program = next((one for one in paths if os.access(one, os.X_OK)), None)
    if program is None:
        return None
    try:
        done = subprocess.run(
            [str(program), *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
