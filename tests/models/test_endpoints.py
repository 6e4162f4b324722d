"""What a misbehaving endpoint may do to a run: cost time, and nothing else."""

import json, logging, random, signal, subprocess, sys, threading, time, warnings
from dataclasses import replace

import pytest

from arabic_dialog.core.files import to_json
from arabic_dialog.core.records import Request, Sampling, UserError
from arabic_dialog.models.answers import LARGEST_ANSWER
from arabic_dialog.models.endpoints import OpenAIEngine
from arabic_dialog.models.rota import MANY_IN_A_ROW, Patience, Silence
from arabic_dialog.models.protocol import request_seed
from misbehaving import BAD, Misbehaving, answer
from signals import hear_ctrl_c

KEY = "sk-very/secret+0123456789"
QUICK = Patience(retries=12, base=0.01, longest=0.1, total=20.0)
PLAIN = Sampling(repetition_penalty=1, max_new_tokens=32)
FAULTS = [
    500,
    429,
    503,
    408,
    "timeout",
    "half",
    "cut",
    "not json",
    "no choices",
    "wrong model",
    "reset",
    "chunks cut",
    "empty",
    "invalid",
    "error",
    "abort",
    "null",
    "tool call",
    (429, {"error": "slow down"}, {"Retry-After": "0"}),
    (503, b"", {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}),
]


def prompts(n):
    return [Request(f"r{i}", f"p{i}") for i in range(n)]


def engine(*servers, **kw):
    return OpenAIEngine(
        [s if isinstance(s, str) else s.url for s in servers],
        kw.pop("model", "some/model"),
        **dict(concurrency=16, timeout=2.0, key_variable="", patience=QUICK) | kw,
    )


@pytest.fixture(autouse=True)
def leaves_nothing_behind():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_third_of_all_calls_fails_and_nothing_is_lost_or_comes_twice(api):
    rng = random.Random(0)
    server = Misbehaving(lambda body, n: rng.choice(FAULTS) if rng.random() < 0.3 else None)
    with server.running():
        e = engine(server, api=api)
        done = list(e.complete(prompts(200), PLAIN))
    assert sorted(c.scenario_id for c in done) == sorted(r.id for r in prompts(200)) and not e.lost
    assert (
        all(c.text == f"جواب {c.prompt}" and c.finish_reason == "stop" for c in done)
        and e.n_tokens == 1000
    )
    assert (
        set(server.good.values()) == {1} and sum(server.calls.values()) > 250
    )  # none was paid for twice
    assert {h["line"] for h in server.headers} == {
        f"POST /v1/{'chat/completions' if api == 'chat' else 'completions'} HTTP/1.1"
    }


def test_an_endpoint_that_is_down_ends_with_a_clear_message():
    with Misbehaving().running() as gone:
        pass
    start = time.monotonic()
    with pytest.raises(
        UserError,
        match=rf"no completion has come from {gone.url} .*no connection.*same command goes on",
    ):
        list(
            engine(gone, patience=Patience(base=0.01, longest=0.1, total=3.0)).complete(
                prompts(40), PLAIN
            )
        )
    assert 0.3 <= time.monotonic() - start < 3  # a tenth of the patience, where none ever answered


def test_what_was_finished_comes_before_the_error():
    server, done = Misbehaving(), []
    with server.running():
        with pytest.raises(UserError, match="no completion has come"):
            for c in engine(server, patience=Patience(base=0.01, longest=0.1, total=1.0)).complete(
                prompts(400), PLAIN
            ):
                done.append(c)
                if len(done) == 50:
                    server.stop()
    assert (
        len(done) >= sum(server.good.values()) - 16 and len(done) >= 50
    )  # those cut off on the way were never received
    with server.running():  # the rest of them, as the same command would ask for
        rest = list(
            engine(server).complete(
                [r for r in prompts(400) if r.id not in {c.scenario_id for c in done}], PLAIN
            )
        )
    assert sorted(c.scenario_id for c in done + rest) == sorted(r.id for r in prompts(400))


@pytest.mark.parametrize("how", ["stops", "fails"])
def test_when_one_of_two_endpoints_dies_the_other_does_the_work(how):
    one, two = Misbehaving(delay=0.005), Misbehaving(delay=0.005)
    with one.running(), two.running():
        e = engine(one, two)
        done = []
        for c in e.complete(prompts(200), PLAIN):
            done.append(c.scenario_id)
            if len(done) == 40:
                one.stop() if how == "stops" else setattr(one, "fault", lambda body, n: 500)
    assert sorted(done) == sorted(r.id for r in prompts(200)) and not e.lost
    assert sum(one.good.values()) >= 15 and sum(two.good.values()) >= 120


def test_a_dead_endpoint_does_not_end_a_run_while_a_slow_one_works():
    with Misbehaving().running() as dead:
        pass
    with Misbehaving(delay=1.0).running() as slow:
        assert (
            len(
                list(
                    engine(
                        dead,
                        slow,
                        timeout=5.0,
                        patience=Patience(base=0.01, longest=0.05, total=0.2),
                    ).complete(prompts(20), PLAIN)
                )
            )
            == 20
        )


def test_the_bound_on_concurrent_calls_holds_and_is_reached_at_every_endpoint():
    one, two = (
        Misbehaving(lambda body, n: 500 if n == 1 else None, delay=0.01),
        Misbehaving(delay=0.01),
    )
    with one.running(), two.running():
        e = engine(one, two, concurrency=5)
        list(e.complete(prompts(1), PLAIN))  # until a first reply there are fewer
        assert len(list(e.complete(prompts(120), PLAIN))) == 120
    assert one.most == two.most == 5


def test_requests_are_drawn_only_as_places_fall_free():
    drawn = []
    with Misbehaving().running() as server:
        made = engine(server, concurrency=4).complete(
            (drawn.append(r) or r for r in prompts(100)), PLAIN
        )
        next(made)
        time.sleep(0.2)
        assert len(drawn) <= 5
        made.close()


def test_retry_after_is_honoured_by_all_calls_to_the_endpoint():
    when = []

    def fault(body, n):
        when.append(time.monotonic())
        return (429, {}, {"Retry-After": "1"}) if len(when) == 1 else None

    with Misbehaving(fault).running() as server:
        assert (
            len(
                list(
                    engine(server, concurrency=1, patience=Patience(base=0.01, total=20)).complete(
                        prompts(3), PLAIN
                    )
                )
            )
            == 3
        )
    assert when[1] - when[0] >= 1
    when.clear()
    with Misbehaving(fault).running() as server:
        list(engine(server, concurrency=1).complete(prompts(3), PLAIN))  # longest=.1
    assert 0.1 <= when[1] - when[0] < 0.6


def test_the_request_that_breaks_the_server_is_left_out_and_the_others_go_on():
    with Misbehaving(
        lambda body, n: 500 if body["messages"][0]["content"] == "p7" else None
    ).running() as server:
        e = engine(server, patience=Patience(retries=2, base=0.01))
        done = list(e.complete(prompts(20), PLAIN))
        assert (
            len(done) == 19
            and e.lost == {"r7": "failed 3 times (last: 500: out of order)"}
            and server.calls["p7"] == 3
        )
        server.fault = lambda body, n: None
        assert len(list(e.complete([Request("r7", "p7")], PLAIN))) == 1 and not e.lost


@pytest.mark.parametrize(
    "status, said, why",
    [
        (
            400,
            {
                "error": {
                    "message": "This model's maximum context length is 2048 tokens. "
                    "However, you requested 2100 tokens",
                    "code": "context_length_exceeded",
                }
            },
            "longer than the endpoint can read",
        ),
        (
            400,
            {"error": {"message": "the request exceeds the available context size"}},
            "longer than the endpoint can read",
        ),
        (413, b"", "longer than the endpoint can read"),
        (451, {"message": "no\x1b[31m\nno"}, "451: no [31m no"),
        (
            200,
            answer(
                {"model": "m", "prompt": "p"},
                choices=[{"finish_reason": "content_filter", "message": {"content": None}}],
            ),
            "content filter",
        ),
    ],
)
def test_a_refused_request_is_left_out_with_its_reason_and_never_retried(status, said, why):
    with Misbehaving(
        lambda body, n: (status, said) if body["messages"][0]["content"] == "p3" else None
    ).running() as server:
        e = engine(server, model="m")
        done = list(e.complete(prompts(10), PLAIN))
    assert (
        len(done) == 9
        and list(e.lost) == ["r3"]
        and why in e.lost["r3"]
        and server.calls["p3"] == 1
    )


def test_when_every_request_is_refused_the_fault_is_not_theirs():
    with Misbehaving(lambda body, n: (402, {"error": {"message": "no money"}})).running() as server:
        with pytest.raises(UserError, match="all refused .*402: no money"):
            list(engine(server).complete(prompts(100), PLAIN))
    assert MANY_IN_A_ROW <= sum(server.calls.values()) < MANY_IN_A_ROW + 32


def test_a_server_of_another_model_is_named_and_its_text_never_taken():
    with Misbehaving(lambda body, n: "wrong model").running() as server:
        with pytest.raises(UserError, match="serves 'another-model', not 'some/model'"):
            list(engine(server).complete(prompts(1), PLAIN))
    with Misbehaving(lambda body, n: 404).running() as server:
        with pytest.raises(UserError, match="has no model 'some/model'.*it has what-it-has"):
            list(engine(server).complete(prompts(1), PLAIN))


def test_seeds_are_a_requests_own_and_the_same_in_every_run():
    seen = []
    for many in (1, 30, 30):
        with Misbehaving(lambda body, n: 500 if n == 1 else None).running() as server:
            list(engine(server).complete(prompts(many), PLAIN))
        seen.append({b["messages"][0]["content"]: b["seed"] for b in server.bodies})
        assert len(server.bodies) == 2 * many
    assert (
        seen[0]["p0"] == seen[1]["p0"] and seen[1] == seen[2] and len(set(seen[1].values())) == 30
    )


OPENAIS = {"max_tokens", "seed", "repetition_penalty", "repeat_penalty", "top_k", "min_p"}


def refuses(names, say, status=400):
    "A fault: `say` says what is wrong with the first of these fields that is in the body"

    def fault(body, n):
        there = [name for name in body if name in names]
        return (status, say(there)) if there else None

    return fault


WAYS_TO_SAY = {
    "openai": lambda f: {
        "error": {"message": f"Unsupported parameter: '{f[0]}' is not supported.", "param": f[0]}
    },
    "openai, no param": lambda f: {
        "error": {"message": f"Unrecognized request argument supplied: {f[0]}", "param": None}
    },
    "pydantic": lambda f: {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", name],
                "msg": "Extra inputs are not permitted",
                "input": {"temperature": 0.3, "top_p": 0.9},
            }
            for name in f
        ]
    },
    "pydantic as text": lambda f: {
        "error": "[{'type': 'extra_forbidden', 'loc': ('body', '"
        + f[0]
        + "'), 'msg': 'Extra inputs are not permitted', 'input': {'temperature': 0.3}}]"
    },
    "transformers": lambda f: {"detail": f"Unexpected fields in the request: {set(f)}"},
    "plain": lambda f: f"unknown field: {f[0]}".encode(),
    "gemini": lambda f: [{"error": {"code": 400, "message": f'Unknown name "{f[0]}": no field.'}}],
    "nothing": lambda f: b"",
    "no name": lambda f: {"error": {"message": "Bad Request", "code": 400}},
}


@pytest.mark.parametrize("way", WAYS_TO_SAY)
@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_a_parameter_loses_that_one_alone(way, status):
    fault = refuses({"min_p"}, WAYS_TO_SAY[way], status)
    with Misbehaving(fault).running() as server:
        e = engine(server)
        with pytest.warns(UserWarning, match="refuses min_p; it is sent none") as noted:
            assert len(list(e.complete(prompts(30), PLAIN))) == 30
        assert len(list(e.complete(prompts(5), PLAIN))) == 5
    assert len(noted) == 1 and not e.lost
    sent = server.bodies[-1].keys()
    assert OPENAIS - {"min_p"} <= sent and {"temperature", "top_p"} <= sent
    (asked,) = e.asked(PLAIN)
    assert asked.refused == {"min_p": 0.0} and asked.sent.keys() == sent - {"model", "messages"}


@pytest.mark.parametrize("way", ["openai", "pydantic", "plain", "gemini"])
def test_a_server_that_knows_openais_parameters_only_gets_those(way):
    with Misbehaving(refuses(OPENAIS, WAYS_TO_SAY[way])).running() as server:
        e = engine(server)
        with pytest.warns(UserWarning) as noted:
            assert len(list(e.complete(prompts(40), Sampling(max_new_tokens=32)))) == 40
    said = "; ".join(str(w.message).split("refuses ")[1] for w in noted)
    assert "max_tokens; it is sent max_completion_tokens in its place" in said
    assert "seed; it is sent none" in said or "seed, " in said
    assert "repetition_penalty; it is sent none, and samples without 1.2" in said
    body = server.bodies[-1]
    assert body["max_completion_tokens"] == 32 and not OPENAIS & body.keys()
    (asked,) = e.asked(Sampling(max_new_tokens=32))
    assert asked.sent["max_completion_tokens"] == 32 and asked.sent["temperature"] == 0.3
    assert (
        asked.refused.keys() == OPENAIS - {"max_tokens"} | {"repeat_last_n"} & asked.refused.keys()
    )
    assert len(server.bodies) < 40 + 8 * 8


def test_transformers_serve_has_the_penalty_under_another_name():
    known = {"model", "messages", "temperature", "top_p", "max_tokens", "seed"}
    known |= {"frequency_penalty", "stop", "generation_config"}

    def fault(body, n):
        unexpected = body.keys() - known
        if unexpected:
            return 422, {"detail": f"Unexpected fields in the request: {unexpected}"}

    with Misbehaving(fault).running() as server, pytest.warns(UserWarning, match="frequency_pen"):
        assert len(list(engine(server).complete(prompts(9), Sampling()))) == 9
    assert server.bodies[-1]["frequency_penalty"] == 0.2
    assert server.bodies[-1].keys() <= known
    strict = refuses({"repetition_penalty"}, WAYS_TO_SAY["openai"])
    with Misbehaving(strict).running() as server, pytest.warns(UserWarning):
        list(engine(server).complete(prompts(1), Sampling()))
    assert "frequency_penalty" not in server.bodies[-1]
    assert server.bodies[-1]["repeat_penalty"] == 1.2


@pytest.mark.parametrize(
    "said, field",
    [
        ("top_k must be -1 (disable), or at least 1, got 0", None),
        ("'top_k' should be >= 0", {"top_k": 0}),
        ("temperature and top_p cannot both be specified for this model", {"temperature": 0.3}),
        (
            "Unsupported value: 'temperature' does not support 0.3 with this model. "
            "Only the default (1) value is supported.",
            {"top_p": 0.9},
        ),
    ],
)
def test_what_is_refused_in_other_words(said, field):
    name = "top_p" if "both" in said else "temperature" if "Only" in said else "top_k"

    def fault(body, n):
        if name == "top_k" and body.get("top_k") in ((0,) if field is None else (-1,)):
            return 400, {"error": {"message": said}}
        if name != "top_k" and name in body:
            return 400, {"error": {"message": said}}

    with Misbehaving(fault).running() as server, warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert len(list(engine(server).complete(prompts(3), PLAIN))) == 3
    body = server.bodies[-1]
    assert body.items() >= (field or {"top_k": -1}).items()
    assert name == "top_k" or name not in body


@pytest.mark.parametrize(
    "said, error",
    [
        ("temperature must be at most 0.2", "refuses temperature = 0.3 .*change temperature"),
        ("top_p: Input should be less than 0.5", "refuses top_p = 0.9 .*change top_p"),
        ("max_tokens must be below 20", "refuses max_tokens = 32 .*change max_new_tokens"),
        ("repetition_penalty must be in [1, 1.1]", "refuses repetition_penalty = 1.3 .*change rep"),
        ("Model Not Exist", "has no model 'some/model'.*it has what-it-has"),
        ("Client sent an HTTP request to an HTTPS server.", "speaks https.*write https://"),
    ],
)
def test_a_value_out_of_bounds_is_the_persons_matter(said, error):
    with Misbehaving(lambda body, n: (400, {"error": {"message": said}})).running() as server:
        with pytest.raises(UserError, match=error):
            list(engine(server).complete(prompts(1), Sampling(0.3, 0.9, 1.3, 32)))


@pytest.mark.parametrize(
    "fault, error",
    [
        (lambda said: None, None),
        (lambda said: (401, said), "check the key in the environment variable TEST_KEY"),
        (lambda said: (403, said), "check the key"),
        (lambda said: (404, said), "has no model"),
        (
            lambda said: (400, {"error": {"message": f"temperature? {KEY}"}}),
            "refuses temperature = 0.3",
        ),
        (lambda said: (200, said), None),
        (
            lambda said: (200, json.dumps({"model": KEY, "choices": []}).encode()),
            r"serves '\[TEST_KEY\]'",
        ),
        (
            lambda said: (
                200,
                answer({"model": "some/model", "messages": [{"content": "x"}]}, f"مفتاحك {KEY}"),
            ),
            None,
        ),
        (
            lambda said: (
                200,
                answer(
                    {"model": "some/model", "messages": [{"content": "x"}]},
                    choices=[{"text": "مرحبا", "finish_reason": KEY}],
                ),
            ),
            None,
        ),
        (
            lambda said: (451, {"error": {"message": KEY.replace("/", "%2F").replace("+", "%2B")}}),
            None,
        ),
        (lambda said: (451, json.dumps({"error": KEY}).replace("/", r"\/").encode()), None),
        (lambda said: (200, f"<html><title>{KEY}</title>".encode()), None),
        (lambda said: (302, said, {"Location": f"http://127.0.0.1:9/{KEY}"}), "redirection"),
    ],
)
def test_the_key_is_sent_and_never_shown(fault, error, monkeypatch, caplog, recwarn):
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    with Misbehaving(lambda body, n: fault({"error": f"bad key {KEY}"})).running() as server:
        e = engine(server, key_variable="TEST_KEY", patience=Patience(retries=2, base=0.01))
        done, message = [], ""
        if error:
            with pytest.raises(UserError, match=error) as x:
                list(e.complete(prompts(2), PLAIN))
            message = str(x.value) + repr(x.value.__context__)
        else:
            done = list(e.complete(prompts(2), PLAIN))
    assert server.headers and all(h["authorization"] == f"Bearer {KEY}" for h in server.headers)
    everything = (
        "".join(map(to_json, done))
        + message
        + repr(e.lost)
        + repr(vars(e))
        + repr(vars(e.key))
        + caplog.text
        + "".join(str(w.message) for w in recwarn)
    )
    assert KEY not in everything and "0123456789" not in everything


def test_without_a_key_none_is_sent_and_a_refusal_says_which_variable_to_set(monkeypatch):
    monkeypatch.delenv("TEST_KEY", raising=False)
    with Misbehaving(lambda body, n: 401).running() as server:
        with pytest.raises(UserError, match="set the environment variable TEST_KEY"):
            list(engine(server, key_variable="TEST_KEY").complete(prompts(1), PLAIN))
    assert "authorization" not in server.headers[0]
    monkeypatch.setenv("TEST_KEY", "a key\nX-Other: header")
    with pytest.raises(UserError, match="TEST_KEY holds a space") as x:
        list(engine(server, key_variable="TEST_KEY").complete(prompts(1), PLAIN))
    assert "X-Other" not in str(x.value)
    monkeypatch.setenv("TEST_KEY", KEY)
    with pytest.warns(UserWarning, match="sent to http://example.com/v1 without encryption"):
        engine("http://example.com/v1", key_variable="TEST_KEY")


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@host/v1",
        "https://host/v1?key=secret",
        "http://host/v1#secret",
        "secret@host",
        "http://me:se?cret@host",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_shown(url):
    with pytest.raises(UserError) as x:
        engine(url)
    assert "cret" not in str(x.value).replace("secret@host", "")


@pytest.mark.parametrize(
    "kw, match",
    [
        (dict(api="edit"), "edit"),
        (dict(concurrency=0), "concurrency 0"),
        (dict(timeout=0), "timeout 0"),
        (dict(model=""), "model ''"),
    ],
)
def test_what_cannot_be_is_said_at_once(kw, match):
    with pytest.raises(UserError, match=match):
        engine("http://localhost/v1", **kw)
    with pytest.raises(UserError, match="there is no endpoint"):
        engine()


def test_an_answer_that_never_ends_is_not_read_to_the_end():
    with Misbehaving(lambda body, n: (200, b" " * (LARGEST_ANSWER + 1))).running() as server:
        e = engine(server, timeout=10.0, patience=Patience(retries=0))
        assert not list(e.complete(prompts(1), PLAIN)) and "larger than" in e.lost["r0"]


@pytest.mark.parametrize(
    "stop", [lambda made: made.close(), lambda made: made.throw(KeyboardInterrupt)]
)
def test_a_caller_who_stops_cancels_what_is_under_way(stop):
    with Misbehaving(
        lambda body, n: None if body["messages"][0]["content"] == "p0" else "timeout"
    ).running() as server:
        made = engine(server, timeout=60.0).complete(prompts(50), PLAIN)
        assert next(made).scenario_id == "r0"
        start = time.monotonic()
        try:
            stop(made)
        except KeyboardInterrupt:
            pass
        assert time.monotonic() - start < 5  # and no thread is left: see the fixture


def test_ctrl_c_while_waiting_ends_at_once():
    code = (
        "import sys\n"
        "from arabic_dialog.core.records import Request, Sampling\n"
        "from arabic_dialog.models.endpoints import OpenAIEngine\n"
        "print('waiting', flush=True)\n"
        "engine = OpenAIEngine([sys.argv[1]], 'm', key_variable='')\n"
        "list(engine.complete([Request('r', 'p')], Sampling()))"
    )
    with Misbehaving(lambda body, n: "timeout").running() as server:
        p = subprocess.Popen(
            [sys.executable, "-c", code, server.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=hear_ctrl_c,
        )
        assert p.stdout.readline() == "waiting\n"
        while not server.bodies:
            time.sleep(0.02)
        p.send_signal(signal.SIGINT)
        assert p.wait(10) != 0
        assert "KeyboardInterrupt" in p.stderr.read().splitlines()[-1]
        p.stdout.close()
        p.stderr.close()


def seeds_of(server, prompt):
    return [b["seed"] for b in server.bodies if b["messages"][0]["content"] == prompt]


@pytest.mark.parametrize("fault", BAD)
def test_a_whole_answer_without_a_reply_is_drawn_again_with_another_seed(fault):
    with Misbehaving(lambda body, n: fault if n <= 2 else None).running() as server:
        done = {c.prompt: c for c in engine(server).complete(prompts(20), PLAIN)}
    for request in prompts(20):
        sent, sampling = seeds_of(server, request.prompt), done[request.prompt].sampling
        assert len(set(sent)) == len(sent) == 3
        assert sent[0] == request_seed(PLAIN, request) and sampling.seed != PLAIN.seed
        assert sent[-1] == request_seed(sampling, request)
        assert replace(sampling, seed=PLAIN.seed) == PLAIN


@pytest.mark.parametrize(
    "fault", [500, 503, "cut", "reset", "not json", "error", "empty", "invalid"]
)
def test_a_fault_on_the_way_is_asked_again_with_the_same_seed(fault):
    with Misbehaving(lambda body, n: fault if n <= 2 else None).running() as server:
        done = list(engine(server).complete(prompts(3), PLAIN))
    assert {c.sampling for c in done} == {PLAIN}
    assert all(set(seeds_of(server, r.prompt)) == {request_seed(PLAIN, r)} for r in prompts(3))


def test_seeds_of_redraws_go_on_where_they_were_when_a_request_is_asked_later():
    with Misbehaving(lambda body, n: "null" if n <= 3 else None).running() as server:
        e = engine(server, patience=Patience(retries=1, base=0.01))
        assert not list(e.complete(prompts(1), PLAIN)) and "content is null" in e.lost["r0"]
        assert len(list(e.complete(prompts(1), PLAIN))) == 1
    assert len(set(seeds_of(server, "p0"))) == 4


def reasoning(body, content=None, end="length"):
    message = {"content": content, "reasoning_content": "أفكر في المحادثة المطلوبة. " * 80}
    return 200, answer(body, choices=[{"message": message, "finish_reason": end}])


@pytest.mark.parametrize("end", ["length", "stop", "MAX_TOKENS"])
def test_a_budget_that_went_into_thinking_is_said_at_once_and_ends_the_run_early(end):
    with Misbehaving(lambda body, n: reasoning(body, end=end), delay=0.02).running() as server:
        e = engine(server, concurrency=64)
        with pytest.warns(UserWarning, match="reasoning only") as noted:
            with pytest.raises(
                UserError, match="last 8 replies held thoughts only.*thinking = off"
            ):
                list(e.complete(prompts(500), PLAIN))
    assert len(server.bodies) <= 24 and len(noted) == 1


def test_one_request_that_only_thinks_is_lost_after_two_calls():
    def fault(body, n):
        return reasoning(body) if "p3" in str(body["messages"]) else None

    with Misbehaving(fault).running() as server, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        e = engine(server)
        assert len(list(e.complete(prompts(9), PLAIN))) == 8
    assert server.calls["p3"] == 2 and "max_new_tokens" in e.lost["r3"]
    assert len(set(seeds_of(server, "p3"))) == 2


def test_texts_cut_off_in_their_thoughts_are_kept_and_end_the_run():
    def thinks(body, n):
        message = {"content": "<think>\nأفكر في"}
        return 200, answer(body, choices=[{"message": message, "finish_reason": "length"}])

    done = []
    with (
        Misbehaving(thinks).running() as server,
        pytest.warns(UserWarning, match="of its thoughts"),
    ):
        with pytest.raises(UserError, match="last 8 replies held thoughts only"):
            done.extend(c for c in engine(server, concurrency=1).complete(prompts(60), PLAIN))
            pytest.fail("the run goes on")
        for c in engine(server, concurrency=1).complete(prompts(3), PLAIN):
            done.append(c)
    assert len(server.bodies) <= 12 and [c.finish_reason for c in done] == ["length"] * 11


def test_thinking_is_turned_off_where_the_server_takes_it():
    off = replace(PLAIN, thinking="off")

    def thinks(body, n):
        return None if "chat_template_kwargs" in body else reasoning(body)

    with Misbehaving(thinks).running() as server:
        assert len(list(engine(server).complete(prompts(5), off))) == 5
        assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
        assert server.bodies[0]["reasoning_effort"] == "none"
        list(engine(server, api="completions").complete(prompts(1), off))
        assert not {"chat_template_kwargs", "reasoning_effort"} & server.bodies[-1].keys()
    said = "reasoning_effort: Input should be 'low', 'medium' or 'high'"
    fault = refuses({"reasoning_effort"}, lambda _: {"error": said})
    with (
        Misbehaving(fault).running() as server,
        pytest.warns(UserWarning, match="reasoning_effort"),
    ):
        list(engine(server).complete(prompts(3), off))
    assert "chat_template_kwargs" in server.bodies[-1]


def test_an_ending_that_no_table_has_is_kept_and_said_once():
    def bored(body, n):
        return 200, answer(body, choices=[{"text": "مرحبا", "finish_reason": "bored"}])

    with Misbehaving(bored).running() as server, pytest.warns(UserWarning) as noted:
        e = engine(server)
        done = [c for _ in range(2) for c in e.complete(prompts(20), PLAIN)]
    assert {c.finish_reason for c in done} == {"bored"} and len(noted) == 1
    assert "'bored', which no table of endings has" in str(noted[0].message)


def test_stop_strings_are_sent_and_hold_where_the_server_does_not_heed_them():
    stop = ("###", "حوار", "a", "b", "c")
    text = "المستخدم: مرحبا\n حوار آخر ### "

    def few(body, n):
        if len(body.get("stop", ())) > 4:
            return 400, {"error": {"message": "'stop' takes at most 4 strings"}}
        choice = {"message": {"content": text}, "finish_reason": "length"}
        return 200, answer(body, choices=[choice])

    sampling = replace(PLAIN, stop=stop)
    with Misbehaving(few).running() as server:
        done = list(engine(server).complete(prompts(3), sampling))
    assert server.bodies[-1]["stop"] == list(stop[:4])
    assert {(c.text, c.finish_reason) for c in done} == {("المستخدم: مرحبا\n ", "stop")}
    assert {c.sampling for c in done} == {sampling}


def test_eight_calls_are_under_way_until_the_first_reply_comes():
    one, two = Misbehaving(delay=0.3), Misbehaving(delay=0.3)
    with one.running(), two.running():
        made = engine(one, two, concurrency=32).complete(prompts(100), PLAIN)
        next(made)
        assert one.most + two.most == 8
        assert len(list(made)) == 99
    assert one.most == two.most == 32


def listening(e):
    lines = []
    e.say = lines.append
    return lines


def test_a_server_that_is_down_is_said_at_once_and_so_is_its_return():
    server = Misbehaving()
    with server.running():
        e = engine(server)
        lines = listening(e)
        assert len(list(e.complete(prompts(3), PLAIN))) == 3 and not lines
    port = int(server.url.split(":")[2].split("/")[0])
    again = Misbehaving(port=port)

    def come_back():
        time.sleep(1.5)
        with again.running():
            finished.wait(10)

    finished = threading.Event()
    thread = threading.Thread(target=come_back)
    thread.start()
    try:
        assert len(list(e.complete(prompts(20), PLAIN))) == 20
    finally:
        finished.set()
        thread.join()
    assert lines == [
        f"{server.url}: no connection: Connection refused; it is asked again for 20 s",
        f"{server.url} answers again",
    ]


def test_what_is_said_while_nothing_comes(monkeypatch):
    lines, clock = [], [100.0]
    monkeypatch.setattr("arabic_dialog.models.rota.time.monotonic", lambda: clock[0])
    silence = Silence(lines.append)
    silence.n_done = 1200
    for _ in range(120):
        clock[0] += 1
        silence.speak(64, "503: busy", 300 - (clock[0] - 100), 600.0)
    assert [line.split(":")[0] for line in lines] == [
        f"no completion for {n} s" for n in (10, 40, 70, 100)
    ]
    assert lines[1].endswith(
        "1,200 done, 0 given up, 64 waiting; the run ends in about 4 min unless one comes "
        "(last: 503: busy)"
    )
    silence.end()
    lines.clear()
    for _ in range(900):
        clock[0] += 1
        silence.speak(2, "", 0.0, 600.0)
    assert [line.split(":")[0] for line in lines] == [
        f"no completion for {n}" for n in ("20 s", "80 s", "4 min", "9 min", "14 min")
    ]
    assert lines[0].endswith("1,201 done, 0 given up, 2 waiting; calls may take 10 min")


def test_a_run_that_is_given_up_has_said_so_before():
    with Misbehaving(lambda body, n: 429).running() as server:
        e = engine(server, patience=Patience(base=0.01, longest=0.5, total=12.5))
        lines = listening(e)
        with pytest.raises(UserError, match="no completion has come"):
            list(e.complete(prompts(40), PLAIN))
    assert lines and lines[0].startswith("no completion for 10 s: 0 done, 0 given up, 16 waiting")
    assert "(last: 429: out of order)" in lines[0]


@pytest.mark.parametrize(
    "changes, suffix, message",
    [
        (dict(models=()), "", "no model 'some/model'.*is the base URL complete"),
        (dict(models=("a\x1b[2J", "b")), "", "it has a .2J, b"),
        (dict(models=("model", "b")), "", "it has the model; try endpoint_api = completions"),
        (dict(base="/v1/v1"), "", "its API begins at http://[^ ]*/v1/v1: write that"),
    ],
)
def test_a_path_or_a_model_that_is_not_there(changes, suffix, message):
    with Misbehaving(lambda body, n: 404, **changes).running() as server:
        with pytest.raises(UserError, match=message) as caught:
            list(engine(server).complete(prompts(1), PLAIN))
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_page_of_a_site_is_no_api(status):
    page = b"<!doctype html><title>Not here</title>"
    with Misbehaving(lambda body, n: (status, page), models=()).running() as server:
        with pytest.raises(UserError, match=rf"no model .*\({status}\); is the base URL complete"):
            list(engine(server).complete(prompts(1), PLAIN))


def test_a_page_to_sign_in_is_named_after_sixteen():
    page = b"<html><head><title>Sign in to the <b>network</b></title>"
    with Misbehaving(lambda body, n: (200, page)).running() as server:
        with pytest.raises(
            UserError, match="web page .'Sign in to the network'.*a page to sign in"
        ):
            list(engine(server).complete(prompts(40), PLAIN))
    assert len(server.bodies) <= 26


def test_a_redirection_says_where_it_leads_without_what_may_be_secret():
    to = {"Location": "https://example.com/v1/chat/completions?token=hidden"}
    with Misbehaving(lambda body, n: (307, b"", to)).running() as server:
        with pytest.raises(UserError, match="to https://example.com/v1/chat/compl") as caught:
            list(engine(server).complete(prompts(1), PLAIN))
    assert "hidden" not in str(caught.value)


def test_https_where_the_server_speaks_http_is_said_at_once():
    from http.server import BaseHTTPRequestHandler, HTTPServer

    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises(
            UserError, match="no encrypted connection to 127.0.0.1.*write http://127"
        ):
            list(engine(f"https://127.0.0.1:{server.server_port}/v1").complete(prompts(3), PLAIN))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert time.monotonic() - start < 3


def test_a_compressed_answer_is_read_although_nobody_asked_for_it():
    import gzip

    def packed(body, n):
        raw = gzip.compress(json.dumps(answer(body)).encode())
        return 200, raw[: -9 if n == 1 else None], {"Content-Encoding": "gzip"}

    with Misbehaving(packed).running() as server:
        done = list(engine(server).complete(prompts(5), PLAIN))
    assert {c.text for c in done} == {f"جواب p{i}" for i in range(5)} and len(server.bodies) == 10


def test_an_account_that_is_empty_ends_the_run_and_a_busy_one_does_not():
    said = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    with Misbehaving(lambda body, n: (429, said)).running() as server:
        with pytest.raises(UserError, match="nothing left to spend"):
            list(engine(server).complete(prompts(9), PLAIN))
    busy = {"error": {"message": "You exceeded your current quota, retry in 1 s"}}
    with Misbehaving(lambda body, n: (429, busy) if n == 1 else None).running() as server:
        assert len(list(engine(server).complete(prompts(3), PLAIN))) == 3


def test_ollama_is_told_from_others_since_it_takes_parameters_without_a_word():
    def ollama(body, n):
        return 200, answer(body, system_fingerprint="fp_ollama")

    with Misbehaving(ollama).running() as server, pytest.warns(UserWarning, match="Modelfile") as w:
        e = engine(server)
        list(e.complete(prompts(5), PLAIN))
    assert len(w) == 1 and e.asked(PLAIN)[0].server == "Ollama"
