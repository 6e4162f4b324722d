"""Whatever a file holds, its reader gives the right records or says in a line what is wrong.

A few damaged files for each reader here; `python tests/fuzzing.py` tries 20,000 of each.
"""

import json
import shutil
import warnings
from pathlib import Path

import pytest
from fuzzing import survey

from arabic_dialog.core.files import JsonlLog, data_path, load_csv, load_jsonl, save_text, to_json
from arabic_dialog.core.records import Completion, RunEntry, Turn, UserError
from arabic_dialog.core.runs import RunFolder, load_stage, run_stage
from arabic_dialog.core.settings import load_profile, profile_differences, profile_names
from arabic_dialog.generation.scenarios import load_countries, load_template, load_topics
from arabic_dialog.rating.answers import About, Entry, Links, StudyFile, StudyItem, create_study
from arabic_dialog.rating.design import Candidate, Criterion, Slot, draw_items, load_criteria
from arabic_dialog.rating.design import RatedItem, load_key, load_ratings, load_study, read_sheet
from arabic_dialog.rating.design import save_ratings, write_study
from arabic_dialog.rating.exchange import answers_of, label_studio_tasks, progress, render_csv
from arabic_dialog.rating.exchange import render_json
from arabic_dialog.rating.study import load_links
from arabic_dialog.rating.tools import import_ratings
from arabic_dialog.reporting.results import about_run, open_run
from arabic_dialog.reporting.verify import verify_run

ROOT = Path(__file__).resolve().parents[1]
N = 150  # damaged files for each reader in the suite


def into(path, read):
    "A reader of bytes from a reader of the file that holds them"

    def read_bytes(raw):
        path.write_bytes(raw)
        return read(path)

    return read_bytes


def settings(folder):
    raw = (ROOT / "settings.ini").read_bytes()
    shutil.copytree(ROOT / "data/prompts", folder / "data/prompts")
    for name in ("topics.csv", "countries.csv", "criteria.csv"):
        shutil.copy(ROOT / "data" / name, folder / "data")

    def read(path):
        names = profile_names(path)
        profile_differences(path)
        return [load_profile(name, path) for name in names]

    small = b"[DEFAULT]\nseed = 1\n[a]\nname = x\n[A]\ndescription = \xd8\xae\n"
    return [raw, b"\xef\xbb\xbf" + raw, raw.decode().encode("utf-16"), small], into(
        folder / "settings.ini", read
    )


def table(name, read):
    "A reader of a CSV file of the project"

    def reader(folder):
        raw = data_path(name).read_bytes()
        head = b"\n".join(raw.split(b"\n")[:8])
        forms = [raw, head, head.decode().encode("utf-16"), head.replace(b",", b";")]
        return forms, into(folder / "table.csv", read)

    return reader


def drawn(folder):
    "A small study in a folder, with filled sheets"
    from arabic_dialog.core.records import Conversation

    conversations = load_jsonl(data_path("sample", "conversations.jsonl"), Conversation)[:6]
    said = [
        Candidate(c.id, 1, model, 0, f"رد {model}") for c in conversations for model in ("a", "b")
    ]
    items, key = draw_items(said, conversations, 8)
    return write_study(folder, items, key, load_criteria(), ["hala"]), {i.item_id for i in items}


def sheet(folder):
    study, ids = drawn(folder)
    path = folder / "sheets/sheet_hala.csv"
    n = len(study.criteria)
    lines = path.read_text(encoding="utf-8-sig").replace(
        ",,,,,,,", f",{',4' * n},".replace(",,", ",")
    )
    raws = [lines.encode("utf-8-sig"), lines.encode("utf-16")]
    raws.append(b"sep=;\r\n" + lines.replace(",", ";").encode())

    def read(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read_sheet(path, "hala", study, ids)
        seen = {r.item_id for r in found}
        assert len(found) == len(seen) * n and seen <= ids
        assert {r.value for r in found} <= {1, 2, 3, 4, 5, None}

    return raws, into(path, read)


def study_folder(name):
    "A reader of a study's folder in which one file is damaged"

    def reader(folder):
        study, ids = drawn(folder)
        save_ratings(folder, [])
        raw = (folder / name).read_bytes()
        if name == "ratings.csv":
            raw += "".join(f"{i},hala,fluency,4,\n" for i in sorted(ids)).encode()

        def read(path):
            load_study(folder), load_key(folder), load_ratings(folder)
            load_jsonl(folder / "items.jsonl", RatedItem)

        return [raw], into(folder / name, read)

    return reader


def database(folder):
    "A study of two raters with answers, in a file"
    criteria = tuple(c for c in load_criteria() if c.id in ("fluency", "overall"))
    turns = (Turn("user", "ما أشهر أنواع الخبز في مصر؟"), Turn("assistant", "الخبز البلدي."))
    items = [StudyItem(f"i{k}", turns, None, f"c{k}", 1, "base", 0) for k in range(3)]
    slots = [Slot(k + 1, f"i{k}", "item") for k in range(3)]
    about = About("s1", "خبز", "reply", "ar", criteria)
    links = Links({"hala": "h", "omar": "o"}, "x")
    path = create_study(
        folder / "study.sqlite", about, items, links, {"hala": slots, "omar": slots}
    )
    entries = [Entry("hala", k, "fluency", k, at=1e9 + k) for k in (1, 2, 3)]
    with StudyFile(path) as study:
        study.put([*entries, Entry("omar", 1, "comment", "سليم", visit="v", seconds=9, at=1e9)])
    return path


def study_file(folder):
    path = database(folder)
    StudyFile(path).close()

    def read(path):
        for beside in folder.glob("study.sqlite-*"):
            beside.unlink()
        with StudyFile(path) as study:
            answers_of(study), progress(study), render_csv(study), render_json(study)
            label_studio_tasks(study), study.who("h"), study.is_owner("x")

    return [path.read_bytes()], into(path, read)


def annotated():
    "Exports of each tool of a study's items"
    result = {"from_name": "fluency", "to_name": "d", "type": "rating", "value": {"rating": 4}}
    one = {"id": 7, "completed_by": 1, "was_cancelled": False, "lead_time": 12.5}
    one |= {
        "updated_at": "2026-11-01T10:00:00Z",
        "result": [result, result | {"from_name": "flag"}],
    }
    task = {"id": 1, "project": 2, "created_at": "2026-11-01T09:00:00Z", "data": {"item_id": "i0"}}
    task |= {"annotations": [one, one | {"completed_by": {"email": "omar@x"}}], "predictions": []}
    minimal = {"id": 1, "item_id": "i1", "annotator": 1, "annotation_id": 3, "lead_time": 4.5}
    minimal |= {"fluency": [{"rating": 4}], "comment": "سليم"}
    labels = {"fluency": {"scale_4": "4"}, "comment": {"text_box": "سليم"}}
    line = {"id": "i0", "user_id": "hala", "label_annotations": labels}
    line["behavioral_data"] = {"time_string": "Time spent: 0d 0h 1m 7s "}
    pairs = [[{"schema": "fluency", "name": "scale_4"}, "4"]]
    state = {"user_id": "hala", "instance_id_to_label_to_value": {"i0": pairs, "i1": labels}}
    doc = {"id": 1, "data": "…", "item_id": "i0", "user": "hala", "label": ["fluency: 4"]}
    page = {"kind": "arabic-dialog ratings", "format": 1, "study": "s1", "rater": "omar"}
    page["visits"] = [{"position": 3, "visit": "v", "seconds": 12.5}]
    page["answers"] = [{"position": 3, "field": "fluency", "value": 1, "at": 1e9}]
    return {
        "label-studio": [[task, task | {"id": 2, "data": {"item_id": "i1"}}], [minimal, minimal]],
        "potato": [[line, line | {"id": "i1"}], state],
        "doccano": [[doc, doc | {"id": 2, "Comments": ["سليم"]}]],
        "page": [page],
    }


def export(tool):
    def reader(folder):
        path, sent = database(folder), folder / "sent.json"
        kept = path.read_bytes()
        raws = [json.dumps(data, ensure_ascii=False).encode() for data in annotated()[tool]]
        if tool in ("potato", "doccano"):
            lines = annotated()[tool][0]
            raws.append("\n".join(json.dumps(line) for line in lines).encode())
        done = [0]

        def read(sent):
            done[0] += 1
            if done[0] % 50 == 0:
                path.write_bytes(kept)
            with StudyFile(path) as study:
                study.db.execute("PRAGMA synchronous = OFF")
                before = study.entries()
                try:
                    _, taken = import_ratings(study, sent, {"1": "hala"})
                except UserError:
                    assert study.entries() == before
                    raise
                new, old = len(study.entries()), len(before)
                assert taken.new <= new and new <= old + taken.new + taken.changed
                points = {e.value for e in study.entries() if e.field == "fluency"}
                assert points <= {0, 1, 2, 3, 4, 5}

        return raws, into(sent, read)

    return reader


def finished(folder):
    "A run of one stage with a log, as its folder keeps it"
    run = RunFolder(folder / "run")
    save_text(run / "run.json", json.dumps({"id": "r", "config": {"seed": 1}, "data_hash": "0"}))
    entry = RunEntry("r", "report", "smoke", {"seed": 1}, "0.1", "2026-01-02T03:04:05Z", {"n": 1})
    save_text(run / "runs.jsonl", to_json(entry) + "\n")
    made = {"report.html": "0"}
    report = {"made": made, "inputs": {"run.json": "0"}, "failed": ["tab_a"]}
    save_text(run / "report.json", json.dumps(report))
    result = {"inputs": {"run.json": "0"}, "values": {"n": 1}}
    save_text(run / "paper/tab_dataset/result.json", json.dumps(result))
    about = {"key": "k", "code": "c", "parameters": {"n": 1}, "outputs": made, "seconds": 1.0}
    save_text(run / "paper/tab_dataset/_made.json", json.dumps(about))
    run_stage(run, "check", lambda path: save_text(path / "a.txt", "خبز") and {"n": 1})
    return run


def run_file(name):
    "A reader of a run in which one file is damaged"

    def reader(folder):
        run = finished(folder)

        def read(path):
            found = []
            for look in (verify_run, about_run, lambda p: load_stage(RunFolder(p), "check")):
                try:
                    look(run.path)
                except UserError as e:
                    found.append(e)
            if found:
                raise found[0]
            return open_run(run.path).about

        return [(run / name).read_bytes()], into(run / name, read)

    return reader


def log(folder):
    raw = data_path("sample", "completions.jsonl").read_bytes().splitlines(True)[:3]
    path = folder / "log.jsonl"

    def read(path):
        whole = list(JsonlLog(path, Completion))
        assert list(JsonlLog(path, Completion)) == whole

    return [b"".join(raw)], into(path, read)


def links(folder):
    database(folder)
    raw = json.dumps({"raters": {"hala": "h", "omar": "o"}, "owner": "x"}).encode()
    return [raw], into(folder / "links.json", lambda path: load_links(folder))


ASSUMED = ["id", "unknown", "assumed", "why", "setting"]
READERS = {
    "settings": settings,
    "topics": table("topics.csv", load_topics),
    "countries": table("countries.csv", load_countries),
    "criteria": table("criteria.csv", load_criteria),
    "assumptions": table("assumptions.csv", lambda path: load_csv(path, ASSUMED)),
    "prompt": table("prompts/dialogue.txt", load_template),
    "sheet": sheet,
    **{
        name: study_folder(name) for name in ("study.json", "items.jsonl", "key.csv", "ratings.csv")
    },
    "study.sqlite": study_file,
    "links": links,
    **{tool: export(tool) for tool in annotated()},
    "run.json": run_file("run.json"),
    "runs.jsonl": run_file("runs.jsonl"),
    "report.json": run_file("report.json"),
    "stage": run_file("stages/check.json"),
    "result": run_file("paper/tab_dataset/result.json"),
    "made": run_file("paper/tab_dataset/_made.json"),
    "log": log,
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    raws, read = READERS[name](tmp_path)
    for raw in raws[:1]:
        read(raw)  # whole, it is read
    counts = survey(name, raws, read, N)
    assert sum(counts.values()) == N and counts["read"] > 0
    assert counts["refused"] > 0 or name in ("result", "made")  # `verify` lists what is wrong


def test_a_criterion_keeps_what_its_row_says(tmp_path):
    path = tmp_path / "criteria.csv"
    path.write_bytes(data_path("criteria.csv").read_bytes().decode().encode("utf-16"))
    assert load_criteria(path) == load_criteria() and isinstance(load_criteria(path)[0], Criterion)
