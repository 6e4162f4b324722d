"The engine of local models: memory that runs out, stop strings, interruption, odd requests"

from dataclasses import replace

import pytest, torch

from arabic_dialog.models.loading import new_model
from arabic_dialog.core.records import Completion, Request, Sampling, UserError
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.generation.embedded import EmbeddedEngine
from arabic_dialog.models.engines import TransformersEngine, chat_prompt, mark_tokens

SAMPLING = Sampling(0.8, 0.9, 1.1, 24)
REQUESTS = [Request(f"r{i}", "كيف الحال في مصر؟ " * (1 + i % 4) + str(i)) for i in range(11)]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["ما أشهر أنواع الخبز في مصر؟ كيف الحال"] * 3, 300)


@pytest.fixture(scope="module")
def model(tokenizer):
    made = new_model("gpt2", tokenizer, 2, 32, 2, 512, seed=0)
    with torch.no_grad():
        made.transformer.wte.weight.mul_(6)
    return made


def texts(engine, requests=REQUESTS, sampling=SAMPLING):
    return {c.scenario_id: (c.text, c.finish_reason) for c in engine.complete(requests, sampling)}


class Cramped(torch.nn.Module):
    "A model on a device that holds `most` rows, and after `calls` calls fewer"

    def __init__(
        self,
        inner,
        most,
        calls=0,
        error=None,
    ):
        super().__init__()
        full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")
        self.inner, self.most, self.calls, self.error = inner, most, calls, error or full
        self.config, self.generation_config, self.rows = inner.config, inner.generation_config, []

    @property
    def device(self):
        return self.inner.device

    def forward(self, input_ids, **how):
        self.calls -= 1
        self.rows.append(len(input_ids))
        if len(input_ids) > self.most and self.calls < 0:
            raise self.error
        return self.inner(input_ids=input_ids, **how)


@pytest.mark.parametrize(
    "calls", [0, 9, 20]
)  # at once; while tokens are drawn; after texts have ended
def test_rows_are_halved_when_memory_runs_out_and_no_text_changes(model, tokenizer, calls):
    expected, cramped = (
        texts(TransformersEngine(model, tokenizer, "m", 8)),
        Cramped(model, 3, calls),
    )
    engine = TransformersEngine(cramped, tokenizer, "m", 8)
    seen = []
    for c in engine.complete(REQUESTS, SAMPLING):
        seen.append(c)
        assert engine.n_tokens > 0
    assert (
        len(seen) == len(REQUESTS)
        and {c.scenario_id: (c.text, c.finish_reason) for c in seen} == expected
    )
    steady = TransformersEngine(model, tokenizer, "m", 2)
    texts(steady)
    assert engine.n_tokens == steady.n_tokens  # tokens of texts begun again are not counted twice
    assert max(cramped.rows) == 8 and cramped.rows[-1] <= 3 and engine.most == 2
    n = len(cramped.rows)
    assert texts(engine) == expected and max(cramped.rows[n:]) <= 2  # remembered


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: "
            "you tried to allocate 9 bytes."
        ),
    ],
)
def test_memory_of_the_cpu_runs_out_too(model, tokenizer, error):
    assert len(texts(TransformersEngine(Cramped(model, 1, 12, error), tokenizer, "m", 4))) == len(
        REQUESTS
    )


def test_too_little_memory_for_one_text_says_what_to_do(model, tokenizer):
    with pytest.raises(
        UserError, match="not enough memory for a single text of m: lower max_new_tokens"
    ):
        texts(TransformersEngine(Cramped(model, 0), tokenizer, "m", 4))


def test_other_errors_come_through(model, tokenizer):
    with pytest.raises(RuntimeError, match="shapes"):
        texts(
            TransformersEngine(
                Cramped(model, 0, 3, RuntimeError("shapes do not match")), tokenizer, "m", 4
            )
        )


def test_the_batch_size_is_found_and_changes_nothing(model, tokenizer, monkeypatch):
    expected = texts(TransformersEngine(model, tokenizer, "m", 3))
    for size in (0, None):
        assert texts(TransformersEngine(model, tokenizer, "m", size)) == expected
    monkeypatch.setattr("arabic_dialog.models.decoding.free_memory", lambda device: 0)
    assert texts(TransformersEngine(model, tokenizer, "m")) == expected
    with pytest.raises(UserError, match="batch_size is -1"):
        TransformersEngine(model, tokenizer, "m", -1)


def test_completions_come_as_they_end_and_an_interruption_leaves_nothing_behind(model, tokenizer):
    engine = TransformersEngine(model, tokenizer, "m", 4)
    expected = texts(TransformersEngine(model, tokenizer, "m", 1))
    total = engine.n_tokens
    made = engine.complete(REQUESTS, SAMPLING)
    first = next(made)
    assert isinstance(first, Completion) and total < engine.n_tokens < sum(24 for _ in REQUESTS)
    made.close()
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()

    class Interrupted(Cramped):
        def forward(self, input_ids, **how):
            self.calls -= 1
            if self.calls == 0:
                raise KeyboardInterrupt
            return self.inner(input_ids=input_ids, **how)

    engine = TransformersEngine(Interrupted(model, 9, 10), tokenizer, "m", 4)
    with pytest.raises(KeyboardInterrupt):
        texts(engine)
    assert not torch.is_inference_mode_enabled() and texts(engine) == expected


def test_a_text_ends_before_a_stop_string(model, tokenizer):
    whole = texts(TransformersEngine(model, tokenizer, "m", 4))
    some, _ = max(whole.values(), key=lambda x: len(x[0]))
    stop = some[4:7]
    engine = TransformersEngine(model, tokenizer, "m", 4, stop_strings=[stop, "never in there"])
    for i, (text, why) in texts(engine).items():
        before, found, _ = whole[i][0].partition(stop)
        assert stop not in text and (text, why) == ((before.strip(), "stop") if found else whole[i])
    assert engine.n_tokens < sum(24 for _ in REQUESTS)
    with pytest.raises(UserError, match="stop string is empty"):
        TransformersEngine(model, tokenizer, "m", 4, stop_strings=["a", ""])


def test_stop_strings_of_parts_of_characters_of_special_tokens_and_of_blanks(model, tokenizer):
    assert mark_tokens(tokenizer, ["[|Human|] "]) is None
    marks = mark_tokens(tokenizer, ["؟"])
    ids = tokenizer("مصر؟", add_special_tokens=False)["input_ids"]
    assert ids[-1] in marks and len(marks) < len(tokenizer)
    special = tokenizer.all_special_tokens[-1]
    engine = TransformersEngine(model, tokenizer, "m", 4, stop_strings=[special])
    assert engine.stop_strings == () and tokenizer.convert_tokens_to_ids(special) in engine.stops


def test_requests_may_be_a_generator_or_none(model, tokenizer):
    engine = TransformersEngine(model, tokenizer, "m", 4)
    assert texts(engine, (r for r in REQUESTS)) == texts(engine) and texts(engine, []) == {}
    with pytest.raises(UserError, match="prompt of empty is empty"):
        texts(
            TransformersEngine(model, tokenizer, "m", 4, framed=True),
            [*REQUESTS, Request("empty", "")],
        )
    with pytest.raises(UserError, match="max_new_tokens is 0"):
        texts(engine, sampling=Sampling(max_new_tokens=0))
    with pytest.raises(UserError, match="prompt of long has"):
        next(engine.complete([*REQUESTS, Request("long", "مصر " * 600)], SAMPLING))


def test_lengths_and_reasons(model, tokenizer):
    for c in TransformersEngine(model, tokenizer, "m", 4).complete(
        REQUESTS, Sampling(0.8, max_new_tokens=1)
    ):
        assert c.finish_reason in ("stop", "length") and len(c.text) <= max(
            map(len, tokenizer.get_vocab())
        )
    assert {
        c.sampling
        for c in TransformersEngine(model, tokenizer, "m", 4).complete(REQUESTS, SAMPLING)
    } == {SAMPLING}


def test_a_framed_prompt_is_read_as_it_stands(model, tokenizer):
    from arabic_dialog.core.records import Turn

    asked = Request("a", "مرحبا")
    framed = Request("a", chat_prompt(tokenizer, [Turn("user", "مرحبا")]))
    assert texts(TransformersEngine(model, tokenizer, "m", 1), [asked]) == texts(
        TransformersEngine(model, tokenizer, "m", 1, True), [framed]
    )
    assert EmbeddedEngine().n_tokens == 0


def test_a_runs_stop_strings_end_its_texts_and_no_other_runs(model, tokenizer):
    engine = TransformersEngine(model, tokenizer, "m", 4)
    whole = texts(engine)
    name, (text, _) = max(whole.items(), key=lambda item: len(item[1][0]))
    stop = text[4:6]
    stopped = texts(engine, sampling=replace(SAMPLING, stop=(stop, "never written")))
    assert stopped[name] == (text.split(stop)[0].strip(), "stop")
    for name, (text, reason) in whole.items():
        assert stopped[name][0] == text.split(stop)[0].strip()
        assert stop in text or stopped[name][1] == reason
    assert texts(engine) == whole
    with pytest.raises(UserError, match="a stop string is empty"):
        texts(engine, sampling=replace(SAMPLING, stop=("",)))


def test_a_text_does_not_end_before_its_least_length(model, tokenizer):
    class Ending(torch.nn.Module):
        "A model that would end every text at once"

        def __init__(self):
            super().__init__()
            self.inner, self.device = model, model.device
            self.config, self.generation_config = model.config, model.generation_config

        def forward(self, input_ids, **how):
            out = self.inner(input_ids=input_ids, **how)
            out.logits[..., tokenizer.eos_token_id] = 1e4
            return out

    lengths = []
    for least in (0, 4):
        engine = TransformersEngine(Ending(), tokenizer, "e", batch_size=3)
        done = texts(engine, sampling=replace(SAMPLING, min_new_tokens=least))
        assert {reason for _, reason in done.values()} == {"stop"}
        lengths.append(engine.n_tokens / len(REQUESTS))
    assert lengths == [1, 5]  # the token that ends a text is drawn too


@pytest.mark.parametrize("how", ["together", "alone", "memory runs out"])
def test_the_likeliest_text_of_a_search_is_given_whatever_happens(model, tokenizer, how):
    search = Sampling(0, repetition_penalty=1.0, max_new_tokens=12, num_beams=3)
    inner = Cramped(model, 3, 5) if how == "memory runs out" else model
    engine = TransformersEngine(inner, tokenizer, "m", 1 if how == "alone" else 12, framed=True)
    found = texts(engine, REQUESTS[:5], search)
    greedy = texts(
        TransformersEngine(model, tokenizer, "m", framed=True),
        REQUESTS[:5],
        replace(search, num_beams=1),
    )
    assert found != greedy
    assert engine.n_tokens == 12 * 5 or {why for _, why in found.values()} != {"length"}
    plain = TransformersEngine(model, tokenizer, "m", 3, framed=True)
    assert found == texts(plain, REQUESTS[:5], search)
    assert engine.n_tokens == plain.n_tokens


def test_a_search_ends_before_a_stop_string_too(model, tokenizer):
    search = Sampling(0, repetition_penalty=1.0, max_new_tokens=24, num_beams=3)
    whole = texts(TransformersEngine(model, tokenizer, "m", framed=True), REQUESTS[:4], search)
    mark = whole["r0"][0][4:6]
    stopped = texts(
        TransformersEngine(model, tokenizer, "m", framed=True),
        REQUESTS[:4],
        replace(search, stop=(mark,)),
    )
    assert all(mark not in text for text, _ in stopped.values())
    assert "stop" in {why for _, why in stopped.values()}


def test_a_search_that_makes_no_sense_is_refused(model, tokenizer):
    engine = TransformersEngine(model, tokenizer, "m")
    for how, why in (
        (dict(num_beams=0), "num_beams is 0, and should be at least 1"),
        (dict(num_beams=2), "a beam search draws nothing: set the temperature to 0"),
        (dict(no_repeat_ngram_size=-1), "no_repeat_ngram_size is -1"),
        (dict(no_repeat_ngram_size=4), "ask for more beams than one"),
    ):
        with pytest.raises(UserError, match=why):
            list(engine.complete(REQUESTS, replace(SAMPLING, **how)))
