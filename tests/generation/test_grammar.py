"The grammar over its whole data, and against the parser, which is of its own floor"

import json, random, re, shutil, tomllib
from collections import Counter

import pytest

from arabic_dialog.core.arabic import mentions
from arabic_dialog.core.files import data_path, find_root, load_csv
from arabic_dialog.core.records import Conversation, Scenario, UserError
from arabic_dialog.core.settings import load_profile
from arabic_dialog.generation.embedded import DEFECTS, STYLES, add_defect, render_completion
from arabic_dialog.generation.grammar import Grammar
from arabic_dialog.generation.parsing import ParseError, parse_conversation
from arabic_dialog.generation.patterns import LACKS, Exchange
from arabic_dialog.generation.variety import load_names, measure_variety

LEFT_OVER = re.compile(r"[{}\[\]<>@|_]|  | [،؛؟.:]|[.،]{2}")


@pytest.fixture(scope="module")
def grammar():
    return Grammar.load()


def conversations(grammar, n):
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries]
    for i in range(n):
        yield grammar.dialogue(*pairs[i * 37 % len(pairs)], random.Random(i))


def test_text_is_well_formed(grammar):
    for turns in conversations(grammar, 4000):
        assert [t.speaker for t in turns] == ["user", "assistant"] * (len(turns) // 2)
        for t in turns:
            assert t.text and not LEFT_OVER.search(t.text), t.text


def test_the_article_is_attached_once(grammar):
    for c, place in grammar.countries.items():
        for slot, v in place.values.items():
            assert not v.startswith(("لال", "الال")), (c, slot, v)


def test_every_pair_has_a_conversation_of_every_length(grammar):
    for i, (t, c) in enumerate((t, c) for t in grammar.lexica for c in grammar.countries):
        n = 2 * (1 + i % 6)
        assert len(grammar.dialogue(t, c, random.Random(i), n)) == n
        assert grammar.statement(t, c, random.Random(i))


def test_no_sentence_of_the_assistant_is_said_twice(grammar):
    twice = 0
    for turns in conversations(grammar, 2000):
        said = [
            s for t in turns[1::2] for s in re.split(r"(?<=[.؟]) ", t.text) if len(s.split()) > 5
        ]
        twice += len(said) != len(set(said))
    assert twice <= 4


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_read_back(grammar, style):
    for turns in conversations(grammar, 300):
        assert parse_conversation(render_completion(turns, style)) == turns


@pytest.mark.parametrize("kind", DEFECTS)
def test_defects_never_crash_the_parser_and_change_the_text(grammar, kind):
    rng, caught = random.Random(0), 0
    for turns in conversations(grammar, 300):
        text = render_completion(turns, None, rng)
        bad = add_defect(text, rng, kind)
        assert bad != text
        try:
            caught += parse_conversation(bad) != turns
        except ParseError:
            caught += 1
    assert caught > 290 if kind != "preamble" else caught == 0


def test_sentences_are_varied(grammar):
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries]
    talks = []
    for i in random.Random(0).sample(range(len(pairs)), 4000):
        scenario = Scenario.of(*pairs[i])
        turns = grammar.dialogue(*pairs[i], random.Random(i))
        talks.append(Conversation(scenario.id, scenario, turns, "grammar"))
    variety = measure_variety(talks, load_names(load_profile("offline"), find_root()))
    assert variety.sentences > 30_000
    assert variety.commonest_share < 0.25 and variety.near_duplicates < 0.01


# ---- a grammar of one's own: changes in the files


def as_toml(value):
    "A value as TOML writes it"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {as_toml(item)}' for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def changed(folder, **changes):
    "The grammar with changes made in copies of its files: dialogue, or those of categories"
    shutil.copytree(data_path("grammar"), folder, dirs_exist_ok=True)
    for name, change in changes.items():
        file = folder / ("dialogue.toml" if name == "dialogue" else f"topics/{name}.toml")
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        change(table)
        lines = (f'"{key}" = {as_toml(value)}' for key, value in table.items())
        file.write_text("\n".join(lines), encoding="utf-8")
    return Grammar.load(folder)


RARE = ("correction", "misunderstanding", "change", "unsure")


def put_only(pairs):
    "Makes `pairs` the only ones of their kinds"

    def change(table):
        kinds = {pair["kind"] for pair in pairs}
        table["pair"] = [row for row in table["pair"] if row["kind"] not in kinds] + pairs

    return change


def without_category(table):
    table.pop("category", None)


def test_rare_kinds_come_rarely_and_once(tmp_path):
    pairs = [
        {"kind": kind, "q": f"سؤال {kind}؟", "a": f"جواب عن {{topic}} في {{country}} لا {kind}."}
        for kind in RARE
    ]
    grammar = changed(tmp_path, dialogue=put_only(pairs), sport=without_category)
    counts = Counter()
    for i in range(4000):
        turns = grammar.dialogue("chess", "EG", random.Random(i))
        for kind in RARE:
            asked = [n for n, t in enumerate(turns) if t.text.endswith(f"سؤال {kind}؟")]
            assert len(asked) <= 1 and 0 not in asked
            for n in asked:
                assert turns[n + 1].text == f"جواب عن الشطرنج في مصر لا {kind}."  # and no tail
            counts[kind] += len(asked)
    assert all(0.015 < counts[kind] / 4000 < 0.08 for kind in RARE), counts


def test_a_grammar_without_the_rare_kinds_talks_on(tmp_path):
    def drop(table):
        table["pair"] = [row for row in table["pair"] if row["kind"] not in RARE]

    grammar = changed(tmp_path, dialogue=drop)
    for i in range(200):
        assert len(grammar.dialogue("tea", "JP", random.Random(i), 12)) == 12


def test_another_topic_is_of_the_same_category_and_to_be_had(grammar):
    categories = {row["id"]: row["category"] for row in load_csv(data_path("topics.csv"))}
    by_name = {lexicon.name: topic for topic, lexicon in grammar.lexica.items()}
    for topic, code in ((t, c) for t in grammar.lexica for c in grammar.countries):
        other = by_name[grammar.talk(topic, code, random.Random(1)).values["other_topic"]]
        assert other != topic and categories[other] == categories[topic]
        assert not grammar.lexica[other].lacking(grammar.countries[code])
    drawn = {grammar.talk("bread", "EG", random.Random(i)).values["other_topic"] for i in range(99)}
    food = {grammar.lexica[t].name for t, c in categories.items() if c == "food"}
    assert drawn == food - {grammar.lexica["bread"].name}


def test_sentences_of_a_category_join_the_general_ones(tmp_path, grammar):
    def add(table):
        table["category"] = {
            "anchors": [
                "@coast هكذا {topic} في {country} قرب {sea}.",
                "هكذا {topic} في {country}.",
            ],
            "tips": ["جرب {topic} في {country}."],
            "pair": [
                {"kind": "country", "q": "هل؟", "a": "نعم.", "skip": ["chess"]},
                {"kind": "close", "q": "شكرًا.", "a": "عفوًا.", "when": "landlocked"},
            ],
        }

    plain = changed(tmp_path / "plain", sport=without_category)
    wider = changed(tmp_path / "wider", sport=add)

    def more(topic, name, code):
        talks = (g.talk(topic, code, random.Random(0)) for g in (plain, wider))
        before, after = (len(talk.fitting(name)) for talk in talks)
        return after - before

    assert [more("chess", "any_anchors", code) for code in ("EG", "NP")] == [2, 1]
    assert more("chess", "any_tips", "EG") == 1
    assert [more(topic, "any_country", "EG") for topic in ("chess", "football")] == [0, 1]
    assert [more("chess", "any_close", code) for code in ("EG", "NP")] == [0, 1]
    for name in ("any_anchors", "any_tips", "any_country", "any_close"):
        assert more("bread", name, "NP") == 0


def in_category(**keys):
    return lambda table: table.setdefault("category", {}).update(keys)


def in_bread(**keys):
    return lambda table: table["bread"].update(keys)


OWN = dict(
    openers=["أين أجده في {country}؟"],
    answers=["لا يُصنع {b:people_obj} هنا رغيف."],
    advice=["احمل رغيفًا معك إلى {country}."],
    followups=[{"q": "وهل في {capital} شيء منه؟", "a": "لا شيء في {country}."}],
    statements=["لا رغيف في {country}."],
    objections=[{"q": "لا أصدق.", "a": "هو كذلك في {country}."}],
    anchors=["هكذا حال الرغيف في {country}."],
    tips=["واسأل عن الرغيف في {country}."],
    closings=[{"q": "شكرًا.", "a": "العفو، ولا رغيف في {country} للأسف."}],
)
WRONG = {
    "food.toml [bread] needs 'sea', and should need one of coast, rivers, mountains": in_bread(
        needs="sea", without=OWN
    ),
    "food.toml [bread] has only one of 'needs' and a table 'without'": in_bread(needs="coast"),
    "[bread] has only one of 'needs' and a table": in_bread(without=OWN),
    "food.toml [bread.without] has no 'closings'": in_bread(
        needs="coast", without={k: v for k, v in OWN.items() if k != "closings"}
    ),
    "food.toml [bread.without] has an unknown key 'jokes'": in_bread(
        needs="coast", without=OWN | {"jokes": ["ها."]}
    ),
    "food.toml [bread.without] tips, 'في {land}.': unknown slot {land}": in_bread(
        needs="coast", without=OWN | {"tips": ["في {land}."]}
    ),
    "food.toml [category] has an unknown key 'openers'": in_category(openers=["هل؟"]),
    "food.toml [category], pair 'هل؟': kind is one of country, clarify": in_category(
        pair=[{"kind": "joke", "q": "هل؟", "a": "نعم."}]
    ),
    "food.toml [category], pair country, 'هل؟', when, 'هل؟': unknown condition @sea": in_category(
        pair=[{"kind": "country", "q": "هل؟", "a": "نعم.", "when": "sea"}]
    ),
    "food.toml [category] anchors, '@sea في {country}.': unknown condition": in_category(
        anchors=["@sea في {country}."]
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_mistakes_in_the_new_keys_are_told_with_file_and_table(tmp_path, message):
    with pytest.raises(UserError) as error:
        changed(tmp_path, food=WRONG[message])
    assert message in str(error.value)


@pytest.fixture(scope="module")
def coastal_bread(tmp_path_factory):
    "A grammar in which bread is to be had on coasts only"
    folder = tmp_path_factory.mktemp("coastal")
    return changed(folder, food=in_bread(needs="coast", without=OWN, keywords=["رغيف"]))


def test_where_a_topic_is_lacking_nothing_general_names_it(coastal_bread, grammar):
    said = Counter()
    for code, place in coastal_bread.countries.items():
        for i in range(30):
            turns = coastal_bread.dialogue("bread", code, random.Random(i), 10)
            text = " ".join(t.text for t in turns)
            text += " " + coastal_bread.statement("bread", code, random.Random(i))
            lacking = place.meets("landlocked")
            named = "الخبز" in text or "خبز" in text  # the topic's own name, by any general pattern
            own = "أين أجده في" in turns[0].text
            assert own == lacking and named != lacking, (code, text)
            said[place.meets("coast"), lacking] += 1
    assert said[True, False] > 3000 and said[False, True] > 1000 and said[False, False] >= 90


def test_where_a_topic_is_lacking_every_answer_still_names_the_country(coastal_bread):
    for i in range(300):
        turns = coastal_bread.dialogue("bread", "NP", random.Random(i))
        assert mentions(turns[1].text, coastal_bread.country_words("NP"))
        assert mentions(turns[1].text, coastal_bread.keywords("bread"))


NEEDED = (
    *("openers", "answers", "advice", "statements", "followups"),
    *(f"any_{name}" for name in "purposes openers reactions transitions connectives".split()),
    *(f"any_{name}" for name in "anchors tips statements greetings close".split()),
)


def test_every_set_that_a_talk_needs_has_something_for_every_topic_and_country(grammar):
    for topic in grammar.lexica:
        for code in grammar.countries:
            talk = grammar.talk(topic, code, random.Random(0))
            assert all(talk.fitting(name) for name in NEEDED), (topic, code)


def test_a_set_with_nothing_for_a_country_is_named(tmp_path):
    openers = ["@coast أين الخبز في {country}؟"]
    grammar = changed(tmp_path, food=in_bread(openers=openers))
    with pytest.raises(UserError, match="of الخبز, the set 'openers' has nothing for نيبال"):
        for i in range(20):
            grammar.dialogue("bread", "NP", random.Random(i))


def test_the_first_answer_names_both_and_most_others_do(grammar):
    named = []
    pairs = [(t, c) for t in grammar.lexica for c in grammar.countries][::11]
    for i, (topic, code) in enumerate(pairs):
        words = grammar.keywords(topic), grammar.country_words(code)
        turns = grammar.dialogue(topic, code, random.Random(i))
        each = [all(mentions(t.text, w) for w in words) for t in turns[1::2]]
        assert each[0], (topic, code, turns[1].text)
        named += each
    assert sum(named) / len(named) > 0.92


# ---- geography: what could be said of each of the 151 countries, on each of the 93 topics

LAND = {  # condition → words for the thing
    "coast": "شاطئ|شواطئ|شاطئية?|ساحل|سواحل|ساحلية?|بحر|بحار|بحرية?|سباحة في المحيط",
    "rivers": "نهر|أنهار|أنهر|نهرية?",
    "mountains": "جبل|جبال|جبلية?|سفح|سفوح|مرتفعات",
    "snow": "ثلج|ثلوج|ثلجية?",
    "forests": "غابة|غابات|أدغال|أحراج",
    "desert": "صحراء|صحارى|صحاري|صحراوية?|كثبان",
}
PARTS = r"(?<!\w)[وف]?(?:[بلك]?(?:ال)?|لل)(?:{})(?:ه|ها|هم|ك|نا|ا|ًا|ين|ان)?(?!\w)"
LAND = {thing: re.compile(PARTS.format(stems)) for thing, stems in LAND.items()}
OTHERWISE = {  # where the same words mean something else
    "snow": re.compile(r"شراب|تشرب|يشرب|الشاي|عصير|مكعب|كيس|كمادة|[تي]برد|تبريد|إصابة|ورم"),  # ice
    "mountains": re.compile(r"دراجة|جبلًا من"),  # a mountain bike, heaps
    "coast": re.compile(r"كبحر من|تحلية|بحر أو بحيرة"),  # where water comes from and goes to
}
DENIED = re.compile(  # said not to be there, or longed for, or elsewhere, or replaced
    r"(?<!\w)[وف]?(?:لا|ليس|ليست|لم|لن|بلا|بدون|دون|غير)(?!\w)"
    r"|تخلو|يخلو|تفتقر|يفتقر|غياب|جاف|غائب|يغيب|غاب(?!\w)|نادر|[يت]قل(?!\w)|بعيد|للبعد"
    r"|اشتا?ق|يشتاق|يحب|كأن|صور|فيلم|كتب|كتاب|قصة|جواب من|الغابات أن تُحمى"
    r"|يسكن|سافر|سفر|أسفار|رحلة|رحلات|زار|زيارة|زور|زرت|إجاز|الحقيبة|الخارج"
    r"|حدود|بلدان|بلاد|بلد آخر|بلدًا|العالم|طريق|بديل|يعوض|محل|مقام|أقرب ما"
    r"|مسبح|مسابح|حديقة|حدائق|منبسط|مستو|الوادي|الأودية|أدراج|تدبير|آبار"
    r"|بحيرة"
)


def wording(pattern):
    "A pattern's text, and all that may be drawn in it"
    return " ".join([pattern.text, *(word for _, words in pattern.choices for word in words)])


def things_named(pattern):
    "The things of the land that a pattern may name"
    text = wording(pattern)
    named = {thing for thing, words in LAND.items() if words.search(text)}
    return {thing for thing in named if thing not in OTHERWISE or not OTHERWISE[thing].search(text)}


USERS = ("openers", "any_openers", "any_purposes", "any_transitions")


def said_of_the_land(lexicon):
    "(item, pattern of it, thing that it names, whether it is to be denied), of all that is said"
    for name, sayings in lexicon.sets.items():
        for item in sayings.items:
            pair = isinstance(item, Exchange)
            told = item.answers if pair else () if name in USERS else (item,)
            asked = (*item.questions, item.handle) if pair else (item,) if name in USERS else ()
            for denied, patterns in ((True, told), (False, filter(None, asked))):
                for pattern in patterns:
                    yield from ((item, pattern, thing, denied) for thing in things_named(pattern))


def out_of_place(grammar, topics):
    "Sentences on what a country has not, among all that the grammar could say of it"
    found = {}
    for topic in topics:
        lexicon = grammar.lexica[topic]
        said = {False: list(said_of_the_land(lexicon)), True: []}
        if lexicon.without:
            said[True] = list(said_of_the_land(lexicon.without))
        for code, place in grammar.countries.items():
            lacking = lexicon.lacking(place)
            missing = place.unmet | {slot for slot, text in place.facts.items() if not text}
            for item, pattern, thing, denied in said[lacking]:
                if not place.meets(LACKS[thing]):
                    continue
                if not item.ready(missing) or not pattern.ready(missing):
                    continue
                about = f"@{LACKS[thing]}" in pattern.needs or (lacking and thing == lexicon.needs)
                if not about or (denied and not DENIED.search(wording(pattern))):
                    found.setdefault((topic, pattern.text), code)
    return found


def test_nothing_is_said_on_what_a_country_has_not(grammar):
    found = out_of_place(grammar, grammar.lexica)
    assert not found, "\n".join(f"{t} {code}: {text}" for (t, text), code in found.items())


PLANTED = {
    "يتنزه كثير من الناس على ضفاف النهر في {country}.": "rivers",
    "يقصد الناس في {country} الشواطئ صيفًا.": "coast",
    "<تكسو|تغطي> الثلوج مناطق واسعة في {country}.": "snow",
    "في الجبال قرى <كثيرة|هادئة>.": "mountains",
    "وللغابات في {country} زوارها.": "forests",
    "<كثبان|رمال> لا تنتهي في {country}.": "desert",
}


@pytest.mark.parametrize("text", PLANTED, ids=list(PLANTED.values()))
def test_a_sentence_that_lost_its_condition_is_found(tmp_path, text):
    thing = PLANTED[text]

    def bread_that_is_out_of_place(folder, answer):
        grammar = changed(tmp_path / folder, food=in_bread(answers=[answer]))
        return [pattern for _, pattern in out_of_place(grammar, ["bread"])]

    assert bread_that_is_out_of_place("with", f"@{thing} {text}") == []
    assert len(bread_that_is_out_of_place("lost", text)) == 1
    assert len(bread_that_is_out_of_place("turned", f"@{LACKS[thing]} {text}")) == (
        thing != "desert"
    )


def test_what_is_not_there_is_told_as_lacking(tmp_path):
    answer = "يسبح الناس في البحر."
    lacking = OWN | {"answers": [answer, "لا بحر في {country}."]}
    grammar = changed(tmp_path, food=in_bread(needs="coast", without=lacking))
    assert out_of_place(grammar, ["bread"]) == {("bread", answer): "ET"}
