"""Records: names of checkpoints, ids of scenarios, and what makes two requests the same."""

import json

import pytest

from arabic_dialog.core.files import digest, from_json, to_json
from arabic_dialog.core.records import (
    CHECKPOINT_KINDS,
    Checkpoint,
    Conversation,
    Request,
    Sampling,
    Scenario,
    Turn,
    UserError,
    cut_at,
)


@pytest.mark.parametrize(
    "student", ["arabiangpt", "my-student", "a-base", "x-finetuned-s1", "s-s2"]
)
@pytest.mark.parametrize("kind", CHECKPOINT_KINDS)
@pytest.mark.parametrize("seed", [0, 1, 17])
def test_a_checkpoints_name_leads_back_to_it(student, kind, seed):
    checkpoint = Checkpoint(student, kind, 0 if kind == "base" else seed)
    assert Checkpoint.parse(checkpoint.name) == checkpoint


def test_names_of_checkpoints():
    assert Checkpoint("arabiangpt", "base").name == "arabiangpt-base"
    assert Checkpoint("arabiangpt", "finetuned", 0).name == "arabiangpt-finetuned-s0"
    assert Checkpoint("my-student", "control", 1).name == "my-student-control-s1"
    assert Checkpoint.parse("my-student-finetuned-s2") == Checkpoint("my-student", "finetuned", 2)
    assert Checkpoint("my-student", "finetuned", 2).model == "my-student-finetuned"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "reference",
        "jais-13b-chat",
        "arabiangpt",
        "arabiangpt-base-s0",
        "arabiangpt-finetuned",
        "arabiangpt-finetuned-s",
        "arabiangpt-finetuned-s01",
        "arabiangpt-finetuned-s٣",
        "arabiangpt-finetuned-s1\n",
        "-base",
        "finetuned-s1",
    ],
)
def test_a_name_of_anything_else_is_no_checkpoint(name):
    assert Checkpoint.parse(name) is None


def test_a_checkpoint_that_cannot_be():
    with pytest.raises(UserError, match="kind 'tuned' is not one of base, finetuned, control"):
        Checkpoint("arabiangpt", "tuned")
    with pytest.raises(UserError, match="a base has no seed"):
        Checkpoint("arabiangpt", "base", 3)


def test_a_scenarios_id_and_cell():
    scenario = Scenario.of("tea_time", "MA", 3)
    assert scenario == Scenario("tea_time_MA_3", "tea_time", "MA", 3)
    assert scenario.cell == ("tea_time", "MA")
    assert "cell" not in to_json(scenario)


def test_a_request_is_the_same_whatever_scenario_it_carries():
    plain = Request("bread_EG_0", "…")
    carrying = Request("bread_EG_0", "…", Scenario.of("bread", "EG"))
    assert plain == carrying and hash(plain) == hash(carrying)


def test_the_text_of_a_conversation():
    turns = (Turn("user", "مرحبا"), Turn("assistant", "أهلًا"))
    assert Conversation("c", Scenario.of("bread", "EG"), turns, "m").text == "مرحبا\nأهلًا"


def test_a_text_is_cut_at_the_first_stop_string_wherever_they_overlap():
    assert cut_at("مرحبا ### ثم", ("ثم", "###")) == "مرحبا "
    assert cut_at("abcd", ("bc", "ab")) == "" and cut_at("abcd", ("x",)) == "abcd"
    assert cut_at("a\nb", ("\n",)) == "a" and cut_at("", ("a",)) == ""


def test_a_field_that_joined_later_changes_no_file_and_no_fingerprint():
    before = {
        "temperature": 0.3,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "max_new_tokens": 512,
        "seed": 0,
    }
    assert json.loads(to_json(Sampling())) == before
    assert digest(Sampling()) == digest(before) != digest(Sampling(stop=("a",)))
    for sampling in (Sampling(), Sampling(stop=("a", "b"))):
        assert from_json(Sampling, to_json(sampling)) == sampling
