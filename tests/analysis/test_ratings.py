"The ratings of a run come from the page, from sheets or from simulated raters, never from two"

import pandas as pd
import pytest

from arabic_dialog.analysis.ratings import make_ratings, make_study, page_ratings
from arabic_dialog.core.files import load_csv, save_jsonl, save_table, save_text
from arabic_dialog.core.records import UserError
from arabic_dialog.core.runs import RunFolder, WatchedProfile, Work, run_stage
from arabic_dialog.core.settings import load_profile
from arabic_dialog.metrics.replies import Reply, reference_replies, select_test_turns
from arabic_dialog.metrics.spoiling import sample_conversations
from arabic_dialog.rating.design import load_criteria, load_study

METRICS = ("raven", "on_topic", "on_country", "ended", "well_formedness")


@pytest.fixture
def run(tmp_path):
    "A run with replies of two models and their scores, in which nobody has rated"
    profile = load_profile("smoke").model_copy(update={"n_rated_items": 20, "n_resamples": 20})
    work = Work(WatchedProfile.of(profile), RunFolder(tmp_path), say=lambda line: None)
    conversations = sample_conversations(8, "test")
    true = reference_replies(select_test_turns(conversations))
    other = [Reply(r.conversation_id, r.turn, "x-base", 0, "لا أعرف.", "stop") for r in true]
    rows = [
        (r.conversation_id, r.turn, r.model, 0, metric, 0.8 if r in true else 0.2)
        for r in true + other
        for metric in METRICS
    ]
    columns = ["conversation_id", "turn", "model", "seed", "metric", "value"]

    def split(path):
        save_jsonl(path / "test.jsonl", conversations)

    def marks(path):
        save_jsonl(path / "reference.jsonl", true)
        save_jsonl(path / "other.jsonl", other)

    def scores(path):
        save_table(path / "scores.csv", pd.DataFrame(rows, columns=columns))

    folder = work.folder
    replies = {"marks": run_stage(folder, "replies/marks", marks)}
    return work, run_stage(folder, "split", split), replies, run_stage(folder, "scores", scores)


def fill_sheets(work, drawn):
    "Every rater finds every reply middling, but for the first"
    points = [c.arabic for c in load_criteria()]
    for sheet in (drawn.path / "sheets").glob("sheet_*.csv"):
        table = pd.read_csv(sheet, dtype=str, keep_default_na=False)
        table[points] = "3"
        table.loc[0, points] = "5"
        save_text(work.folder / "returned" / sheet.name, table.to_csv(index=False))


def test_simulated_raters_stand_in_where_nobody_has_rated(run):
    made = make_ratings(*run)
    n_raters, n_criteria = len(load_study(made.path).raters), len(load_criteria())
    assert made.counts == dict.fromkeys(("ratings", "simulated"), 20 * n_raters * n_criteria)
    assert load_study(made.path).simulated
    assert {r["raters"] for r in load_csv(made.path / "quality.csv")} == {"simulated raters"}


def test_filled_sheets_take_the_place_of_simulated_raters(run):
    work, split, replies, _ = run
    make_ratings(*run)
    fill_sheets(work, make_study(work, split, replies))
    made = make_ratings(*run)
    assert made.counts["simulated"] == 0 and not load_study(made.path).simulated
    assert {r["value"] for r in load_csv(made.path / "ratings.csv")} == {"3", "5"}
    assert {r["raters"] for r in load_csv(made.path / "quality.csv")} == {"people"}
    assert (made.path / "drift.csv").is_file()  # the places of the sheets are known


def test_no_ratings_where_the_profile_wants_no_simulated_ones(run):
    work, *rest = run
    profile = work.profile.model_copy(update={"simulated_raters": False})
    made = make_ratings(Work(profile, work.folder, say=work.say), *rest)
    assert made.counts == {"ratings": 0} and not (made.path / "ratings.csv").exists()


def test_the_page_and_sheets_at_once_are_refused(run, monkeypatch):
    from arabic_dialog.analysis import ratings

    work, split, replies, _ = run
    fill_sheets(work, make_study(work, split, replies))
    assert page_ratings(work.folder) is None
    monkeypatch.setattr(ratings, "page_ratings", lambda folder: ratings.Given([], []))
    with pytest.raises(UserError, match="two studies; move one of them away"):
        make_ratings(*run)
