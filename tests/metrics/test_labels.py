"Hand labels: the draw, the sheet, what is wrong with a sheet, and the counts"

import csv

import pytest
from statsmodels.stats.proportion import proportion_confint

from arabic_dialog.core.files import save_jsonl
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.metrics.labels import LABEL_COLUMNS, LABELS, count_labels, draw_replies
from arabic_dialog.metrics.labels import load_labels, make_label_sheet
from arabic_dialog.metrics.replies import Reply

TEST = [
    Conversation(
        f"bread_EG_{n}",
        Scenario.of("bread", "EG", n),
        tuple(
            Turn(s, t)
            for s, t in (
                ("user", "ما الخبز؟"),
                ("assistant", "البلدي."),
                ("user", "وما سعره،\nمن فضلك؟"),
                ("assistant", "رخيص."),
            )
        ),
        "hand-written",
    )
    for n in range(20)
]
HOSTILE = '=HYPERLINK("x"),\n"سطر" # ثان'
REPLIES = [
    Reply(c.id, turn, model, seed, HOSTILE, "stop")
    for c in TEST
    for turn in (1, 3)
    for model, seed in (
        ("a-finetuned", 0),
        ("a-finetuned", 1),
        ("b-finetuned", 0),
        ("a-control", 0),
        ("a-base", 0),
        ("reference", 0),
    )
]


def fill(path, labels, **changes):
    "A sheet with labels, and other values in its first row"
    with path.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    for row, label in zip(rows, labels, strict=True):
        row["label"] = label
    rows[0] |= changes
    with path.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, LABEL_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def sheet(tmp_path):
    save_jsonl(tmp_path / "run/split/test.jsonl", TEST)
    for k, part in enumerate((REPLIES[:120], REPLIES[120:])):
        save_jsonl(tmp_path / f"run/replies/part{k}/replies.jsonl", part)
    return make_label_sheet(tmp_path / "run", tmp_path / "sheet.csv", n=10, seed=3)


def test_the_draw_is_of_fine_tuned_students_by_seed():
    drawn = draw_replies(REPLIES, TEST, n=10, seed=3)
    assert drawn == draw_replies(reversed(REPLIES), TEST, n=10, seed=3)
    assert drawn != draw_replies(REPLIES, TEST, n=10, seed=4)
    models = [r.model for r in drawn]
    assert models.count("a-finetuned") == models.count("b-finetuned") == 10 == len(drawn) / 2
    assert models != sorted(models) and {r.seed for r in drawn} == {0, 1}
    assert len({(r.model, r.seed, r.conversation_id, r.turn) for r in drawn}) == 20
    late = next(r for r in drawn if r.turn == 3)
    assert late.reference == "رخيص."
    assert late.history == "user: ما الخبز؟\nassistant: البلدي.\nuser: وما سعره، من فضلك؟"


def test_a_labelled_sheet_comes_back_as_it_was_drawn(sheet):
    assert "\n=HYPER" not in sheet.read_text(encoding="utf-8").replace(",", "\n").replace('"', "")
    labels = ["answers"] * 12 + ["off the question"] * 5 + ["word salad"] * 3
    rows = load_labels(fill(sheet, labels))
    assert [r.label for r in rows] == labels and {r.reply for r in rows} == {HOSTILE}
    drawn = draw_replies(REPLIES, TEST, n=10, seed=3)
    assert [vars(r) | {"label": ""} for r in rows] == [vars(r) for r in drawn]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"label": ""}, "reply 1: the label is missing; labels are 'answers', 'off the question'"),
        ({"label": "Answers"}, "reply 1: 'Answers' is no label"),
        ({"turn": "one"}, "reply 1: turn is 'one', and should be a whole number"),
        ({"seed": "-1"}, "reply 1: seed is '-1'"),
    ],
)
def test_what_is_wrong_with_a_sheet_is_named(sheet, change, message):
    with pytest.raises(UserError, match=message):
        load_labels(fill(sheet, ["answers"] * 20, **change))


def test_a_reply_that_comes_twice_or_none_at_all(sheet, tmp_path):
    fill(sheet, ["answers"] * 20)
    lines = sheet.read_bytes().split(b"\r\n")
    sheet.write_bytes(b"\r\n".join([*lines, *lines[1:2], b""]))
    with pytest.raises(UserError, match="reply 21: the same reply as number 1"):
        load_labels(sheet)
    empty = tmp_path / "empty.csv"
    empty.write_text(",".join(LABEL_COLUMNS) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no replies"):
        load_labels(empty)
    empty.write_text("model,label\na,answers\n", encoding="utf-8")
    with pytest.raises(UserError, match="seed"):
        load_labels(empty)


def test_a_sheet_is_never_written_over_and_needs_a_finished_run(sheet, tmp_path):
    with pytest.raises(UserError, match="is there already, and may hold labels"):
        make_label_sheet(tmp_path / "run", sheet, n=10)
    with pytest.raises(UserError, match="has no replies to test conversations"):
        make_label_sheet(tmp_path, tmp_path / "other.csv")
    with pytest.raises(UserError, match="b-finetuned has 40 replies, and 50 are to be drawn"):
        make_label_sheet(tmp_path / "run", tmp_path / "other.csv", n=50)


def test_counts_have_wilsons_intervals(sheet):
    table = count_labels(load_labels(fill(sheet, ["answers", "word salad"] * 10)))
    assert table.label.tolist() == [*LABELS] * 2 and table.n.eq(10).all()
    assert table.groupby("model")["count"].sum().tolist() == [10, 10]
    for row in table.itertuples():
        assert row.share == row.count / 10
        low, high = proportion_confint(row.count, 10, method="wilson")
        assert (row.low, row.high) == pytest.approx((low, high))
    none = table[table.label == "off the question"]
    assert none["count"].eq(0).all() and none.high.round(3).eq(0.278).all()
