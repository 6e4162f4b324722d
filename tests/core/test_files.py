"""Files: tables as csv and pandas write them, records from JSON, sizes and times for people."""

import csv
import io
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pandas as pd
import pytest

from arabic_dialog.core.files import (
    from_dict,
    load_csv,
    load_jsonl,
    render_table,
    save_table,
    save_text,
    to_json,
)
from arabic_dialog.core.hardware import show_bytes, show_duration
from arabic_dialog.core.records import Rating, Turn, UserError

AWKWARD = ["خبز، شاي", 'say "x"', "a,b", "two\nlines", " spaces ", "", "=1+1", "#"]


def written(columns, rows, line_end="\n"):
    "What csv.DictWriter makes of rows, as the writers of ratings did"
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_rows_mappings_and_records_give_the_bytes_that_csv_gives(line_end):
    columns = [f.name for f in fields(Rating)]
    ratings = [Rating(t, f"r{i}", "fluency", i or None) for i, t in enumerate(AWKWARD)]
    wanted = written(columns, map(asdict, ratings), line_end)
    mappings = [asdict(r) | {"more": "not written"} for r in ratings]
    sequences = [tuple(asdict(r).values()) for r in ratings]
    for rows in (ratings, mappings, sequences, iter(sequences)):
        assert render_table(rows, columns, line_end=line_end) == wanted


@pytest.mark.parametrize("digits", [None, 4, 6])
def test_a_data_frame_gives_the_bytes_that_pandas_gives_and_rows_the_same(digits):
    nan = float("nan")
    numbers = [1 / 3, 1e-9, 123456.789, 2.0, nan, -0.5, 1e20, float("inf")]
    table = pd.DataFrame({"نص": AWKWARD, "n": range(len(AWKWARD)), "x": numbers})
    form = f"%.{digits}g" if digits else None
    wanted = table.to_csv(index=False, float_format=form, lineterminator="\n")
    assert render_table(table, digits=digits) == wanted
    assert render_table(table.itertuples(index=False), list(table), digits) == wanted
    assert render_table(table[["x", "n", "نص"]], ["نص", "n", "x"], digits) == wanted


def test_a_column_that_a_row_lacks_is_an_error():
    with pytest.raises(KeyError, match="rater"):
        render_table([{"item_id": "i"}], ["item_id", "rater"])


def test_a_table_comes_back(tmp_path):
    texts = [t for t in AWKWARD if t != "#"]  # a line that begins with it is a comment
    path = save_table(tmp_path / "deep" / "t.csv", [(t,) for t in texts], ["text"])
    assert [r["text"] for r in load_csv(path, ["text"])] == texts
    assert path.read_bytes().count(b"\r") == 0


@dataclass(frozen=True)
class Everything:
    "A record with a field of every kind that records have"

    turns: tuple[Turn, ...]
    mood: Literal["calm", "merry"]
    share: float
    n: int | None
    sure: bool
    more: dict
    names: list[str]
    any: Any


GOOD = {
    "turns": [{"speaker": "user", "text": "مرحبا"}],
    "mood": "calm",
    "share": 1,
    "n": None,
    "sure": True,
    "more": {"a": 1},
    "names": ["x"],
    "any": [None],
}


def test_a_record_of_every_kind_of_field():
    record = from_dict(Everything, GOOD)
    assert record.turns == (Turn("user", "مرحبا"),)
    assert isinstance(record.share, float) and record.n is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"turns": "x"}, "Everything.turns is 'x', and should be of type tuple"),
        ({"turns": [3]}, r"Everything.turns\[0\] is 3, and should be an object"),
        ({"turns": [{"speaker": "bot", "text": ""}]}, "speaker 'bot' is not one of"),
        ({"mood": "sad"}, "Everything.mood is 'sad', and should be one of calm, merry"),
        ({"mood": ["calm"]}, "should be one of calm, merry"),
        ({"share": "1"}, "Everything.share is '1', and should be of type float"),
        ({"share": True}, "should be of type float"),
        ({"n": True}, "Everything.n is True, and should be of type int"),
        ({"n": 1.5}, "should be of type int"),
        ({"sure": 1}, "should be of type bool"),
        ({"names": {}}, "should be of type list"),
        ({"other": 1}, "Everything has no field 'other'"),
    ],
)
def test_what_a_record_cannot_hold_is_named(change, message):
    with pytest.raises(UserError, match=message):
        from_dict(Everything, GOOD | change)


def test_a_missing_field_is_named():
    with pytest.raises(UserError, match="missing 1 required positional argument: 'mood'"):
        from_dict(Everything, {k: v for k, v in GOOD.items() if k != "mood"})


def test_a_damaged_line_is_named(tmp_path):
    path = save_text(tmp_path / "t.jsonl", to_json(Turn("user", "مرحبا")) + "\n\n{oops}\n")
    with pytest.raises(UserError, match="t.jsonl, line 3: not JSON"):
        load_jsonl(path, Turn)


def test_sizes_for_people():
    sizes = [None, 0, 1.5e6, 9.94e8, 1e9, 9.94e9, 1e10, 1.5e12]
    short = ["unknown", "0 MB", "2 MB", "994 MB", "1.0 GB", "9.9 GB", "10 GB", "1,500 GB"]
    assert [show_bytes(n) for n in sizes] == short
    assert [show_bytes(n, 2) for n in (12, 1.5e6, 9.946e9)] == ["0.01 kB", "1.50 MB", "9.95 GB"]


def test_times_for_people():
    times = [0.5, 1, 119, 120, 7199, 7200, 360_000]
    short = ["under 1 s", "1 s", "119 s", "2 min", "120 min", "2.0 h", "100.0 h"]
    assert [show_duration(s) for s in times] == short
    spelt = [show_duration(s, spelt=True) for s in (60, 3599, 3600, 48 * 3600)]
    assert spelt == ["1 minutes", "60 minutes", "1.0 hours", "2 days"]


def test_cells_with_more_semicolons_than_commas_are_no_other_delimiter(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("# ours\ncode,names,cities\nDZ,a;b;c;d,e;f;g\n", encoding="utf-8")
    assert load_csv(path) == [{"code": "DZ", "names": "a;b;c;d", "cities": "e;f;g"}]
