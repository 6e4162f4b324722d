"The embedded engine writes from what a request carries, whatever its prompt says"

import pytest

from arabic_dialog.core.files import find_root
from arabic_dialog.core.records import Request, Sampling, Scenario, UserError
from arabic_dialog.core.settings import load_profile
from arabic_dialog.generation.embedded import EmbeddedEngine
from arabic_dialog.generation.parsing import parse_conversation
from arabic_dialog.generation.scenarios import draw_n_turns, plan_profile, plan_requests


@pytest.fixture(scope="module")
def engine():
    return EmbeddedEngine(defect_rate=0)


BREAD_IN_EGYPT = Scenario.of("bread", "EG")


def write(engine, prompt, n_turns=6, scenario=BREAD_IN_EGYPT):
    (done,) = engine.complete([Request("r1", prompt, scenario, n_turns)], Sampling())
    return done


def test_the_prompt_is_passed_on_and_not_read(engine):
    tea = "الموضوع: الشاي\nالبلد: اليابان\nعدد الأدوار: 2"
    told, silent = write(engine, tea), write(engine, "…")
    assert (told.prompt, told.text) == (tea, silent.text)
    assert len(parse_conversation(told.text)) == 6 and "الخبز" in told.text


def test_a_length_that_nobody_asked_for_is_drawn(engine):
    lengths = {
        len(parse_conversation(write(engine, "…", None, Scenario.of("tea", c)).text))
        for c in ("EG", "JP", "FR", "BR", "KE", "SY", "TR", "IN")
    }
    assert lengths <= {4, 6, 8, 10} and write(engine, "…", None) == write(engine, "…", None)


def test_a_request_without_a_scenario_is_refused_with_a_remedy(engine):
    with pytest.raises(UserError, match=r"carries no scenario.*Request\(id, prompt, scenario\)"):
        write(engine, "الموضوع: الشاي\nالبلد: اليابان\nعدد الأدوار: 2", scenario=None)


def test_the_requests_of_a_plan_carry_what_their_prompts_ask_for():
    profile, root = load_profile("smoke", overrides={"n_scenarios": "93"}), find_root()
    requests = plan_requests(profile, root)
    assert [r.scenario for r in requests] == plan_profile(profile, root)
    for r in requests:
        bounds = profile.min_turns, profile.max_turns, profile.seed
        assert r.id == r.scenario.id and r.n_turns == draw_n_turns(r.scenario, *bounds)
        assert f"عدد الأدوار: {r.n_turns}\n" in r.prompt
