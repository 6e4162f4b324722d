"""Talks with a checkpoint: what is shown while a reply grows, what is taken back and refused."""

import io, json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest, torch
from signals import hear_ctrl_c

from arabic_dialog.models.loading import new_model
from arabic_dialog.models.tokenizers import load_chat_template
from arabic_dialog.commands.chat import (
    CHAT_SAMPLING,
    chat_sampling,
    Chat,
    Screen,
    load_chat,
    settled,
    stream_reply,
    talk,
    visible,
    wrap,
)
from arabic_dialog.commands.cli import main
from arabic_dialog.core.records import Request, Sampling, Turn
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.models.engines import TransformersEngine, chat_prompt

ROOT = Path(__file__).resolve().parents[2]
SAMPLING = Sampling(0.9, 0.95, 1.1, 24, 3)


@pytest.fixture(autouse=True)
def one_thread():
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(
        ["ما أشهر أنواع الخبز في مصر؟ كيف الحال"] * 3, 280
    )  # few merges: most characters are two tokens


@pytest.fixture(scope="module", params=["gpt2", "aragpt2"])
def checkpoint(request, tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp(request.param)
    model = new_model(request.param, tokenizer, 1, 32, 2, 96, seed=0)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(
            6
        )  # opinions strong enough for Arabic letters, halves of them, and stop tokens
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def chat_of(checkpoint, sampling=SAMPLING):
    return load_chat(checkpoint, sampling)


def reader(lines):
    lines = iter(lines)

    def read():
        line = next(lines, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def run(chat, *lines):
    "(what the chat showed, what it said)"
    out, notes = io.StringIO(), []
    talk(chat, reader(lines), Screen(out), notes.append)
    return out.getvalue(), notes


@pytest.mark.parametrize("stops", [(), ("ا",), ("خبز", "الح", "\ufffdا")])
def test_the_stream_is_the_engines_text(checkpoint, stops):
    chat = chat_of(checkpoint)
    engine = TransformersEngine(
        chat.engine.model, chat.engine.tokenizer, "m", 1, framed=True, stop_strings=stops
    )
    reasons = set()
    for i in range(25):
        request = Request(f"r{i}", chat_prompt(engine.tokenizer, [Turn("user", f"ما الخبز {i}؟")]))
        said = list(stream_reply(engine, request, SAMPLING))
        whole, reason = said[-1]
        (c,) = engine.complete([request], SAMPLING)
        assert (c.text, c.finish_reason) == (whole, reason)
        for text, why in said[:-1]:
            assert why == "" and whole.startswith(text)
        reasons.add(reason)
        out = io.StringIO()
        screen = Screen(out)
        for text, _ in said:
            screen.show(text)
        assert out.getvalue() == visible(whole)
    assert "length" in reasons and (not stops or "stop" in reasons)


def test_no_part_of_a_character_is_settled(tokenizer):
    text = "ما الخبز؟ 😀\n"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    parts = [settled(tokenizer.decode(ids[:n])) for n in range(len(ids) + 1)]
    assert (
        parts[-1] == text.strip()
        and all(text.startswith(p) for p in parts)
        and len(set(parts)) < len(parts)
    )


def test_half_a_character_is_never_shown(checkpoint):
    chat = chat_of(checkpoint, Sampling(0, max_new_tokens=60))
    engine, text = chat.engine, "نعم 😀: خبز\nسمك"
    ids = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    inner, todo, shown = engine.model.forward, iter([*ids, engine.tokenizer.eos_token_id]), []

    def forward(**how):
        out = inner(**how)
        out.logits[:, -1, next(todo)] = 1e4
        return out

    engine.model.forward = forward
    chat.ask("ما الخبز؟", shown.append)
    assert shown[-1] == text == chat.turns[-1].text and not any("\ufffd" in t for t in shown)
    raw = [engine.tokenizer.decode(ids[:n]) for n in range(len(ids))]
    assert (
        sum("\ufffd" in t for t in raw) >= 5 and len(set(shown)) < len(shown) > len(ids) / 2
    )  # so there was much to hold back, and it came piece by piece


def test_a_scripted_chat_is_reproduced_and_saved(checkpoint, tmp_path):
    path = tmp_path / "talk.jsonl"
    chat = chat_of(checkpoint)
    script = ["ما الخبز؟", "", "كيف الحال؟", f"/save {path}"]
    shown, notes = run(chat, *script, f"/save {path}", f"/save {tmp_path}/no/where")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [m["role"] for m in record["messages"]] == ["user", "assistant"] * 2 and record[
        "messages"
    ][2]["content"] == "كيف الحال؟"
    assert shown == "".join(visible(m["content"]) + "\n" for m in record["messages"][1::2])
    assert len(record["finish_reasons"]) == 2 and record["sampling"]["seed"] == 3
    assert (
        any("File exists" in n for n in notes)
        and any("No such file" in n for n in notes)
        and path.read_text(encoding="utf-8").count("\n") == 1
    )
    assert run(chat_of(checkpoint), *script[:3])[0] == shown  # the same words, the same seed
    assert run(chat_of(checkpoint, Sampling(0.9, 0.95, 1.1, 24, 4)), *script[:3])[0] != shown


def test_another_reply_taking_back_and_forgetting(checkpoint):
    chat = chat_of(checkpoint)
    run(chat, "ما الخبز؟")
    first = list(chat.turns)
    run(chat, "/again")
    second = list(chat.turns)
    run(chat, "/again")
    assert (
        len({t[1].text for t in (first, second, chat.turns)}) == 3
        and chat.turns[0] == first[0]
        and len(chat.turns) == 2
    )
    kept = list(chat.turns)
    run(chat, "كيف الحال؟")
    assert len(chat.turns) == 4
    run(chat, "/undo")
    assert chat.turns == kept and len(chat.reasons) == 1
    run(chat, "/again")
    assert chat.turns[1] not in (kept[1], first[1], second[1])  # a stream that was not drawn before
    run(chat, "/new")
    assert chat.turns == chat.reasons == []
    run(chat, "ما الخبز؟")
    assert chat.turns == first
    assert run(chat, "/new", "/new", "/undo", "/again", "/quit", "never said")[1] == [
        "there is nothing to take back"
    ] * 2 + ["there is no reply yet"]
    assert run(Chat(chat.engine, Sampling(0, max_new_tokens=4)), "ما الخبز؟", "/again")[1][
        -1
    ].startswith("the temperature is 0")


def test_a_full_context_loses_the_oldest_exchanges_and_says_so_once(checkpoint):
    chat = chat_of(checkpoint)
    read = []
    inner, tokenizer = chat.engine.model.forward, chat.engine.tokenizer

    def forward(input_ids, **how):
        if input_ids.shape[1] > 1:
            read.append(input_ids[0].tolist())
        return inner(input_ids=input_ids, **how)

    chat.engine.model.forward = forward
    questions = [f"كيف الحال {i}؟" for i in range(6)]
    notes = run(chat, *questions)[1]
    assert sum("context is full" in n for n in notes) == 1 and len(chat.turns) == 12
    assert all(len(ids) + SAMPLING.max_new_tokens <= 96 for ids in read)
    user = tokenizer.convert_tokens_to_ids("<|user|>")
    assert (
        all(ids[0] == user for ids in read)
        and questions[-1] in tokenizer.decode(read[-1])
        and questions[0] not in tokenizer.decode(read[-1])
    )
    before = list(chat.turns), chat.n_unread
    assert (
        "say less, or lower max_new_tokens" in run(chat, "الخبز " * 40)[1][-1]
        and (chat.turns, chat.n_unread) == before
    )


@pytest.mark.parametrize("at", [1, 2, 9])  # before the first token, and later
def test_an_interrupted_reply_is_kept_and_the_chat_goes_on(checkpoint, at):
    chat = chat_of(checkpoint)
    inner, calls = chat.engine.model.forward, [0]
    whole = chat_of(checkpoint)
    run(whole, "ما الخبز؟")

    def forward(**how):
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return inner(**how)

    chat.engine.model.forward = forward
    shown, notes = run(chat, "ما الخبز؟", KeyboardInterrupt, "كيف الحال؟")
    assert (
        chat.reasons[0] == "cut"
        and len(chat.turns) == 4
        and whole.turns[1].text.startswith(chat.turns[1].text)
    )
    assert shown.startswith(visible(chat.turns[1].text) + "\n") and notes[:2] == [
        "stopped; the reply is kept as it is",
        "/quit or Ctrl-D ends the chat",
    ]
    calls[0] = 0
    with pytest.raises(KeyboardInterrupt):
        talk(
            chat, reader(["في مصر؟", "never read"]), Screen(io.StringIO()), print, patient=False
        )  # a script is ended


def test_marks_and_unknown_commands_are_refused(checkpoint):
    chat = chat_of(checkpoint)
    notes = run(chat, "<|assistant|>نعم", "/sing\x1b[2J", "/save", "/help")[1]
    assert (
        "only the chat frame may use" in notes[0]
        and notes[1] == "there is no command /sing[2J; /help lists them"
        and "/save FILE" in notes[2]
    )
    assert chat.turns == [] and "/undo" in notes[3]


def test_control_characters_and_false_speakers_are_not_shown():
    nasty = "a\x1b]0;title\x07b\x9b2J\u202ec\u2066d\r\ne\x00\u200cf\x7f\nأنت: نعم"
    out = io.StringIO()
    screen = Screen(out, "المساعد: ")
    for n in range(len(nasty) + 1):
        screen.show(nasty[:n])
    assert (
        out.getvalue() == "المساعد: a]0;titleb2Jcd \n\xa0\xa0\u200fe\u200cf\n\xa0\xa0\u200fأنت: نعم"
    )
    out = io.StringIO()
    Screen(out, "المساعد: ", str).show(nasty)
    assert out.getvalue().split("\n")[-1].endswith("  \xa0\xa0أنت: نعم")


def test_shaped_lines_fill_the_width_and_only_the_last_is_written_over():
    text = "ما أشهر أنواع الخبز في مصر اليوم\nالخبز البلدي"
    out = io.StringIO()
    screen = Screen(out, "س: ", lambda line: line[::-1], 21)
    for n in range(len(text) + 1):
        screen.show(text[:n])
    screen.end()
    rows = [row.split("\r")[-1] for row in out.getvalue().split("\n")[:-1]]
    assert (
        rows
        == [line[::-1].rjust(20) for line in wrap("س: " + text.replace("\n", "\n\xa0\xa0"), 20)]
        and len(rows) == 3
    )
    assert all(
        len(part) == 20
        for row in out.getvalue().split("\n")[:-1]
        for part in row.split("\r")
        if part
    )


def test_letters_are_joined_and_ordered():
    pytest.importorskip("bidi")
    pytest.importorskip("arabic_reshaper")
    from arabic_dialog.commands.chat import load_shaper

    assert load_shaper()("بَ 3 (Hi)") == "(Hi) 3 \ufe8f\u064e" and load_shaper()("لا") == "\ufefb"


def test_a_base_model_is_framed_and_cut_where_it_takes_the_users_part(
    checkpoint, tmp_path, tokenizer
):
    shutil.copytree(checkpoint, tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").unlink()
    notes = []
    chat = load_chat(tmp_path / "base", SAMPLING, notes.append)
    assert (
        "base model" in notes[0]
        and chat.engine.tokenizer.chat_template == load_chat_template("plain")
        and "المستخدم:" in chat.engine.stop_strings
    )
    assert len(run(chat, "ما الخبز؟")[0]) > 1
    assert (
        load_chat(checkpoint, SAMPLING, frame="plain").engine.stop_strings
        == chat.engine.stop_strings
    )


def command(monkeypatch, *args, stdin=""):
    monkeypatch.setattr(sys, "argv", ["arabic-dialog", "chat", *map(str, args)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    with pytest.raises(SystemExit) as e:
        main()
    return e.value.code


def test_bad_checkpoints_and_settings_end_with_2(checkpoint, tmp_path, monkeypatch, capsys):
    bare = tmp_path / "bare"
    shutil.copytree(checkpoint, bare)
    for f in bare.iterdir():
        if f.name not in ("config.json", "model.safetensors", "generation_config.json"):
            f.unlink()
    for args, why in (
        ((bare,), "tokenizer"),
        ((tmp_path / "nowhere",), "no checkpoint folder"),
        (("nobody",), "owner/model"),
        ((checkpoint, "--frame", "nope"), "no chat frame"),
        ((checkpoint, "--dtype", "int3"), "not a dtype"),
        ((checkpoint, "--max-new-tokens", "96"), "reads 96 tokens"),
        ((checkpoint, "--top-p", "2"), "--top-p"),
        ((checkpoint, "--device", "abacus"), "cannot be loaded"),
    ):
        assert command(monkeypatch, *args) == 2
        err = capsys.readouterr().err
        assert why in err and "Traceback" not in err, err


def test_piped_lines_give_replies_alone(checkpoint, monkeypatch, capsys):
    assert (
        command(
            monkeypatch,
            checkpoint,
            "--seed",
            "3",
            "--temperature",
            ".9",
            "--top-p",
            ".95",
            "--repetition-penalty",
            "1.1",
            "--max-new-tokens",
            "24",
            stdin="ما الخبز؟\n/sing\nكيف الحال؟",
        )
        == 0
    )
    said = capsys.readouterr()
    assert (
        said.out == run(chat_of(checkpoint), "ما الخبز؟", "كيف الحال؟")[0]
        and "no command /sing" in said.err
    )


@pytest.mark.skipif(os.name == "nt", reason="has no pty")
@pytest.mark.parametrize("checkpoint", ["aragpt2"], indirect=True)
def test_in_a_real_terminal_ctrl_c_stops_the_reply_and_not_the_chat(checkpoint, tmp_path):
    import fcntl, pty, select, termios

    def take_terminal():
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        hear_ctrl_c()

    us, them = pty.openpty()
    program = (
        "import sys, time; import arabic_dialog.commands.chat as c; inner = c.settled\n"
        "def slow(*a): time.sleep(.05); return inner(*a)\n"
        "c.settled = slow; c.chat_in_terminal(sys.argv[1], c.Sampling(.9, max_new_tokens=90))"
    )
    p = subprocess.Popen(
        [sys.executable, "-c", program, str(checkpoint)],
        stdin=them,
        stdout=them,
        stderr=them,
        cwd=ROOT,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm"},
        preexec_fn=take_terminal,
    )
    seen, rest, end = b"", b"", time.monotonic() + 60

    def wait(what):
        nonlocal seen, rest
        while what.encode() not in rest:
            assert time.monotonic() < end, (what, (seen + rest).decode(errors="replace"))
            if select.select([us], [], [], 0.2)[0]:
                rest += os.read(us, 4096)
        before, found, rest = rest.partition(what.encode())
        seen += before + found

    try:
        wait("أنت: ")
        os.write(us, "ok\n".encode())
        wait("المساعد: ")
        time.sleep(0.3)
        os.write(us, b"\x03")
        wait("stopped; the reply is kept")
        wait("أنت: ")
        os.write(us, f"/save {tmp_path}/t.jsonl\n".encode())
        wait("2 turns are in")
        wait("أنت: ")
        os.write(us, b"\x03")
        wait("/quit or Ctrl-D")
        os.write(us, b"/quit\n")
        wait("\x1b[?2501l")
        assert p.wait(30) == 0
    finally:
        if p.poll() is None:
            os.killpg(p.pid, signal.SIGKILL)
        os.close(us)
        os.close(them)
    assert b"\x1b[?2501h" in seen and json.loads(
        (tmp_path / "t.jsonl").read_text(encoding="utf-8")
    )["finish_reasons"] == ["cut"]


def test_a_student_of_a_run_replies_as_it_did_there(checkpoint, tmp_path):
    student = tmp_path / "run" / "train" / "s"
    shutil.copytree(checkpoint, student)
    (student / "training.json").write_text("{}")
    assert chat_sampling(student) == CHAT_SAMPLING  # no run says how
    config = {"reply_temperature": 0.0, "reply_num_beams": 3, "reply_max_new_tokens": 9, "seed": 7}
    (tmp_path / "run" / "run.json").write_text(json.dumps({"config": config}))
    habits = chat_sampling(student, seed=1, top_p=None)
    assert (habits.temperature, habits.num_beams, habits.max_new_tokens) == (0, 3, 9)
    assert habits.seed == 1 and habits.top_p == CHAT_SAMPLING.top_p
    drawn = chat_sampling(student, temperature=0.4)
    assert (drawn.temperature, drawn.num_beams, drawn.max_new_tokens) == (0.4, 1, 9)
    shown = []
    chat = load_chat(student, habits)
    chat.ask("ما الخبز؟", shown.append)
    again = load_chat(student, habits)
    again.ask("ما الخبز؟", shown.append)
    assert chat.turns == again.turns and chat.reasons[0] in ("stop", "length")
    drawn_chat = load_chat(student, drawn)
    drawn_chat.ask("ما الخبز؟", shown.append)
    assert drawn_chat.turns[0] == chat.turns[0]
