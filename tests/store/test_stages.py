"""Stages: the order they run in, what makes no sense, and why one has to run again."""

import itertools

import pytest

from store.errors import PathRefused, StoreError
from store.ids import GitId
from store.stages import Stage, StageRecord, changes_of, check_stage, order_of

ONE, OTHER = GitId("1" * 40), GitId("2" * 40)


def stage(
    name: str,
    reads: str = "",
    writes: str = "",
    *,
    at: GitId | None = None,
    command: tuple[str, ...] = ("make",),
    plain: str = "",
) -> Stage:
    """A stage whose paths are words of a text."""
    dependencies, outputs, plain_outputs = (
        tuple(word.encode() for word in text.split()) for text in (reads, writes, plain)
    )
    return Stage(name, command, at, dependencies, outputs, plain_outputs)


def names(*stages: Stage) -> list[str]:
    return [found.name for found in order_of(stages)]


@pytest.mark.parametrize(
    ("output", "dependency"),
    [("data", "data"), ("data/part", "data"), ("data", "data/part/deep")],
)
def test_a_stage_comes_after_the_one_whose_output_it_reads(output: str, dependency: str) -> None:
    stages = [
        stage("z-first", "raw", output),
        stage("m-second", dependency, "model"),
        stage("a-third", "model", "report"),
    ]
    for order in itertools.permutations(stages):
        assert names(*order) == ["z-first", "m-second", "a-third"]


def test_stages_that_have_nothing_to_do_with_each_other_come_by_name() -> None:
    assert names(stage("b", "data", "x"), stage("a", "data-2", "y")) == ["a", "b"]
    # "data" is no folder above "data-2".
    assert names(stage("b", "raw", "data"), stage("a", "data-2", "y")) == ["a", "b"]


def test_a_ring_is_one_clear_error() -> None:
    ring = [stage("a", "z", "x"), stage("b", "x/1", "y"), stage("c", "y", "z")]
    with pytest.raises(StoreError, match=r"in a ring: \w -> \w -> \w -> \w$"):
        order_of(ring)
    with pytest.raises(StoreError, match="the stage a depends on its own output"):
        order_of([stage("a", "x", "x/y")])


def test_what_comes_from_a_revision_makes_no_order_and_no_ring() -> None:
    assert names(stage("b", "raw", "data"), stage("a", "data", "data-2", at=ONE)) == ["a", "b"]
    assert names(stage("a", "data", "data", at=ONE)) == ["a"]


def test_outputs_that_overlap_are_one_clear_error() -> None:
    stages = [stage("a", "", "data"), stage("b", "", "x data-2"), stage("c", plain="data/part/1")]
    with pytest.raises(StoreError, match="data/part/1 would be written by the stages a and c"):
        order_of(stages)
    with pytest.raises(StoreError, match="by the stage a twice"):
        check_stage(stage("a", "", "x x/y"))
    check_stage(stage("a", "", "x x-y"))


@pytest.mark.parametrize(
    "wrong",
    [
        stage("with space"),
        stage("-dash"),
        stage("line\nbreak"),
        stage(""),
        stage("a", command=()),
        stage("a", command=("", "word")),
    ],
)
def test_a_stage_needs_a_name_and_a_command(wrong: Stage) -> None:
    with pytest.raises(StoreError):
        check_stage(wrong)


def test_the_record_itself_is_neither_read_nor_written() -> None:
    whole = Stage("a", ("make",), None, (b"",), (), ())
    for wrong in (
        whole,
        stage("a", "revfs.lock"),
        stage("a", "", "revfs.lock"),
        Stage("a", ("make",), None, (), (b"",), ()),
    ):
        with pytest.raises(PathRefused, match=r"cannot be an? (dependency|output)"):
            check_stage(wrong)
    # Of a revision, all may be read.
    check_stage(Stage("a", ("make",), ONE, (b"",), (), ()))


def record_of(recorded: Stage) -> StageRecord:
    return StageRecord(
        recorded,
        dict.fromkeys(recorded.dependencies, ONE),
        dict.fromkeys(recorded.all_outputs, ONE),
    )


def test_a_stage_is_up_to_date_only_where_nothing_changed() -> None:
    before = stage("a", "d1 d2", "o1", plain="p1")
    present: dict[bytes, GitId | None] = dict.fromkeys((b"d1", b"d2", b"o1", b"p1"), ONE)

    def words(now: Stage = before, **others: GitId | None) -> list[str]:
        ids = present | {path.encode(): found for path, found in others.items()}
        return [str(change) for change in changes_of(now, record_of(before), ids, ids)]

    assert words() == []
    assert words(d2=OTHER) == ["dependency d2 changed"]
    assert words(d1=None, o1=OTHER) == ["dependency d1 is missing", "output o1 changed"]
    assert words(p1=None) == ["output p1 is missing"]
    assert words(stage("a", "d1 d2", "o1", plain="p1", at=OTHER)) == ["revision changed"]
    assert words(stage("a", "d1 d2", "o1", plain="p1", command=("x",))) == ["command changed"]
    assert words(stage("a", "d1 n", "o1", plain="p1"), n=ONE) == [
        "dependency d2 dropped",
        "dependency n is new",
    ]
    assert words(stage("a", "d1 d2", "o1 p1")) == ["output p1 changed"]
    assert [str(change) for change in changes_of(before, None, {}, {})] == ["it was never run"]
