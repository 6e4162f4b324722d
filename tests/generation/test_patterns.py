"Sentences with slots, alternatives and conditions, over all countries"

import pytest

from arabic_dialog.core.files import data_path, load_csv
from arabic_dialog.core.records import UserError
from arabic_dialog.generation.patterns import (
    CONDITIONS,
    LACKS,
    Reader,
    load_geography,
    load_places,
    parse_pattern,
    slot_values,
)

FILES = data_path("countries.csv"), data_path("geography.csv")


@pytest.fixture(scope="module")
def places():
    return load_places(*FILES, city_states=["SG"])


def every_text(pattern):
    "What a pattern without slots can say"
    texts = [pattern.text]
    for slot, words in pattern.choices:
        texts = [text.replace(f"{{{slot}}}", word) for text in texts for word in words]
    return set(texts)


ALTERNATIVES = {
    "يزورها <كثير من|عدد كبير من> الناس.": {"يزورها كثير من الناس.", "يزورها عدد كبير من الناس."},
    "الطريق جميل <جدًا|>.": {"الطريق جميل جدًا.", "الطريق جميل."},
    "<نعم، |>هذا صحيح.": {"نعم، هذا صحيح.", "هذا صحيح."},
    "<ربما|> يتغير ذلك.": {"ربما يتغير ذلك.", "يتغير ذلك."},
    "قال <أمس|> <لي|> كلامًا.": {
        "قال أمس لي كلامًا.",
        "قال أمس كلامًا.",
        "قال لي كلامًا.",
        "قال كلامًا.",
    },
    "السلام عليكم<| جميعًا> يا أهل الدار.": {
        "السلام عليكم جميعًا يا أهل الدار.",
        "السلام عليكم يا أهل الدار.",
    },
    "ال<صيف|شتاء> طويل.": {"الصيف طويل.", "الشتاء طويل."},
    "[يهتم|تهتم] به <بعض|كثير>.": {"يهتم به بعض.", "يهتم به كثير."},
}


@pytest.mark.parametrize("text", ALTERNATIVES)
def test_alternatives_are_parted_and_an_empty_one_leaves_no_blank(text):
    assert every_text(parse_pattern(text)) == ALTERNATIVES[text]


def test_a_topic_is_named_where_every_alternative_names_it():
    keywords = ("الشاي", "نعناع")
    assert parse_pattern("<الشاي|النعناع> مفيد.", "m", keywords).names == {"topic"}
    assert parse_pattern("<الشاي|الماء> مفيد.", "m", keywords).names == set()
    assert parse_pattern("<كثير|قليل> من النعناع.", "m", keywords).names == {"topic"}


MISTAKES = {
    "أين <هذا|ذلك؟": "not closed",
    "أين هذا|ذلك؟": "not closed",
    "أين هذا> ذلك؟": "not closed",
    "أين <هذا <أو|ذلك>|>؟": "not closed",
    "أين <هذا>؟": "one alternative only",
    "أين <{country}|هذا>؟": "a slot inside the alternatives <{country}|هذا>",
    "@sea أين؟": "unknown condition @sea; known are coast, landlocked",
    "أين @coast هذا؟": "an @ that is no condition",
    "@coastأين؟": "an @ that is no condition",
    "أين {desert_name}؟": "unknown slot {desert_name}",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_with_its_place_and_text(text):
    with pytest.raises(UserError) as error:
        Reader("m").patterns([text], "food.toml [bread] answers")
    assert str(error.value).startswith(f"food.toml [bread] answers, {text!r}: ")
    assert MISTAKES[text] in str(error.value)


def by_law_alone(row, place):
    "Whether Arabic is official where the common language is another: neither arabic nor foreign"
    return row["arabic_official"] == "yes" and place.facts["language"] != "العربية"


def test_conditions_hold_as_the_table_says_in_every_country(places):
    rows = load_geography(FILES[1])
    assert len(places) == 151
    for code, place in places.items():
        for word, (column, value) in CONDITIONS.items():
            facts = rows[code] | {"city_state": "yes" if code == "SG" else "no"}
            if column == "arabic_official" and by_law_alone(rows[code], place):
                facts[column] = ""
            assert place.meets(word) == (facts[column] == value), (code, word)


def test_of_what_is_unknown_neither_side_is_said(places):
    unknown = 0
    for code, row in load_geography(FILES[1]).items():
        for word, other in LACKS.items():
            both = places[code].meets(word), places[code].meets(other)
            assert both != (True, True)
            empty = row[CONDITIONS[word][0]] == ""
            empty |= word == "arabic" and by_law_alone(row, places[code])
            assert (both == (False, False)) == empty
            unknown += both == (False, False)
    assert unknown > 100


def test_a_pattern_is_ready_where_all_its_conditions_and_slots_are_met(places):
    pattern = parse_pattern("@coast @snow @wide على شواطئ {sea}، وفي {range}.")
    for place in places.values():
        missing = place.unmet | {slot for slot, text in place.facts.items() if not text}
        expected = all(place.meets(word) for word in ("coast", "snow", "wide"))
        expected = expected and bool(place.facts["sea"]) and bool(place.facts["range"])
        assert bool(pattern.ready(missing)) == expected


def test_the_name_of_a_desert_is_not_the_condition(places):
    named, condition = parse_pattern("في {desert}."), parse_pattern("@desert في الرمال.")
    nameless = [p for p in places.values() if p.meets("desert") and not p.facts["desert"]]
    assert len(nameless) >= 5
    for place in nameless:
        missing = place.unmet | {"desert"}
        assert condition.ready(missing) and not named.ready(missing)


def test_an_exchange_needs_what_stands_under_when():
    row = {"q": ["@snow هل نتزلج؟", "هل نمشي؟"], "a": ["نعم.", "@snow على الثلج."]}
    rows = [row | {"when": when} for when in ("mountains", ["mountains", "wide"])]
    one, two = Reader("m").exchanges(rows, "sport.toml [ski] followups")
    assert one.needs == {"@snow", "@mountains"} and two.needs == one.needs | {"@wide"}
    assert one.ready(frozenset({"@mountains"})) is None
    assert two.ready(frozenset({"@wide"})) is None
    warm = one.ready(frozenset({"@snow"}))
    assert [p.text for p in warm.questions + warm.answers] == ["هل نمشي؟", "نعم."]
    assert one.ready(frozenset({"@coast"})) is one


def test_names_of_the_land_take_prepositions(places):
    egypt = places["EG"].values
    assert (egypt["l_sea"], egypt["b_river"]) == ("للبحر المتوسط", "بنهر النيل")
    assert (egypt["l_desert"], egypt["w_desert"]) == ("للصحراء الكبرى", "والصحراء الكبرى")
    assert slot_values({"range": ""}) == {"range": ""}
    for place in places.values():
        for slot in ("sea", "river", "range", "desert"):
            assert (f"l_{slot}" in place.values) == bool(place.facts[slot])


def test_a_wrong_fact_is_refused_with_its_country_and_column(tmp_path):
    text = FILES[1].read_text(encoding="utf-8")
    assert "\nNP,no," in text
    path = tmp_path / "geography.csv"
    path.write_text(text.replace("\nNP,no,", "\nNP,maybe,"), encoding="utf-8")
    with pytest.raises(UserError, match="NP: coast is 'maybe', and should be yes, no or empty"):
        load_places(FILES[0], path)


def test_a_country_that_is_not_described_is_unknown(tmp_path):
    path, row = tmp_path / "geography.csv", load_csv(FILES[1])[0]
    path.write_text(",".join(row) + "\n", encoding="utf-8")
    places = load_places(FILES[0], path)
    assert len(places) == 151
    assert all(not place.meets(word) for place in places.values() for word in LACKS)
    assert not places["EG"].facts["sea"] and places["EG"].meets("wide")
