"""What a misbehaving endpoint may do to a run: cost time, and nothing else."""

import json, logging, random, signal, subprocess, sys, threading, time, warnings

import pytest

from arabic_dialog.core.files import to_json
from arabic_dialog.core.records import Request, Sampling, UserError
from arabic_dialog.models.answers import LARGEST_ANSWER
from arabic_dialog.models.endpoints import OpenAIEngine
from arabic_dialog.models.rota import MANY_IN_A_ROW, Patience
from misbehaving import Misbehaving, answer

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
        assert len(list(engine(one, two, concurrency=5).complete(prompts(120), PLAIN))) == 120
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
        )
        assert p.stdout.readline() == "waiting\n"
        while not server.bodies:
            time.sleep(0.02)
        p.send_signal(signal.SIGINT)
        assert p.wait(10) != 0
        assert "KeyboardInterrupt" in p.stderr.read().splitlines()[-1]
        p.stdout.close()
        p.stderr.close()
