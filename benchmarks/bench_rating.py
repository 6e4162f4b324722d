"""Fifty raters answer at once, without a pause, for a minute; then the server is killed while
they answer.

python benchmarks/bench_rating.py [SECONDS]

Every answer is on the disk before it is acknowledged, so this measures the disk too. One answer
synced alone is measured first, on the same disk: the ratio
is what writing all that waits in one transaction gives.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from rating_load import load, lost, make_study, serving

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 60
RATERS = [f"rater-{n + 1}" for n in range(50)]


def alone(path, n=200):
    "Answers a second, each in a transaction of its own"
    from arabic_dialog.rating.answers import Entry, StudyFile

    with StudyFile(path) as study:
        begun = time.perf_counter()
        for k in range(n):
            study.put([Entry("rater-1", 1 + k % 10, "fluency", 3)])
        return n / (time.perf_counter() - begun)


def main():
    with tempfile.TemporaryDirectory(
        dir=Path.cwd()
    ) as folder:  # on the disk of the checkout: /tmp is memory on some machines
        path, links = make_study(Path(folder) / "human", RATERS, 60)
        single = alone(path)
        with serving(path.parent) as (server, port):
            got, times, errors = load(port, links.raters, 60, SECONDS, owner=links.owner)
        times.sort()
        n = sum(map(len, got.values()))
        rate = n / SECONDS
        at = {
            q: times[min(len(times) - 1, int(q * len(times)))] * 1000
            for q in (0.5, 0.95, 0.99, 0.999)
        }
        print(
            f"50 raters, {SECONDS:g} s: {n:,} answers acknowledged ({rate:,.0f} a second), "
            f"{len(errors)} errors, {len(lost(path, got))} lost"
        )
        print(
            "milliseconds: "
            + ", ".join(f"p{100 * q:g} {t:.0f}" for q, t in at.items())
            + f", longest {times[-1] * 1000:.0f}, mean {statistics.fmean(times) * 1000:.0f}"
        )
        print(f"synced one by one: {single:,.0f} answers a second; ratio {rate / single:.1f}")
        assert not errors and not lost(path, got), errors[:3]
        if at[0.99] >= 150:
            print("p99 is not below 150 ms here")
        with serving(path.parent) as (server, port):

            async def kill():
                await asyncio.sleep(min(3, SECONDS / 4))
                server.kill()

            got, _, errors = load(port, links.raters, 60, min(10, SECONDS), kill)
        n = sum(map(len, got.values()))
        gone = lost(path, got)
        print(
            f"killed while they answered: {n:,} answers had been acknowledged, {len(gone)} of "
            f"them lost, {len(errors)} raters noticed"
        )
        assert n and not gone and len(errors) == 50
        for k in range(3):  # and again, at other moments
            with serving(path.parent) as (server, port):

                async def kill(server=server, after=0.5 + 0.37 * k):
                    await asyncio.sleep(after)
                    server.kill()

                got, _, _ = load(port, links.raters, 60, 5, kill)
            assert not lost(path, got)
        print("killed three times more: nothing lost")


if __name__ == "__main__":
    main()
