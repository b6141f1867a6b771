"""What a process gives back of its memory, in processes of their own: the heap is one for all."""

import json
import subprocess
import sys
from pathlib import Path

from store.resident_memory import read_resident

_FILL_TABLES = """
import sys
from pathlib import Path
from store.tables import Tables

tables = Tables(Path(sys.argv[1]), ["rows"])
tables.put_many("rows", [(b"%08d" % n, bytes(4000)) for n in range(20_000)])
"""

_READ_TABLES = """
import json, sys
from pathlib import Path
from store.resident_memory import ResidentMemory, read_resident
from store.tables import Tables

tables = Tables(Path(sys.argv[1]), ["rows"])
keys = [b"%08d" % n for n in range(20_000)]
found = [read_resident()["File"]]
assert all(len(tables.get("rows", key)) == 4000 for key in keys)
found.append(read_resident()["File"])
ResidentMemory().give_back()
found.append(read_resident()["File"])
assert all(len(tables.get("rows", key)) == 4000 for key in keys)
print(json.dumps(found))
"""

_FREE_A_HEAP = """
import json
from store.resident_memory import ResidentMemory, read_resident

memory = ResidentMemory()
# Small ones between large ones, so that free() alone cannot give back what lies below the last.
kept = [(bytearray(100_000), bytearray(100)) for _ in range(1000)]
found = [read_resident()["Anon"]]
kept = [small for _, small in kept]
memory.give_back()
found.append(read_resident()["Anon"])
print(json.dumps(found))
"""


def run_python(script: str, *words: object) -> list[int]:
    command = [sys.executable, "-c", script, *(str(word) for word in words)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return list(json.loads(said)) if said else []


def test_pages_of_tables_that_were_read_are_given_back_and_can_be_read_again(
    tmp_path: Path,
) -> None:
    run_python(_FILL_TABLES, tmp_path)
    before, read, after = run_python(_READ_TABLES, tmp_path)
    assert read > before + (60 << 20)
    assert after < before + (10 << 20)


def test_a_heap_that_is_mostly_free_is_given_back() -> None:
    full, after = run_python(_FREE_A_HEAP)
    assert after < full - (80 << 20)


def test_the_resident_bytes_are_those_of_this_process() -> None:
    before = read_resident()["Anon"]
    kept = bytearray(b"x") * (50 << 20)
    assert read_resident()["Anon"] > before + (len(kept) * 9) // 10
