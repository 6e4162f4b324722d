"Whatever comes from outside, a command ends with one line and an exit code."

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from arabic_dialog.core.endings import explain, faults_kept_in, hide_secrets, one_line, render_fault
from arabic_dialog.core.endings import run_command
from arabic_dialog.core.records import UserError

COMMAND = str(Path(sys.executable).with_name("arabic-dialog"))
ROOT = Path(__file__).resolve().parents[2]


def shell(words, cwd=ROOT, **environment):
    "A line of the shell, in which $C is the command; its exit code is that of the command"
    env = os.environ | {"C": COMMAND} | environment
    command = ["bash", "-o", "pipefail", "-c", words]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, errors="replace")
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    return done


def ends_in_a_line(done, *said):
    line = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(line) == 1 and line[0].startswith("error: "), done.stderr
    assert all(word in line[0] for word in said), line[0]


def test_closed_and_full_streams():
    assert shell("$C profiles | head -1").returncode in (1, 141)  # 1: of rich
    assert shell("$C profiles >&- 2>&- <&-").returncode == 0
    assert shell("$C --help | true").returncode in (0, 141)
    ends_in_a_line(shell("$C profiles > /dev/full"), "the disk is full")
    assert shell("$C verify runs/nowhere 2>&-").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1256", "utf-16"])
def test_a_terminal_that_cannot_encode_what_is_said(encoding):
    assert shell("$C finetune --help; $C profiles", PYTHONIOENCODING=encoding).returncode == 0
    done = shell("$C verify runs/تجربة 2>&1", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 2
    done = shell("$C --help", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0


@pytest.mark.parametrize("columns", ["1", "0", "x"])
def test_a_very_small_terminal(columns):
    for words in ("$C profiles", "$C rate --help"):
        assert shell(words, COLUMNS=columns, LINES="1").returncode == 0


def test_no_home_and_a_folder_that_is_gone(tmp_path):
    env = "env -i PATH=/usr/bin:/bin HOME=/nonexistent "
    assert shell(env + '"$C" profiles').returncode == 0
    assert shell('env -i "$C" profiles').returncode == 0
    gone = tmp_path / "gone"
    gone.mkdir()
    for words in ("$C profiles", "$C verify", "$C rate status", "$C export --to x"):
        done = shell(f'mkdir -p "{gone}"; cd "{gone}"; rmdir "{gone}"; {words}')
        assert done.returncode in (0, 2)


def test_files_for_folders_and_the_other_way_round(tmp_path):
    (tmp_path / "file").write_text("x")
    for words in (
        "$C reproduce --profile smoke --run {}/file",
        "$C rate export --to {} --study {}/file",
        "$C rate import {}",
        "$C verify {}/file",
        "$C export --run {}/file --to {}/x",
        "$C doctor {}/file",
        "$C finetune --data {} --student {}/file --out {}/file",
        "$C evaluate --model {}/file --data {}",
        "$C validity {}/file",
        "$C rate new --run {}/file --rater a",
    ):
        ends_in_a_line(shell(words.replace("{}", str(tmp_path))))


@pytest.mark.parametrize("damage", ["", "key,name\n", None, "\x00"])
def test_data_that_the_commands_read_when_they_are_loaded(tmp_path, damage):
    shutil.copy(ROOT / "settings.ini", tmp_path)
    (tmp_path / "data").mkdir()
    if damage is not None:
        (tmp_path / "data/machines.csv").write_text(damage)
    done = shell(f'"{sys.executable}" -m arabic_dialog profiles', cwd=tmp_path)
    ends_in_a_line(done, "machines.csv")


def fail(error):
    raise error


def test_faults_are_kept_without_secrets_and_said_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_API_KEY", "very-secret-word")

    def work():
        with faults_kept_in(tmp_path):
            fail(KeyError("very-secret-word\nat https://me:pass1234@host/"))

    assert run_command(work) == 2
    said = capsys.readouterr().err
    (kept,) = tmp_path.iterdir()
    text = kept.read_text(encoding="utf-8")
    assert said.count("\n") == 1 and str(kept) in said and "--debug" in said and "KeyError" in said
    assert "Traceback" in text and kept.stat().st_mode & 0o77 == 0
    assert not any(secret in text + said for secret in ("very-secret-word", "pass1234"))
    assert run_command(work, debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_and_what_a_person_can_put_right(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(lambda: fail(KeyboardInterrupt())) == 130
    assert "interrupted" in capsys.readouterr().err
    for error in (UserError("name a folder"), MemoryError(), ImportError("x", name="peft")):
        assert run_command(lambda error=error: fail(error)) == 2 and explain(error)
        assert capsys.readouterr().err.count("\n") == 1
    assert run_command(lambda: 1) == 1 and not list(tmp_path.iterdir())
    assert "_fault-" in render_fault(ZeroDivisionError("x"))
    assert explain(ImportError("x", name="arabic_dialog.core.records")) == ""


def test_a_message_is_one_line_whatever_it_quotes():
    text = one_line("a\r\n\x1b[2Jb\u202ec\u2028d" + "x" * 10**6 + "the remedy")
    assert "\n" not in text and "\x1b" not in text and "\u202e" not in text and len(text) < 1100
    assert text.startswith("a \\x1b[2Jb") and text.endswith("the remedy")
    assert hide_secrets("خبز وشاي: token of the model") == "خبز وشاي: token of the model"


def test_a_warning_is_a_line_without_paths_or_secrets():
    code = (
        "import sys, warnings\n"
        "from arabic_dialog.core.endings import run_command\n"
        "def work():\n"
        "    warnings.warn('the server refuses top_k;\\n \\x1b[2J sk-0123456789abcdefghij')\n"
        "    return 0\n"
        "sys.exit(run_command(work))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == "warning: the server refuses top_k; \\x1b[2J •••\n"
