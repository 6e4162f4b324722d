"What is sent to a server, and what each of its answers means"

import json
import re

import pytest
from hypothesis import example, given, settings, strategies as st

from arabic_dialog.core.records import Request, Sampling, UserError
from arabic_dialog.models.answers import read_reply, same_model
from arabic_dialog.models.protocol import (
    CallFailed,
    RequestRefused,
    error_text,
    judge_refusal,
    request_body,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "finish_reason",
                    "text",
                    "usage",
                    "completion_tokens",
                    "model",
                    "error",
                    "detail",
                ]
            ),
            x,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()),
    st.sampled_from(["chat", "completions"]),
)
@example(b"[" * 200_000, "chat")
@example(
    b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}], '
    b'"usage": {"completion_tokens": -5}}',
    "chat",
)
def test_whatever_a_server_answers_is_a_reply_or_a_failed_call(raw, api):
    error_text(raw)
    try:
        reply = read_reply(raw, "m", api)
    except (CallFailed, RequestRefused):
        return
    reply.text.encode()
    assert re.fullmatch(r"[\w.:+-]{1,40}", reply.finish_reason) and reply.n_tokens >= 0


def test_a_body_carries_what_the_endpoint_knows_under_its_own_names():
    request, sampling = Request("r", "كم؟"), Sampling(0.5, 0.8, 1.3, 64, seed=3)
    plain = request_body(request, sampling, "m", "completions")
    assert plain["prompt"] == "كم؟" and "messages" not in plain
    assert plain["repetition_penalty"] == plain["repeat_penalty"] == 1.3
    renamed = request_body(request, sampling, "m", dialect={"max_tokens": 1, "seed": 1})
    assert renamed["max_completion_tokens"] == 64
    assert not {"max_tokens", "seed"} & renamed.keys()
    assert renamed["messages"] == [{"role": "user", "content": "كم؟"}]


def test_what_a_status_means():
    kinds = {s: type(judge_refusal(s, "", "u", {})) for s in (302, 400, 413, 429, 500, 503)}
    failed = {429: CallFailed, 500: CallFailed, 503: CallFailed}
    assert kinds == {302: UserError, 400: RequestRefused, 413: RequestRefused} | failed
    busy = judge_refusal(429, "slow down", "u", {}, 3.0)
    assert busy.rest == 3 and busy.away and not busy.spends
    assert judge_refusal(500, "", "u", {}).spends


@pytest.mark.parametrize(
    "served, same",
    [
        ("owner/jais-13b-chat", True),
        ("/models/jais-13b-chat", True),
        ("C:\\models\\jais-13b-chat.gguf", True),
        ("Jais-13b-chat.Q4_K_M.gguf", True),
        ("owner/jais-13b-chat@main", True),
        ("jais-13b-chat:latest", True),
        ("jais-13b-chat-2026-01-31", True),
        ("jais-13b", False),
        ("jais-13b-chat-v3", False),
        ("", False),
    ],
)
def test_names_that_mean_the_same_model(served, same):
    assert same_model("owner/jais-13b-chat", served) is same
