"""A file of the state is damaged: the run says which and what to do, deletes nothing that it should not, and then goes on."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from pairs import Pair

from heavysync.errors import FatalError
from heavysync.objects import Metadata
from heavysync.options import MaxDelete

OBJECTS = 150
PAGE = 4096
OPTIONS = {"first_rows": 60, "range_rows": 60, "max_delete": MaxDelete.parse("100%")}
HURTS = ["flipped", "cut", "zeroed page", "garbage page", "garbage header", "swapped pages", "empty", "garbage"]


def hurt(path: Path, how: str, chance: random.Random) -> None:
    """Damage a file in one way."""
    data = bytearray(path.read_bytes())
    page = PAGE * chance.randrange(1, len(data) // PAGE)
    other = PAGE * chance.randrange(1, len(data) // PAGE)
    match how:
        case "flipped":
            for _ in range(chance.choice((1, 30))):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case "cut":
            del data[chance.randrange(1, len(data)) :]
        case "zeroed page":
            data[page : page + PAGE] = bytes(PAGE)
        case "garbage page":
            data[page : page + PAGE] = chance.randbytes(PAGE)
        case "garbage header":
            data[:100] = chance.randbytes(100)
        case "swapped pages":
            data[page : page + PAGE], data[other : other + PAGE] = data[other : other + PAGE], data[page : page + PAGE]
        case "empty":
            data.clear()
        case _:
            data = bytearray(chance.randbytes(len(data)))
    path.write_bytes(data)


def interrupted(directory: Path) -> Pair:
    """A pair whose run has copied, and ended before it deleted; one more object came to the source since then."""
    pair = Pair(directory / "s", page_max=20)
    pair.fill(OBJECTS)
    for number in range(20):
        pair.put(f"pieces/{number:03d}", b"ab", parts=[b"a", b"b"])
    pair.run(**OPTIONS)
    for number in range(0, OBJECTS, 3):
        pair.source.bucket.delete(f"dir{number % 7}/key-{number:06d}")
    pair.put("new", b"n")
    for number in range(30):
        pair.destination.bucket.put(f"old/{number:03d}", b"old", Metadata())

    def broken(operation: str, key: str) -> None:
        if operation == "delete":
            raise FatalError("access denied")

    pair.destination.fault = broken
    with pytest.raises(FatalError, match="access denied"):
        pair.run(**OPTIONS)
    pair.destination.fault = None
    watch_deletes(pair)
    return pair


def needed(directory: Path, file: str) -> list[Path]:
    """Files that the run goes on with: a range that had nothing to delete may be finished, and its file is not opened then."""
    if file == "job.db":
        return [directory / file]
    with closing(sqlite3.connect(directory / "job.db")) as db:
        rows = db.execute("SELECT range FROM range WHERE phase = 'copied' ORDER BY range").fetchall()
    return [directory / "ranges" / f"{number:06d}.db" for (number,) in rows]


def watch_deletes(pair: Pair) -> None:
    """Nothing is deleted that the source has."""
    delete, source = pair.destination.delete, pair.source.bucket

    async def checked(batch):
        assert not [one.key for one in batch if source.live(one.key) is not None]
        return await delete(batch)

    pair.destination.delete = checked


@pytest.mark.parametrize("file", ["job.db", "ranges/*.db"])
@pytest.mark.parametrize("how", HURTS)
def test_damage_is_named_and_mended_by_moving_the_file_away(how, file, tmp_path):
    """The message says what it costs to do without the file; without it the run goes on, and both sides end equal."""
    for seed in range(3 if how in {"flipped", "cut"} else 1):
        chance = random.Random(f"{how}{seed}")
        pair = interrupted(tmp_path / str(seed))
        path = chance.choice(needed(pair.directory, file))
        hurt(path, how, chance)

        told = ""
        try:
            pair.run(**OPTIONS)
        except FatalError as error:
            told = str(error)
        if told:
            advice = "both sides are listed anew" if file == "job.db" else "are listed anew"
            assert re.search(rf"state file {path}: .*move it away and start again: .*{advice}", told)
            path.rename(tmp_path / f"away-{seed}")
            report = pair.run(**OPTIONS)
            assert report.status == "done"
            assert report.resumed == (file != "job.db")
            pair.assert_equal()
        else:
            assert how in {"flipped", "empty"}, "damage of this kind has to be noticed"
        assert pair.run(**OPTIONS).status == "done"
        pair.assert_equal()


@pytest.mark.parametrize("file", ["job.db", "ranges/*.db"])
def test_check_tells_how_to_do_without_a_damaged_file(file, tmp_path):
    """The words are for `heavy-check`, too, which has another --restart; without the file it checks."""
    pair = interrupted(tmp_path)
    path = min(pair.directory.glob(file))
    hurt(path, "garbage", random.Random(1))

    with pytest.raises(FatalError, match="move it away and start again") as caught:
        pair.checked("100%")
    path.unlink()

    assert "--restart" not in str(caught.value)
    assert pair.checked("100%").tallies["ok"].objects > 0


def test_log_of_a_file_that_was_moved_away_is_not_taken_over(tmp_path):
    """Only the damaged file itself is moved away: what its write-ahead log holds must not come back into the new one."""
    pair = interrupted(tmp_path)
    path = min(pair.directory.glob("ranges/*.db"))
    sound = path.read_bytes()
    log = path.with_name(f"{path.name}-wal")
    log.write_bytes(b"\x37\x7f\x06\x82" + bytes(28) + sound)
    path.unlink()

    report = pair.run(**OPTIONS)

    assert (report.status, report.resumed) == ("done", True)
    pair.assert_equal()


def test_damage_is_noticed_by_later_passes(tmp_path):
    """A file that loses rows between copying and deleting is not believed: a check of the whole file comes first."""
    pair = interrupted(tmp_path)
    path = max(pair.directory.glob("ranges/*.db"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    for start in range(PAGE, len(data), PAGE):
        if data[start] == 10 and data[start + 3 : start + 5] > b"\x00\x04":  # a leaf that has rows
            data[start + 3 : start + 5] = b"\x00\x02"
    path.write_bytes(data)

    with pytest.raises(FatalError, match="damaged"):
        pair.run(**OPTIONS)
    path.unlink()

    assert pair.run(**OPTIONS).status == "done"
    pair.assert_equal()
