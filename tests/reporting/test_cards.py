"Cards and metadata as their readers read them, whatever a model wrote into them"

import csv
import io
import json
import re
from dataclasses import asdict

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.models.licences import load_licences, model_stem
from arabic_dialog.generation.variety import Variety, count_splits
from arabic_dialog.reporting.cards import card_files, model_card, quote, table
from arabic_dialog.reporting.reforms import fill_reforms, reforms_card, reforms_facts
from arabic_dialog.core.files import data_path, load_csv, save_jsonl, save_text, to_json
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.core.runs import RunFolder, run_stage

CONFIG = {
    "comparable": False,
    "engine": "embedded",
    "generator": "embedded-grammar",
    "seed": 0,
    "seeds": [0],
    "students": ["s"],
    "checkpoints": ["new:gpt2"],
}
ABOUT = {"id": "x", "profile": "offline", "config": CONFIG, "data_hash": "0123456789abcdef"}
HOSTILE = (
    'سطر\nثان \u2028\u2029\x85 \0\x1b "اقتباس" \\ {"a": [1]} 👩‍👩‍👧 مَرْحَبًا ـ '
    "<script>alert(1)</script> ![x](https://evil.org) | a@b.org"
)


def conversation(topic, country, n, texts=("ما؟", "نعم.")):
    s = Scenario(f"{topic}_{country}_{n}", topic, country, n)
    return Conversation(
        s.id, s, tuple(Turn(("user", "assistant")[i % 2], t) for i, t in enumerate(texts)), "model"
    )


PARTS = {
    "train": [
        conversation("bread", "EG", 0, (HOSTILE, HOSTILE[::-1])),
        conversation("bread", "EG", 1),
        conversation("tea", "MA", 0, ("أ", "ب", "ج", "د")),
    ],
    "validation": [conversation("tea", "EG", 0)],
    "test": [conversation("bread", "MA", 0, ("١٢٣", "12"))],
}


def a_run(path, about=ABOUT, example=HOSTILE, deficits=0):
    "A run folder with a dataset, made by hand"
    run, rules = RunFolder(path), io.StringIO()
    csv.writer(rules).writerows(
        [
            ("rule", "description", "n", "example"),
            ("refusal", "The assistant does not refuse", 1, example),
        ]
    )

    def check(p):
        save_text(p / "rules.csv", rules.getvalue())
        save_text(
            p / "deficits.csv",
            "topic,country,quota,accepted,attempts\n"
            + "".join(f"tea,A{i},3,{i % 3},9\n" for i in range(deficits)),
        )
        return {
            "accepted": 5,
            "rejected": 3,
            "near_duplicates": 1,
            "turns": 12,
            "attempts": 10,
            "lost": 2,
        }

    run_stage(run, "check", check)
    run_stage(
        run,
        "split",
        lambda p: (
            [save_jsonl(p / f"{s}.jsonl", part) for s, part in PARTS.items()]
            and {s: len(part) for s, part in PARTS.items()}
        ),
    )
    save_text(run / "run.json", json.dumps(about))
    save_text(
        run / "runs.jsonl",
        to_json({"code_version": "0.2.0+abc", "started": "2026-01-02T03:04:05Z"}) + "\n",
    )
    return run


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph")
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        CONFIG | {"comparable": True, "engine": "openai", "generator": 'owner/a <b> "model" | x'},
    ],
    ids=["embedded", "openai"],
)
def test_mlcroissant_finds_no_fault_and_reads_the_records_that_are_in_the_files(tmp_path, config):
    import mlcroissant as mlc

    run = a_run(tmp_path / "run", ABOUT | {"config": config})
    (run / "split/croissant.json").write_text(
        card_files(run.path)["croissant.json"], encoding="utf-8"
    )
    data = mlc.Dataset(str(run / "split/croissant.json"))
    assert not data.metadata.ctx.issues.errors and not data.metadata.ctx.issues.warnings
    assert [r.name for r in data.metadata.record_sets] == list(PARTS) and len(
        data.metadata.distribution
    ) == 3

    def text(v):
        return v.decode() if isinstance(v, bytes) else v

    for split, part in PARTS.items():
        found = [
            {k.removeprefix(f"{split}/"): v for k, v in r.items()} for r in data.records(split)
        ]
        assert [
            [
                (text(t[f"{split}/turns/speaker"]), text(t[f"{split}/turns/text"]))
                for t in r["turns"]
            ]
            for r in found
        ] == [[(t.speaker, t.text) for t in c.turns] for c in part]
        assert [
            {k: text(r[k]) for k in ("id", "topic", "country", "variant", "model")} for r in found
        ] == [
            {
                "id": c.id,
                "topic": c.scenario.topic,
                "country": c.scenario.country,
                "variant": c.scenario.variant,
                "model": c.model,
            }
            for c in part
        ]


@pytest.mark.filterwarnings("ignore:ConjunctiveGraph")
def test_mlcroissant_would_have_found_a_fault(tmp_path):
    import mlcroissant as mlc

    run = a_run(tmp_path / "run")
    made = json.loads(card_files(run.path)["croissant.json"])
    made["recordSet"][0]["field"][1]["source"]["extract"]["column"] = "nothing"
    (run / "split/croissant.json").write_text(json.dumps(made))
    with pytest.raises(Exception, match="Read.train.jsonl"):
        list(mlc.Dataset(str(run / "split/croissant.json")).records("train"))


def test_the_hub_reads_the_head_of_the_card(tmp_path):
    import yaml
    from huggingface_hub import DatasetCard, ModelCard

    run = a_run(tmp_path / "run")
    text = card_files(run.path)["README.md"]
    said = yaml.safe_load(text.split("---\n")[1])
    data = DatasetCard(text).data.to_dict()
    assert (
        data == said
        and said["language"] == ["ar"]
        and said["license"] == "apache-2.0"
        and said["task_categories"] == ["text-generation"]
    )
    assert said["size_categories"] == ["n<1K"]
    assert said["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": s, "path": f"{s}.jsonl"} for s in PARTS],
        }
    ]
    name = 'owner/نموذج: # "x" 😀'  # a base model as odd as can be
    about = ABOUT | {
        "code_version": "0",
        "started": "2026",
        "config": CONFIG | {"checkpoints": [name]},
    }
    assert (
        ModelCard(
            model_card({"kind": "finetuned", "seed": 1}, about, "s-finetuned-s1")
        ).data.base_model
        == name
    )


def test_a_student_with_a_hyphen_names_the_model_it_was_trained_from():
    config = CONFIG | {"students": ["s", "my-student"], "checkpoints": ["new:gpt2", "owner/base"]}
    about = ABOUT | {"code_version": "0", "started": "2026", "config": config}
    for name, kind in (("my-student-finetuned-s1", "finetuned"), ("my-student-base", "base")):
        card = model_card({"kind": kind, "seed": 1}, about, name)
        assert 'base_model: "owner/base"\n' in card and 'license: "other"\n' in card
    assert "base_model" not in model_card({"kind": "control"}, about, "s-control-s0")


def test_datasets_finds_the_splits_that_the_head_names(tmp_path):
    from datasets import load_dataset

    run = a_run(tmp_path / "run")
    for name, text in card_files(run.path).items():
        save_text(run / "split" / name, text)
    found = load_dataset(str(run / "split"), cache_dir=str(tmp_path / "cache"))
    assert {s: len(d) for s, d in found.items()} == {s: len(p) for s, p in PARTS.items()} and found[
        "train"
    ][0]["turns"][0]["text"] == HOSTILE


def test_a_card_counts_what_is_in_the_files(tmp_path):
    rows, spread = count_splits(
        {s: save_jsonl(tmp_path / f"{s}.jsonl", p) for s, p in PARTS.items()}
    )
    assert asdict(rows[0]) == {
        "split": "train",
        "conversations": 3,
        "turns": 8,
        "topics": 2,
        "countries": 2,
    }
    assert list(map(asdict, spread)) == [
        {"each": "topic", "n": 2, "fewest": "2 (tea)", "median": 2.5, "most": "3 (bread)"},
        {"each": "country", "n": 2, "fewest": "2 (MA)", "median": 2.5, "most": "3 (EG)"},
        {
            "each": "topic and country",
            "n": 4,
            "fewest": "1 (bread MA)",
            "median": 1.0,
            "most": "2 (bread EG)",
        },
    ]
    card = card_files(a_run(tmp_path / "run", deficits=30).path)["README.md"]
    assert (
        "| train | 3 | 8 | 2 | 2 |" in card
        and "Of 10 prompts, 5 became conversations: 50.0%." in card
    )
    assert (
        "60 conversations of the plan are missing, in 30 pairs of topic and country; "
        "the 20 that lack most:"
        in card
        and card.count("| tea | A") == 20
    )
    assert "### Missing" not in card_files(a_run(tmp_path / "full").path)["README.md"]


def test_a_folder_that_is_no_run_gets_no_card(tmp_path):
    save_jsonl(tmp_path / "train.jsonl", PARTS["train"])
    with pytest.raises(UserError, match="no run.json"):
        card_files(tmp_path)


def rendered(text):
    "What a reader of Markdown with GitHub's tables and links makes of it: (tag, attributes)"
    from html.parser import HTMLParser
    from markdown_it import MarkdownIt

    tags = []

    class P(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append((tag, attrs))

    P().feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    return tags


pieces = st.lists(
    st.sampled_from(
        [
            "<",
            ">",
            "!",
            "[x]",
            "(http://x)",
            "https://e.org",
            "www.e.org",
            "a@b.org",
            "|",
            "\n",
            "\\",
            "`",
            "```",
            "*",
            "_",
            "#",
            "- ",
            "&lt;",
            "<script>",
            "<!--",
            "$",
            "~~",
            "\u2028",
            "\u202e",
            "\0",
            "\ud83d",
            "خبز",
            " ",
            "1. ",
            "---",
            "javascript:x",
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), pieces))
def test_nothing_that_a_model_wrote_means_anything_in_a_card(text):
    quote(text).encode()
    found = rendered(table([{"a": text, "b": 1}], {"a": "a", "b": "b"}))
    assert {t for t, _ in found} <= {
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "bdi",
    } and not any(a for _, a in found)
    assert [t for t, _ in found].count("td") == 2
    assert not re.search(
        r"https?://|www\.|\w@\w", quote(text), re.I
    )  # what readers turn into links by themselves


def test_the_whole_card_holds_no_markup_of_a_model(tmp_path):
    odd = ABOUT | {
        "profile": HOSTILE,
        "config": CONFIG | {"engine": "openai", "generator": HOSTILE},
    }
    found = {
        t
        for t, _ in rendered(
            card_files(a_run(tmp_path / "run", odd).path)["README.md"].split("---\n", 2)[2]
        )
    }
    assert not found & {"script", "img", "a", "code", "pre"} and "td" in found


def test_the_checklist_has_its_32_items_and_a_run_fills_what_it_can(tmp_path):
    run = a_run(tmp_path / "run")
    save_text(run / "check/cells.csv", "topic,country,quota,accepted,attempts\ntea,EG,3,2,9\n")
    facts = reforms_facts(run.path, {"python": "3"}, ["not run"] * 2)
    rows = fill_reforms(facts)
    assert [r["id"] for r in rows] == [
        f"{k}{'abcdefg'[i]}" for k, n in enumerate((3, 5, 7, 3, 6, 3, 3, 2), 1) for i in range(n)
    ] and len(rows) == 32
    assert len({r["section"] for r in rows}) == 8 and all(
        r["from_run"] or r["person"] for r in rows
    )
    by = {r["id"]: r for r in rows}
    assert [by[k]["state"] for k in ("1a", "1b", "1c", "3c", "3g")] == [
        "open"
    ] * 5  # what a run cannot know
    assert (
        "4 not run" not in by["8a"]["from_run"]
        and "2 not run" in by["8a"]["from_run"]
        and ABOUT["data_hash"] in by["2a"]["from_run"]
    )
    assert by["3e"]["state"] == "filled" and "3 train, 1 validation, 1 test" in by["3e"]["from_run"]


def test_a_fact_that_a_run_lacks_leaves_its_item_open():
    rows = {r["id"]: r for r in fill_reforms({})}
    assert (
        rows["3e"]["state"] == "open"
        and "splits" in rows["3e"]["person"]
        and not rows["3e"]["from_run"]
    )
    names = {
        n for r in load_csv(data_path("reforms.csv")) for n in re.findall(r"{(\w+)}", r["from_run"])
    }
    assert names and not any(
        n in r["from_run"] for r in rows.values() for n in map("{{{}}}".format, names)
    )


def test_every_fact_that_the_checklist_names_is_one_that_a_run_has(tmp_path):
    names = {
        n for r in load_csv(data_path("reforms.csv")) for n in re.findall(r"{(\w+)}", r["from_run"])
    }
    assert names <= set(reforms_facts(a_run(tmp_path / "run").path))


def test_nothing_that_a_model_is_called_means_anything_in_the_checklist(tmp_path):
    odd = ABOUT | {
        "config": CONFIG | {"engine": "openai", "generator": HOSTILE, "students": [HOSTILE]}
    }
    found = {
        t
        for t, _ in rendered(
            reforms_card(fill_reforms(reforms_facts(a_run(tmp_path / "run", odd).path)))
        )
    }
    assert not found & {"script", "img", "a"} and "td" in found


@pytest.mark.parametrize(
    "source, licence, said",
    [
        ("new:gpt2", "apache-2.0", "Apache-2.0, as the package"),
        ("riotu-lab/ArabianGPT-08B-V2", "apache-2.0", "Apache License 2.0"),
        ("aubmindlab/aragpt2-mega", "other", "contributions under the same licence"),
        ("moved-lab/aragpt2-mega/", "other", "keep its notice, cite"),
        ("/models/<b>mine</b>", "other", "which this package does not know"),
    ],
)
def test_a_model_card_names_the_terms_of_its_base_beside_the_generators(source, licence, said):
    about = ABOUT | {"config": CONFIG | {"students": ["s"], "checkpoints": [source]}}
    about |= {"code_version": "0", "started": "2026"}
    card = model_card({"kind": "finetuned"}, about, "s-finetuned-s0")
    terms = card.split("## Terms")[1].split("## After")[0]
    assert said in terms and f'license: "{licence}"' in card and "<b>" not in terms
    jais = {"engine": "transformers", "generator": "inceptionai/jais-13b-chat"}
    about["config"] |= jais
    card = model_card({"kind": "finetuned"}, about, "s-finetuned-s0")
    assert "jais-13b-chat, which wrote the text, apply" in card and 'license: "other"' in card
    if not source.startswith("new:"):
        assert said in card  # both terms stand there


def test_every_model_that_is_named_has_a_licence_with_a_source():
    files = ("checkpoints.csv", "baselines.csv")
    named = [row["name"] for file in files for row in load_csv(data_path(file))]
    known = load_licences()
    assert {model_stem(name) for name in named} <= known.keys(), "data/licences.csv lacks a model"
    assert all(row["source"] and row["asks"] and row["called"] for row in known.values())


def test_the_card_says_what_data_of_the_grammar_are_for_with_their_variety(tmp_path):
    run = a_run(tmp_path / "run")
    bare = card_files(run.path)["README.md"]
    assert "## What it is for" in bare and "not for training a model that people" in bare
    assert "patterns, of which" not in bare
    save_text(
        run / "variety/variety.json",
        json.dumps(asdict(Variety(5, 1234, 321, 0.4567, 0.0123, 0.8))),
    )
    card = card_files(run.path)["README.md"]
    assert "its 1,234 sentences have 321 patterns, of which the 200 commonest make 46% of" in card
    assert "1.2% of the conversations are near-duplicates" in card
    other = ABOUT | {"config": CONFIG | {"engine": "openai", "generator": "my-model"}}
    assert "## What it is for" not in card_files(a_run(tmp_path / "other", other).path)["README.md"]
