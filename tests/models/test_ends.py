"What ends a turn, in every family that a profile may name"

import pytest
from families import FAMILIES, HYBRID, family_tokenizer, make_family

from arabic_dialog.core.records import Request, Sampling, Turn, UserError
from arabic_dialog.models.engines import TransformersEngine
from arabic_dialog.models.loading import load_model
from arabic_dialog.models.tokenizers import load_tokenizer, render_turns, stop_id, stop_tokens
from arabic_dialog.models.tokenizers import turn_end

TALK = [Turn("user", "ما أشهر الخبز؟"), Turn("assistant", "العيش البلدي.")]


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_ends_a_turn_as_its_publishers_say(name, tmp_path):
    family = FAMILIES[name]
    if name in HYBRID:
        tokenizer = family_tokenizer(family)
    else:
        make_family(tmp_path, name)
        tokenizer = load_tokenizer(tmp_path)
    assert turn_end(tokenizer) == family.end
    assert tokenizer.convert_ids_to_tokens(stop_id(tokenizer)) == family.end
    declared = [tokenizer.convert_tokens_to_ids(token) for token in family.ends]
    for form in [declared] + ([declared[0]] if len(declared) == 1 else []):
        assert set(tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer, form))) == family.stops
    assert set(tokenizer.convert_ids_to_tokens(stop_tokens(tokenizer, None))) == (
        {family.end, family.eos}
    )


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in HYBRID])
def test_an_engine_stops_at_every_end_and_says_so(name, tmp_path):
    make_family(tmp_path, name)
    model, tokenizer = load_model(tmp_path, device="cpu"), load_tokenizer(tmp_path)
    if not tokenizer.chat_template:
        tokenizer = load_tokenizer(tmp_path, frame="plain")
    engine = TransformersEngine(model, tokenizer, name, 1)
    assert set(tokenizer.convert_ids_to_tokens(engine.stops)) >= FAMILIES[name].stops
    for token in FAMILIES[name].stops:
        say_only(model, tokenizer.convert_tokens_to_ids(token))
        [done] = engine.complete([Request("a", "أهلا")], Sampling(temperature=0, max_new_tokens=4))
        assert (done.text, done.finish_reason) == ("", "stop")


def say_only(model, token):
    "Let a model find one token likeliest, whatever it reads"
    import torch

    head = model.get_output_embeddings()
    model.original_forward = getattr(model, "original_forward", head.forward)

    def forward(hidden):
        logits = model.original_forward(hidden)
        logits = torch.zeros_like(logits)
        logits[..., token] = 10
        return logits

    head.forward = forward


def test_a_model_that_may_think_aloud_is_asked_not_to():
    tokenizer = family_tokenizer(FAMILIES["Qwen3"])
    prompt = render_turns(tokenizer, TALK[:1], prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert render_turns(tokenizer, TALK).startswith(prompt + TALK[1].text)
    plain = family_tokenizer(FAMILIES["Qwen2.5-Instruct"])
    assert render_turns(plain, TALK[:1], prompt=True).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "template, message",
    [
        ("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}", "''"),
        ("{% for m in messages %}{{ m['content'] + '\nUser:' }}{% endfor %}", "'User:'"),
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "does not write what"),
        ("{{ raise_exception('no Arabic') }}", "no Arabic"),
    ],
)
def test_a_frame_without_an_end_is_refused_where_one_is_needed(template, message):
    tokenizer = family_tokenizer(FAMILIES["Gemma-3-it"])
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=message):
        turn_end(tokenizer)
    assert stop_tokens(tokenizer) == {tokenizer.eos_token_id}  # an engine goes on to the length


def test_the_end_is_found_anew_where_the_frame_or_the_tokens_change():
    tokenizer = family_tokenizer(FAMILIES["Gemma-3-it"])
    assert turn_end(tokenizer) == "<end_of_turn>"
    tokenizer.chat_template = tokenizer.chat_template.replace("<end_of_turn>", "<fin>")
    with pytest.raises(UserError, match="<fin>"):
        turn_end(tokenizer)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<fin>"]})
    assert turn_end(tokenizer) == "<fin>"
