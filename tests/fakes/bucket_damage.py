"""Damage to the objects of a remote, as a disk, a person or a stranger may do it."""

import random
from collections.abc import Mapping
from typing import NamedTuple

VERBS = ("delete", "cut", "flip", "swap", "empty")


class Damage(NamedTuple):
    """What was done to which objects, and what stands there now; None for one that is gone."""

    verb: str
    keys: tuple[str, ...]
    objects: Mapping[str, bytes | None]


def kind_of(key: str) -> str:
    """What an object is, by its key: format, packs, index or manifests."""
    return key.partition("/")[0]


def flip(raw: bytes, bit: int) -> bytes:
    """`raw` with one bit changed."""
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def random_damage(objects: Mapping[str, bytes], dice: random.Random) -> Damage:
    """One random damage: of a random kind, to a random object, at a random place."""
    verb = dice.choice(VERBS)
    key = dice.choice(sorted(objects))
    others = [
        other
        for other in sorted(objects)
        if kind_of(other) == kind_of(key) and objects[other] != objects[key]
    ]
    if verb == "swap" and others:
        other = dice.choice(others)
        return Damage(verb, (key, other), {key: objects[other], other: objects[key]})
    raw = objects[key]
    if verb == "delete":
        return Damage(verb, (key,), {key: None})
    if verb == "empty":
        return Damage(verb, (key,), {key: b""})
    if verb == "cut":
        return Damage(verb, (key,), {key: raw[: dice.randrange(len(raw))]})
    return Damage("flip", (key,), {key: flip(raw, dice.randrange(8 * len(raw)))})
