"""Inode numbers: both ways, stable, and the same for whoever lists in the same order."""

import hashlib
import os
import random
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from vfs.inodes import (
    ROOT_DIRECTORY,
    ROOT_INODE,
    DirectoryNumbers,
    EntryNumber,
    handle_of,
    inode_of,
    split_inode,
)

TREE = bytes(range(20))
directory_numbers = st.integers(0, 2**32 - 1)
entry_numbers = st.integers(0, 2**32 - 2)
# For each directory in order of listing: the entry numbers of its folders.
shapes = st.lists(st.sets(st.integers(0, 1000), max_size=5), max_size=30)


@given(directory_numbers, entry_numbers)
def test_an_inode_number_is_its_entry_both_ways(directory: int, entry: int) -> None:
    inode = inode_of(directory, entry)
    assert split_inode(inode) == EntryNumber(directory, entry)
    assert 0 < inode < 2**64


@given(st.tuples(directory_numbers, entry_numbers), st.tuples(directory_numbers, entry_numbers))
def test_two_entries_never_share_a_number(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (inode_of(*one) == inode_of(*other)) == (one == other)


def test_the_root_has_the_number_that_the_kernel_demands() -> None:
    assert inode_of(0, 0) == ROOT_INODE == 1
    numbers = DirectoryNumbers(TREE)
    place = numbers.place(ROOT_DIRECTORY)
    assert place is not None
    assert (place.tree, inode_of(*place.parent), place.depth) == (TREE, ROOT_INODE, 1)


def listed(shape: list[set[int]]) -> DirectoryNumbers:
    """The numbers after directory 1, 2, … were listed, as far as there are so many."""
    numbers = DirectoryNumbers(TREE)
    for number, entries in enumerate(shape, ROOT_DIRECTORY):
        if number < len(numbers):
            numbers.block(number, [(entry, tree_of(number, entry)) for entry in sorted(entries)])
    return numbers


def tree_of(number: int, entry: int) -> bytes:
    return number.to_bytes(10) + entry.to_bytes(10)


@given(shapes)
def test_every_folder_has_a_number_of_its_own_that_leads_back_to_it(shape: list[set[int]]) -> None:
    numbers = listed(shape)
    seen = {ROOT_DIRECTORY}
    for number, entries in enumerate(shape, ROOT_DIRECTORY):
        if number >= len(numbers):
            break
        above = numbers.place(number)
        first = numbers.block(number, ())
        for rank, entry in enumerate(sorted(entries)):
            place = numbers.place(first + rank)
            assert above is not None
            assert place is not None
            parent = EntryNumber(number, entry)
            assert place == (tree_of(number, entry), parent, above.depth + 1, ROOT_DIRECTORY)
            seen.add(first + rank)
    assert seen == set(range(ROOT_DIRECTORY, len(numbers)))


@given(shapes, st.randoms(use_true_random=False))
def test_listing_again_in_any_order_changes_no_number(
    shape: list[set[int]], order: random.Random
) -> None:
    numbers = listed(shape)
    blocks = [numbers.block(number, ()) for number in range(1, len(numbers))]
    places = [numbers.place(number) for number in range(len(numbers))]
    again = list(enumerate(shape, ROOT_DIRECTORY))
    order.shuffle(again)
    for number, entries in again:
        if number < len(places):
            numbers.block(number, [(entry, tree_of(number, entry)) for entry in sorted(entries)])
    assert [numbers.place(number) for number in range(len(numbers))] == places
    assert [numbers.block(number, ()) for number in range(1, len(numbers))] == blocks


@given(shapes)
def test_two_who_list_in_the_same_order_agree(shape: list[set[int]]) -> None:
    one, other = listed(shape), listed(shape)
    assert [one.place(n) for n in range(len(one))] == [other.place(n) for n in range(len(other))]


def test_numbers_that_were_never_given_out_stand_for_nothing() -> None:
    numbers = listed([{3, 5}])
    assert numbers.place(3) is not None
    assert [numbers.place(number) for number in (-1, 0, 4, 2**32)] == [None] * 4
    assert numbers.has_block(1)
    assert not numbers.has_block(2)


@given(st.lists(st.tuples(shapes, st.booleans()), max_size=4))
def test_every_root_has_directories_of_its_own_however_many_there_are(
    roots: list[tuple[list[set[int]], bool]],
) -> None:
    numbers = DirectoryNumbers(TREE)
    expected = {ROOT_DIRECTORY: (TREE, EntryNumber(0, 0), 1, ROOT_DIRECTORY)}
    for position, (shape, again) in enumerate(roots):
        parent = EntryNumber(ROOT_DIRECTORY, position)
        root = numbers.add_root(TREE, parent)
        expected[root] = (TREE, parent, 1, root)
        queue = [(root, 1)]
        for entries in shape:
            if not queue:
                break
            number, depth = queue.pop(0)
            folders = [(entry, tree_of(number, entry)) for entry in sorted(entries)]
            first = numbers.block(number, folders)
            assert not again or numbers.block(number, folders) == first
            for rank, (entry, tree) in enumerate(folders):
                place = (tree, EntryNumber(number, entry), depth + 1, root)
                assert first + rank not in expected
                expected[first + rank] = place
                queue.append((first + rank, depth + 1))
    assert {number: numbers.place(number) for number in range(1, len(numbers))} == expected
    assert all(numbers.root_of(number) == place[3] for number, place in expected.items())
    assert numbers.root_of(0) == numbers.root_of(len(numbers)) == numbers.root_of(-1) == 0


@given(directory_numbers, directory_numbers, entry_numbers)
def test_a_handle_means_a_directory_and_is_no_inode(one: int, other: int, entry: int) -> None:
    assert split_inode(handle_of(one)) == EntryNumber(one, -1)
    assert handle_of(one) != inode_of(other, entry)


def in_children(count: int, work: Callable[[int], str]) -> list[str]:
    """What `work` gives in each of so many forked processes, which begin together."""
    readers = []
    begin_reader, begin_writer = os.pipe()
    for number in range(count):
        reader, writer = os.pipe()
        if os.fork() == 0:
            try:
                os.close(begin_writer)
                os.read(begin_reader, 1)
                os.write(writer, work(number).encode())
            finally:
                os._exit(0)
        os.close(writer)
        readers.append(reader)
    os.close(begin_reader)
    os.close(begin_writer)
    said = []
    for reader in readers:
        with os.fdopen(reader) as pipe:
            said.append(pipe.read())
    for _ in range(count):
        os.wait()
    return said


def test_processes_that_share_numbers_give_the_same_to_the_same() -> None:
    numbers = DirectoryNumbers(TREE)

    def work(which: int) -> str:
        # Each lists all, in an order of its own: the root and what is in it, 60,000 folders in all.
        first = numbers.block(ROOT_DIRECTORY, [(n, tree_of(1, n)) for n in range(300)])
        order = list(range(first, first + 300))
        random.Random(which).shuffle(order)
        for number in order:
            numbers.block(number, [(n, tree_of(number, n)) for n in range(200)])
        found = [(n, numbers.block(n, ()), numbers.place(numbers.block(n, ()) + 7)) for n in order]
        return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()

    said = in_children(4, work)
    assert len(set(said)) == 1
    assert len(said[0]) == 64
    # The process that made it, which has not listed anything, sees it all.
    assert len(numbers) == 2 + 300 + 300 * 200
    for number in range(ROOT_DIRECTORY + 1, 302):
        place = numbers.place(numbers.block(number, ()) + 7)
        assert place is not None
        assert (place.tree, place.parent) == (tree_of(number, 7), EntryNumber(number, 7))
        assert numbers.folder_at(EntryNumber(number, 7)) == numbers.block(number, ()) + 7


@given(shapes)
def test_a_folder_is_found_by_its_entry(shape: list[set[int]]) -> None:
    numbers = listed(shape)
    for number, entries in enumerate(shape, ROOT_DIRECTORY):
        if number >= len(numbers) or not numbers.has_block(number):
            continue
        for rank, entry in enumerate(sorted(entries)):
            found = numbers.folder_at(EntryNumber(number, entry))
            assert found == numbers.block(number, ()) + rank
        for entry in (-1, 1001, *({n + 1 for n in entries} - entries)):
            assert numbers.folder_at(EntryNumber(number, entry)) is None
