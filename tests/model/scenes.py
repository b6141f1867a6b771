"""The scenes that the model is played in.

In the beginning there is pack P of chunk a, or with it Q of chunk b in the same index object, old
enough for a collector; and commit zero that needs them, or nobody needs them any more.
"""

from tests.model.bucket import Bucket, Manifest, Pack, Rules
from tests.model.explore import Actor, Model
from tests.model.removers import Collector, Forget
from tests.model.writers import Writer

P = Pack("P", "a")
Q = Pack("Q", "b")
# As Q, in an index object of its own.
R = Pack("R", "b")


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
    places = frozenset((pack.chunks, pack.name) for pack in needed)
    zero = Manifest("zero", "first", places)
    others = {frozenset({pack}) for pack in packs[2:]}
    bucket = Bucket(
        packs=frozenset((pack, rules.pack_age) for pack in packs),
        tombs=frozenset(tombs),
        indexes=frozenset({frozenset(packs[:2])} | others),
        manifests=frozenset({zero} if needed else ()),
        trash=frozenset(),
        leases=frozenset(),
        promised=frozenset({zero.commit} if needed else ()),
    )
    actors: list[Actor] = [
        Writer(f"push{number}", rules, f"commit{number}", chunks)
        for number, chunks in enumerate(pushes, 1)
    ]
    # Those that take turns are told apart by their leases.
    names = ["gc1", "gc2"] if rules.turns else ["gc", "gc"]
    actors += [Collector(name, rules, runs, trash=undo) for name in names[:collectors]]
    if forget:
        actors.append(Forget("forget", rules, zero.commit, trash=undo))
    if repack:
        rewritten = frozenset({packs[0].name})
        actors.append(
            Writer("repack", rules, zero.commit, source="manifests", rewritten=rewritten)
        )
    if undo:
        actors.append(Writer("undo", rules, zero.commit, source="trash"))
    return Model(rules, bucket, tuple(actors))


def _by_contents(packs: tuple[Pack, ...]) -> tuple[Pack, ...]:
    return tuple(Pack(f"#{pack.chunks}", pack.chunks) for pack in packs)
