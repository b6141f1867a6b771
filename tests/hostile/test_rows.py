"""Each row of the table of hostile input, and the tests that hold it."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
REPOSITORIES = "hostile/test_hostile_repositories.py::"
BUCKETS = "hostile/test_hostile_buckets.py::"
SERVERS = "hostile/test_lying_servers.py::"
ON_A_MOUNT = f"{REPOSITORIES}test_on_a_mount_only_what_is_broken_fails"
COMMANDS = f"{REPOSITORIES}test_every_command_ends_in_one_clear_line"
BY_CAT = f"{BUCKETS}test_a_file_is_what_was_committed_or_an_error_in_one_line"
MOUNTED_LIES = f"{BUCKETS}test_a_mount_of_lies_gives_the_right_bytes_or_eio_in_bounded_memory"
FUZZED = "fuzz/test_fuzz_targets.py::test_any_bytes_are_taken_whole_or_refused"

ROWS: dict[str, tuple[str, ...]] = {
    "tree names `..` `.` `a/b` empty; `.git` in any disguise; duplicates; over 255 bytes": (
        ON_A_MOUNT,
        "store/test_directories.py::test_hostile_trees_of_real_git_are_read_the_same",
        FUZZED,
    ),
    "names that are not UTF-8, or hold control characters": (
        ON_A_MOUNT,
        COMMANDS,
        "store/test_shown_names.py::test_a_name_with_a_line_break_stays_on_its_line",
    ),
    "malformed tree, missing object, depth over 256": (
        ON_A_MOUNT,
        "store/test_directory_loader.py::test_a_malformed_tree_is_an_error_on_that_directory_alone",
        "vfs/test_tree.py::test_folders_nested_too_deeply_are_refused_and_those_above_served",
    ),
    "symlink of any target": (
        f"{REPOSITORIES}test_links_are_given_as_data_and_the_kernel_s_to_follow",
        ON_A_MOUNT,
        "store/test_export.py::"
        "test_a_link_put_in_place_of_a_folder_meanwhile_leads_nothing_outside",
    ),
    "pointer with odd spelling, huge or negative size, wrong chunk count": (
        ON_A_MOUNT,
        BY_CAT,
        "store/test_contents.py::test_a_list_that_fits_one_pointer_serves_no_other_that_names_it",
        FUZZED,
    ),
    "chunk list with gaps, overlaps, zero or huge lengths, 10⁹ entries": (
        BY_CAT,
        MOUNTED_LIES,
        FUZZED,
    ),
    "forged, swapped, truncated, over-long or trickled answer; 200 for a range; redirect": (
        f"{SERVERS}test_a_lie_is_eio_in_time_and_nothing_of_it_is_kept",
        f"{SERVERS}test_a_redirect_to_another_host_is_not_followed",
        f"{SERVERS}test_a_list_without_an_end_is_given_up_in_time",
        BY_CAT,
        FUZZED,
    ),
    "decompression bomb; zstd window over 8 MiB": (
        MOUNTED_LIES,
        "store/test_codec.py::test_a_frame_that_promises_anything_else_is_refused",
        FUZZED,
    ),
    "pack table or index object that lies": (
        BY_CAT,
        "store/test_packs.py::test_a_footer_that_lies_about_the_table_is_refused",
        "store/test_remote_index.py::test_counts_that_the_bytes_do_not_hold_are_refused",
        FUZZED,
    ),
    "committed config with anything beyond the allow-list": (
        ON_A_MOUNT,
        COMMANDS,
        FUZZED,
    ),
    "cache folder made by another user, a symlink, or writable by others": (
        "hostile/test_hostile_places.py::"
        "test_a_cache_folder_of_others_is_refused_in_one_clear_line",
    ),
    "mountpoint missing, not empty, already mounted, inside the cache or the git directory": (
        "mounted/test_mountpoints.py::"
        "test_a_folder_that_is_missing_or_none_or_not_empty_is_refused",
        "mounted/test_mountpoints.py::test_a_mountpoint_in_use_is_refused_and_goes_on",
        "mounted/test_mountpoints.py::"
        "test_folders_inside_the_cache_or_the_git_directory_are_refused",
    ),
    "descriptors, memory, disk or inodes used up": (
        "hostile/test_exhaustion.py::test_without_descriptors_reads_fail_and_the_mount_lives",
        "hostile/test_exhaustion.py::test_without_memory_reads_fail_and_the_mount_lives",
        "hostile/test_exhaustion.py::"
        "test_without_inodes_in_the_cache_files_are_read_from_the_remote",
        "store/test_tables.py::test_a_file_size_limit_is_a_full_disk_and_reads_go_on",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_its_tests(row: str) -> None:
    for named in ROWS[row]:
        module, _, function = named.partition("::")
        tree = ast.parse((TESTS / module).read_text())
        found = {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert function in found, named
