"What geography.csv says of each country: complete, consistent, and CLDR's where it is from CLDR"

import pytest

from arabic_dialog.core.files import data_path, load_csv

FLAGS = ("coast", "rivers", "mountains", "desert", "snow", "forests", "islands", "arabic_official")
# a name, the thing that it names, and how such names begin
NAMES = (
    ("sea", "coast", ("البحر ", "بحر ", "المحيط ", "خليج ")),
    ("river", "rivers", ("نهر ",)),
    ("range", "mountains", ("جبال ", "جبل ", "الجبال ", "الجبل ")),
    ("desert_name", "desert", ("الصحراء ", "صحراء ")),
)
# `landlocked` of npm package world-countries 5.1.0, of the countries in countries.csv
LANDLOCKED = set(
    "ET UG AF UZ NP NE BF ML MW ZM KZ TD ZW RW BI SS BO CZ AZ TJ HU BY AT CH LA PY RS KG TM CF SK"
    " MD MN AM BW LS MK".split()
)
CASPIAN = {"AZ", "KZ", "TM"}  # the Caspian Sea is their only one
ISLANDS = set("BH KM ID PH JP MG AU LK HT CU DO PG SG GB IE NZ JM".split())
# languages of countries.csv that CLDR calls otherwise in Arabic
LANGUAGES = {
    "القمرية": "zdj",
    "الدارية": "fa",
    "الموسية": "mos",
    "الهوسية": "ha",
    "البمبارية": "bm",
    "الملايوية": "ms",
    "الكريولية الهايتية": "ht",
    "السوتية": "st",
    "التوك بيسين": "tpi",
    "السانغوية": "sg",
    "الكيروندية": "rn",
    "الخميرية": "km",
    "النرويجية": "nb",
    "المجرية": "hu",
    "الأردية": "ur",
    "الملغاشية": "mg",
    "الكازاخية": "kk",
    "الشونية": "sn",
    "الكينيارواندية": "rw",
    "الدنماركية": "da",
    "الأرمينية": "hy",
    "السلوفينية": "sl",
}


@pytest.fixture(scope="module")
def lands():
    return {row["code"]: row for row in load_csv(data_path("geography.csv"))}


@pytest.fixture(scope="module")
def countries():
    return load_csv(data_path("countries.csv"))


def test_every_country_once_and_in_the_same_order(countries):
    codes = [row["code"] for row in load_csv(data_path("geography.csv"))]
    assert codes == [row["code"] for row in countries]


def test_answers_are_yes_no_or_nothing(lands):
    for code, land in lands.items():
        assert {land[flag] for flag in FLAGS} <= {"yes", "no", ""}, code
        assert land["source"] in {"rule", "hand"}, code


def test_the_landlocked_have_no_coast(lands):
    assert {code for code, land in lands.items() if land["coast"] != "yes"} == LANDLOCKED
    assert {code for code, land in lands.items() if not land["coast"]} == CASPIAN
    assert all(lands[code]["islands"] == lands[code]["coast"] == "yes" for code in ISLANDS)


@pytest.mark.parametrize("name, thing, starts", NAMES)
def test_a_name_stands_where_its_thing_is(lands, name, thing, starts):
    named = {code: land for code, land in lands.items() if land[name]}
    assert len(named) > 30
    for code, land in named.items():
        assert land[thing] == "yes", code
        assert land[name].startswith(starts) and land[name] == land[name].strip(), code


def test_what_everyone_knows(lands):
    "Rows by which a column that slipped would show"
    for flag, yes, no in (
        ("coast", "EG OM JO BA CD SI", "ET BO NP CH TD"),
        ("rivers", "EG IQ SD BR ML", "OM SA AE KW QA BH YE LY DJ"),
        ("mountains", "MA LB NP CH YE", "BH QA KW NL DK"),
        ("desert", "EG SA MN CL NA", "JP IE CU LB"),
        ("snow", "RU CA LB MA NP", "SG QA GH CU"),
        ("forests", "BR CD FI GA JP", "QA BH EG KW"),
    ):
        assert {lands[code][flag] for code in yes.split()} == {"yes"}, flag
        assert {lands[code][flag] for code in no.split()} == {"no"}, flag


def test_arabic_is_official_where_cldr_says_so(lands):
    languages = pytest.importorskip("babel.core").get_global("territory_languages")
    for code, land in lands.items():
        status = languages[code].get("ar", {}).get("official_status")
        official = status in ("official", "de_facto_official")
        if code in ("ER", "IL"):  # no law says so, or no longer
            assert official and land["arabic_official"] == ""
        else:
            assert land["arabic_official"] == ("yes" if official else "no"), code


@pytest.fixture(scope="module")
def languages(countries):
    "The code of each country's language"
    likely = pytest.importorskip("babel.core").get_global("likely_subtags")
    names = pytest.importorskip("babel").Locale("ar").languages
    codes = {name: code for code, name in names.items() if code in likely} | LANGUAGES
    return {row["code"]: codes[row["language"]] for row in countries}


def test_languages_are_official(languages):
    spoken = pytest.importorskip("babel.core").get_global("territory_languages")
    missing = {
        code
        for code, language in languages.items()
        if spoken[code][language]["official_status"] not in ("official", "de_facto_official")
    }
    assert missing == {"BF", "ML", "NE"}  # official since CLDR's data were gathered


def test_neighbours_are_mutual(countries):
    neighbours = {row["code"]: set(row["neighbours"].split(";")) - {""} for row in countries}
    for code, others in neighbours.items():
        assert all(code in neighbours[other] for other in others), code


def test_scripts_are_the_likely_ones(lands, countries, languages):
    likely = pytest.importorskip("babel.core").get_global("likely_subtags")
    for row in countries:
        language = languages[row["code"]]
        tag = likely.get(f"{language}_{row['code']}") or likely[language]
        assert lands[row["code"]]["script"] == tag.split("_")[1], row["code"]


def test_arabic_by_law_alone_is_neither_arabic_nor_foreign():
    from arabic_dialog.generation.patterns import load_places

    places = load_places(data_path("countries.csv"), data_path("geography.csv"))
    sides = {code: (p.meets("arabic"), p.meets("foreign")) for code, p in places.items()}
    assert {code for code, side in sides.items() if side == (False, False)} == set(
        "DJ ER IL KM SO".split()
    )
    assert sides["EG"] == (True, False) and sides["FR"] == (False, True)
