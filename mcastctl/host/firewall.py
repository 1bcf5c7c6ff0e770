"""The packet filter of this network namespace: rules that may drop, with their counters.

Read as `nft -j list ruleset` (libnftables-json(5)) and, where the old tables are in use, as
`iptables-legacy-save -c`. Both need CAP_NET_ADMIN; nothing is changed. Linux only.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mcastctl.host import procnet

_PATIENCE_S = 1.5
_AS_ROOT = "run as root: the rules of the packet filter are readable by root only"
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
    words are in `text`. `packets` counts what matched, None without a counter. `spared` are the
    matches of rules before it in its chain after which a packet may not come to it.
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
    spared: tuple[tuple[Mapping[str, Any], ...], ...] = ()

    @property
    def key(self) -> tuple[str, str, str, int | None, str]:
        """What tells it from other rules, counters aside."""
        return self.family, self.table, self.chain, self.handle, self.text


class Ruleset(NamedTuple):
    """What may drop, and the rules that rewrite addresses; `why_not` where it could not be read.

    `diverting` are those that send a packet, or a copy of it, out by another interface.
    """

    dropping: tuple[Rule, ...]
    rewriting: tuple[Rule, ...]
    why_not: str
    diverting: tuple[Rule, ...] = ()


def read(patience_s: float = _PATIENCE_S) -> Ruleset:
    """Return the rules that drop, reject or rewrite, with their counters as they are now.

    The elements of sets are left out (nft(8), --terse): they may be hundreds of thousands.
    """
    deadline = time.monotonic() + patience_s
    listed = _run(["nft", "-t", "-j", "list", "ruleset"], deadline)
    if not isinstance(listed, str) and listed.unknown_option:  # nftables before 0.9.1
        listed = _run(["nft", "-j", "list", "ruleset"], deadline)
    nft = parse(listed) if isinstance(listed, str) else Ruleset((), (), listed.why)
    legacy = tuple(_legacy(deadline))
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
    spared: dict[_Key, list[tuple[Mapping[str, Any], ...]]] = {}
    for one in rules:
        words = {word for each in one["expr"] for word in each}
        before = spared.setdefault(_chain_key(one, "chain"), [])
        if verdict := next((word for word in _DROPPING if word in words), ""):
            dropping.append(_rule(one, verdict, places)._replace(spared=tuple(before)))
        elif by_map := _by_verdict_map(one):
            dropping.append(_rule(by_map, "drop", places)._replace(spared=tuple(before)))
        elif verdict := next((word for word in _REWRITING if word in words), ""):
            rewriting.append(_rule(one, verdict, places))
        if verdict := next((word for each in one["expr"] if (word := _diverts(each))), ""):
            diverting.append(_rule(one, verdict, places))
        if words.intersection(_LEAVING):
            before.append(tuple(each for each in one["expr"] if "match" in each))
    policies = [one for one in chains.values() if one.get("policy") == "drop"]
    for one in policies:
        before = spared.get(_chain_key(one), [])
        dropping.append(_policy(one, places)._replace(spared=tuple(before)))
    return Ruleset(tuple(dropping), tuple(rewriting), "", tuple(diverting))


def _diverts(expression: Mapping[str, Any]) -> str:
    """Return the statement that sends packets elsewhere ('' for none): fwd, dup, or xt's TEE."""
    target = expression.get("xt")
    if isinstance(target, dict) and target.get("name") == "TEE":
        return "xt"
    return next((word for word in ("fwd", "dup") if word in expression), "")


def _by_verdict_map(one: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a rule whose verdict map drops as one that matches those keys; None without such."""
    expressions = []
    for each in one["expr"]:
        vmap = each.get("vmap")
        keys = _dropped_keys(vmap.get("data")) if isinstance(vmap, dict) else None
        if keys is not None:
            match = {"op": "==", "left": vmap.get("key"), "right": keys}
            expressions += [{"match": match}, {"drop": None}]
        else:
            expressions.append(each)
    return {**one, "expr": expressions} if {"drop": None} in expressions else None


def _dropped_keys(data: Any) -> Any:
    """Return the keys of a verdict map that drop; of a named one, '@NAME': nobody knows which."""
    if isinstance(data, str):
        return data
    elements = data.get("set") if isinstance(data, dict) else None
    pairs = [one for one in elements if isinstance(one, list) and len(one) == 2] if elements else []
    keys = [key for key, verdict in pairs if isinstance(verdict, dict) and "drop" in verdict]
    return {"set": keys} if keys else None


_LEAVING = ("accept", "return", "jump", "goto", "vmap", "queue", "xt")
"""Expressions after which a packet may not come to the next rule, though it was not dropped."""
_REWRITING = ("snat", "masquerade", "dnat", "redirect", "xt")
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


def _legacy(deadline: float) -> Iterator[Rule]:
    """Yield what the old tables drop; their modules are there only once somebody used them."""
    for version, names in (("", "ip_tables_names"), ("6", "ip6_tables_names")):
        if procnet.read(names).strip():
            saved = _run([f"ip{version}tables-legacy-save", "-c"], deadline)
            yield from legacy_rules(saved if isinstance(saved, str) else "", f"ip{version}")


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


class _Failed(NamedTuple):
    """Why a program told nothing."""

    why: str
    unknown_option: bool = False


def _run(argv: list[str], deadline: float) -> str | _Failed:
    """Return what a program prints, or why it prints nothing until the deadline."""
    folders = [one for one in (*os.get_exec_path(), *_SBIN) if one.startswith("/")]
    paths = [Path(folder) / argv[0] for folder in folders]  # never from the current directory
    program = next((one for one in paths if os.access(one, os.X_OK)), None)
    if program is None:
        return _Failed(f"{argv[0]} is not installed" if os.geteuid() == 0 else _AS_ROOT)
    try:
        done = subprocess.run(
            [str(program), *argv[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=max(0.0, deadline - time.monotonic()),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _Failed(f"{argv[0]} did not tell the rules in time")
    except OSError as error:
        return _Failed(f"cannot run {argv[0]}: {error.strerror}")
    if done.returncode == 0:
        return done.stdout.decode(errors="replace")
    if b"not permitted" in done.stderr or b"ermission denied" in done.stderr:
        return _Failed(_AS_ROOT)
    return _Failed(f"{argv[0]} failed with status {done.returncode}", b"option" in done.stderr)
