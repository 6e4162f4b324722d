"Ratings out of a study and into it: tables, Label Studio both ways, and what others write into it"

import csv
import io
import json

import pytest

from arabic_dialog.core.records import UserError
from arabic_dialog.rating.answers import Entry, StudyFile
from arabic_dialog.rating.exchange import answer_rows, answers_of, import_label_studio
from arabic_dialog.rating.exchange import label_studio_config, label_studio_tasks, ratings_of
from arabic_dialog.rating.exchange import rater_view, render_csv, render_json, take
from rating.test_page import HOSTILE, hostile_study


@pytest.fixture
def study(tmp_path):
    with StudyFile(hostile_study(tmp_path / "study.sqlite")) as file:
        file.put(
            [
                Entry("hala", 1, "fluency", 4, at=1e9),
                Entry("hala", 1, "comment", HOSTILE[1], at=1e9),
                Entry("hala", 2, "fluency", 0, at=1e9),
                Entry("hala", 3, "flag", 1, at=1e9),
                Entry("hala", len(HOSTILE) + 1, "fluency", 2, at=1e9),
            ]
        )
        yield file


def save(tmp_path, tasks):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks), encoding="utf-8")
    return path


def test_a_repeat_is_no_rating_and_cannot_judge_is_a_missing_one(study):
    assert [(r.item_id, r.value) for r in ratings_of(study)] == [("i0", 4), ("i1", None)]
    assert [(r.item_id, r.value) for r in ratings_of(study, "repeat")] == [("i0", 2)]
    assert [a.kind for a in answers_of(study)] == ["item", "item", "repeat"]


def test_the_tables_of_the_owner_hold_every_answer_and_no_secret(study):
    rows = list(csv.DictReader(io.StringIO(render_csv(study))))
    assert [r["model"] for r in rows] == ["secret-model-0", "secret-model-1", "secret-model-0"]
    assert [r["value"] for r in rows] == ["4", "", "2"] and len(rows) == len(answer_rows(study))
    whole = json.loads(render_json(study))
    assert whole["remarks"][0]["comment"] == HOSTILE[1] and whole["items"][0]["item_id"] == "i0"
    assert not any(link in json.dumps(whole) for link in ("hala-link", "owner-link", 'owner"'))


def test_a_raters_view_tells_neither_model_nor_others(study):
    view = rater_view(study, "omar")
    assert view["answers"] == [] and view["n"] == len(HOSTILE) + 1
    facts = json.dumps({k: v for k, v in view.items() if k != "criteria"})
    assert not any(word in facts for word in ("hala", "secret-model", "repeat", "kind"))


def test_label_studio_brings_back_what_it_was_given(study, tmp_path):
    tasks = label_studio_tasks(study)
    assert "secret-model" not in json.dumps(tasks) and "secret" not in label_studio_config(study)
    with StudyFile(hostile_study(tmp_path / "other.sqlite")) as other:
        taken = import_label_studio(other, save(tmp_path, tasks))
        assert (taken.new, taken.changed, taken.older) == (3, 0, 0)
        entries = {(e.position, e.field): e.value for e in other.entries("hala")}
        assert entries == {(1, "fluency"): 4, (1, "comment"): HOSTILE[1], (3, "flag"): 1}
    assert import_label_studio(study, save(tmp_path, tasks)).older == 3


@pytest.mark.parametrize(
    "change, says",
    [
        ({"result": [{"from_name": "charm", "type": "rating", "value": {"rating": 3}}]}, "charm"),
        ({"result": [{"from_name": "fluency", "type": "rating", "value": {}}]}, "task 1 is not as"),
        ({"completed_by": {}}, "task 1 is not as"),
        ({"completed_by": 7}, "annotator 7 is no rater"),
        ({"updated_at": "yesterday"}, "task 1 is not as"),
    ],
)
def test_damage_in_one_annotation_keeps_all_out(study, tmp_path, change, says):
    tasks, before = label_studio_tasks(study), study.entries()
    tasks[0]["annotations"][0] |= change
    with pytest.raises(UserError, match=says):
        import_label_studio(study, save(tmp_path, tasks))
    assert study.entries() == before


def test_a_cancelled_annotation_says_nothing(study, tmp_path):
    tasks = label_studio_tasks(study)
    tasks[0]["annotations"][0] |= {"was_cancelled": True, "completed_by": "a stranger"}
    assert import_label_studio(study, save(tmp_path, tasks)).new == 0


def test_the_later_of_two_entries_counts_whatever_their_order(study):
    late, early = (Entry("omar", 1, "fluency", v, at=at) for v, at in ((5, 2e9), (1, 1e9)))
    for order in ([late, early], [early, late]):
        take(study, order, "a file")
        assert [e.value for e in study.entries("omar")] == [5]
    with pytest.raises(UserError, match="a file, answer 2: .*no item 99"):
        take(study, [late, Entry("omar", 99, "fluency", 3, at=3e9)], "a file")
