"Datasets of others: their columns, roles and folders; what carries meaning is obeyed or refused"

import json
import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from arabic_dialog.core.files import data_path, load_jsonl, save_jsonl
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.generation.exports import FORMATS, Choice, export_dataset
from arabic_dialog.generation.layouts import CONTAINERS, read_row
from arabic_dialog.generation.reading import find_dataset, read_conversations, read_dataset
from arabic_dialog.generation.turns import ROLE_KEYS, TEXT_KEYS, WEIGHT_KEYS, Account, LeftOut

ASKED, SAID = "كيف أطبخ الكشري؟", "اسلق العدس والأرز."
TURNS = (Turn("user", ASKED), Turn("assistant", SAID))
USER, REPLY = {"role": "user", "content": ASKED}, {"role": "assistant", "content": SAID}
BAD = {"role": "assistant", "content": "جواب خاطئ", "weight": 0}
WHERE = "mine.jsonl, row 7"


def read(row, leave_out=(), account=None):
    return read_row(row, WHERE, leave_out, account)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("role", ROLE_KEYS)
@pytest.mark.parametrize("text", TEXT_KEYS)
def test_turns_under_any_usual_name(container, role, text):
    turns = [{role: "user", text: ASKED}, {role: "assistant", text: SAID}]
    fields = {role: ["user", "assistant"], text: [ASKED, SAID]}
    for value in (turns, fields, json.dumps(turns, ensure_ascii=False)):
        account = Account()
        assert read({container: value}, (), account).turns == TURNS
        assert not account.unread


@pytest.mark.parametrize(
    "user, assistant",
    [
        ("user", "assistant"),
        ("human", "gpt"),
        ("Human", "AI"),
        ("USER ", "Assistant"),
        ("customer", "agent"),
        ("prompter", "bot"),
        ("المستخدم", "المساعد"),
        ("مستخدم", "الروبوت"),
        ("العميل", "الموظف"),
        ("السائل", "المجيب"),
        ({"role": "user"}, {"role": "assistant"}),
    ],
)
def test_roles_by_their_usual_words(user, assistant):
    turns = [{"role": user, "content": ASKED}, {"role": assistant, "content": SAID}]
    assert read({"messages": turns}).turns == TURNS


PAIRED = [
    {"instruction": ASKED, "input": "", "output": SAID},
    {"instruction": "كيف أطبخ", "input": "الكشري؟", "output": SAID},
    {"question": ASKED, "answer": SAID},
    {"query": ASKED, "response": SAID},
    {"prompt": ASKED, "completion": SAID},
    {"prompt": ASKED, "chosen": SAID, "rejected": "لا"},
    {"prompt": [USER], "completion": [REPLY]},
    {"prompt": ASKED, "chosen": [USER, REPLY]},
    {"chosen": [USER, REPLY], "rejected": [USER, BAD]},
    {"input": ASKED, "output": SAID},
    [USER, REPLY],
    {"messages": [{**USER, "content": [{"type": "text", "text": ASKED}]}, REPLY]},
]


@pytest.mark.parametrize("row", PAIRED, ids=str)
def test_questions_and_answers_in_columns(row):
    asked = (
        "كيف أطبخ\nالكشري؟" if isinstance(row, dict) and row.get("input") == "الكشري؟" else ASKED
    )
    conversation = read(row)
    assert conversation.turns == (Turn("user", asked), Turn("assistant", SAID))
    assert conversation.untrained == ()


def test_the_turns_of_a_prompt_are_not_learned_and_a_history_is():
    before = [USER, BAD | {"weight": 1}, {"role": "user", "content": "صحح"}]
    trl = read({"prompt": before, "completion": [REPLY]})
    assert [t.text for t in trl.turns] == [ASKED, "جواب خاطئ", "صحح", SAID] and trl.untrained == (
        1,
    )
    alpaca = read({"instruction": ASKED, "output": SAID, "history": [["س", "ج"]]})
    assert [t.text for t in alpaca.turns] == ["س", "ج", ASKED, SAID] and alpaca.untrained == ()


@pytest.mark.parametrize("key", WEIGHT_KEYS)
@pytest.mark.parametrize("no, yes", [(0, 1), (0.0, 1.0), (False, True)])
def test_what_is_not_to_be_learned_is_marked(key, no, yes):
    plain = {k: v for k, v in BAD.items() if k != "weight"}
    row = {"messages": [USER, plain | {key: no}, USER, REPLY | {key: yes}]}
    assert read(row).untrained == (1,)
    assert read({"conversations": row["messages"]}).untrained == (1,)
    with pytest.raises(UserError, match=rf"row 7, turn 2: {key} is 0.5; a turn is learned \(1\)"):
        read({"messages": [USER, plain | {key: 0.5}]})


def test_weights_that_cannot_be_meant_are_refused():
    with pytest.raises(UserError, match="weight and train_on_turn say different things"):
        read({"messages": [USER, REPLY | {"weight": 0, "train_on_turn": True}]})
    with pytest.raises(UserError, match="turn 1 is the user's and is to be learned"):
        read({"messages": [USER | {"train_on_turn": True}, REPLY]})
    assert read({"messages": [USER | {"weight": 1}, REPLY]}).untrained == ()
    assert read({"messages": [USER, REPLY], "weight": 0}).untrained == (1,)
    with pytest.raises(UserError, match="row 7: weight is 0.3"):
        read({"messages": [USER, REPLY], "weight": 0.3})


SYSTEM = {"role": "system", "content": "أنت مساعد يجيب باللهجة القاهرية فقط"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [SYSTEM, USER, REPLY]},
        {"messages": [SYSTEM | {"role": "developer"}, USER, REPLY]},
        {"messages": [USER, REPLY], "system": SYSTEM["content"]},
        {"instruction": ASKED, "output": SAID, "system_prompt": SYSTEM["content"]},
        {"conversations": [{"from": "system", "value": SYSTEM["content"]}, USER, REPLY]},
    ],
)
def test_an_instruction_stays_or_is_left_out_and_counted(row):
    assert read(row).system == SYSTEM["content"] and read(row).turns == TURNS
    account = Account()
    without = read(row, ["system"], account)
    assert without.system == "" and without.turns == TURNS and account.notes.total() == 1


def test_a_second_instruction_is_refused():
    with pytest.raises(UserError, match="row 7, turn 3 is the system's, and only the first may be"):
        read({"messages": [USER, REPLY, SYSTEM]})
    assert read({"messages": [USER, SYSTEM, REPLY]}, ["system"]).turns == TURNS
    with pytest.raises(UserError, match="an instruction in 'system' and another as its first turn"):
        read({"messages": [SYSTEM, USER, REPLY], "system": "غيره"})


@pytest.mark.parametrize(
    "row, where",
    [
        ({"messages": [USER, {"role": "tool", "content": "٣٠"}, REPLY]}, "turn 2 "),
        ({"messages": [USER, {"role": "function", "content": "٣٠"}, REPLY]}, "turn 2 "),
        ({"conversations": [{"from": "observation", "value": "٣٠"}]}, "turn 1 "),
        ({"messages": [USER, REPLY | {"content": None, "tool_calls": [{"id": 1}]}]}, "turn 2 "),
        ({"messages": [USER, REPLY], "tools": [{"name": "sum"}]}, "tools "),
    ],
)
def test_tools_are_refused_by_name_or_left_out(row, where):
    with pytest.raises(UserError, match=f"row 7.*{where}.*of a tool"):
        read(row)
    with pytest.raises(LeftOut, match="tools"):
        read(row, ["tools"])
    assert read({"messages": [USER, REPLY | {"tool_calls": None}], "tools": "[]"}).turns == TURNS


@pytest.mark.parametrize(
    "turns, said",
    [
        ([USER, USER, REPLY], "row 7, turn 2 is the user's: user and assistant should speak"),
        ([REPLY], "row 7, turn 1 is the assistant's"),
        ([SYSTEM, USER, REPLY, REPLY], "row 7, turn 4 is the assistant's"),
        (
            [USER, {"role": "سعاد", "content": "نعم"}],
            "row 7, turn 2: role is 'سعاد', and should be",
        ),
        ([USER, {"role": ["user"], "content": "نعم"}], r"turn 2: role is \['user'\], and should"),
        ([USER, {"role": "assistant", "content": 5}], "turn 2: content is 5, and should be a text"),
        ([USER, {"role": "assistant", "content": math.nan}], "turn 2: content is nan, and should"),
        ([USER, {"role": "assistant", "content": None}], "turn 2: content is missing"),
        ([USER, "نعم"], "row 7, turn 2 is 'نعم', and should be an object"),
        ([USER, {"text": "نعم"}], "row 7, turn 2 has no role; it has 'text'"),
        ([USER, REPLY | {"content": [{"type": "image_url"}]}], "part 1 is 'image_url', and only"),
        (
            [USER | {"name": "علي"}, REPLY, USER | {"name": "سعاد"}, REPLY],
            "user is 'علي' and 'سعاد'; a conversation is between two",
        ),
        ("نص", "messages is 'نص', and should be a list of turns"),
        ([], r"messages is \[\], and should be a list of turns"),
        ({"role": ["user"], "content": []}, "lists of different lengths"),
    ],
)
def test_turns_that_are_none_are_named_with_row_turn_and_value(turns, said):
    with pytest.raises(UserError, match=said) as e:
        read({"messages": turns})
    assert str(e.value).startswith(WHERE) and "\n" not in str(e.value) and len(str(e.value)) < 400


def test_the_own_form_is_held_to_the_same_order():
    turns = [{"speaker": "user", "text": "س"}] * 2 + [{"speaker": "assistant", "text": "ج"}]
    scenario = {"id": "c0", "topic": "t", "country": "EG", "variant": 0}
    with pytest.raises(UserError, match="row 7, turn 2 is the user's: user and assistant should"):
        read({"id": "c0", "scenario": scenario, "turns": turns, "model": "m"})


@pytest.mark.parametrize(
    "key, values",
    [
        ("index", [3, 0, 2, 1]),
        ("turn_id", ["3", "0", "2", "1"]),
        ("turn", [4, 1, 3, 2]),
        ("timestamp", ["2024-05-01T10:03:00Z", "2024-05-01T10:00:00Z", "2024-05-01T10:02:00Z",
                       "2024-05-01T10:01:00Z"]),
        ("created_at", [1.75e9, 1.72e9, 1.74e9, 1.73e9]),
    ],
)  # fmt: skip
def test_turns_are_put_in_the_order_that_they_name(key, values):
    texts = [("assistant", "د"), ("user", "أ"), ("user", "ج"), ("assistant", "ب")]
    turns = [{"role": r, "content": t, key: v} for (r, t), v in zip(texts, values, strict=True)]
    account = Account()
    assert [t.text for t in read({"messages": turns}, (), account).turns] == ["أ", "ب", "ج", "د"]
    assert account.notes == {f"conversations put in order by {key}": 1}


def test_an_order_that_is_none_is_refused_or_not_read():
    with pytest.raises(UserError, match="turn 2: index is None; every turn should have a number"):
        read({"messages": [USER | {"index": 0}, REPLY]})
    same = [USER | {"turn": 1}, REPLY | {"turn": 1}, USER | {"turn": 2}, REPLY | {"turn": 2}]
    assert read({"messages": same}).turns == TURNS * 2
    assert read({"messages": [USER | {"time": "الظهر"}, REPLY | {"time": "صباحا"}]}).turns == TURNS


def test_numbers_ids_and_gaps_as_pandas_writes_them():
    row = {"id": 7.0, "messages": [USER, REPLY], "variant": math.nan, "topic": math.nan}
    assert read(row) == Conversation("7", Scenario("7", "", "", 0), TURNS, "")
    assert read(row | {"id": None}).id == WHERE and read(row | {"id": 0}).id == "0"
    for column, value in (("variant", "b"), ("topic", ["a"]), ("id", {"a": 1}), ("model", True)):
        with pytest.raises(UserError, match=f"row 7: {column} is .*, and should be a"):
            read(row | {column: value})


def test_columns_that_are_not_read_are_counted():
    account = Account()
    row = {
        "messages": [USER, REPLY | {"emotion": "فرح"}],
        "lang": "ar",
        "score": None,
        "prompt": ASKED,
    }
    read(row, (), account)
    assert dict(account.unread) == {"lang": 1, "messages[].emotion": 1, "prompt": 1}
    with pytest.raises(UserError, match="has turns in 'messages' and 'conversations'"):
        read({"messages": [USER, REPLY], "conversations": [USER, REPLY]})
    with pytest.raises(UserError, match="has 'instruction' and none of output, response"):
        read({"instruction": ASKED})
    with pytest.raises(UserError, match="row 7 is 'نص', and should be an object with turns"):
        read("نص")


# -- folders

ROWS = [{"id": f"t{k}", "messages": [USER, REPLY]} for k in range(6)]


def ids(data):
    return {split: [c.id for c in part] for split, part in data.splits.items()}


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev", "eval", "my_dev", "VAL"])
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet", ".jsonl.gz", "/part.jsonl"])
def test_a_validation_split_by_any_name(tmp_path, name, ending):
    save_jsonl(tmp_path / "train.jsonl", ROWS[:4])
    path = tmp_path / f"{name}{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS[4:]), path)
    else:
        save_jsonl(path, ROWS[4:])
    found = ids(read_dataset(tmp_path))
    assert found == {"train": ["t0", "t1", "t2", "t3"], "validation": ["t4", "t5"]}


def test_the_hub_s_layout(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("---\n")
    (tmp_path / "dataset_infos.json").write_text("{}")
    for k in (0, 1):
        part = pa.Table.from_pylist(ROWS[3 * k : 3 * k + 3])
        pq.write_table(part, tmp_path / f"data/train-0000{k}-of-00002-6ef3a2c19b0d.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:1]), tmp_path / "data/test-00000-of-00001.parquet")
    data = read_dataset(tmp_path, wanted=("train", "validation"))
    assert ids(data) == {"train": [r["id"] for r in ROWS]}
    assert data.unread == ["test-00000-of-00001.parquet"] and data.account.rows == 6
    (tmp_path / "data/train-00000-of-00002-6ef3a2c19b0d.parquet").unlink()
    with pytest.raises(UserError, match="part 00000 of 00002 of the split train is missing beside"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_every_export_of_ours_comes_back_equal(tmp_path, format):
    sample = load_jsonl(data_path("sample", "conversations.jsonl"), Conversation)
    splits = {"train": sample[:12], "validation": sample[12:15], "test": sample[15:]}
    for split, part in splits.items():
        save_jsonl(tmp_path / f"own/{split}.jsonl", part)
    export_dataset(tmp_path / "own", tmp_path / "out", format)
    data = read_dataset(tmp_path / "out")
    assert data.splits == splits and not data.unread
    assert data.account.rows == data.account.kept == 20 and not data.account.unread
    export_dataset(tmp_path / "out", tmp_path / "again", "parquet")  # what was exported is exported
    assert read_dataset(tmp_path / "again").splits == splits


def test_a_dataset_of_others_is_exported_with_what_it_says(tmp_path):
    rows = [
        {"id": "a", "messages": [SYSTEM, USER, BAD, USER, REPLY], "lang": "ar"},
        {"id": "b", "messages": [USER, REPLY], "tools": [1]},
    ]
    save_jsonl(tmp_path / "data/train-00000-of-00001.jsonl", rows)
    with pytest.raises(UserError, match="row 2: tools is of a tool"):
        export_dataset(tmp_path, tmp_path / "out", "sharegpt")
    choice = Choice(("tools",))
    assert export_dataset(tmp_path / "data", tmp_path / "out", "sharegpt", choice) == {"train": 1}
    assert choice.account.left_out == {"tools": 1} and choice.account.unread == {"lang": 1}
    back = read_conversations(tmp_path / "out/train.jsonl")[0]
    assert (back.system, back.untrained, len(back.turns)) == (SYSTEM["content"], (1,), 4)


def test_files_that_are_no_parts_of_one_are_refused(tmp_path):
    save_jsonl(tmp_path / "train.jsonl", ROWS)
    save_jsonl(tmp_path / "train.json", ROWS)
    with pytest.raises(UserError, match="train.json and train.jsonl in .* are both of the split"):
        find_dataset(tmp_path)
    (tmp_path / "train.json").unlink()
    save_jsonl(tmp_path / "valid.jsonl", ROWS)
    save_jsonl(tmp_path / "dev.jsonl", ROWS)
    with pytest.raises(UserError, match="dev.jsonl and valid.jsonl .* are both of the split valid"):
        find_dataset(tmp_path)


def test_folders_of_several_datasets_are_refused_and_one_of_them_read(tmp_path):
    for language in ("ar", "en"):
        save_jsonl(tmp_path / f"{language}/train.jsonl", ROWS)
    with pytest.raises(UserError, match="holds several datasets: ar, en; name the folder of one"):
        find_dataset(tmp_path)
    assert list(read_dataset(tmp_path / "ar").splits) == ["train"]


def test_parts_without_a_name_are_training_and_strange_files_are_said(tmp_path):
    save_jsonl(tmp_path / "talks-001.jsonl", ROWS[:3])
    save_jsonl(tmp_path / "talks-002.jsonl", ROWS[3:])
    assert ids(read_dataset(tmp_path)) == {"train": [r["id"] for r in ROWS]}
    save_jsonl(tmp_path / "train.jsonl", ROWS)
    data = read_dataset(tmp_path)
    assert data.unread == ["talks-001.jsonl", "talks-002.jsonl"]
    assert "files not read: talks-001.jsonl, talks-002.jsonl" in data.lines
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no train.jsonl, .*; it has nothing"):
        find_dataset(empty)


def test_rows_may_name_their_split_and_contradict_their_file(tmp_path):
    rows = [
        r | {"split": s}
        for r, s in zip(ROWS, ("train", "dev", "test", "train", None, "ar"), strict=True)
    ]
    save_jsonl(tmp_path / "all.jsonl", rows)
    assert ids(read_dataset(tmp_path / "all.jsonl")) == {
        "train": ["t0", "t3", "t4", "t5"],
        "validation": ["t1"],
        "test": ["t2"],
    }
    save_jsonl(tmp_path / "two/train.jsonl", rows)
    with pytest.raises(UserError, match="train.jsonl, row 2 is of the split validation, in a file"):
        read_dataset(tmp_path / "two")


def test_ids_that_come_twice_are_told_apart_and_counted(tmp_path):
    rows = [{"id": i, "messages": [USER, REPLY]} for i in ("a", "a#2", "a", "a")]
    save_jsonl(tmp_path / "f.jsonl", [rows[0], rows[2], rows[1], rows[3]])
    data = read_dataset(tmp_path / "f.jsonl")
    assert [c.id for c in data.splits["train"]] == ["a", "a#2+", "a#2", "a#4"]
    assert data.account.notes["ids that were taken, with a number added"] == 2


def test_what_is_left_out_is_counted_and_the_rest_is_kept(tmp_path):
    rng = random.Random(0)
    good = [{"messages": [USER, REPLY]}, {"messages": [SYSTEM, USER, REPLY]}]
    tools = [{"messages": [USER, {"role": "tool", "content": ""}]}]
    faulty = [{"text": "نص"}, {"messages": [USER, USER]}, "نص", 5, None, {"messages": [5]}]
    rows = rng.choices(good + tools + faulty, k=300)
    save_jsonl(tmp_path / "f.jsonl", rows)
    account = Account()
    kept = read_conversations(tmp_path / "f.jsonl", ["system", "tools", "faulty"], account)
    assert len(kept) == sum(r in good for r in rows) == account.kept
    assert account.left_out == {
        "tools": sum(r in tools for r in rows),
        "faulty": sum(r in faulty for r in rows),
    }
    assert account.rows == 300 and account.notes["turns of the system left out"] == rows.count(
        good[1]
    )
    assert len(account.faults) == 5 and account.faults[0].startswith("f.jsonl, row ")
