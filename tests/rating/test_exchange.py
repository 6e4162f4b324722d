"Ratings out of a study and into it: tables, Label Studio both ways, and what others write into it"

import csv
import io
import json
import sqlite3

import pytest

from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.rating.answers import About, Entry, Links, NOT_APPLICABLE, StudyFile, StudyItem
from arabic_dialog.rating.answers import create_study
from arabic_dialog.rating.design import Slot, load_criteria
from arabic_dialog.rating.exchange import answer_rows, answers_of
from arabic_dialog.rating.exchange import label_studio_config, label_studio_tasks, ratings_of
from arabic_dialog.rating.exchange import progress, rater_view, render_csv, render_json, take
from arabic_dialog.rating.tools import import_label_studio
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
        ({"result": [{"from_name": "fluency", "type": "rating", "value": {}}]}, "is not a point"),
        ({"completed_by": {}}, "does not say who annotated"),
        ({"updated_at": "yesterday"}, "'yesterday' is no time"),
    ],
)
def test_damage_in_one_annotation_costs_a_line_and_not_the_file(study, tmp_path, change, says):
    tasks = label_studio_tasks(study)
    tasks[0]["annotations"][0] |= change
    with StudyFile(hostile_study(tmp_path / "other.sqlite")) as other:
        taken = import_label_studio(other, save(tmp_path, tasks))
        assert len(taken.left_out) == 1 and says in taken.left_out[0]
        kept = {(e.position, e.field): e.value for e in other.entries("hala")}
        assert kept[3, "flag"] == 1 and ((1, "fluency") in kept) == ("updated_at" in change)


def test_a_stranger_is_refused_with_the_remedy_and_nothing_is_kept(study, tmp_path):
    tasks, before = label_studio_tasks(study), study.entries()
    tasks[0]["annotations"][0] |= {"completed_by": 7}
    with pytest.raises(UserError, match="annotator 7 is no rater .*--rater 7=NAME"):
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


def country_study(path):
    "A study of two criteria of which one may not apply; two raters, one item each sees"
    criteria = tuple(c for c in load_criteria() if c.id in ("fluency", "cultural_accuracy"))
    turns = (Turn("user", "ما أشهر أنواع الخبز في مصر؟"), Turn("assistant", "الخبز البلدي."))
    item = StudyItem("i0", turns, conversation_id="t0", turn=1, model="base", seed=0)
    slots = [Slot(1, "i0", "item")]
    links = Links({"hala": "h", "omar": "o"}, "x")
    about = About("s9", "خبز", "reply", "ar", criteria)
    create_study(path, about, [item], links, {"hala": slots, "omar": slots})
    return path


def test_not_applicable_is_an_answer_and_no_rating(tmp_path):
    with StudyFile(country_study(tmp_path / "study.sqlite")) as study:
        said = [
            Entry("hala", 1, "fluency", 4, at=1e9),
            Entry("hala", 1, "cultural_accuracy", NOT_APPLICABLE, at=1e9),
            Entry("omar", 1, "cultural_accuracy", 0, at=1e9),
        ]
        assert not any(isinstance(r, UserError) for r in study.put(said))
        (refused,) = study.put([Entry("omar", 1, "fluency", NOT_APPLICABLE)])
        assert isinstance(refused, UserError) and "fluency is '-1'" in str(refused)
        absent, cannot = [r for r in ratings_of(study) if r.criterion == "cultural_accuracy"]
        assert absent.value is None and absent.not_applicable
        assert cannot.value is None and not cannot.not_applicable
        assert progress(study)[0].done == 1  # it is answered
        rows = list(csv.DictReader(io.StringIO(render_csv(study))))
        assert [(r["value"], r["not_applicable"]) for r in rows] == [
            ("4", "False"),
            ("", "True"),
            ("", "False"),
        ]


def test_label_studio_brings_back_that_a_question_does_not_apply(tmp_path):
    with StudyFile(country_study(tmp_path / "study.sqlite")) as study:
        said = [Entry("hala", 1, "cultural_accuracy", NOT_APPLICABLE, at=1e9)]
        study.put([*said, Entry("hala", 1, "fluency", 2, at=1e9)])
        assert 'name="cultural_accuracy-not-applicable"' in label_studio_config(study)
        assert 'name="fluency-not-applicable"' not in label_studio_config(study)
        path = save(tmp_path, label_studio_tasks(study))
    with StudyFile(country_study(tmp_path / "again.sqlite")) as other:
        assert import_label_studio(other, path).new == 2
        kept = {(e.field, e.value) for e in other.entries("hala")}
        assert kept == {("cultural_accuracy", NOT_APPLICABLE), ("fluency", 2)}


def test_a_study_made_before_this_choice_is_read_and_has_no_such_choice(tmp_path):
    path = country_study(tmp_path / "study.sqlite")
    db = sqlite3.connect(path)
    ((stored,),) = db.execute("SELECT value FROM study WHERE key = 'criteria'").fetchall()
    old = [
        {k: v for k, v in c.items() if not k.startswith("not_applicable")}
        for c in json.loads(stored)
    ]
    db.execute("UPDATE study SET value = ? WHERE key = 'criteria'", (json.dumps(old),))
    db.commit()
    db.close()
    with StudyFile(path) as study:
        assert study.optional == set()
        (refused,) = study.put([Entry("hala", 1, "cultural_accuracy", NOT_APPLICABLE)])
        assert isinstance(refused, UserError)
        assert not isinstance(study.put([Entry("hala", 1, "cultural_accuracy", 3)])[0], UserError)
