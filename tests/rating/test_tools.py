"Ratings of Label Studio, Potato and doccano, old, odd and changed: their newest state counts"

import copy
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.rating.answers import About, Entry, Links, StudyFile, StudyItem, create_study
from arabic_dialog.rating.design import Slot, load_criteria
from arabic_dialog.rating.exchange import answers_of, progress
from arabic_dialog.rating.tools import import_ratings, rating_files

NAMES = {"1": "hala", "2": "omar"}
T0 = 1793527200.0  # 1 November 2026, 10:00 UTC


def stamp(hours):
    day, hour = divmod(hours, 24)
    return f"2026-11-{day + 1:02}T{hour:02}:00:00Z"


def new_study(path, n=4):
    criteria = tuple(c for c in load_criteria() if c.id in ("fluency", "overall"))
    turns = (Turn("user", "ما أشهر أنواع الخبز في مصر؟"), Turn("assistant", "الخبز البلدي."))
    items = [StudyItem(f"i{k}", turns, None, f"c{k}", 1, "base", 0) for k in range(n)]
    slots = [Slot(k + 1, f"i{k}", "item") for k in range(n)]
    about = About("s1", "خبز", "reply", "ar", criteria)
    links = Links({"hala": "h", "omar": "o"}, "x")
    return create_study(path, about, items, links, {"hala": slots, "omar": slots})


@pytest.fixture
def study(tmp_path):
    with StudyFile(new_study(tmp_path / "study.sqlite")) as file:
        yield file


def rated(by=1, hour=10, number=7, lead=12.5, **points):
    results = [
        {"id": "x", "from_name": k, "to_name": "dialogue", "type": "rating", "value": {"rating": v}}
        for k, v in (points or {"fluency": 4}).items()
    ]
    about = {"id": number, "completed_by": by, "was_cancelled": False, "lead_time": lead}
    return about | {"created_at": stamp(9), "updated_at": stamp(hour), "result": results}


def task(*annotations, item="i0", number=1, **more):
    return {
        "id": number,
        "data": {"item_id": item, "study": "x"},
        "annotations": [*annotations],
        **more,
    }


def given(study, tmp_path, *tasks, names=NAMES, name="export.json", age=0.0):
    "What was taken of an export, and all that the study knows then"
    path = tmp_path / name
    path.write_text(json.dumps(tasks, ensure_ascii=False), encoding="utf-8")
    written = T0 + 30 * 86400 - age
    os.utime(path, (written, written))
    return import_ratings(study, path, names)[1], known(study)


def known(study):
    return {(e.rater, e.position, e.field): e.value for e in study.entries()}


@pytest.mark.parametrize("lead", [1_234_567.8, -3.2, "long", float("nan"), [1], True, 1e400])
def test_a_time_that_cannot_be_meant_costs_the_time_and_not_the_ratings(study, tmp_path, lead):
    taken, now = given(study, tmp_path, task(rated(lead=lead, fluency=4, overall=2)))
    assert now == {("hala", 1, "fluency"): 4, ("hala", 1, "overall"): 2}
    assert study.seconds() == {}
    assert len(taken.left_out) == (lead == lead and lead != float("inf"))  # JSON has no other


@pytest.mark.parametrize("lead, seconds", [(12.5, 12.5), ("12.5", 12.5), (0, None), (None, None)])
def test_a_time_that_is_told_is_kept(study, tmp_path, lead, seconds):
    taken, _ = given(study, tmp_path, task(rated(lead=lead)))
    assert study.seconds().get(("hala", 1)) == seconds and not taken.left_out


@pytest.mark.parametrize("point", [4, 4.0, "4", "٤", [4], "4.0", {"rating": 4}, {"choices": ["4"]}])
def test_a_point_in_any_form(study, tmp_path, point):
    one = task(rated())
    one["annotations"][0]["result"][0]["value"] = {"rating": point}
    assert given(study, tmp_path, one)[1] == {("hala", 1, "fluency"): 4}
    one["annotations"][0]["result"][0]["value"] = point
    assert given(study, tmp_path, one)[1] == {("hala", 1, "fluency"): 4}


@pytest.mark.parametrize(
    "point", [4.5, 6, -2, True, "good", None, {}, [], [1, 2], {"a": {}}, 1e300]
)
def test_what_is_no_point_costs_itself_alone(study, tmp_path, point):
    one = task(rated(fluency=point, overall=3))
    taken, now = given(study, tmp_path, one)
    assert now == {("hala", 1, "overall"): 3} and len(taken.left_out) == 1


def test_old_exports_and_bare_ones(study, tmp_path):
    old = task(rated())
    old["completions"] = old.pop("annotations")
    assert given(study, tmp_path, old)[1] == {("hala", 1, "fluency"): 4}
    with pytest.raises(UserError, match="nothing could be taken; task 1: '3' is no annotation"):
        given(study, tmp_path, task(3))
    with pytest.raises(UserError, match="neither of the rating page nor"):
        given(study, tmp_path, 3, "x", None)
    taken, now = given(study, tmp_path, task(3, rated(by=2, fluency=5)))
    assert now["omar", 1, "fluency"] == 5 and taken.left_out == ("task 1: '3' is no annotation",)


@pytest.mark.parametrize(
    "by", [1, "1", 1.0, {"id": 1}, {"email": "hala@lab.org", "id": 9}, "hala", {"username": "hala"}]
)
def test_whoever_annotated(study, tmp_path, by):
    assert given(study, tmp_path, task(rated(by=by)))[1] == {("hala", 1, "fluency"): 4}


def test_json_min(study, tmp_path):
    one = {"id": 1, "item_id": "i1", "study": "x", "dialogue": [], "annotator": 2, "lead_time": 4.5}
    one |= {"annotation_id": 3, "created_at": stamp(1), "updated_at": stamp(2)}
    one |= {"fluency": [{"rating": 4}], "overall": 2, "comment": "سليم", "flag": "flag"}
    taken, now = given(study, tmp_path, one)
    kept = {"fluency": 4, "overall": 2, "comment": "سليم", "flag": 1}
    assert now == {("omar", 2, k): v for k, v in kept.items()} and not taken.left_out
    assert study.seconds() == {("omar", 2): 4.5}


def test_tasks_and_annotations_that_are_there_twice_count_once(study, tmp_path):
    twice = task(rated(hour=10, fluency=2), rated(hour=34, number=8, fluency=5))
    for _ in range(2):
        taken, now = given(study, tmp_path, twice, copy.deepcopy(twice))
        assert now == {("hala", 1, "fluency"): 5}
    assert (taken.new, taken.changed, taken.withdrawn) == (0, 0, 0)


def test_a_changed_annotation_changes_here_and_an_older_export_changes_nothing(study, tmp_path):
    first = task(rated(hour=10, fluency=2, overall=3), created_at=stamp(1), project=5)
    second = task(rated(hour=20, fluency=5), created_at=stamp(1), project=5)
    given(study, tmp_path, first)
    taken, now = given(study, tmp_path, second)
    assert now == {("hala", 1, "fluency"): 5} and (taken.changed, taken.withdrawn) == (1, 1)
    assert given(study, tmp_path, first)[1] == now  # imported too late
    assert given(study, tmp_path, task(rated(hour=20, fluency=1)))[1] == {("hala", 1, "fluency"): 1}


@pytest.mark.parametrize("how", ["was_cancelled", "skipped"])
@pytest.mark.parametrize("hour", [10, 20])
def test_a_withdrawn_or_skipped_annotation_is_withdrawn_here(study, tmp_path, how, hour):
    given(
        study, tmp_path, task(rated(fluency=2, overall=3)), task(rated(by=2), item="i1", number=2)
    )
    gone = rated(hour=hour, fluency=2, overall=3) | {how: True}
    taken, now = given(study, tmp_path, task(gone), task(rated(by=2), item="i1", number=2))
    assert now == {("omar", 2, "fluency"): 4} and taken.withdrawn == 2
    assert [a.rater for a in answers_of(study)] == ["omar"] and progress(study)[0].answers == 0
    back = given(study, tmp_path, task(rated(hour=30, fluency=5)))[1]
    assert back["hala", 1, "fluency"] == 5
    early = given(study, tmp_path, task(gone | {"updated_at": stamp(12)}))[1]
    assert early["hala", 1, "fluency"] == 5  # skipped before it was rated


def test_a_skip_beside_a_valid_annotation_leaves_that(study, tmp_path):
    skipped = rated(hour=30, number=8) | {"was_cancelled": True, "result": []}
    assert given(study, tmp_path, task(rated(), skipped))[1] == {("hala", 1, "fluency"): 4}


@pytest.mark.parametrize("more", [{}, {"project": 3, "created_at": stamp(2)}])
def test_a_deleted_annotation_is_withdrawn_here_and_comes_back_with_its_export(
    study, tmp_path, more
):
    whole = task(rated(), **more), task(rated(by=2), item="i1", number=2, **more)
    given(study, tmp_path, *whole)
    taken, now = given(study, tmp_path, task(**more), whole[1])
    assert now == {("omar", 2, "fluency"): 4} and taken.withdrawn == 1
    assert len(given(study, tmp_path, *whole)[1]) == 2


def test_what_another_project_or_the_page_has_is_not_withdrawn(study, tmp_path):
    study.put([Entry("hala", 2, "fluency", 3, at=T0)])
    given(study, tmp_path, task(rated(), project=1, created_at=stamp(1)))
    others = task(rated(by=2, hour=40), project=1, created_at=stamp(3))
    skips = task(rated(hour=50) | {"was_cancelled": True}, item="i1", number=2)
    taken, now = given(study, tmp_path, others, skips)
    assert (
        taken.withdrawn == 0 and now["hala", 1, "fluency"] == 4 and now["hala", 2, "fluency"] == 3
    )
    elsewhere = task(rated(by=2, hour=40))  # another installation, of which nothing is known
    given(study, tmp_path, task(rated(), item="i2", number=9))
    assert given(study, tmp_path, elsewhere | {"id": 9})[1]["hala", 3, "fluency"] == 4
    before = given(study, tmp_path, task(project=1, created_at=stamp(1)), age=90 * 86400)[1]
    assert before["hala", 1, "fluency"] == 4  # exported before it was there


def test_predictions_drafts_and_unknown_items_say_nothing(study, tmp_path):
    guess = {"model_version": "m", "result": rated(fluency=1)["result"]}
    taken, now = given(
        study,
        tmp_path,
        task(rated(), predictions=[guess], drafts=[rated(fluency=1)]),
        task(rated(), item="i99", number=2),
        {"id": 3, "data": {"text": "خبز"}, "annotations": [rated()]},
    )
    assert now == {("hala", 1, "fluency"): 4}
    assert taken.left_out == (
        "task 2: item 'i99' is not among the study's",
        "task 3: item '' is not among the study's",
    )


LABELS = {
    "likert": {
        "fluency": {"scale_4": "4"},
        "overall": {"scale_2": "2"},
        "comment": {"text_box": "سليم"},
    },
    "radio": {"fluency": {"4": "true"}, "overall": {"2": True}, "comment": {"text_box": "سليم"}},
    "state": {
        "fluency": {"labels": {"4": True}},
        "overall": {"labels": {"2": True}},
        "comment": "سليم",
    },
    "pairs": [
        [{"schema": "fluency", "name": "scale_4"}, "4"],
        [{"schema": "overall", "name": "2"}, "2"],
        [{"schema": "comment", "name": "text_box"}, "سليم"],
    ],
    "Arabic": {"سلامة اللغة": {"٤": "true"}, "Overall": {"2": "2"}, "comment": {"x": "سليم"}},
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("form", ["lines", "state", "all"])
def test_potato(study, tmp_path, labels, form):
    folder, other = tmp_path / "annotation_output/hala", tmp_path / "annotation_output/omar"
    folder.mkdir(parents=True)
    other.mkdir()
    line = {"id": "i0", "displayed_text": "…", "label_annotations": labels, "span_annotations": {}}
    line["behavioral_data"] = {"time_string": "Time spent: 0d 0h 1m 7s "}
    state = {"user_id": "hala", "instance_id_to_label_to_value": {"i0": labels}}
    files = {
        "lines": ("annotated_instances.jsonl", json.dumps(line) + "\n"),
        "state": ("user_state.json", json.dumps(state)),
        "all": ("../all.jsonl", json.dumps(line | {"user_id": "hala"}) + "\n"),
    }
    name, text = files[form]
    (folder / name).write_text(text, encoding="utf-8")
    for path in rating_files(tmp_path / "annotation_output"):
        taken = import_ratings(study, path)[1]
    kept = {"fluency": 4, "overall": 2, "comment": "سليم"}
    assert known(study) == {("hala", 1, k): v for k, v in kept.items()} and not taken.left_out
    assert study.seconds() == ({} if form == "state" else {("hala", 1): 67.0})


@pytest.mark.parametrize(
    "labels", [["fluency: 4", "overall: 2"], ["fluency_4", "Overall=٢"], ["fluency 4", "overall-2"]]
)
@pytest.mark.parametrize("key", ["label", "labels", "categories", "cats"])
def test_doccano(study, tmp_path, labels, key):
    path = tmp_path / "hala.jsonl"
    lines = [
        {"id": 1, "data": "…", "item_id": "i0", key: labels, "Comments": ["سليم", "قصير"]},
        {"id": 2, "text": "…", "meta": {"item_id": "i1"}, key: ["fluency: 9"], "comments": []},
        {"id": 3, "text": "…", "meta": {"item_id": "i2"}, key: [[0, 3, "fluency: 1"], "topic"]},
    ]
    approved = {"annotation_approver": "omar"}
    path.write_text("\n".join(json.dumps(line | approved) for line in lines), encoding="utf-8")
    who, taken = import_ratings(study, path)
    kept = {"fluency": 4, "overall": 2, "comment": "سليم\nقصير"}
    assert who == "doccano" and known(study) == {("hala", 1, k): v for k, v in kept.items()}
    assert len(taken.left_out) == 3
    path.write_text(json.dumps(lines[0] | {key: labels[:1], "Comments": []}), encoding="utf-8")
    os.utime(path, (T0 * 2, T0 * 2))
    taken = import_ratings(study, path)[1]
    assert known(study) == {("hala", 1, "fluency"): 4} and taken.withdrawn == 2
    path.rename(tmp_path / "all.jsonl")
    with pytest.raises(UserError, match="annotator all is no rater .*--rater all=NAME"):
        import_ratings(study, tmp_path / "all.jsonl")


def test_any_order_of_the_same_annotations_gives_the_same_study(tmp_path):
    rng = random.Random(5)
    states = [
        rated(hour=h, number=h, fluency=rng.choice([1, 2, 3]), overall=rng.choice([1, 5]))
        for h in (10, 20, 30, 40)
    ]
    wanted = None
    for n in range(8):
        rng.shuffle(states)
        with StudyFile(new_study(tmp_path / f"{n}.sqlite")) as study:
            now = given(study, tmp_path, task(*states))[1]
        wanted = wanted or now
        assert now == wanted


def test_the_command_says_what_became_of_all(tmp_path):
    new_study(tmp_path / "study.sqlite")
    odd = rated(by=2, fluency=9, overall=3, lead=-1)
    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(rated(), odd)]), encoding="utf-8")
    command = [Path(sys.executable).with_name("arabic-dialog"), "rate", "import", path]
    command += ["--study", tmp_path, "--rater", "1=hala", "--rater", "2=omar"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 new answers, 0 changed, 0 known or older, 0 withdrawn" in done.stdout
    assert "left out: task 1: fluency is '9'" in done.stdout
    assert "left out: task 1: a time that cannot be meant; its answers are taken" in done.stdout
