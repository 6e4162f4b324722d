"""What a crash may do to a run folder, and what is left afterwards."""

import ast
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from arabic_dialog.core import files, runs
from arabic_dialog.core.files import JsonlLog, load_jsonl, save_text, to_json
from arabic_dialog.core.records import Turn, UserError
from arabic_dialog.core.runs import RunFolder, load_stage, run_stage

texts = st.lists(st.text(), min_size=1, max_size=8)
# What a disk may hold after a power cut where the end of a line should be:
# zeros, old bytes, ends of lines among them
rubbish = st.one_of(
    st.integers(1, 5000).map(bytes),
    st.binary(max_size=40),
    st.lists(
        st.sampled_from((b"\0", b"\n", b"[", b"3\n", b"null\n", "ب".encode()[:1])), max_size=9
    ).map(b"".join),
)


@settings(max_examples=200, deadline=None)
@given(texts, st.integers(min_value=0), rubbish)
def test_a_torn_write_costs_at_most_the_line_being_written(tmp_path_factory, said, cut, rubbish):
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    turns = [Turn("user", t) for t in said]
    whole = "".join(to_json(t) + "\n" for t in turns).encode()
    cut %= len(whole) + 1
    kept = whole[:cut].count(b"\n")
    path.write_bytes(whole[:cut] + rubbish)
    # nothing to tell it from a file of another kind by, and nothing to lose
    if not kept and (whole[:cut] + rubbish).count(b"\n") > 1:
        with pytest.raises(UserError, match="none is a record"):
            JsonlLog(path, Turn)
        return
    if (
        rubbish[:1] == b"\n"
        and cut
        and whole[: cut + 1].endswith(b"}\n")
        and whole[cut - 1 : cut] != b"\n"
    ):
        kept += 1  # the line was whole but for its end
    log = JsonlLog(path, Turn)
    assert list(log) == turns[:kept]
    log.append(turns[kept:])
    assert path.read_bytes() == whole


class Crashes(RuleBasedStateMachine):
    "A log that is written, torn anywhere in its last write, opened and written again, in any order"

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "log.jsonl"
        self.log, self.whole, self.synced = JsonlLog(self.path), b"", 0

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(said=st.lists(st.text(st.characters()), max_size=4))
    def append(self, said):
        self.synced = len(self.whole)
        self.log.append({"t": t} for t in said)
        self.whole = self.path.read_bytes()

    @rule(
        at=st.integers(0, 10**6),
        rubbish=st.one_of(
            st.just(b""),
            st.integers(1, 300).map(bytes),
            st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")),
        ),
    )
    def crash(self, at, rubbish):
        cut = self.synced + at % (len(self.whole) - self.synced + 1)
        self.path.write_bytes(self.whole[:cut] + rubbish)
        self.log = JsonlLog(self.path)
        self.whole = self.whole[: self.whole.rfind(b"\n", 0, cut) + 1]
        self.synced = len(self.whole)

    @rule(limit=st.integers(0, 60), after=st.booleans())
    def full(self, limit, after):
        "The disk takes `limit` bytes more, or all of them and then cannot sync"
        size = self.path.stat().st_size if self.path.exists() else 0
        with pytest.MonkeyPatch.context() as m:
            if after:
                m.setattr(os, "fsync", no_space)
            else:
                m.setattr(Path, "open", lambda p, *a, **k: Filling(p, size + limit))
            with pytest.raises(UserError, match="disk is full"):
                self.log.append([{"t": "ض" * 40}])

    @invariant()
    def holds_what_was_written(self):
        if hasattr(self, "path") and self.path.exists():
            assert self.path.read_bytes() == self.whole and len(list(self.log)) == self.whole.count(
                b"\n"
            )


def no_space(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Filling:
    "A file on a disk that is full after `most` bytes"

    def __init__(self, path, most):
        self.f, self.most = open(path, "ab", buffering=0), most

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.f.close()

    def fileno(self):
        return self.f.fileno()

    def write(self, data):
        room = self.most - os.fstat(self.fileno()).st_size
        return self.f.write(data[:room]) if room > 0 else no_space()


TestCrashes = Crashes.TestCase
TestCrashes.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_opening_reads_the_end_only(tmp_path):
    path = tmp_path / "log.jsonl"
    line = (to_json({"t": "ن" * 500}) + "\n").encode()
    with path.open("wb") as f:
        f.write(line * 20_000)
        f.write(line[:700])  # 20 MB
    read = []

    class Counted(type(path.open("rb", buffering=0))):
        def readinto(self, b):
            n = super().readinto(b)
            read.append(n)
            return n

    with pytest.MonkeyPatch.context() as m:
        m.setattr(Path, "open", lambda p, mode: io.BufferedReader(Counted(p)))
        assert files._whole_lines(path) == 20_000 * len(line)
    assert sum(read) < 2**20


def test_a_file_of_another_kind_is_left_alone(tmp_path):
    path = tmp_path / "topics.csv"
    path.write_text("id,topic\n1,bread\n")
    with pytest.raises(UserError, match="2 lines and none is a record"):
        JsonlLog(path)
    assert path.read_text() == "id,topic\n1,bread\n"


def test_records_that_cannot_be_made_leave_the_log_as_it_was(tmp_path):
    log = JsonlLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])

    def records():
        yield {"n": 2}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.append(records())
    with pytest.raises(TypeError):
        log.append([{"n": object()}])
    assert log.path.read_text() == '{"n": 1}\n'


FILL = """
import resource, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from arabic_dialog.core.files import JsonlLog, save_jsonl, save_text
from arabic_dialog.core.records import UserError
from arabic_dialog.core.runs import RunFolder

folder, how = Path(sys.argv[1]), sys.argv[2]
state, log = folder / "state.json", JsonlLog(folder / "log.jsonl")
log.append([{"n": n} for n in range(100)])
save_text(state, "old")
if how == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
big = [{"n": n, "text": "ب" * 400} for n in range(5_000)]
for write in (
    lambda: log.append(big),
    lambda: save_text(state, "n" * 3_000_000),
    lambda: save_jsonl(state, big),
):
    try:
        with RunFolder(folder / "run").locked():
            write()
        raise SystemExit("it was written")
    except UserError as e:
        print(e)
assert [r["n"] for r in JsonlLog(log.path)] == list(range(100))
assert state.read_text() == "old"
left = sorted(p.name for p in folder.iterdir())
assert left == ["log.jsonl", "run", "state.json"], left
log.append([{"n": 100}])
assert len(list(log)) == 101
"""


@pytest.mark.parametrize("how", ["limit", "tmpfs"])
def test_a_full_disk_is_a_clear_message_and_damages_nothing(tmp_path, how):
    "Real partial writes: at a limit of the file's size, and on a disk of one megabyte"
    mounted = (
        how == "tmpfs"
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "none", tmp_path], capture_output=True
        ).returncode
    )
    if how == "tmpfs" and not mounted:
        pytest.skip("may not mount a small disk here")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FILL, tmp_path, how], capture_output=True, text=True
        )
    finally:
        if mounted:
            subprocess.run(["umount", tmp_path])
    assert done.returncode == 0, done.stderr[-2000:]
    message = (
        "disk is full; make room, then run the same command again"
        if how == "tmpfs"
        else "larger than a file may be"
    )
    assert (
        done.stdout.count(message) == 3
        and done.stdout.count("Nothing that was already made is lost") == 3
    )


def test_damage_in_the_middle_is_reported_and_not_repaired(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"speaker": "user", "text": "a"}\n\x00\x00\n{"speaker": "user", "text": "b"}\n'
    )
    with pytest.raises(UserError, match="line 2, is damaged .*keep only the lines before it"):
        list(JsonlLog(path, Turn))
    assert path.read_text().endswith('"b"}\n')


def test_the_lock_names_its_owner_and_dies_with_it(tmp_path):
    code = (
        "import sys, time\n"
        "from arabic_dialog.core.runs import RunFolder\n"
        "with RunFolder(sys.argv[1]).locked(): print('mine', flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "mine\n"
    with pytest.raises(UserError, match=f"process {owner.pid} "):
        with RunFolder(tmp_path).locked():
            pass
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    left = json.loads((tmp_path / "_owner.json").read_text())
    assert left["pid"] == owner.pid  # it could not tidy up; the lock went with it
    with RunFolder(tmp_path).locked():
        assert json.loads((tmp_path / "_owner.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "_owner.json").exists()


def test_a_lock_that_outlives_its_owner_is_explained(tmp_path):
    "As on a shared disk, or where a child has it: the lock is held, and who took it is gone"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with RunFolder(tmp_path).locked():
        owner = json.loads((tmp_path / "_owner.json").read_text())
        save_text(tmp_path / "_owner.json", json.dumps(owner | {"pid": gone.pid}))
        with pytest.raises(
            UserError,
            match=f"was in use by process {gone.pid} .* has ended, but its lock is still held",
        ):
            with RunFolder(tmp_path).locked():
                pass
        (tmp_path / "_owner.json").write_text("{")  # killed while it wrote its name
        with pytest.raises(UserError, match="in use by process [?]"):
            with RunFolder(tmp_path).locked():
                pass


def test_a_failed_stage_keeps_its_files_and_is_continued(tmp_path):
    run, calls = RunFolder(tmp_path), []

    def make(path):
        log = JsonlLog(path / "n.jsonl")
        calls.append(len(list(log)))
        for n in range(len(list(log)), 5):
            if n == 3 and len(calls) == 1:
                raise KeyboardInterrupt
            log.append([{"n": n}])
        return {"n": 5}

    with pytest.raises(KeyboardInterrupt):
        run_stage(run, "s", make, code="core.runs")
    assert load_stage(run, "s") is None
    assert run_stage(run, "s", make, code="core.runs").counts == {"n": 5} and calls == [0, 3]
    assert [r["n"] for r in load_jsonl(tmp_path / "s/n.jsonl")] == list(range(5))


def test_files_of_another_setting_are_set_aside_and_come_back(tmp_path):
    run = RunFolder(tmp_path)

    def make(text):
        return lambda path: (path / "t.txt").write_text(text) and {}

    run_stage(run, "s", make("one"), params={"v": 1}, code="core.runs")
    run_stage(run, "s", make("two"), params={"v": 2}, code="core.runs")
    assert (tmp_path / "s/t.txt").read_text() == "two"
    again = run_stage(
        run, "s", lambda path: pytest.fail("made again"), params={"v": 1}, code="core.runs"
    )
    assert again.cached and (tmp_path / "s/t.txt").read_text() == "one"
    assert run_stage(
        run, "s", lambda path: pytest.fail("made again"), params={"v": 2}, code="core.runs"
    ).cached


def test_a_stage_follows_what_its_inputs_hold_not_when_they_were_made(tmp_path):
    run, made = RunFolder(tmp_path), []

    def first(text):
        return run_stage(
            run,
            "a",
            lambda p: (p / "a.txt").write_text(text) and {},
            params={"text": text, "n": len(made)},
            code="core.runs",
        )

    def second(a):
        return run_stage(
            run,
            "b",
            lambda p: made.append(1) or ((p / "b.txt").write_text("b") and {}),
            inputs=[a],
            code="core.runs",
        )

    second(first("same"))
    second(first("same"))
    assert len(made) == 1
    second(first("other"))
    assert len(made) == 2


def test_a_damaged_state_file_is_named(tmp_path):
    run = RunFolder(tmp_path)

    def make(path):
        (path / "t").write_text("t")
        return {}

    run_stage(run, "s", make, code="core.runs")
    (tmp_path / "stages/s.json").write_text("{")
    with pytest.raises(UserError, match="s.json is damaged"):
        run_stage(run, "s", make, code="core.runs")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_a_clear_message(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not write"):
        with RunFolder(tmp_path / "run").locked():
            pass


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        with RunFolder(tmp_path / "file").locked():
            pass


def test_code_is_read_by_many_threads_at_once():
    "CPython 3.11 fails now and then where two threads turn code into trees at once"
    code = Path(runs.__file__).read_text(encoding="utf-8")
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(runs.parse_code, [code] * 40))
    assert len({ast.dump(t) for t in trees}) == 1
