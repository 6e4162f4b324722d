"Completions from servers: all of them once, whatever fails and whoever is killed; and what is said"

import json
import random
import subprocess
import sys
import time

import pytest

from arabic_dialog.core.files import load_jsonl
from arabic_dialog.core.records import Completion, Request, Sampling
from arabic_dialog.core.runs import RunFolder, Work
from arabic_dialog.core.settings import load_profile
from arabic_dialog.generation import completing, dataset
from arabic_dialog.generation.completing import CompletionLog, Progress, complete_requests
from arabic_dialog.models.endpoints import Asked, OpenAIEngine
from arabic_dialog.models.protocol import request_seed
from arabic_dialog.models.rota import Patience
from misbehaving import BAD, BROKEN, FALSE, Misbehaving, answer

FAULTS = [500, 503, 429, *BROKEN.keys() - {"timeout"}, *FALSE, *BAD]
CHILD = """
import sys
from arabic_dialog.core.records import Request, Sampling
from arabic_dialog.generation.completing import CompletionLog, complete_requests
from arabic_dialog.models.endpoints import OpenAIEngine
from arabic_dialog.models.rota import Patience
url, path, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
patience = Patience(retries=30, base=0.01, longest=0.1, total=20.0)
engine = OpenAIEngine([url], "m", concurrency=8, key_variable="", patience=patience)
requests = [Request(f"r{i}", f"p{i}") for i in range(n)]
print("begun", flush=True)
with CompletionLog(path) as log:
    lost = complete_requests(log, requests, lambda: engine, Sampling(max_new_tokens=32), 3)
print(len(lost), flush=True)
"""


def test_thirty_percent_faults_and_eight_kills_lose_and_double_nothing(tmp_path):
    rng, n, path = random.Random(3), 240, tmp_path / "completions.jsonl"
    server = Misbehaving(
        lambda body, k: rng.choice(FAULTS) if rng.random() < 0.3 else None, delay=0.02
    )
    command = [sys.executable, "-c", CHILD]
    with server.running():
        kills, after = 0, [0]
        while kills < 8:
            process = subprocess.Popen(
                [*command, server.url, path, str(n)], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout.readline() == "begun\n"
            enough = sum(server.good.values()) + rng.randint(3, 25)
            while sum(server.good.values()) < enough:
                time.sleep(0.005)
            process.kill()
            process.wait()
            process.stdout.close()
            kills += 1
            after.append(len(path.read_bytes().splitlines()) if path.exists() else 0)
        assert after == sorted(after) and 0 < after[-1] < n
        last = subprocess.run([*command, server.url, path, str(n)], capture_output=True, text=True)
    assert last.returncode == 0 and last.stdout == "begun\n0\n", last.stderr
    done = load_jsonl(path, Completion)
    assert sorted(c.scenario_id for c in done) == sorted(f"r{i}" for i in range(n))
    assert all(c.text == f"جواب {c.prompt}" for c in done)
    assert sum(server.good.values()) <= n + kills * 8  # paid twice: what was under way at a kill
    sent = {(b["messages"][0]["content"], b["seed"]) for b in server.bodies}
    for c in done:
        assert (c.prompt, request_seed(c.sampling, Request(c.scenario_id, c.prompt))) in sent
    assert len({c.sampling.seed for c in done}) > 1  # some were drawn anew, and say so
    about = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))
    assert [entry["endpoint"] for entry in about["sent"]] == [server.url]
    assert about["sent"][0]["sent"]["top_k"] == -1 and about["sent"][0]["refused"] == {}


def engine_of(server, **how):
    quick = Patience(retries=1, base=0.01, longest=0.05, total=5.0)
    return OpenAIEngine([server.url], "m", key_variable="", patience=quick, **how)


REQUESTS = [Request(f"r{i}", f"p{i}") for i in range(6)]


def ask(log, server, requests=REQUESTS):
    engine = engine_of(server)
    return complete_requests(log, requests, lambda: engine, Sampling(repetition_penalty=1))


def test_what_a_server_would_not_take_is_written_beside_the_log(tmp_path):
    def strict(body, n):
        if "top_k" in body:
            return 400, {"error": {"message": "Unknown parameter: 'top_k'", "param": "top_k"}}

    with Misbehaving(strict).running() as server, pytest.warns(UserWarning, match="top_k"):
        with CompletionLog(tmp_path / "log.jsonl") as log:
            assert not ask(log, server)
            assert not ask(log, server, [Request("again", "p")])
    (entry,) = json.loads((tmp_path / "about.json").read_text(encoding="utf-8"))["sent"]
    assert entry["refused"] == {"top_k": -1} and entry["server"] == ""
    assert entry["sent"] == {
        "temperature": 0.3,
        "top_p": 0.9,
        "max_tokens": 512,
        "repetition_penalty": 1,
        "repeat_penalty": 1,
        "min_p": 0.0,
        "seed": "each request's own",
    }


def test_a_log_of_before_is_found_and_said_in_one_line(tmp_path, capsys):
    with Misbehaving().running() as server:
        with CompletionLog(tmp_path / "log.jsonl") as log:
            for r in REQUESTS[:4]:
                log.add(Completion(r.id, "m", r.prompt, "قديم", "stop", Sampling()))
            assert not ask(log, server)
            said = capsys.readouterr().err
            assert "4 completions of" in said and said.count("kept from before") == 1
            assert len(server.bodies) == 2
            assert not ask(log, server, [*REQUESTS, Request("new", "p")])
            assert "kept from before" not in capsys.readouterr().err


def test_what_is_lost_is_said_with_its_reasons(tmp_path, capsys):
    def fault(body, n):
        prompt = body["messages"][0]["content"]
        return {"p1": "null", "p2": "null", "p3": (451, {"message": "no"})}.get(prompt)

    with Misbehaving(fault).running() as server, CompletionLog(tmp_path / "log.jsonl") as log:
        assert [r.id for r in ask(log, server)] == ["r1", "r2", "r3"]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("3 prompts stay without a completion: 2 × failed 2 times (last: the re")
    assert line.endswith("; 1 × 451: no")


def test_the_description_of_a_servers_log_says_what_applies_to_it(tmp_path):
    overrides = {"engine": "openai", "endpoints": "http://localhost:1/v1", "generator": "m"}
    work = Work(load_profile("paper", overrides=overrides), RunFolder(tmp_path))
    keys = dataset.generator_keys(work)
    with dataset.open_log(work) as log:
        completing.record_asked(log, [Asked("http://localhost:1/v1", "vLLM", {"top_k": -1}, {})])
    with dataset.open_log(work) as log:
        about = json.loads(log.path.with_name("about.json").read_text(encoding="utf-8"))
    assert not {"generator_dtype", "generator_revision"} & about.keys()
    assert about["generator"] == "m" and about["sent"][0]["server"] == "vLLM"
    assert dataset.asked_of(work) == about["sent"]
    assert "generator_dtype" in keys  # which names the log, as it did before


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("arabic_dialog.generation.completing.time.monotonic", lambda: now[0])
    return now


def completion(i=0, text="مرحبا"):
    return Completion(f"r{i}", "m", "p", text, "stop", Sampling())


def test_a_line_of_progress_has_no_empty_part(clock):
    class Engine:
        n_tokens = 500

    progress = Progress("complete", 40, 10, engine=Engine)
    assert progress.line() == "complete: 10 of 40 (25%), under 1 s gone"
    clock[0] += 20
    assert progress.line() == "complete: 10 of 40 (25%), 20 s gone"
    progress(completion())
    assert (
        progress.line() == "complete: 11 of 40 (28%), 20 s gone, 10 min left, 3.0 completions/min"
    )
    Engine.n_tokens += 300
    assert progress.line().endswith("3.0 completions/min, 15.0 tokens/s")
    judged = Progress("top up", 2, judge=lambda c: True)
    clock[0] += 1
    judged(completion())
    judged(completion())
    assert judged.line() == (
        "top up: 2 of 2 (100%), 1 s gone, 2.0 completions/s, about 2 accepted (100%)"
    )
    assert Progress("complete", 0).line() == "complete: 0 of 0 (all), under 1 s gone"
    for p in (progress, judged):
        assert ", ," not in p.line() and "/ " not in p.line()


def test_progress_is_printed_after_ten_seconds_and_then_once_a_minute(clock, capsys):
    progress, printed = Progress("complete", 400), []
    for _ in range(200):
        clock[0] += 1
        progress(completion())
        printed.append(capsys.readouterr().err.count("complete: "))
    assert [i + 1 for i, n in enumerate(printed) if n] == [11, 72, 133, 194]


def test_a_servers_words_do_no_harm_in_tables_and_terminals(tmp_path, capsys):
    text, end = 'المستخدم: \x1b[2J\u202e\nالمساعد: ,"x"', 'a,b\n"\x1b[31m'

    def odd(body, n):
        choice = {"message": {"content": text}, "finish_reason": end}
        return 200, answer(body, choices=[choice])

    with Misbehaving(odd).running() as server, CompletionLog(tmp_path / "log.jsonl") as log:
        with pytest.warns(UserWarning) as noted:
            assert not ask(log, server)
    done = load_jsonl(tmp_path / "log.jsonl", Completion)
    assert {(c.text, c.finish_reason) for c in done} == {(text, "a_b_31m")}
    said = capsys.readouterr().err + "".join(str(w.message) for w in noted)
    assert "\x1b" not in said and "a_b_31m" in said
