"""Scores of every reply: what is refused, what own histories are scored with, tables on disk."""

import pandas as pd
import pytest

from arabic_dialog.core.files import save_table
from arabic_dialog.core.records import UserError
from arabic_dialog.metrics import scores as bm
from arabic_dialog.metrics.perplexity import Likelihood, assistant_turns
from arabic_dialog.metrics.replies import Reply
from arabic_dialog.metrics.spoiling import sample_conversations


def no_words(key):
    return ()


def test_unknown_conversations_are_named():
    replies = {"true": [Reply("gone", 1, "m", 0, "نعم", "stop")]}
    with pytest.raises(UserError, match="'gone'"):
        bm.score_models(replies, [], None, (None, None))


class Seen:
    "In place of RAVEN: a tenth for each turn before the reply"

    def score(self, pairs, progress=None):
        self.pairs = pairs
        values = [len(history) / 10 for history, _ in pairs]
        return pd.DataFrame({part: values for part in ("raven", *bm.PARTS)})


def test_own_histories_are_scored_with_what_the_model_had_said():
    conversations = sample_conversations(4, "test")
    turns = assistant_turns(conversations)
    own = [Reply(t.conversation_id, t.turn, "m", 0, f"جواب {t.turn}", "stop") for t in turns]
    raven = Seen()
    table = bm.score_models({"own": own}, conversations, raven, (no_words, no_words))
    assert set(table.metric) == {
        "own_raven",
        *(f"own_{p}" for p in bm.PARTS),
        "own_ended",
        "own_length",
    }
    for history, _ in raven.pairs:
        assert all(history[k] == f"جواب {k}" for k in range(1, len(history), 2))
    replies = {"true": [Reply(turns[0].conversation_id, 99, "m", 0, "نعم", "stop")]}
    with pytest.raises(UserError, match="no turn 99"):
        bm.score_models(replies, conversations, raven, (None, None))


def test_another_measure_is_a_metric_and_what_it_does_not_know_has_no_row():
    conversations = sample_conversations(2, "test")
    turns = assistant_turns(conversations)
    replies = [Reply(t.conversation_id, t.turn, "m", 3, t.reply.text, "length") for t in turns]

    def every_other(pairs, references):
        assert [reply for _, reply in pairs] == references
        return {"odd": [k if k % 2 else float("nan") for k in range(len(pairs))]}

    args = {"true": replies}, conversations, Seen(), (no_words, no_words)
    table = bm.score_models(*args, more=[every_other])
    odd = table[table.metric == "odd"]
    assert odd.value.tolist() == list(range(1, len(turns), 2)) and set(odd.seed) == {3}
    assert table[table.metric == "ended"].value.eq(0).all()


def test_likelihoods_go_by_the_name_of_the_checkpoint():
    rows = [Likelihood("c", 1, 2.5, 3, 40, 20)]
    args = {}, [], None, (no_words, no_words)
    table = bm.score_models(*args, likelihoods={"my-student-finetuned-s2": rows})
    assert set(zip(table.model, table.seed, strict=True)) == {("my-student-finetuned", 2)}
    assert dict(zip(table.metric, table.value, strict=True)) == {
        "nll": 2.5,
        "n_tokens": 3,
        "n_bytes": 40,
        "n_chars": 20,
    }


@pytest.mark.parametrize("drop", bm.SCORE_COLUMNS)
def test_a_missing_column_is_named(drop, tmp_path):
    scores = pd.DataFrame([("c", 1, "m", 0, "raven", 0.5)], columns=bm.SCORE_COLUMNS)
    save_table(tmp_path / "s.csv", scores.drop(columns=drop))
    with pytest.raises(UserError, match=f"no column {drop}"):
        bm.load_scores(tmp_path / "s.csv")


def test_students_may_have_hyphens_in_their_names():
    table = bm.describe_models(["my-student-base", "my-student-finetuned", "aragpt2-control"])
    assert table.family.tolist() == ["my-student", "aragpt2", "my-student"]
    assert table.kind.tolist() == ["after", "control", "before"]
    assert table.label[1] == "AraGPT2, fine-tuned on shuffled replies"
