"""Stages: what shapes them is in their key, and they say why they are made again."""

import json
import threading

import pytest

from arabic_dialog.core.records import UserError
from arabic_dialog.core.runs import (
    Recipe,
    Rehearsal,
    RunFolder,
    WatchedProfile,
    Work,
    load_stage,
    run_stage,
    side_by_side,
)
from arabic_dialog.core.settings import Profile, load_profile

CODE = ("core.files",)
DRAW = Recipe(CODE, ("seed",), sources=("topics",), idle=("workers",))
SPLIT = Recipe(CODE, ("seed", "validation_share"))


def pipeline(work):
    "Two stages, of which the second reads what the first wrote"
    p = work.profile

    def draw(path):
        (path / "drawn.txt").write_text(f"{p.topics} {p.seed}")
        return {"n_workers": p.workers}

    def split(path):
        (path / "split.txt").write_text(f"{p.seed} {p.validation_share}")
        return {}

    drawn = work.stage("draw", draw, DRAW)
    return drawn, work.stage("split", split, SPLIT, inputs=[drawn])


def changed(profile, setting):
    "The same profile with another value of one setting; it need not be a sensible one"
    value = getattr(profile, setting)
    other = {bool: not value, int: 99, float: 0.123, str: "other", tuple: ("other",)}[type(value)]
    return profile.model_copy(update={setting: other})


@pytest.mark.parametrize("setting", list(Profile.model_fields))
def test_a_changed_setting_makes_the_right_stages_again(setting, tmp_path):
    profile = load_profile("smoke")
    pipeline(Work(profile, RunFolder(tmp_path), say=lambda line: None))
    rehearsal = Rehearsal(changed(profile, setting), RunFolder(tmp_path))
    pipeline(rehearsal)
    wanted = {"seed": ["draw", "split"], "topics": ["draw"], "validation_share": ["split"]}
    assert rehearsal.again == wanted.get(setting, [])


def test_a_rehearsal_makes_nothing(tmp_path):
    with pytest.raises(UserError, match="no finished stage draw; finish the run first"):
        pipeline(Rehearsal(load_profile("smoke"), RunFolder(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_setting_missing_from_a_stages_key_is_found(tmp_path):
    profile = WatchedProfile.of(load_profile("smoke"))
    work = Work(profile, RunFolder(tmp_path), say=lambda line: None)
    pipeline(work)  # every setting that is read is named

    def make(path):
        return {"n": profile.n_scenarios + profile.sampling.top_p}

    message = "recipe of s does not name .*n_scenarios.*top_p"
    with pytest.raises(LookupError, match=message):
        work.stage("s", make, Recipe(CODE, ("seed",)))
    assert load_stage(work.folder, "s") is None


def test_a_watched_profile_is_the_same_profile():
    profile = load_profile("smoke")
    watched = WatchedProfile.of(profile)
    assert watched.model_dump() == profile.model_dump()
    assert watched.sampling == profile.sampling


def test_a_changed_input_file_makes_a_stage_again(tmp_path):
    file = tmp_path / "project" / "data" / "topics.csv"
    file.parent.mkdir(parents=True)
    work = Work(load_profile("smoke"), RunFolder(tmp_path / "run"), file.parents[1], lambda _: None)
    for text, again in (("a", ""), ("b", "other settings")):
        file.write_text(text)
        assert pipeline(work)[0].again == again


def say_nothing(path):
    (path / "t").write_text("t")
    return {}


def test_a_stage_says_why_it_is_made_again(tmp_path):
    run = RunFolder(tmp_path)

    def why(name="s", **shape):
        return run_stage(run, name, say_nothing, **({"code": "core.files"} | shape)).again

    assert why() == ""
    assert why(params={"a": 1}) == "other settings"
    assert why(params={"a": 1}, code="core.records") == "other code"
    first = run_stage(run, "first", say_nothing, code="core.files")
    assert why(params={"a": 2}, inputs=[first]) == "other settings and inputs and code"
    (tmp_path / "s").rename(tmp_path / "gone")
    assert why(params={"a": 2}, inputs=[first]) == "its files were gone"


def test_results_of_another_version_are_read_and_told_in_a_line(tmp_path):
    "A state file as it was written before it held the three parts of a key"
    lines, run = [], RunFolder(tmp_path)
    work = Work(load_profile("smoke"), run, say=lines.append)
    stage = work.stage("s", say_nothing, Recipe(CODE))
    state = json.loads(run.state("s").read_text())
    del state["shape"]
    run.state("s").write_text(json.dumps(state))
    assert work.stage("s", say_nothing, Recipe(CODE)).outputs == stage.outputs
    run.state("s").write_text(json.dumps(state | {"key": "of another time"}))
    work.stage("s", say_nothing, Recipe(CODE))
    assert "cached" in lines[1]
    assert lines[2].endswith("(made again: it is of another version of this program)")
    assert (tmp_path / "replaced" / "s-of another time" / "files" / "t").is_file()


class Crew:
    "Notes how it is closed"

    closed = None

    def close(self, now=False):
        self.closed = now


def beside(*jobs):
    "Jobs of a run with two workers, and the crew that did them"
    crew, profile = Crew(), load_profile("smoke", overrides={"workers": "2"})
    work = Work(profile, RunFolder("nowhere"))
    return crew, lambda: side_by_side(work, crew, "jobs", jobs)


def test_jobs_beside_each_other():
    meeting = threading.Barrier(2, timeout=10)  # each waits for the other
    crew, do = beside(meeting.wait, meeting.wait, lambda: "three")
    results = do()
    assert sorted(results[:2]) == [0, 1] and results[2] == "three" and crew.closed is None


def test_a_failed_job_is_raised_when_the_others_have_ended():
    ended, waits = [], threading.Event()

    def fails():
        waits.wait(10)
        raise ValueError("oops")

    def lasts():
        waits.set()
        ended.append(True)

    crew, do = beside(fails, lasts)
    with pytest.raises(ValueError, match="oops"):
        do()
    assert ended and crew.closed is None


def test_an_interruption_closes_the_crew_at_once():
    def interrupted():
        raise KeyboardInterrupt

    crew, do = beside(interrupted)
    with pytest.raises(KeyboardInterrupt):
        do()
    assert crew.closed is True


def test_a_stage_with_an_encoder_is_made_again_where_the_encoders_files_change(tmp_path):
    encoder = tmp_path / "encoder"
    (encoder / "1_Pooling").mkdir(parents=True)
    (encoder / "modules.json").write_text("[]")
    pooling, card = encoder / "1_Pooling" / "config.json", encoder / "README.md"
    pooling.write_text("{}")
    card.write_text("مشفر")
    profile = load_profile("smoke").model_copy(update={"encoder": str(encoder)})
    work = Work(profile, RunFolder(tmp_path / "run"), say=lambda line: None)

    def made():
        stage = work.stage("s", say_nothing, Recipe(CODE, ("encoder",)))
        return stage.again or ("" if stage.cached else "first")

    assert made() == "first" and made() == ""
    card.write_text("مشفر آخر")
    assert made() == ""
    pooling.write_text("[]")
    assert made() == "other settings"
