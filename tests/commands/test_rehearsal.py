"""The profile `paper` from an empty cache to verdicts, with small models in the published layouts.

Everything is as whoever has a GPU would do it, only smaller: the models come from a hub (a
stand-in), the run is killed where it hurts, people rate over HTTP. A toy may not be called a
reproduction.
"""

import json
import os

import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from arabic_dialog.core.files import load_csv, load_jsonl
from arabic_dialog.core.records import Conversation
from rating_load import serving
from rehearsal import BASELINES, GENERATOR, STUDENTS, make_lists, make_models
from standin_hub import StandInHub

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("arabic-dialog"))
SIZES = {
    "variants": 5,
    "n_scenarios": 120,
    "min_turns": 4,
    "max_turns": 4,
    "max_new_tokens": 200,
    "generator_dtype": "float32",
    "baselines": ",".join(BASELINES),
    "validation_share": 0.1,
    "test_share": 0.2,
    "finetune_steps": 30,
    "finetune_n_evaluations": 3,
    "max_length": 400,
    "reply_max_new_tokens": 16,
    "n_test_conversations": 20,
    "n_resamples": 200,
    "n_rated_items": 12,
    "seeds": "0,1",
    "sweep_learning_rates": "1e-3, 3e-3",
    "sweep_steps": 5,
}


class Project:
    "Commands on one run, as a person types them"

    def __init__(self, folder: Path, lists, environment):
        self.run = folder / "run"
        self.environment = os.environ | environment
        places = {name: getattr(lists, name) for name in ("topics", "countries", "prompt")}
        chosen = {k: os.path.relpath(path, ROOT) for k, path in places.items()} | SIZES
        self.sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]

    def arguments(self, *args):
        return [COMMAND, *map(str, args)]

    def command(self, *args, **kwargs):
        return subprocess.run(
            self.arguments(*args),
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **kwargs,
        )

    def profile(self, *args):
        return self.command(*args, "--profile", "paper", *self.sets)

    def kill_when(self, seen: Path, *args):
        "Start a command and kill it with all that it started, once a file holds something"
        said = (self.run.parent / "said.txt").open("w+", encoding="utf-8")
        process = subprocess.Popen(
            self.arguments(*args, "--profile", "paper", *self.sets),
            cwd=ROOT,
            env=self.environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        while process.poll() is None and not _has_content(seen):
            time.sleep(0.05)
        said.seek(0)
        assert process.poll() is None, f"it ended before {seen} was there: {said.read()}"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_content(pattern: Path) -> bool:
    "Whether a file of this name, which may have wildcards, holds something"
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if "*" in part), len(parts))
    start, rest = Path(*parts[:first]), "/".join(parts[first:])
    found = start.glob(rest) if rest else [start]
    return any(path.is_file() and path.stat().st_size > 0 for path in found)


def _answer(port: int, link: str, seen: int, position: int, criterion: str, value: int) -> int:
    "A rater's answer, as the page sends it; the revision that it becomes"
    body = {
        "position": position,
        "field": criterion,
        "value": value,
        "tab": "rehearsal",
        "seen": seen,
        "visit": f"v{position}",
        "seconds": 20,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/r/{link}/answers",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)["revision"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    "The models of the rehearsal, on a stand-in for the Hub"
    folder = tmp_path_factory.mktemp("paper")
    lists = make_lists(folder / "lists")
    models = make_models(folder / "models", lists)
    with StandInHub() as hub:
        for name, path in models.items():
            hub.add(name, path)
        yield folder, lists, hub


@pytest.fixture(scope="module")
def fetched(hub):
    "(the project, what an interrupted fetch said, what the fetch after it said)"
    folder, lists, stand_in = hub
    project = Project(folder, lists, stand_in.environment(folder / "cache"))
    stand_in.cut("model.safetensors", 100_000, times=99)
    broken = project.profile("fetch", "--yes")
    stand_in.mend()
    whole = project.profile("fetch", "--yes")
    project.environment["HF_HUB_OFFLINE"] = "1"  # from here on there is no network
    return project, broken, whole


@pytest.fixture(scope="module")
def finished(fetched):
    "The project after three kills and a run to the end, with what the plan had said"
    project, *_ = fetched
    plan = project.profile("reproduce", "--plan")
    start = ("reproduce", "--run", project.run)
    for place in (
        "raw/**/*.jsonl",
        "train/arabiangpt-finetuned-s0/_trainer/job.txt",
        "cache/replies/qwen3*.jsonl",
    ):
        project.kill_when(project.run / place, *start)
    return project, plan, project.profile(*start)


def _verdicts(run: Path) -> dict[str, str]:
    return {row["id"]: row["verdict"] for row in load_csv(run / "paper/tab_claims/tab_claims.csv")}


@pytest.fixture(scope="module")
def rated(finished):
    "The project after two people have rated over HTTP, and its verdicts before"
    project, *_ = finished
    before = _verdicts(project.run)
    people = ["--rater", "hala", "--rater", "omar"]
    new = project.command("rate", "new", "--run", project.run, "--items", 24, *people)
    assert new.returncode == 0, new.stderr
    from arabic_dialog.rating.answers import StudyFile
    from arabic_dialog.rating.study import load_links, study_path

    study = project.run / "human"
    with StudyFile(study_path(study)) as file:
        slots = {rater: list(file.slots(rater)) for rater in file.raters}
        criteria = list(file.criteria)
    links = load_links(study).raters
    with serving(study) as (_, port):
        for rater, link in links.items():
            seen = 0
            for slot in slots[rater]:
                for n, criterion in enumerate(criteria):
                    value = 1 + (slot.position + n + (rater == "omar")) % 5
                    seen = _answer(port, link, seen, slot.position, criterion, value)
    done = project.profile("reproduce", "--run", project.run)
    return project, before, done


def test_an_interrupted_fetch_goes_on_and_brings_every_model(fetched):
    project, broken, whole = fetched
    assert broken.returncode == 2 and len(broken.stderr.strip().splitlines()) == 1, broken.stderr
    assert whole.returncode == 0, whole.stderr
    for name in (GENERATOR, *STUDENTS, *BASELINES):
        assert name in whole.stdout, name


def test_killed_three_times_it_reaches_the_report_without_a_network(finished):
    project, _, done = finished
    assert done.returncode == 0, done.stdout + done.stderr
    conversations = load_jsonl(project.run / "check/conversations.jsonl", Conversation)
    assert len(conversations) > 100
    assert all(len(c.turns) == SIZES["min_turns"] for c in conversations)
    models = {row["model"] for row in load_csv(project.run / "scores/models.csv")}
    assert {name.split("/")[1].lower() for name in BASELINES} < models
    assert project.command("verify", project.run).returncode == 0


def test_a_toy_is_never_called_a_reproduction_nor_a_failed_one(finished, rated):
    project, before, _ = rated
    for verdicts in (before, _verdicts(project.run)):
        assert not {"reproduced", "not reproduced"} & set(verdicts.values()), verdicts
    report = (project.run / "report.html").read_text(encoding="utf-8")
    assert "n_scenarios" in report  # what differs from the paper is listed


def test_the_ledger_follows_people_who_rate_and_the_run_verifies(rated):
    project, before, done = rated
    assert done.returncode == 0, done.stderr
    assert before["C9"] == before["C10"] == before["C11"] == "not run"
    after = {row["id"]: row for row in load_csv(project.run / "paper/tab_claims/tab_claims.csv")}
    assert all(after[claim]["verdict"] != "not run" for claim in ("C9", "C10", "C11"))
    study = json.loads((project.run / "rating/study.json").read_text(encoding="utf-8"))
    assert study["simulated"] is False
    assert project.command("verify", project.run).returncode == 0


def test_no_card_and_no_export_names_a_place_on_this_machine(rated, tmp_path):
    project, *_ = rated
    out = project.command("export", "--run", project.run, "--to", tmp_path / "out")
    assert out.returncode == 0, out.stderr
    cards = [*project.run.rglob("README.md"), *tmp_path.rglob("*.md")]
    assert len(cards) > 2
    for path in cards:
        assert str(project.run.parent) not in path.read_text(encoding="utf-8"), path


def test_the_doctor_knows_the_generator_and_a_student_talks(rated):
    project, *_ = rated
    known = project.command("doctor", GENERATOR)
    assert known.returncode == 0 and "jais" in known.stdout.lower(), known.stderr
    student = project.run / "train/arabiangpt-finetuned-s0"
    talk = subprocess.run(
        project.arguments("chat", student),
        cwd=ROOT,
        env=project.environment,
        input="ما أشهر أنواع الخبز؟\nكيف حالك؟\nماذا تعرف عن الشاي في مصر؟\n",
        capture_output=True,
        text=True,
    )
    assert talk.returncode == 0 and talk.stdout.strip(), talk.stderr
