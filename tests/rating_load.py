"""Raters who answer without a pause, over plain connections; a server in a process of its own.

For tests and for benchmarks/bench_rating.py
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from arabic_dialog.core.records import Conversation, Scenario, Turn
from arabic_dialog.rating.design import Candidate, load_criteria
from arabic_dialog.rating.study import StudyPlan, load_links, new_study

ROOT = Path(__file__).resolve().parents[1]
FIELDS = tuple(c.id for c in load_criteria())


def material(n=24, models=("base", "finetuned"), text="نعم، يُعدّ في البيت."):
    "Replies and conversations, as a run has them"
    places = ("EG", "MA", "JP", "BR")
    talks = [
        Conversation(
            f"t{k}",
            Scenario(f"t{k}", f"topic-{k % 3}", places[k % 4], 0),
            (Turn("user", "ما أشهر أنواع الخبز في مصر؟"), Turn("assistant", text)),
            "hand-written",
        )
        for k in range(n)
    ]
    return [Candidate(t.id, 1, m, 0, text) for t in talks for m in models], talks


def make_study(folder, raters, n=20, **more):
    "A study of made-up replies; its file and its links"
    path = new_study(folder, *material(max(12, n)), raters, StudyPlan(n, **more))
    return path, load_links(folder)


@contextmanager
def serving(folder, *more):
    "`arabic-dialog rate serve` on a free port; gives its process and port"
    command = [
        sys.executable,
        "-c",
        "from arabic_dialog.commands.cli import main; main()",
        "rate",
        "serve",
        "--study",
        str(folder),
        "--port",
        "0",
        *more,
    ]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    try:
        said = server.stdout.readline()
        port = re.search(r":(\d+)\.|port (\d+)", said)
        assert port, said + server.stdout.read()
        yield server, int(port[1] or port[2])
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
        server.stdout.close()
        server.wait()


async def _request(reader, writer, method, path, body=b""):
    "One request on an open connection; (status, body)"
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    head += ["Content-Type: application/json"] if body else []
    writer.write("\r\n".join([*head, "", ""]).encode() + body)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def _rater(port, link, n, until, acknowledged, times, errors):
    "Answers until the time is up, or the server is gone"
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen = k = 0
        while time.perf_counter() < until:
            position, field, value = 1 + k // len(FIELDS) % n, FIELDS[k % len(FIELDS)], 1 + k % 5
            k += 1
            body = json.dumps(
                dict(
                    position=position,
                    field=field,
                    value=value,
                    tab="load",
                    seen=seen,
                    visit=f"v{position}",
                    seconds=k,
                )
            ).encode()
            begun = time.perf_counter()
            status, said = await _request(reader, writer, "POST", f"/r/{link}/answers", body)
            times.append(time.perf_counter() - begun)
            if status != 200:
                errors.append((status, said[:200]))
                continue
            seen = json.loads(said)["revision"]
            acknowledged.append((seen, position, field, value))
        writer.close()
    except (OSError, asyncio.IncompleteReadError) as e:
        errors.append((0, repr(e)))


async def _owner(port, secret, until, errors):
    "The owner looks at the page every few seconds"
    while time.perf_counter() < until - 1:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            status, _ = await _request(reader, writer, "GET", f"/o/{secret}")
            writer.close()
            if status != 200:
                errors.append((status, "owner"))
        except (OSError, asyncio.IncompleteReadError) as e:
            errors.append((0, repr(e)))
        await asyncio.sleep(5)


def load(port, links, n, seconds, during=None, owner=None):
    """All raters at once: {rater: acknowledged answers}, seconds each answer took, and errors

    `during` is a coroutine beside them.
    """
    until = time.perf_counter() + seconds
    got = {r: [] for r in links}
    times, errors = [], []

    async def everybody():
        jobs = [_rater(port, link, n, until, got[r], times, errors) for r, link in links.items()]
        await asyncio.gather(
            *jobs,
            *([during()] if during else []),
            *([_owner(port, owner, until, errors)] if owner else []),
        )

    asyncio.run(everybody())
    return got, times, errors


def lost(path, acknowledged):
    "Acknowledged answers that the study's file does not hold, each with its revision"
    from arabic_dialog.rating.answers import StudyFile

    with StudyFile(path) as study:
        kept = {
            r: (who, p, f, json.loads(v))
            for r, who, p, f, v in study.rows(
                "SELECT revision, rater, position, field, value FROM answers"
            )
        }
        assert study.rows("PRAGMA integrity_check") == [("ok",)]
    return [
        (who, a)
        for who, all_ in acknowledged.items()
        for a in all_
        if kept.get(a[0]) != (who, *a[1:])
    ]
