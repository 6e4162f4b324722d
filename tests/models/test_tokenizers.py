"Every way in which a tokenizer can be wrong, and the frames of conversations"

import json, warnings

import pytest
from transformers import GPT2Tokenizer

from arabic_dialog.core.records import UserError
from arabic_dialog.finetuning.students import add_chat_frame, train_tokenizer
from arabic_dialog.models.loading import ARCHITECTURES, load_config, load_model
from arabic_dialog.models.tokenizers import load_chat_template, load_tokenizer
from published import edit, make


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)


@pytest.fixture
def folder(tmp_path, tokenizer):
    make(tmp_path, "aragpt2", tokenizer)
    return tmp_path


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda d: edit(d / "config.json", lambda c: c.update(vocab_size=100)),
            "do not belong together",
        ),
        (
            lambda d: edit(
                d / "tokenizer_config.json",
                lambda c: c.update(
                    auto_map={"AutoTokenizer": ["x.Slow", "x.Fast"]},
                    tokenizer_class="TheirTokenizer",
                ),
            ),
            "never run here",
        ),
        (
            lambda d: edit(
                d / "tokenizer_config.json",
                lambda c: (
                    c.update(auto_map={"AutoTokenizer": ["x.Slow", None]}),
                    c.pop("tokenizer_class"),
                ),
            ),
            "never run here",
        ),
        (
            lambda d: (
                edit(d / "tokenizer_config.json", lambda c: c.update(eos_token=None))
                or edit(d / "config.json", lambda c: c.update(eos_token_id=None))
                or (d / "generation_config.json").unlink()
            ),
            "no end-of-text",
        ),
        (lambda d: (d / "tokenizer_config.json").write_text("{torn"), "torn"),
        (lambda d: (d / "tokenizer.json").write_text("{torn"), "torn"),
        (lambda d: (d / "tokenizer.json").unlink(), "cannot be loaded|no words"),
        (lambda d: [f.unlink() for f in d.glob("tokenizer*")], "cannot be loaded|no words"),
    ],
)
def test_a_tokenizer_that_cannot_serve_is_refused(folder, change, message):
    change(folder)
    with pytest.raises(UserError, match=message):
        load_tokenizer(folder)


def test_an_added_padding_token_is_refused_and_the_embeddings_stay(folder, tokenizer):
    edit(folder / "tokenizer_config.json", lambda c: c.update(pad_token=None))
    edit(folder / "config.json", lambda c: c.update(pad_token_id=None))
    plain = load_tokenizer(folder)
    n = load_config(folder).vocab_size
    assert (
        plain.pad_token == plain.eos_token
        and len(plain) == n
        and max(plain(["ما", "ما أشهر"], padding=True)["input_ids"][0]) < n
    )
    assert plain(["ما", "ما أشهر أنواع"], padding=True)["attention_mask"][0][0] == 0  # on the left
    plain.add_special_tokens({"pad_token": "[PAD]"})
    plain.save_pretrained(folder)
    with pytest.raises(UserError, match=r"'\[PAD\]'.*remove it"):
        load_tokenizer(folder)


def test_special_tokens_are_completed_from_what_the_config_says_and_a_clash_is_reported(folder):
    edit(
        folder / "tokenizer_config.json",
        lambda c: c.update(eos_token=None, bos_token=None, pad_token=None),
    )
    edit(
        folder / "config.json", lambda c: c.update(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    )  # as Jais's
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = load_tokenizer(folder)
    assert (t.bos_token_id, t.eos_token_id, t.pad_token_id) == (0, 0, 0)
    edit(folder / "tokenizer_config.json", lambda c: c.update(eos_token="<|pad|>"))
    edit(folder / "generation_config.json", lambda c: c.update(eos_token_id=[0, 5]))
    with pytest.warns(UserWarning, match=r"ends with token 1 .* but with \[0, 5\]"):
        load_tokenizer(folder)
    edit(
        folder / "generation_config.json",
        lambda c: c.update(eos_token_id=[0, 1], pad_token_id=None),
    )
    edit(folder / "config.json", lambda c: c.update(pad_token_id=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_tokenizer(folder)
    assert load_model(folder, device="cpu").generation_config.pad_token_id == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_vocabulary_and_merges_alone_make_a_tokenizer(architecture, tokenizer, tmp_path):
    make(tmp_path, architecture, tokenizer)
    bpe = json.loads(tokenizer._tokenizer.to_str())["model"]
    for f in tmp_path.glob("tokenizer*"):
        f.unlink()
    (tmp_path / "vocab.json").write_text(json.dumps(bpe["vocab"]))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(map(" ".join, bpe["merges"]))
    )
    made = load_tokenizer(tmp_path)
    assert (
        isinstance(made, GPT2Tokenizer)
        and made("ما أشهر")["input_ids"] == tokenizer("ما أشهر")["input_ids"]
    )


TALK = [
    {"role": r, "content": c}
    for r, c in (("user", "ما"), ("assistant", "أشهر"), ("user", "أنواع"), ("assistant", "الخبز"))
]


@pytest.mark.parametrize(
    "frame, trained",
    [("students", ["أشهر", "الخبز"]), ("plain", ["أشهر", "الخبز"]), ("jais", ["الخبز"])],
)
def test_a_frame_trains_replies_with_their_end_and_its_prompt_is_the_beginning_of_the_whole(
    frame, trained, folder, tokenizer
):
    framed = load_tokenizer(folder, frame=frame)
    whole = framed.apply_chat_template(TALK, tokenize=False)
    assert whole.startswith(
        framed.apply_chat_template(TALK[:3], tokenize=False, add_generation_prompt=True)
    )
    made = framed.apply_chat_template(TALK, return_dict=True, return_assistant_tokens_mask=True)
    marked = zip(made["input_ids"], made["assistant_masks"], strict=True)
    words = framed.decode([i for i, m in marked if m])
    assert [s.strip() for s in words.split(framed.eos_token)] == [*trained, ""]
    with pytest.raises(Exception, match="judge"):
        framed.apply_chat_template([*TALK, {"role": "judge", "content": "x"}], tokenize=False)
    framed.save_pretrained(folder / "again")
    (folder / "again" / "config.json").write_text((folder / "config.json").read_text())
    assert load_tokenizer(folder / "again").chat_template == load_chat_template(frame)


def test_who_gets_which_frame(tmp_path, tokenizer):
    bare = train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)
    bare.chat_template = None
    for architecture in ARCHITECTURES:
        make(tmp_path, architecture, bare)
        assert load_tokenizer(tmp_path).chat_template == (
            load_chat_template("jais") if architecture == "jais" else None
        )
    add_chat_frame(bare)
    assert bare.chat_template == load_chat_template()
    (tmp_path / "mine.jinja").write_text("{{ messages[0]['content'] }}!")
    assert (
        load_tokenizer(tmp_path, frame=tmp_path / "mine.jinja").apply_chat_template(
            TALK, tokenize=False
        )
        == "ما!"
    )
    assert "كن موجزا" in load_tokenizer(tmp_path).apply_chat_template(
        [{"role": "system", "content": "كن موجزا"}, *TALK], tokenize=False
    )
    with pytest.raises(UserError, match="no chat frame 'jias'"):
        load_tokenizer(tmp_path, frame="jias")


ASKED = "أكمل المحادثة التالية بين [|Human|] و[|AI|]:"


@pytest.mark.parametrize(
    "system, instruction",
    [
        ("أجب بجملة واحدة.", f"أجب بجملة واحدة.\n\n{ASKED}"),  # appended, behind a blank line
        (f"أجب. {ASKED}", f"أجب. {ASKED}"),  # and not twice
    ],
)
def test_the_frame_of_jais_is_the_publishers(folder, system, instruction):
    framed = load_tokenizer(folder, frame="jais")
    messages = [{"role": "system", "content": system}, *TALK[:3]]
    assert framed.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        f"### Instruction: {instruction}\n### Input: [|Human|] ما\n[|AI|] أشهر\n"
        "[|Human|] أنواع\n### Response: [|AI|]"
    )
    unasked = framed.apply_chat_template(TALK[:1], tokenize=False, add_generation_prompt=True)
    assert f"لا تعرفه.\n\n{ASKED}\n### Input: [|Human|] ما\n### Response: [|AI|]" in unasked
