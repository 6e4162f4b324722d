"Files as others write them: encodings, compressions, line ends; and what is no table at all"

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arabic_dialog.core.records import UserError
from arabic_dialog.core.tables import encoding_of, iter_table, open_text, table_name

ROWS = [{"سؤال": "ما أشهر الخبز؟\u2028\u2029\x85 نعم", "n": 1}, {"سؤال": "لا\r\nنعم", "n": 2}]
TEXT = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS)


def rows(path):
    return [row for _, row in iter_table(path)]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-16-be-mark"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_unicode_is_read_whatever_ends_its_lines(tmp_path, encoding, end):
    path, text = tmp_path / "rows.jsonl", TEXT.replace("\n", end)
    if encoding == "utf-16-be-mark":
        path.write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    else:
        path.write_bytes(text.encode(encoding))
    assert rows(path) == ROWS


COMPRESSED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "two gz": lambda data: gzip.compress(data[:40]) + gzip.compress(data[40:]),
}


@pytest.mark.parametrize("how", COMPRESSED)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows"])
def test_a_compressed_file_is_known_by_its_bytes(tmp_path, how, name):
    data = COMPRESSED[how](TEXT.encode("utf-8-sig"))
    (tmp_path / name).write_bytes(data)
    assert rows(tmp_path / name) == ROWS
    for k in range(1, len(data) - 12, 7):
        (tmp_path / name).write_bytes(data[:k])
        with pytest.raises(UserError):
            rows(tmp_path / name)


@pytest.mark.parametrize(
    "encoding, name",
    [("cp1256", "WINDOWS-1256"), ("iso8859_6", "ISO-8859-6"), ("cp1252", "WINDOWS-1252")],
)
def test_an_old_encoding_is_refused_by_name_with_the_remedy(tmp_path, encoding, name):
    latin = encoding == "cp1252"
    text = "déjà vu, où ça ?" if latin else "كيف أطبخ الكشري؟ اسلق العدس والأرز ثم أضف الصلصة"
    path = tmp_path / "old.jsonl"
    lines = '{"a": "x"}\n' + json.dumps({"a": text}, ensure_ascii=False) + "\n"
    path.write_bytes(lines.encode(encoding))
    with pytest.raises(UserError, match=f"old.jsonl, line 2: .*{name}.*iconv -f {name} -t UTF-8"):
        rows(path)


def test_a_damaged_byte_in_utf8_is_not_taken_for_another_encoding(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT.encode().replace("نعم".encode(), "نعم".encode()[:-1], 1))
    with pytest.raises(UserError, match="rows.jsonl, line 1: byte .* the file is damaged there"):
        rows(path)


NO_TABLES = {
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "Git LFS"),
    "annex.jsonl": (b"/annex/objects/SHA256E-s10--4d.jsonl\n", "git-annex"),
    "page.jsonl": (b"<!DOCTYPE html>\n<html>", "a web page"),
    "rows.zip": (b"PK\x03\x04....", "a zip archive"),
    "rows.pkl": (b"\x80\x04\x95....", "a pickle"),
    "paper.pdf": (b"%PDF-1.7", "a PDF"),
    "empty.parquet": (b"", "is empty"),
    "empty.jsonl": (b"", "is empty"),
    "torn.parquet": (b"PAR1 ....", "torn or damaged"),
    "torn.arrow": (b"ARROW1\0\0....", "torn or damaged"),
    "text.parquet": (b'{"a": 1}\n', "is no Parquet file: it begins with"),
    "blank.jsonl": (b" \n\n \n", "has no row"),
    "deep.jsonl": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "nested too deep|not JSON"),
    "half.jsonl": (b'{"a": "\\ud83d"}\n', "row 1 holds '.*ud83d', half of a character"),
    "torn.jsonl": (b'{"a": 1}\n{"a": ', "row 2 is not JSON: .*; the file ends within"),
    "two.csv": (b"a,a\n1,2\n", "has the column 'a' twice"),
    "long.csv": (b"a,b\n1,2,3\n", "row 1 has 3 cells, and the heading 2"),
    "big.jsonl": (b'{"a": ' + b"9" * 5000 + b"}\n", "row 1|not JSON|Exceeds"),
    "rows.jsonl.gz": (gzip.compress(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    "gone.jsonl": (None, "there is no file"),
}


@pytest.mark.parametrize("name", NO_TABLES)
def test_what_is_no_table_is_named_in_one_line(tmp_path, name):
    data, what = NO_TABLES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=what) as e:
        rows(tmp_path / name)
    assert name in str(e.value) and "\n" not in str(e.value) and len(str(e.value)) < 400


def test_a_folder_and_an_unreadable_file_are_named(tmp_path):
    with pytest.raises(UserError, match="is a folder, and a file is needed"):
        rows(tmp_path)


VALUES = {
    "a list over lines": json.dumps([{"n": 1}, {"n": 2}], indent=2),
    "a list in a line": '[{"n": 1}, {"n": 2}]',
    "wrapped": '{"version": 2, "data": [{"n": 1}, {"n": 2}]}',
    "values over lines": json.dumps({"n": 1}, indent=1) + "\n" + json.dumps({"n": 2}, indent=1),
    "marks within": '{"n": 1}\n\ufeff{"n": 2}\n',
    "blank lines": '\n\n{"n": 1}\n\n\n{"n": 2}\n\n',
}


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_json_in_any_arrangement_gives_its_rows(tmp_path, what, name):
    (tmp_path / name).write_text(VALUES[what], encoding="utf-8")
    assert rows(tmp_path / name) == [{"n": 1}, {"n": 2}]


def test_a_list_of_messages_is_one_row_and_a_line_may_be_one(tmp_path):
    talk = [{"role": "user", "content": "س"}, {"role": "assistant", "content": "ج"}]
    (tmp_path / "one.json").write_text(json.dumps(talk, indent=1), encoding="utf-8")
    (tmp_path / "two.jsonl").write_text((json.dumps(talk) + "\n") * 2, encoding="utf-8")
    assert rows(tmp_path / "one.json") == [talk] and rows(tmp_path / "two.jsonl") == [talk] * 2


@pytest.mark.parametrize("separator", [",", ";", "\t", "sep=;"])
def test_a_csv_by_any_separator(tmp_path, separator):
    sign = separator[-1]
    first = "sep=;\n" if separator == "sep=;" else ""
    text = first + sign.join(["نص", "n"]) + "\n" + sign.join(['"سطر\nثان"', "1"]) + "\n"
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    assert rows(tmp_path / "t.csv") == [{"نص": "سطر\nثان", "n": "1"}]


def test_parquet_and_arrow_come_a_part_at_a_time_in_order(tmp_path):
    table = pa.Table.from_pylist([{"n": n, "t": str(n)} for n in range(1201)])
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as f, pa.ipc.new_file(f, table.schema) as out:
        out.write_table(table)
    for name in ("a.parquet", "a.arrow"):
        assert [(n, row["n"]) for n, row in iter_table(tmp_path / name)] == [
            (n + 1, n) for n in range(1201)
        ]


def test_the_faulty_rows_are_told_and_the_others_read(tmp_path):
    lines = ["قطع", '{"n": 1}', "{", '{"n": 2}', '{"n": "\\ud83d"}', '{"n": ']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    told = []
    read = [row for _, row in iter_table(tmp_path / "rows.jsonl", told.append)]
    assert read == [{"n": 1}, {"n": 2}]
    assert [str(e).split(" ")[2] for e in told] == ["1", "3", "5", "6"]


def test_names_and_encodings():
    names = ("train-00000-of-00002.jsonl.gz", "a.b.PARQUET", "README.md", "data.tsv.zst", ".jsonl")
    assert [table_name(n) for n in names] == [
        ("train-00000-of-00002", ".jsonl"),
        ("a.b", ".parquet"),
        ("README.md", ""),
        ("data", ".tsv"),
        (".jsonl", ""),
    ]
    assert encoding_of("ض".encode()) == "utf-8" and encoding_of(b"") == "utf-8"
    assert encoding_of('"ضاد"'.encode("utf-16-be")) == "utf-16-be"


def test_text_of_a_frame_or_settings_loses_its_mark(tmp_path):
    (tmp_path / "frame.jinja").write_bytes(b"\xef\xbb\xbf{{ x }}\r\n")
    with open_text(tmp_path / "frame.jinja") as f:
        assert f.read() == "{{ x }}\n"
