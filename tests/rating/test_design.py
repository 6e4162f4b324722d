"A study's sheets under hostile text, spreadsheets' habits, and damage"

import csv
import io
import json

import pytest

from arabic_dialog.core.files import load_jsonl
from arabic_dialog.core.records import Conversation, Rating, Scenario, Turn, UserError
from arabic_dialog.rating.simulate import RaterModel, simulate_ratings
from arabic_dialog.rating.design import (
    Candidate,
    RatedItem,
    draw_items,
    load_criteria,
    load_key,
    load_ratings,
    load_study,
    read_sheet,
    read_sheets,
    save_ratings,
    write_study,
)

HOSTILE = [
    '=cmd|"/c calc"!A0',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "＝1",
    " \n=1",
    '<script>alert("x")</script>',
    'a;b,"c"\nd',
    "\u202eعكس",
    "",
    "س" * 200_000,
]


@pytest.fixture
def study(tmp_path):
    turns = (Turn("user", "=1+1"), Turn("assistant", "الجواب"))
    conversations = [
        Conversation(f"talk-{n}", Scenario(f"talk-{n}", f"t{n % 3}", "EG", 0), turns, "m")
        for n in range(len(HOSTILE))
    ]
    replies = [
        Candidate(c.id, 1, m, s, t)
        for c, t in zip(conversations, HOSTILE, strict=True)
        for m in ("alpha", "beta")
        for s in (0, 1, 2)
    ]
    items, key = draw_items(replies, conversations, 2 * len(HOSTILE))
    write_study(tmp_path, items, key, load_criteria(), ["hala", "omar"])
    return tmp_path


def rows(path, delimiter=","):
    csv.field_size_limit(2**30)
    return list(
        csv.reader(
            io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), delimiter=delimiter
        )
    )


def refill(path, answer, delimiter=",", encoding="utf-8-sig"):
    head, *body = rows(path)
    for r in body:
        r[3:-1] = [answer] * len(r[3:-1])
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([head, *body])
    path.write_bytes(out.getvalue().encode(encoding, errors="replace"))


def test_no_cell_of_a_sheet_is_a_formula_and_all_text_arrives(study):
    replies = {i.item_id: i.reply for i in load_jsonl(study / "items.jsonl", RatedItem)}
    head, *body = rows(study / "sheets" / "sheet_hala.csv")
    assert {r[0] for r in body} == replies.keys()
    for r in body:
        assert all(
            c.lstrip()[:1] not in tuple("=+-@＝＋－＠") and c[:1] not in ("\t", "\r")
            for c in r
            if c
        )
        assert r[2] == "(رد فارغ)" if not replies[r[0]] else r[2].removeprefix("'") == replies[r[0]]


def test_raters_get_nothing_that_tells_the_model(study):
    seen = "".join(p.read_text(encoding="utf-8") for p in (study / "sheets").iterdir())
    assert not any(o.model in seen or o.conversation_id in seen for o in load_key(study))
    assert [r[0] for r in rows(study / "sheets" / "sheet_hala.csv")] != [
        r[0] for r in rows(study / "sheets" / "sheet_omar.csv")
    ]


@pytest.mark.parametrize(
    "answer, delimiter, value",
    [
        ("4", ",", 4),
        ("٤", ";", 4),
        ("4.0", "\t", 4),
        (" 5 ", ",", 5),
        ("", ",", None),
        ("۳", ",", 3),
        ("\u200f4", ";", 4),
        ("4,0", ";", 4),
        ("٤٫٠", ",", 4),
        ("４", "\t", 4),
        ("'4", ",", 4),
        ('="4"', ",", 4),
        ("\u202b4\u202c\u00a0", ",", 4),
        ("04", ",", 4),
        ("\u200f \u00a0", ",", None),
    ],
)
def test_spreadsheets_habits_are_read(study, answer, delimiter, value):
    for rater in ("hala", "omar"):
        refill(study / "sheets" / f"sheet_{rater}.csv", answer, delimiter)
    found = read_sheets(study)
    assert {r.value for r in found} == {value} and len(found) == 4 * len(HOSTILE) * len(
        load_criteria()
    )
    assert not save_ratings(study, found).simulated and load_ratings(study) == found


@pytest.mark.parametrize("answer", ["لا ينطبق", " N/A ", "na"])
def test_a_cell_may_say_that_the_question_does_not_apply(study, answer):
    for rater in ("hala", "omar"):
        path = study / "sheets" / f"sheet_{rater}.csv"
        head, *body = rows(path)
        place = head.index(next(c.arabic for c in load_criteria() if c.id == "cultural_accuracy"))
        for r in body:
            r[place] = answer
        out = io.StringIO()
        csv.writer(out).writerows([head, *body])
        path.write_bytes(out.getvalue().encode("utf-8-sig"))
    found = read_sheets(study)
    absent = [r for r in found if r.not_applicable]
    assert {r.criterion for r in absent} == {"cultural_accuracy"}
    assert len(absent) == 4 * len(HOSTILE) and {r.value for r in found} == {None}
    save_ratings(study, found)
    assert load_ratings(study) == found
    refill(path, answer)
    with pytest.raises(UserError, match="سلامة اللغة: .*this question always applies"):
        read_sheets(study)


@pytest.mark.parametrize(
    "answer",
    ["0", "6", "4.5", "nan", "inf", "good", "-1", "=2+2", "4e0", "0_4", "4/5", "٤٫٥", "44"],
)
def test_what_is_no_point_is_refused_with_its_place(study, answer):
    refill(study / "sheets" / "sheet_omar.csv", answer)
    with pytest.raises(
        UserError,
        match=r"sheet_omar\.csv, line \d+, سلامة اللغة: "
        ".* is not a point of the scale 1, 2, 3, 4, 5",
    ):
        read_sheets(study)


def heard(study, change, encoding="utf-8-sig", **form):
    "What hala's sheet gives, filled with 4, once `change` has been made to its rows"
    path, empty = study / "sheets" / "sheet_hala.csv", study / "empty.csv"
    if not empty.exists():
        empty.write_bytes(path.read_bytes())
    path.write_bytes(empty.read_bytes())
    refill(path, "4")
    table = change(rows(path)) or rows(path)
    out = io.StringIO()
    out.write(form.pop("first", ""))
    csv.writer(out, **form).writerows(table)
    path.write_bytes(out.getvalue().encode(encoding))
    ids = {i.item_id for i in load_jsonl(study / "items.jsonl", RatedItem)}
    return read_sheet(path, "hala", load_study(study), ids)


FORMS = {
    "sep": {"first": "sep=;\r\n", "delimiter": ";"},
    "sep in quotes": {"first": '"sep=\t"\n', "delimiter": "\t"},
    "Unicode text of Excel": {"encoding": "utf-16", "delimiter": "\t"},
    "UTF-16 without a mark": {"encoding": "utf-16-le", "delimiter": ";"},
    "old Macintosh": {"lineterminator": "\r", "quoting": csv.QUOTE_ALL},
    "everything quoted": {"quoting": csv.QUOTE_ALL, "delimiter": ";"},
}
CHANGES = {
    "nothing": lambda t: None,
    "marks and blanks in headings": lambda t: [["\u200f" + h + " " for h in t[0]], *t[1:]],
    "capitals in headings": lambda t: [[h.upper() for h in t[0]], *t[1:]],
    "columns in another order": lambda t: [row[::-1] for row in t],
    "lines in another order": lambda t: [t[0], *t[:0:-1]],
    "empty last lines and columns": lambda t: [
        *([*row, "", ""] for row in t),
        [],
        [""] * 9,
        [" "] * 5,
    ],
    "a stroke in a heading": lambda t: [[h.replace("س", "ســ") for h in t[0]], *t[1:]],
    "short last lines": lambda t: [row[:-1] for row in t],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("change", CHANGES)
def test_a_sheet_is_read_as_any_spreadsheet_writes_it(study, form, change):
    found = heard(study, CHANGES[change], **FORMS[form])
    assert {r.value for r in found} == {4}
    assert len(found) == 2 * len(HOSTILE) * len(load_criteria())


def blank(table, column, row=2):
    table[row][column] = ""
    return table


@pytest.mark.filterwarnings("error")
def test_lines_that_cannot_be_meant_are_refused_and_what_is_left_out_is_said(study):
    with pytest.raises(UserError, match="line .* has answers and no item; where cells are merged"):
        heard(study, lambda t: blank(t, 0))
    with pytest.raises(UserError, match="occurs twice"):
        heard(study, lambda t: [*t, t[1]])
    with pytest.raises(UserError, match="has the column 'سلامة اللغة' 2 times"):
        heard(study, lambda t: [[*row, row[3]] for row in t])
    with pytest.raises(UserWarning, match="1 lines have neither item nor answer"):
        heard(study, lambda t: [*t, ["", "", "", *[""] * (len(t[0]) - 4), "انتهى"]])
    path = study / "sheets" / "sheet_hala.csv"
    path.write_bytes(b"PK\x03\x04 a workbook")
    with pytest.raises(UserError, match="is a spreadsheet's own file"):
        read_sheets(study)


def test_other_damage_is_named(study):
    path = study / "sheets" / "sheet_omar.csv"
    good = path.read_bytes()
    refill(path, "4", encoding="cp1256")
    with pytest.raises(UserError, match="CSV UTF-8"):
        read_sheets(study)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="no column"):
        read_sheets(study)
    path.write_bytes(good)
    (study / "sheets" / "sheet_eve.csv").write_bytes(good)
    with pytest.raises(UserError, match="sheet_eve.csv is of no rater"):
        read_sheets(study)
    (study / "sheets" / "sheet_eve.csv").unlink()
    (study / "ratings.csv").write_text("item_id,rater,criterion,value\ni1,hala,fluency,7\n")
    with pytest.raises(UserError, match="row 1: '7'"):
        load_ratings(study)
    (study / "ratings.csv").unlink()
    with pytest.raises(UserError, match="no file"):
        load_ratings(study)
    data = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps({**data, "format": 2}))
    with pytest.raises(UserError, match="format 2"):
        load_study(study)
    (study / "study.json").write_text('{"criteria": ')
    with pytest.raises(UserError, match="study.json is damaged: not JSON"):
        read_sheets(study)


def test_answers_are_never_overwritten_and_an_untouched_study_may_be_written_again(study):
    items, key, criteria = (
        load_jsonl(study / "items.jsonl", RatedItem),
        load_key(study),
        load_criteria(),
    )
    write_study(study, items, key, criteria, ["hala", "omar"])
    refill(study / "sheets" / "sheet_hala.csv", "4")
    filled = (study / "sheets" / "sheet_hala.csv").read_bytes()
    with pytest.raises(UserError, match="holds answers"):
        write_study(study, items, key, criteria, ["hala", "omar"])
    assert (study / "sheets" / "sheet_hala.csv").read_bytes() == filled


@pytest.mark.parametrize("raters", [[], ["a", "a"], ["../a"], ["a/b"], [""], ["a b"]])
def test_raters_names_cannot_leave_the_folder(tmp_path, raters):
    with pytest.raises(UserError, match="rater"):
        write_study(tmp_path / "s", [], [], load_criteria(), raters)
    assert not (tmp_path / "s").exists()


def test_criteria_file_with_a_gap(tmp_path):
    path = tmp_path / "criteria.csv"
    with pytest.raises(UserError, match="no file"):
        load_criteria(path)
    path.write_text("id,english\nfluency,Fluency\n")
    with pytest.raises(UserError, match="no column 'arabic'"):
        load_criteria(path)


def test_simulated_ratings_are_marked_until_people_rate_and_do_not_depend_on_company(study):
    items = load_jsonl(study / "items.jsonl", RatedItem)
    quality = {i.item_id: n / len(items) for n, i in enumerate(items)}
    criteria = load_criteria()
    ratings, how = simulate_ratings(items, quality, criteria, ["hala", "omar"], quality_from="rank")
    assert (
        save_ratings(study, ratings, how).simulated
        and load_study(study).simulation["quality_from"] == "rank"
    )
    assert simulate_ratings(
        items[::-1], quality, criteria, ["hala", "omar"], quality_from="rank"
    ) == (ratings, how)
    assert (
        not save_ratings(study, [Rating(items[0].item_id, "hala", "fluency", 4)]).simulated
        and load_study(study).simulation is None
    )


def test_agreement_out_of_reach_is_stated_not_pretended():
    items = [RatedItem(f"i{n}", (), "") for n in range(50)]
    _, how = simulate_ratings(
        items,
        {i.item_id: 0.5 for i in items},
        load_criteria(),
        ["a", "b"],
        RaterModel(target=0.99, own=0.01, bias=0.5),
    )
    assert all(k < 0.99 for k in how["expected_kappa_quadratic"].values()) and set(
        how["noise"].values()
    ) == {0.05}
