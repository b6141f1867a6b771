"""The scenes that the model is played in.

In the beginning there is pack P of chunk a, or with it Q of chunk b in the same index object, old
enough for a collector; and commit zero that needs them, or nobody needs them any more.
"""

from dataclasses import dataclass

from tests.model.bucket import EVERYTHING, SAFETY, Bucket, Manifest, Pack, Rules, Watch
from tests.model.explore import Actor, Model
from tests.model.removers import Collector, Forget
from tests.model.writers import Writer

P = Pack("P", "a")
Q = Pack("Q", "b")
# As Q, in an index object of its own.
R = Pack("R", "b")
_ZERO = "zero"


def scene(
    rules: Rules,
    *,
    pushes: tuple[str, ...] = (),
    collectors: int = 0,
    runs: int = 2,
    forget: bool = False,
    repack: bool = False,
    undo: bool = False,
    packs: tuple[Pack, ...] = (P,),
    needed: tuple[Pack, ...] = (),
    tombs: tuple[tuple[str, int], ...] = (),
) -> Model:
    """A push for each string of chunks, and so many of the others. `packs` are there, and commit
    zero if it has `needed` packs; `tombs` are there already, with their ages."""
    if rules.names_from_contents:
        packs, needed = _by_contents(packs), _by_contents(needed)
    bucket = _bucket(rules, packs, needed, tombs)
    actors: list[Actor] = [
        Writer(f"push{number}", rules, f"commit{number}", chunks)
        for number, chunks in enumerate(pushes, 1)
    ]
    # Those that take turns are told apart by their leases.
    names = ["gc1", "gc2"] if rules.turns else ["gc", "gc"]
    actors += [Collector(name, rules, runs, trash=undo) for name in names[:collectors]]
    if forget:
        actors.append(Forget("forget", rules, _ZERO, trash=undo))
    if repack:
        rewritten = frozenset({packs[0].name})
        actors.append(Writer("repack", rules, _ZERO, source="manifests", rewritten=rewritten))
    if undo:
        actors.append(Writer("undo", rules, _ZERO, source="trash"))
    return Model(rules, bucket, tuple(actors))


def _bucket(
    rules: Rules,
    packs: tuple[Pack, ...],
    needed: tuple[Pack, ...],
    tombs: tuple[tuple[str, int], ...],
) -> Bucket:
    places = frozenset((pack.chunks, pack.name) for pack in needed)
    others = {frozenset({pack}) for pack in packs[2:]}
    return Bucket(
        packs=frozenset((pack, rules.pack_age) for pack in packs),
        tombs=frozenset(tombs),
        indexes=frozenset({frozenset(packs[:2])} | others),
        manifests=frozenset({Manifest(_ZERO, "first", places)} if needed else ()),
        trash=frozenset(),
        leases=frozenset(),
        promised=frozenset({_ZERO} if needed else ()),
    )


def _by_contents(packs: tuple[Pack, ...]) -> tuple[Pack, ...]:
    return tuple(Pack(f"#{pack.chunks}", pack.chunks) for pack in packs)


@dataclass(frozen=True, slots=True)
class Scene:
    """A model, and what is looked for in it. Two collectors that do not take turns can lead a
    reader astray, so where there are two that is not looked for. The quick ones take some seconds
    at most."""

    model: Model
    watches: tuple[Watch, ...]
    quick: bool = True


def full(rules: Rules) -> Model:
    """All actors at once."""
    return scene(rules, pushes=("a", "ab"), collectors=2, forget=True, repack=True, needed=(P,))


_PLAIN = Rules()
# A push or repack that has to heal anything ends with an error instead.
_NO_HEALS = Rules(heals=0)
_OLD_TOMB = (("P", _PLAIN.grace),)
_TWO_TOMBS = (("P", _PLAIN.grace), ("Q", _PLAIN.grace - 1))

SCENES = {
    "push, gc": Scene(scene(_PLAIN, pushes=("a",), collectors=1), EVERYTHING),
    "push, gc, leases that outlive the grace": Scene(
        scene(Rules(lease_life=3), pushes=("a",), collectors=1), EVERYTHING
    ),
    "push, gc that clears tombs": Scene(
        scene(Rules(clears_tombs=True), pushes=("a",), collectors=1, runs=3), EVERYTHING
    ),
    "push, gc, two packs": Scene(
        scene(_PLAIN, pushes=("ab",), collectors=1, packs=(P, Q)), EVERYTHING
    ),
    "push, forget, gc": Scene(
        scene(_PLAIN, pushes=("a",), collectors=1, forget=True, needed=(P,)), EVERYTHING
    ),
    "push, repack, gc, no heals": Scene(
        scene(_NO_HEALS, pushes=("a",), collectors=1, repack=True, needed=(P,)), EVERYTHING
    ),
    "push, repack, gc": Scene(
        scene(_PLAIN, pushes=("a",), collectors=1, repack=True, needed=(P,)),
        EVERYTHING,
        quick=False,
    ),
    "push, forget, repack": Scene(
        scene(_PLAIN, pushes=("a",), forget=True, repack=True, needed=(P,)), EVERYTHING
    ),
    "forget, repack, gc": Scene(
        scene(_PLAIN, collectors=1, forget=True, repack=True, needed=(P,)), EVERYTHING
    ),
    "forget, repack, gc, two packs": Scene(
        scene(_PLAIN, collectors=1, forget=True, repack=True, packs=(P, Q), needed=(P, Q)),
        EVERYTHING,
    ),
    "forget, undo, gc": Scene(
        scene(_PLAIN, collectors=1, forget=True, undo=True, needed=(P,)), EVERYTHING
    ),
    "forget, undo, gc, an old tomb": Scene(
        scene(_PLAIN, collectors=1, forget=True, undo=True, needed=(P,), tombs=_OLD_TOMB),
        EVERYTHING,
    ),
    "repack, two gc, no heals": Scene(
        scene(_NO_HEALS, collectors=2, repack=True, needed=(P,)), SAFETY
    ),
    "repack, two gc": Scene(
        scene(_PLAIN, collectors=2, repack=True, needed=(P,)), SAFETY, quick=False
    ),
    "push, two gc, no heals": Scene(scene(_NO_HEALS, pushes=("a",), collectors=2), SAFETY),
    "forget, two gc, an index object in common": Scene(
        scene(_PLAIN, collectors=2, forget=True, packs=(P, Q), needed=(Q,)), SAFETY
    ),
    "push, two gc, an index object in common, two tombs": Scene(
        scene(_NO_HEALS, pushes=("b",), collectors=2, runs=1, packs=(P, Q), tombs=_TWO_TOMBS),
        SAFETY,
    ),
    "push, forget, two gc once, a tomb, no heals": Scene(
        scene(
            _NO_HEALS,
            pushes=("a",),
            collectors=2,
            runs=1,
            forget=True,
            needed=(P,),
            tombs=(("P", 1),),
        ),
        SAFETY,
    ),
    "push, forget, repack, gc once, no heals": Scene(
        scene(
            _NO_HEALS,
            pushes=("a",),
            collectors=1,
            runs=1,
            forget=True,
            repack=True,
            needed=(P,),
        ),
        EVERYTHING,
        quick=False,
    ),
    "two pushes": Scene(scene(_PLAIN, pushes=("a", "a")), EVERYTHING),
    "two pushes, gc once, no heals": Scene(
        scene(_NO_HEALS, pushes=("a", "a"), collectors=1, runs=1), EVERYTHING
    ),
    "two pushes, gc, no heals, an empty remote": Scene(
        scene(_NO_HEALS, pushes=("a", "a"), collectors=1, packs=()), EVERYTHING
    ),
    "two pushes, gc once, no heals, a tomb": Scene(
        scene(_NO_HEALS, pushes=("a", "a"), collectors=1, runs=1, tombs=(("P", 1),)),
        EVERYTHING,
        quick=False,
    ),
    "two pushes, gc, no heals": Scene(
        scene(_NO_HEALS, pushes=("a", "a"), collectors=1), EVERYTHING, quick=False
    ),
    "two pushes, gc": Scene(
        scene(_PLAIN, pushes=("a", "a"), collectors=1), EVERYTHING, quick=False
    ),
    "push, two gc": Scene(scene(_PLAIN, pushes=("a",), collectors=2), SAFETY, quick=False),
    "push, forget, two gc, no heals": Scene(
        scene(_NO_HEALS, pushes=("a",), collectors=2, forget=True, needed=(P,)),
        SAFETY,
        quick=False,
    ),
    "push, forget, repack, gc, no heals": Scene(
        scene(_NO_HEALS, pushes=("a",), collectors=1, forget=True, repack=True, needed=(P,)),
        EVERYTHING,
        quick=False,
    ),
    "push, two gc that take turns, no heals": Scene(
        scene(Rules(heals=0, turns=True), pushes=("a",), collectors=2), EVERYTHING, quick=False
    ),
    "all of them": Scene(full(_NO_HEALS), SAFETY, quick=False),
}
