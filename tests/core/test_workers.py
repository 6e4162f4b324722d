"""Worker processes: their threads, their order and their end; and jobs that travel as JSON."""

import json
import math
import operator
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from arabic_dialog.core import workers as module
from arabic_dialog.core.records import UserError
from arabic_dialog.core.workers import Crew, Together, Workers, follow, processes


@pytest.mark.parametrize("before", [None, "3"])
def test_workers_have_one_thread_and_the_run_keeps_its_own(before, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    environment = dict(os.environ)
    with Workers(2, prepare=None) as workers:
        ask = [workers.submit(os.getenv, "OMP_NUM_THREADS") for _ in range(6)]
        assert {a.result() for a in ask} == {"1"}
        assert dict(os.environ) == environment
    assert dict(os.environ) == environment


def test_workers_that_run_models_are_set_up_and_the_run_is_not(monkeypatch):
    for name in ("LRU_CACHE_CAPACITY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    environment = dict(os.environ)
    with Workers(1) as workers:
        assert workers.call(os.getenv, "LRU_CACHE_CAPACITY") == "16"
        assert workers.call(os.getenv, "TOKENIZERS_PARALLELISM") == "false"
    assert dict(os.environ) == environment


def test_jobs_that_several_threads_ask_for():
    with Workers(2, prepare=None) as workers, ThreadPoolExecutor(8) as threads:
        results = threads.map(lambda n: workers.call(math.factorial, n), range(30))
        assert list(results) == [math.factorial(n) for n in range(30)]


def test_results_come_in_order_and_few_jobs_are_begun_ahead():
    begun = []

    def jobs():
        for n in range(60):
            begun.append(n)
            yield n

    with Workers(2, prepare=None) as workers:
        results = workers.map(operator.mul, jobs(), 3)
        assert [next(results) for _ in range(5)] == [0, 3, 6, 9, 12]
        assert len(begun) <= 5 + 4 * 2 + 1
        assert list(results) == [3 * n for n in range(5, 60)]


def test_an_error_of_a_job_is_the_callers():
    with Workers(1, prepare=None) as workers:
        with pytest.raises(ZeroDivisionError):
            workers.call(operator.truediv, 1, 0)
        assert workers.call(operator.add, 1, 1) == 2


def test_a_killed_worker_is_told():
    for ask in (
        lambda w: w.call(os._exit, 1),
        lambda w: list(w.map(os._exit, [1])),
    ):
        with Workers(1, prepare=None) as workers:
            with pytest.raises(UserError, match="was killed, perhaps for want of memory"):
                ask(workers)
            assert workers.call(operator.add, 1, 1) == 2  # new processes


def test_closing_at_once_does_not_wait():
    workers = Workers(1, prepare=None)
    promise = workers.submit(time.sleep, 60)
    while not promise.running():
        time.sleep(0.01)
    start = time.monotonic()
    workers.close(now=True)
    assert time.monotonic() - start < 5
    workers.close()  # a second time does nothing
    assert workers.call(operator.add, 1, 1) == 2  # it starts anew
    workers.close()


def test_a_failed_block_closes_its_crew_at_once():
    closed = []

    class Noted(Crew):
        def close(self, now=False):
            closed.append(now)

    with Noted():
        pass
    with pytest.raises(KeyboardInterrupt), Noted():
        raise KeyboardInterrupt
    assert closed == [False, True]


@dataclass(frozen=True)
class Job:
    "What a shared job is given"

    name: str
    seeds: tuple[int, ...]


def test_shared_jobs_travel_as_json_and_arrive_as_records(monkeypatch):
    sent, done = [], []
    monkeypatch.setattr(module, "_from_first", sent.append)

    def train(job: Job, where: str, more):
        done.append((job, where, more))
        return len(done)

    def alone(n):
        return n

    with Together({"train": train}) as crew:
        job = Job("my-student-finetuned-s2", (0, 1))
        assert crew.call(train, job, "here", {"a": 1}) == 1
        assert crew.call(alone, 5) == 5
        assert crew.lock.acquire(blocking=False)
    assert [json.loads(s) and json.loads(s)[0] for s in sent] == ["train", None]

    heard = iter(sent)
    monkeypatch.setattr(module, "_from_first", lambda: next(heard))
    follow({"train": train})
    assert done[0] == done[1] == (job, "here", {"a": 1})


def test_the_others_are_let_go_once_and_not_by_an_end_at_once(monkeypatch):
    sent = []
    monkeypatch.setattr(module, "_from_first", sent.append)
    crew = Together({})
    crew.close(now=True)
    crew.close()
    assert sent == []
    crew = Together({})
    crew.close()
    crew.close()
    assert sent == ["null"]


def test_which_process_this_is(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert processes() == (3, 8) and processes().count == 8
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match="WORLD_SIZE is 8, but RANK, MASTER_ADDR"):
        module.join()


def test_no_thread_is_left(monkeypatch):
    before = threading.active_count()
    with Workers(1, prepare=None) as workers:
        workers.call(operator.add, 1, 1)
    assert threading.active_count() <= before
