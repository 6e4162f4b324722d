"""The paper's models at a size that a processor makes in minutes, in the layouts of their
publishers: a Jais that writes conversations, two students, baselines of three families"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from arabic_dialog.core.files import data_path, stream
from arabic_dialog.core.records import Scenario, Turn
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.generation.embedded import render_completion
from arabic_dialog.generation.grammar import Grammar
from arabic_dialog.generation.scenarios import (
    load_countries,
    load_template,
    load_topics,
    render_prompt,
)
from arabic_dialog.models.engines import chat_prompt
from arabic_dialog.models.loading import new_model
from arabic_dialog.models.tokenizers import load_chat_template
from families import make_family

TOPICS = ("bread", "coffee", "weddings", "music", "cinema", "museums", "beaches", "football")
COUNTRIES = ("DZ", "RU", "MY")
N_TURNS = 4
PROMPT = """اكتب محادثة من {n_turns} أدوار بين المستخدم والمساعد.
الموضوع: {topic}
البلد: {country}
"""
GENERATOR = "inceptionai/jais-13b-chat"
STUDENTS = ("riotu-lab/ArabianGPT-08B-V2", "aubmindlab/aragpt2-mega")
BASELINES = {  # by the name that a profile gives → the family of its layout
    "Qwen/Qwen3-1.7B": "Qwen3",
    "bigscience/bloomz-1b7": "BLOOMZ",
    "utter-project/EuroLLM-1.7B-Instruct": "EuroLLM-Instruct",
}


@dataclass(frozen=True)
class Lists:
    "The files of a small plan: few topics, few countries, a short prompt"

    topics: Path
    countries: Path
    prompt: Path


def _keep_rows(name: str, keys: tuple[str, ...], folder: Path) -> Path:
    "A copy of a list of the package, of which only some rows are kept"
    lines = data_path(name).read_text(encoding="utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    heading, *rows = [line for line in lines if line and not line.startswith("#")]
    kept = [row for row in rows if row.split(",")[0] in keys]
    path = folder / name
    path.write_text("\n".join([*comments, heading, *kept]) + "\n", encoding="utf-8")
    return path


def make_lists(folder: Path) -> Lists:
    "Write the topics, the countries and the prompt of the small plan"
    folder.mkdir(parents=True, exist_ok=True)
    prompt = folder / "prompt.txt"
    prompt.write_text(PROMPT, encoding="utf-8")
    topics = _keep_rows("topics.csv", TOPICS, folder)
    return Lists(topics, _keep_rows("countries.csv", COUNTRIES, folder), prompt)


def examples(lists: Lists, n_each: int) -> Iterator[tuple[str, str]]:
    "(prompt, a conversation as a model writes it), `n_each` for each topic and country"
    topics, countries = load_topics(lists.topics), load_countries(lists.countries)
    template, grammar = load_template(lists.prompt), Grammar.load()
    for topic in topics:
        for country in countries:
            for variant in range(n_each):
                scenario = Scenario.of(topic, country, variant)
                rng = stream(9, "rehearsal", scenario.id)
                turns = grammar.dialogue(topic, country, rng, N_TURNS)
                place = topics[topic], countries[country]
                prompt = render_prompt(template, scenario, *place, N_TURNS)
                yield prompt, render_completion(turns)


def _batch(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    "(tokens, labels) of prompts with their completions; only completions are labelled"
    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), -100)
    for i, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        tokens[i, :end] = torch.tensor(prompt + reply)
        labels[i, len(prompt) : end] = torch.tensor(reply)
    return tokens, labels


def _teach(model: Any, rows: list[tuple[list[int], list[int]]], n_steps: int) -> None:
    "Train a Jais on prompts and completions, until it writes conversations"
    best, n_rows = 8e-3, 16
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0)
    rng, waiting = stream(0, "teaching"), []
    for step in range(n_steps):
        rate = best * min(1, (step + 1) / 40) * max(0.05, 1 - step / n_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(waiting) < n_rows:
            waiting = rng.sample(rows, len(rows))
        chosen = [waiting.pop() for _ in range(n_rows)]
        tokens, labels = _batch(chosen)
        hidden = model.transformer(input_ids=tokens).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        logits = model.lm_head(hidden[wanted != -100] * model.config.logit_scale)
        loss = torch.nn.functional.cross_entropy(logits, wanted[wanted != -100])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def make_jais(folder: Path, lists: Lists, n_steps: int = 300) -> None:
    "A Jais of 0.7 million parameters that writes conversations on the topics of `lists`"
    pairs = list(examples(lists, 24))
    names = [t.arabic for t in load_topics(lists.topics).values()]
    names += [c.arabic for c in load_countries(lists.countries).values()]
    tokenizer = train_tokenizer([text for pair in pairs for text in pair], 2400, names)
    tokenizer.chat_template = load_chat_template("jais")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = new_model("jais", tokenizer, 2, 128, 4, 1024, seed=0)
        # a width of 128 wants other scales than one of 5,120: that is what they are for
        model.config.mup_embeddings_scale, model.config.mup_width_scale = 5.0, 1.0
        rows = []
        for prompt, text in pairs:
            framed = chat_prompt(tokenizer, [Turn("user", prompt)])
            reply = tokenizer(" " + text, add_special_tokens=False)["input_ids"]
            start = tokenizer(framed, add_special_tokens=False)["input_ids"]
            rows.append((start, [*reply, tokenizer.eos_token_id]))
        _teach(model.train(), rows, n_steps)
    tokenizer.chat_template = None  # jais-13b-chat comes without one
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_student(folder: Path, architecture: str, lists: Lists) -> None:
    "An untrained student in a published layout, on a vocabulary of its own"
    texts = [text for _, text in examples(lists, 4)]
    tokenizer = train_tokenizer(texts, 1500)
    tokenizer.chat_template = None
    new_model(architecture, tokenizer, 2, 64, 2, 512, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_models(folder: Path, lists: Lists) -> dict[str, Path]:
    "The folder of every model that the rehearsal names"
    models = {name: folder / name for name in (GENERATOR, *STUDENTS, *BASELINES)}
    make_jais(models[GENERATOR], lists)
    for name, architecture in zip(STUDENTS, ("gpt2", "aragpt2"), strict=True):
        make_student(models[name], architecture, lists)
    for name, family in BASELINES.items():
        make_family(models[name], family)
    return models
