"What a server's answer holds, whoever wrote the server and whatever happened on the way"

import gzip
import json
import os
import random
import zlib

import pytest

from arabic_dialog.models.answers import (
    ENDINGS,
    LARGEST_ANSWER,
    judge_ending,
    plain_ending,
    read_reply,
    recognise_server,
    unpack,
)
from arabic_dialog.models.protocol import BudgetSpent, CallFailed, RequestRefused, WrongModel

TEXT = "المستخدم: مرحبا\nالمساعد: أهلا بك"


def answer(content=TEXT, end="stop", usage=True, **message):
    "An answer of the chat API"
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message}
    whole = {"id": "a", "model": "m", "choices": [choice]}
    if end != "missing":
        choice["finish_reason"] = end
    return whole | ({"usage": {"completion_tokens": 5}} if usage else {})


def read(data, api="chat", limit=0):
    raw = data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()
    return read_reply(raw, "m", api, limit)


@pytest.mark.parametrize(
    "kind, words",
    {
        "finished": "stop eos eos_token end_turn stop_sequence STOP STOP_SEQUENCE COMPLETE EndTurn "
        "FinishReason.STOP FINISH_REASON_STOP end-of-turn done",
        "cut": "length max_tokens MAX_TOKENS max_output_tokens model_length maxTokens "
        "FinishReason.MAX_TOKENS model_context_window_exceeded",
        "filtered": "content_filter SAFETY RECITATION PROHIBITED_CONTENT SPII BLOCKLIST refusal "
        "guardrail_intervened ERROR_TOXIC sensitive contentFilter",
        "called": "tool_calls function_call tool_use MALFORMED_FUNCTION_CALL",
        "broken": "abort error cancelled insufficient_system_resource network_error timeout",
        "unknown": "bored OTHER FINISH_REASON_UNSPECIFIED لا",
    }.items(),
)
def test_the_table_of_endings(kind, words):
    assert {word: judge_ending(word) for word in words.split()} == dict.fromkeys(
        words.split(), kind
    )


def test_the_table_is_closed_and_knows_no_ending_twice():
    assert set(ENDINGS.values()) == {"finished", "cut", "filtered", "called", "broken"}
    assert all(judge_ending(word.upper()) == ENDINGS[word] for word in ENDINGS)
    assert judge_ending(None) == judge_ending("") == "finished"
    assert judge_ending(7) == judge_ending(True) == "unknown"


@pytest.mark.parametrize("end", ["stop", "eos", "end_turn", "STOP", None, "", "missing"])
def test_a_whole_reply_is_kept_however_its_end_is_written(end):
    reply = read(answer(end=end))
    assert (reply.text, reply.finish_reason, reply.n_tokens) == (TEXT, "stop", 5)


@pytest.mark.parametrize("end", ["length", "max_tokens", "MAX_TOKENS"])
def test_a_reply_that_was_cut_off(end):
    assert read(answer(end=end)).finish_reason == "length"


@pytest.mark.parametrize("end", [None, "missing", "whatever"])
def test_a_reply_as_long_as_the_limit_was_cut_where_its_end_says_nothing(end):
    assert read(answer(end=end), limit=5).finish_reason == "length"
    assert read(answer(end=end), limit=6).finish_reason != "length"
    assert read(answer(end="stop"), limit=5).finish_reason == "stop"


@pytest.mark.parametrize(
    "end, kept", [("bored", "bored"), ("a,b\nc\x1b[2J", "a_b_c_2J"), (7, "7"), ([1], "list")]
)
def test_an_ending_that_no_table_has_is_kept_as_it_is_and_fits_a_table(end, kept):
    assert (
        read(answer(end=end)).finish_reason
        == kept
        == plain_ending(end if kept != "list" else "list")
    )


@pytest.mark.parametrize(
    "content, message",
    [
        (TEXT, {}),
        ([{"type": "text", "text": TEXT}], {}),
        ([{"type": "output_text", "text": TEXT[:9]}, {"type": "text", "text": TEXT[9:]}], {}),
        ([TEXT[:5], TEXT[5:]], {}),
        ({"type": "text", "text": TEXT}, {}),
        ({"parts": [{"text": TEXT}]}, {}),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "أفكر"}]},
                {"type": "text", "text": TEXT},
            ],
            {},
        ),
        (TEXT, {"reasoning_content": "أفكر"}),
        (TEXT, {"reasoning": "أفكر", "reasoning_details": [{"text": "أفكر"}]}),
        (TEXT, {"tool_calls": [], "refusal": None}),
    ],
)
def test_a_text_is_found_in_each_form(content, message):
    assert read(answer(content, **message)).text == TEXT


def test_either_api_and_the_first_of_several_choices():
    choices = [{"index": 1, "text": "b"}, {"index": 0, "text": "a", "finish_reason": "length"}]
    reply = read({"model": "m", "choices": choices}, "completions")
    assert (reply.text, reply.finish_reason) == ("a", "length")
    assert read({"choices": [{"text": "a"}]}, "chat").text == "a"
    assert read(answer(), "completions").text == TEXT
    assert read({"choices": [None, 3, {"text": "a"}]}).text == "a"


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"\n\n  \n" + raw,
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: raw.replace(b'"usage"', b'"avg": NaN, "usage"'),
        lambda raw: raw.decode().encode("utf-16"),
        lambda raw: raw + b"\n\n",
        lambda raw: raw.replace(b'"usage"', b'"other"'),
        lambda raw: raw.replace(b'"usage": {"completion_tokens": 5}', b'"usage": null'),
        lambda raw: raw.replace(b'"model": "m"', b'"model": null'),
        lambda raw: raw.replace(b'"index": 0', b'"logprobs": null, "stop_reason": 7'),
    ],
)
def test_oddities_that_do_no_harm(change):
    raw = json.dumps(answer(), ensure_ascii=False).encode()
    assert change(raw) != raw
    reply = read(change(raw))
    assert (reply.text, reply.finish_reason) == (TEXT, "stop") and reply.n_tokens in (5, 6)


THOUGHT = "أفكر في المحادثة المطلوبة. " * 80


@pytest.mark.parametrize(
    "data, kind, what",
    [
        (answer(None, "length", reasoning_content=THOUGHT), BudgetSpent, "max_new_tokens"),
        (answer("", "length", reasoning=THOUGHT), BudgetSpent, "endpoint_thinking = off"),
        (answer(None, "MAX_TOKENS", thinking=THOUGHT), BudgetSpent, "content is null"),
        (
            answer([{"type": "thinking", "thinking": "أفكر"}], "length"),
            BudgetSpent,
            "reasoning onl",
        ),
        (answer("\n", "length"), BudgetSpent, "perhaps while the model was thinking"),
        (
            answer("", "length", usage=False)
            | {"usage": {"completion_tokens_details": {"reasoning_tokens": 512}}},
            BudgetSpent,
            "all tokens went into thinking",
        ),
        (answer(None, "stop", reasoning_content=THOUGHT), BudgetSpent, "parser of reasoning"),
        (answer(None), CallFailed, "its content is null"),
        (answer(None, tool_calls=[{"id": "1"}], end="tool_calls"), CallFailed, "calls a tool"),
        (answer(None, refusal="لا أستطيع"), RequestRefused, "the model refuses: 'لا أستطيع'"),
        (answer("نصف", "SAFETY"), RequestRefused, "content filter .*SAFETY"),
        (answer("نصف", "abort"), CallFailed, "broke the reply off .*abort"),
        (answer() | {"model": "gpt2"}, WrongModel, "gpt2"),
        ({"error": {"message": "upstream", "code": 502}}, CallFailed, "is an error: 'upstream'"),
        ({"choices": [{"error": {"message": "lost"}}]}, CallFailed, "is an error: 'lost'"),
        ({"choices": []}, CallFailed, "no choice with a text"),
        ([], CallFailed, "no choice with a text"),
        (b"", CallFailed, "is empty"),
        (b" \n ", CallFailed, "is empty"),
        (
            b"\xef\xbb\xbf<!DOCTYPE html><title>Sign\n in</title>",
            CallFailed,
            r"web page \('Sign in'",
        ),
        (b"<HTML><h1>502</h1>", CallFailed, r"web page \('502'"),
        (b'data: {"choices": []}\n\ndata: [DONE]', CallFailed, "a stream of events"),
        (b'{"choices": [{"message": {"conte', CallFailed, "not whole JSON"),
        (b'{"choices": "\xff\xfe\xfa"}', CallFailed, "not UTF-8"),
        (b"[" * 100_000, CallFailed, "not whole JSON"),
    ],
)
def test_what_is_no_reply_is_called_what_it_is(data, kind, what):
    with pytest.raises(kind, match=f"(?s){what}") as caught:
        read(data)
    assert type(caught.value) is kind and len(str(caught.value)) < 420
    assert kind is not BudgetSpent or caught.value.redraw


def test_what_is_drawn_anew_and_what_is_asked_again_as_it_was():
    whole = answer(None), answer("a", "abort"), answer() | {"choices": []}
    others = b"", b'{"choices', b"<html>", {"error": "busy"}, answer() | {"model": "gpt2"}
    for data, redraw in [(d, True) for d in whole] + [(d, False) for d in others]:
        with pytest.raises(CallFailed) as caught:
            read(data)
        assert caught.value.redraw is redraw


def test_a_reply_that_ends_within_its_thoughts_is_kept_and_marked():
    for mark in ("<think>", "<thinking>", "[THINK]", "◁think▷", "\n<Reasoning>"):
        reply = read(answer(f"{mark}أفكر", "length"))
        assert reply.in_thoughts and reply.text == f"{mark}أفكر"
    assert not read(answer("<think>أفكر</think>مرحبا", "length")).in_thoughts
    assert not read(answer("<think>أفكر", "stop")).in_thoughts


def test_text_is_kept_as_it_came():
    odd = "a\u0000b\u001b[31mc\u200d\u202e\r\n\ufeffd"
    assert read(answer(odd)).text == odd
    raw = json.dumps(answer("x")).replace('"x"', r'"\ud83d\ude00 \ud800 \u0007"').encode()
    assert read(raw).text == "😀 \ufffd \u0007"
    assert read(answer("")).text == ""


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda raw: raw_deflate(raw)])
def test_a_compressed_answer(pack):
    raw = json.dumps(answer()).encode()
    encoding = "gzip" if pack is gzip.compress else "deflate"
    assert unpack(pack(raw), encoding) == raw
    with pytest.raises(CallFailed, match="compressed, and not whole"):
        unpack(pack(raw)[:-20], encoding)
    with pytest.raises(CallFailed, match="larger than"):
        unpack(pack(b" " * (LARGEST_ANSWER + 2)), encoding)
    with pytest.raises(CallFailed, match="compressed as 'br'"):
        unpack(raw, "br")


def raw_deflate(raw):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(raw) + packer.flush()


def test_servers_are_recognised_by_what_they_add():
    def server(choice=None, **more):
        data = answer() | more
        data["choices"][0] |= choice or {}
        return recognise_server(json.dumps(data).encode())

    assert server() == "" and recognise_server(b"{") == recognise_server(b'{"choices": 3}') == ""
    assert server(system_fingerprint="fp_ollama") == "Ollama"
    assert server(system_fingerprint="b4719-a1b2c3") == server(timings={}) == "llama.cpp"
    assert server({"matched_stop": None}) == "SGLang" and server({"stop_reason": None}) == "vLLM"


# the shapes that the fuzz starts from
SEEDS = [
    answer(),
    answer([{"type": "text", "text": TEXT}], "length"),
    answer(None, "length", reasoning_content="أفكر"),
    answer(end=None),
    {"model": "m", "choices": [{"index": 0, "text": TEXT, "finish_reason": "eos"}]},
    {"error": {"message": "busy", "code": 503, "param": None}},
    answer(None, tool_calls=[{"id": "1", "function": {"name": "f"}}]),
]
ODD_VALUES = [
    None,
    True,
    -1,
    10**30,
    1e308,
    float("nan"),
    "",
    "\ud800",
    [],
    {},
    [[]],
    [None],
    "stop",
]


def bytes_changed(raw, rng):
    "Bytes cut, flipped, inserted, doubled"
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) or 1)
        match rng.randrange(5):
            case 0:
                del raw[at:]
            case 1 if raw:
                raw[at % len(raw)] ^= 1 << rng.randrange(8)
            case 2:
                raw[at:at] = rng.randbytes(rng.randint(1, 4))
            case 3:
                del raw[at : at + rng.randint(1, 9)]
            case _:
                raw[at:at] = raw[at : at + rng.randint(1, 30)]
    return bytes(raw)


def types_changed(value, rng, p=0.08):
    "Values exchanged for others, keys for others, parts left out"
    if rng.random() < p:
        return rng.choice(ODD_VALUES)
    if isinstance(value, dict):
        pairs = [(k, types_changed(v, rng, p)) for k, v in value.items() if rng.random() > p / 2]
        return dict(pairs)
    if isinstance(value, list):
        return [types_changed(v, rng, p) for v in value] * rng.choice((1, 1, 1, 2))
    return value


def test_every_answer_is_a_reply_or_a_named_fault():
    "ANSWERS_FUZZ=30000 for a long run"
    rng, kinds = random.Random(15), {}
    for _ in range(int(os.environ.get("ANSWERS_FUZZ", "4000"))):
        data = types_changed(rng.choice(SEEDS), rng)
        raw = json.dumps(data, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
        if rng.random() < 0.5:
            raw = bytes_changed(raw, rng)
        if rng.random() < 0.1:
            raw = rng.choice((b"\xef\xbb\xbf", b"\n\n", b"<html>", b"data: ")) + raw
        recognise_server(raw)
        try:
            reply = read_reply(raw, "m", rng.choice(("chat", "completions")), rng.choice((0, 5)))
        except (CallFailed, RequestRefused) as error:
            assert 0 < len(str(error)) < 420 and str(error).isprintable()
            kinds[type(error).__name__] = kinds.get(type(error).__name__, 0) + 1
            continue
        reply.text.encode()
        assert reply.finish_reason.isprintable() and "," not in reply.finish_reason
        assert 0 <= reply.n_tokens <= LARGEST_ANSWER
        kinds["reply"] = kinds.get("reply", 0) + 1
    assert kinds.keys() >= {"reply", "CallFailed", "BudgetSpent", "WrongModel"}, kinds
