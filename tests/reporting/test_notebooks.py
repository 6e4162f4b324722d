"The paper's notebooks as commands: what fails is kept, what is good is not made again"

import json, os, shutil, signal, subprocess, sys
from pathlib import Path

import pytest
from signals import hear_ctrl_c

from arabic_dialog.core.files import load_csv, save_text, to_json
from arabic_dialog.reporting.notebooks import execute, run_paper
from arabic_dialog.reporting.report import write_report
from arabic_dialog.reporting.claims import claims_ledger
from arabic_dialog.reporting.results import latex_text, open_run, to_latex
from arabic_dialog.core.runs import RunFolder
from arabic_dialog.reporting.verify import verify_run

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("arabic-dialog"))
SAVE = "import pandas as pd\nfrom arabic_dialog.reporting.results import open_run, save_result"
CONFIG = {
    "comparable": True,
    "engine": "embedded",
    "generator": "g",
    "seed": 0,
    "seeds": [0],
    "students": ["s"],
    "checkpoints": ["new:gpt2"],
}


def notebook(*cells, parameters='run = "runs/x"\nn = 2'):
    def cell(i, source):
        return {
            "cell_type": "code",
            "id": f"cell{i}",
            "metadata": {"tags": ["parameters"]} if i == 0 else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }

    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# A claim <b>"}
    return json.dumps(
        {
            "cells": [title, *(cell(i, s) for i, s in enumerate([parameters, *cells]))],
            "metadata": {
                "kernelspec": {"name": "python3", "display_name": "p", "language": "python"}
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    "A project with notebooks of its own, and a run: what `find_root` finds from inside it"
    shutil.copytree(
        ROOT / "data",
        tmp_path / "data",
        ignore=shutil.ignore_patterns("grammar", "sample", "raven"),
    )
    shutil.copy(ROOT / "settings.ini", tmp_path)
    run = tmp_path / "runs/x"
    save_text(
        run / "run.json",
        json.dumps({"id": "r", "profile": "x", "config": CONFIG, "data_hash": "0123456789abcdef"}),
    )
    save_text(
        run / "runs.jsonl", to_json({"code_version": "0", "started": "2026-01-02T03:04:05Z"}) + "\n"
    )
    save_text(run / "numbers.csv", "n\n1\n")
    save_text(
        tmp_path / "nbs/paper/tab_good.ipynb",
        notebook(
            SAVE,
            'table = open_run(run).table("numbers.csv")*n',
            'values = {"n_conversations": int(table.n[0])}',
            'r = open_run(run); r.table("numbers.csv"); '
            'save_result(r, "tab_good", table, caption="50 % of <b>.", values=values)',
        ),
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_failure_is_kept_and_the_others_finish(project):
    save_text(
        project / "nbs/paper/tab_broken.ipynb",
        notebook("print('before')", "raise RuntimeError('on purpose <b>')", "1"),
    )
    save_text(
        project / "nbs/paper/tab_killed.ipynb",
        notebook("print('before')", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "1"),
    )
    save_text(project / "nbs/paper/tab_empty.ipynb", "{half of a notebook")
    save_text(project / "nbs/paper/tab_silent.ipynb", notebook("1"))
    folder, noted = RunFolder(project / "runs/x"), []
    made = {o.name: o for o in run_paper(folder, note=noted.append)}
    assert {n: o.status for n, o in made.items()} == {
        "tab_good": "made",
        **dict.fromkeys(("tab_broken", "tab_killed", "tab_empty", "tab_silent"), "failed"),
    }
    assert len(noted) == 5
    assert "on purpose" in made["tab_broken"].error and made["tab_broken"].error.startswith(
        "cell 4"
    )  # papermill adds a cell with the parameters given
    assert made["tab_killed"].error.startswith("cell 4")
    assert (
        "kernel was killed" in made["tab_killed"].error
        and "is no notebook" in made["tab_empty"].error
        and "no save_result" in made["tab_silent"].error
    )
    for name, said in (
        ("tab_broken", "Traceback"),
        ("tab_killed", "kernel was killed"),
        ("tab_empty", "half of a notebook"),
    ):
        kept = folder / "paper" / name / f"{name}.ipynb"
        assert said in kept.read_text(encoding="utf-8"), name
        if name != "tab_empty":
            assert "before" in kept.read_text(encoding="utf-8")  # what was executed before it
    page = (folder / "paper/tab_broken/tab_broken.html").read_text(encoding="utf-8")
    assert "on purpose &lt;b&gt;" in page and "<b>" not in page
    report = write_report(folder, made.values(), {"python": "3"}).read_text(encoding="utf-8")
    assert "4 of 5 notebooks failed" in report and "on purpose &lt;b&gt;" in report
    assert {f.what for f in verify_run(project / "runs/x")[1] if not f.breaks} == {
        "tab_broken",
        "tab_killed",
        "tab_empty",
        "tab_silent",
    }


def test_what_is_good_is_not_made_again_and_what_changed_is(project):
    folder = RunFolder(project / "runs/x")
    other = notebook(SAVE, 'save_result(open_run(run), "tab_other", pd.DataFrame({"n": [n]}))')
    save_text(project / "nbs/paper/tab_other.ipynb", other)

    def made(given=None):
        return sorted(o.name for o in run_paper(folder, given=given) if o.status == "made")

    assert made() == ["tab_good", "tab_other"] and made() == []
    save_text(folder / "numbers.csv", "n\n5\n")
    assert made() == ["tab_good"]  # an input
    assert load_csv(folder / "paper/tab_good/tab_good.csv") == [{"n": "10"}]
    save_text(folder / "paper/tab_good/tab_good.csv", "n\n7\n")
    assert made() == ["tab_good"]  # a result
    save_text(project / "nbs/paper/tab_other.ipynb", other.replace("[n]", "[n + 1]"))
    assert made() == ["tab_other"]  # a notebook
    assert made({"n": "3"}) == ["tab_good", "tab_other"] and load_csv(
        folder / "paper/tab_good/tab_good.csv"
    ) == [{"n": "15"}]


def test_a_report_knows_what_it_was_made_from(project):
    folder = RunFolder(project / "runs/x")
    write_report(folder, run_paper(folder), {"python": "3"})

    def found():
        return {f.what for f in verify_run(folder.path)[1] if f.breaks}

    assert found() == set() and verify_run(folder.path)[0] > 8
    for name in (
        "runs/x/numbers.csv",
        "runs/x/report.html",
        "runs/x/reforms.md",
        "runs/x/paper/tab_good/tab_good.tex",
        "runs/x/run.json",
        "data/claims.csv",
    ):
        path = project / name
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        what = name.removeprefix("runs/x/").replace("data/", "project/data/")
        assert what in found(), name
        path.write_bytes(before)
        assert found() == set()
    (folder / "paper/tab_good/tab_good.csv").unlink()
    assert found() == {"paper/tab_good/tab_good.csv"}


def test_a_stage_that_was_touched_is_found(project):
    from arabic_dialog.core.runs import run_stage

    folder = RunFolder(project / "runs/x")
    run_stage(folder, "train/a-b", lambda p: save_text(p / "weights", "1") and {"n": 1})
    write_report(folder, [], {})
    assert not verify_run(folder.path)[1]
    save_text(folder / "train/a-b/weights", "2")
    assert [f.what for f in verify_run(folder.path)[1]] == ["train/a-b"]
    shutil.rmtree(folder / "train/a-b")
    assert [f.what for f in verify_run(folder.path)[1]] == ["train-a-b"]


def command(project, *args):
    return subprocess.run(
        [COMMAND, *args],
        cwd=project,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


@pytest.mark.parametrize(
    "args, said",
    [
        (["paper", "tab_good", "--run", "runs/x", "-p", "m=2"], "tab_good has no parameter 'm'"),
        (["paper", "--run", "runs/x", "-p", "n=two"], "n = 'two' should be of type int"),
        (["paper", "--run", "runs/x", "-p", "run=y"], "`run` is chosen with --run"),
        (["paper", "--run", "runs/x", "-p", "n"], "'n' should be key=value"),
        (
            ["paper", "tab_god", "--run", "runs/x"],
            "there is no paper notebook 'tab_god'; there are tab_good",
        ),
        (["paper", "--run", "runs/none"], "there is no run in runs/none"),
        (["verify", "runs/none"], "there is no run in runs/none"),
        (["verify", "runs/x"], "has no report.json"),
    ],
)
def test_what_a_person_got_wrong_is_said_in_a_line(project, args, said):
    done = command(project, *args)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )
    assert not (project / "runs/x/paper").exists()


def test_exit_codes_and_the_list(project):
    assert (
        "tab_good" in (listed := command(project, "paper", "--list").stdout)
        and "n: int = 2" in listed
    )
    done = command(project, "paper", "--run", "runs/x", "-p", "n=3")
    assert done.returncode == 0 and "✓ paper/tab_good" in done.stdout, done.stderr
    assert command(project, "verify", "runs/x").returncode == 0
    save_text(project / "runs/x/numbers.csv", "n\n9\n")
    done = command(project, "verify", "runs/x")
    assert done.returncode == 1 and "numbers.csv: changed" in done.stdout


def test_watching_follows_a_notebook_and_the_run_until_ctrl_c(project):
    process = subprocess.Popen(
        [COMMAND, "paper", "--run", "runs/x", "--watch"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        preexec_fn=hear_ctrl_c,
    )
    table, said = project / "runs/x/paper/tab_good/tab_good.csv", []

    def until(text):
        for line in process.stdout:
            said.append(line)
            if text in line:
                return
        raise AssertionError("".join(said))

    try:
        until("watching")
        assert load_csv(table) == [{"n": "2"}]
        save_text(project / "runs/x/numbers.csv", "n\n4\n")
        until("changed: runs/x/numbers.csv")
        until("watching")
        assert load_csv(table) == [{"n": "8"}]
        path = project / "nbs/paper/tab_good.ipynb"
        text = path.read_text(encoding="utf-8")
        save_text(path, "{")
        until("is no notebook")
        until("watching")  # saved by half: it goes on
        save_text(path, text.replace("*n", "*(n + 1)"))
        until("watching")
        assert load_csv(table) == [{"n": "12"}]
        process.send_signal(signal.SIGINT)
        until("no longer watching")
        assert process.wait(30) == 0
    finally:
        process.kill()


def test_a_claim_leads_to_the_cell_that_made_it(project):
    path = project / "data/claims.csv"
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            ",tab_dataset,n_conversations", ",tab_good,n_conversations"
        ),
        encoding="utf-8",
    )
    folder = RunFolder(project / "runs/x")
    run_paper(folder)
    ledger = {c.id: c for c in claims_ledger(open_run(folder.path))}
    c = ledger["C1"]
    assert (
        c.value == 2
        and c.verdict == "not comparable at this scale"
        and c.made_in == "paper/tab_good/tab_good.html#cell3"
        and c.cell == 5
    )
    assert ledger["C2"].verdict == "not run" and ledger["C2"].made_in == ""
    assert '<section id="cell3">' in (folder / "paper/tab_good/tab_good.html").read_text(
        encoding="utf-8"
    )
    assert 'href="paper/tab_good/tab_good.html#cell3"' in write_report(folder, [], {}).read_text(
        encoding="utf-8"
    )


def test_nothing_in_a_table_is_a_command_of_latex():
    import pandas as pd

    table = pd.DataFrame(
        {"a_b": ["\\input{x} & 5% $x$ #1 ~ ^", "سطر\nثان \u202e"], "n": [1.5, float("nan")]}
    )
    made = to_latex(table, "\\write18{rm}", "t")
    body = made.split("\\midrule")[1].split("\\bottomrule")[0]
    assert (
        "\\textbackslash{}input\\{x\\} \\& 5\\% \\$x\\$ \\#1" in body
        and "\\textarabic{سطر ثان}" in body
        and body.count("\\\\") == 2
    )
    assert "\\textbackslash{}write18" in made and "\u202e" not in latex_text("\u202ea")


@pytest.mark.parametrize("asked_for", ["python3", "arabic", ""])
def test_a_notebook_runs_in_this_python_whatever_kernel_is_installed(
    tmp_path, monkeypatch, asked_for
):
    for name in ("python3", "arabic"):
        other = tmp_path / "jupyter/kernels" / name / "kernel.json"
        argv = ["/bin/sh", "-c", "exit 1", "{connection_file}"]
        save_text(other, json.dumps({"argv": argv, "display_name": name, "language": "R"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    about = json.loads(notebook("import sys; print(sys.executable)"))
    about["metadata"] = (
        {"kernelspec": {"name": asked_for, "display_name": "x"}} if asked_for else {}
    )
    source = save_text(tmp_path / "in.ipynb", json.dumps(about))
    assert execute(source, tmp_path / "out.ipynb", {"n": 3}, 60) == ""
    assert sys.executable in (tmp_path / "out.ipynb").read_text(encoding="utf-8")
