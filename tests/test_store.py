"""What a crash may do to a run folder, and what is left afterwards."""
import json, os, signal, subprocess, sys, time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.core import Turn, UserError, load_jsonl, to_json
from arabic_dialog.store import JsonlLog, RunFolder, load_stage, run_stage

texts = st.lists(st.text(), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(texts, st.integers(min_value=0), st.binary(max_size=6))
def test_a_torn_write_costs_at_most_the_line_being_written(tmp_path_factory, said, cut, garbage):
    path = tmp_path_factory.mktemp("log")/"log.jsonl"
    turns = [Turn("user", t) for t in said]
    whole = "".join(to_json(t) + "\n" for t in turns).encode()
    cut %= len(whole) + 1
    path.write_bytes(whole[:cut] + garbage.replace(b"\n", b""))
    kept = whole[:cut].count(b"\n")
    log = JsonlLog(path, Turn); assert list(log) == turns[:kept]
    log.append(turns[kept:]); assert path.read_bytes() == whole


def test_damage_in_the_middle_is_reported_and_not_repaired(tmp_path):
    path = tmp_path/"log.jsonl"; path.write_text('{"speaker": "user", "text": "a"}\n\x00\x00\n{"speaker": "user", "text": "b"}\n')
    with pytest.raises(UserError, match="line 2, is damaged"): list(JsonlLog(path, Turn))
    assert path.read_text().endswith('"b"}\n')


def test_the_lock_names_its_owner_and_dies_with_it(tmp_path):
    code = "import sys, time\nfrom arabic_dialog.store import RunFolder\nwith RunFolder(sys.argv[1]).locked(): print('mine', flush=True); time.sleep(60)"
    owner = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "mine\n"
    with pytest.raises(UserError, match=f"process {owner.pid} "):
        with RunFolder(tmp_path).locked(): pass
    owner.send_signal(signal.SIGKILL); owner.wait()
    with RunFolder(tmp_path).locked(): pass


def test_a_failed_stage_keeps_its_files_and_is_continued(tmp_path):
    run, calls = RunFolder(tmp_path), []
    def make(path):
        log = JsonlLog(path/"n.jsonl"); calls.append(len(list(log)))
        for n in range(len(list(log)), 5):
            if n == 3 and len(calls) == 1: raise KeyboardInterrupt
            log.append([{"n": n}])
        return {"n": 5}
    with pytest.raises(KeyboardInterrupt): run_stage(run, "s", make, code="store")
    assert load_stage(run, "s") is None
    assert run_stage(run, "s", make, code="store").counts == {"n": 5} and calls == [0, 3]
    assert [r["n"] for r in load_jsonl(tmp_path/"s/n.jsonl")] == list(range(5))


def test_files_of_another_setting_are_set_aside_and_come_back(tmp_path):
    run = RunFolder(tmp_path)
    def make(text): return lambda path: (path/"t.txt").write_text(text) and {}
    run_stage(run, "s", make("one"), params={"v": 1}, code="store"); run_stage(run, "s", make("two"), params={"v": 2}, code="store")
    assert (tmp_path/"s/t.txt").read_text() == "two"
    again = run_stage(run, "s", lambda path: pytest.fail("made again"), params={"v": 1}, code="store")
    assert again.cached and (tmp_path/"s/t.txt").read_text() == "one"
    assert run_stage(run, "s", lambda path: pytest.fail("made again"), params={"v": 2}, code="store").cached


def test_a_stage_follows_what_its_inputs_hold_not_when_they_were_made(tmp_path):
    run, made = RunFolder(tmp_path), []
    def first(text): return run_stage(run, "a", lambda p: (p/"a.txt").write_text(text) and {}, params={"text": text, "n": len(made)}, code="store")
    def second(a): return run_stage(run, "b", lambda p: made.append(1) or ((p/"b.txt").write_text("b") and {}), inputs=[a], code="store")
    second(first("same")); second(first("same")); assert len(made) == 1
    second(first("other")); assert len(made) == 2


def test_a_damaged_state_file_is_named(tmp_path):
    run = RunFolder(tmp_path); make = lambda p: (p/"t").write_text("t") and {}
    run_stage(run, "s", make, code="store"); (tmp_path/"stages/s.json").write_text("{")
    with pytest.raises(UserError, match="s.json is damaged"): run_stage(run, "s", make, code="store")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_a_clear_message(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="may not write"):
        with RunFolder(tmp_path/"run").locked(): pass


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path):
    (tmp_path/"file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        with RunFolder(tmp_path/"file").locked(): pass
