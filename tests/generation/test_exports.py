"""Every export reads back to what went in, the same bytes each time; nothing else is touched."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.generation import exports
from arabic_dialog.core.files import save_jsonl, save_text
from arabic_dialog.core.records import Conversation, Scenario, Turn, UserError
from arabic_dialog.generation.exports import (
    FORMATS,
    export_dataset,
    find_splits,
    load_dataset_dict,
    push_dataset,
)
from arabic_dialog.core.runs import RunFolder, run_stage

HOSTILE = (
    "سطر\nثان\r\nوثالث",
    "\"اقتباس\" و\\ و'آخر'",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\0\x01\x1b[31m\x7f",
    "👩‍👩‍👧‍👦 🇪🇬 𝒳",
    "\u202eمعكوس\u202c\ufeff",
    '<|user|></s>{"role": "user"}',
    "مَرْحَبًا ـــ أإآٱ ىي ٣",
    "",
    " ",
    "\ufffd\uffff\U0010ffff",
    "ض" * 20_000,
)


def conversation(n, texts, topic="bread", country="EG"):
    s = Scenario(f"{topic}_{country}_{n}", topic, country, n)
    return Conversation(
        s.id,
        s,
        tuple(Turn(("user", "assistant")[i % 2], t) for i, t in enumerate(texts)),
        "model \u2028 <b>",
    )


def dataset(path, train, test=()):
    save_jsonl(path / "train.jsonl", train)
    if test:
        save_jsonl(path / "test.jsonl", test)
    return path


def turns(row):
    return tuple(Turn(m["role"], m["content"]) for m in row["messages"])


def read(folder, format):
    "An export as split → rows with `messages`, read by the tool that it is for"
    import datasets, pyarrow.parquet as pq

    if format == "datasets":
        return {s: list(d) for s, d in datasets.load_from_disk(str(folder)).items()}
    if format == "parquet":
        return {p.stem: pq.read_table(p).to_pylist() for p in folder.glob("*.parquet")}
    rows = {
        p.stem: [json.loads(line) for line in p.read_text(encoding="utf-8").split("\n")[:-1]]
        for p in folder.glob("*.jsonl")
    }
    assert rows == {
        p.stem: [json.loads(line) for line in p.read_text(encoding="utf-8").splitlines()]
        for p in folder.glob("*.jsonl")
    }
    if format == "messages":
        return rows
    roles = {"human": "user", "gpt": "assistant"}
    return {
        s: [
            {
                **r,
                "messages": [
                    {"role": roles[t["from"]], "content": t["value"]} for t in r["conversations"]
                ],
            }
            for r in part
        ]
        for s, part in rows.items()
    }


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_reads_back_to_the_same_turns_and_is_the_same_twice(tmp_path, format):
    made = {
        "train": [
            conversation(n, t) for n, t in enumerate((HOSTILE, HOSTILE[::-1], ("سؤال", "جواب")))
        ],
        "test": [conversation(9, ("ما؟", "نعم."))],
    }
    source = dataset(tmp_path / "data", **made)
    save_text(
        source / "check/attempts.csv",
        "scenario_id,round,prompt_hash,finish_reason,n_turns,outcome\nbread_EG_0,0,0123456789abcdef,stop,12,accepted\n"
        "bread_EG_1,1,fedcba9876543210,stop,0,refusal\n",
    )
    assert export_dataset(source, tmp_path / "a", format) == {"train": 3, "test": 1}
    found = read(tmp_path / "a", format)
    assert {s: [turns(r) for r in rows] for s, rows in found.items()} == {
        s: [c.turns for c in part] for s, part in made.items()
    }
    first = found["train"][0]
    assert (first["id"], first["topic"], first["country"], first["variant"], first["model"]) == (
        "bread_EG_0",
        "bread",
        "EG",
        0,
        "model \u2028 <b>",
    )
    assert [r["prompt_hash"] for r in found["train"]] == ["0123456789abcdef", None, None]
    export_dataset(source, tmp_path / "elsewhere/b", format)
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert files and all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "elsewhere/b" / f).read_bytes()
        for f in files
    )
    assert not any(str(tmp_path).encode() in (tmp_path / "a" / f).read_bytes() for f in files), (
        "an export names the machine it was made on"
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives(tmp_path_factory, said):
    folder = tmp_path_factory.mktemp("any")
    made = [conversation(n, t) for n, t in enumerate(said)]
    dataset(folder / "data", made)
    for format in ("parquet", "messages", "sharegpt"):
        export_dataset(folder / "data", folder / format, format)
        assert [turns(r) for r in read(folder / format, format)["train"]] == [c.turns for c in made]
    shutil.rmtree(folder)


def test_datasets_itself_reads_a_folder_of_parquet_or_json_lines(tmp_path):
    from datasets import load_dataset

    source = dataset(
        tmp_path / "data",
        [conversation(n, HOSTILE[:-1]) for n in range(3)],
        [conversation(5, ("ما؟", "نعم."))],
    )
    for format in ("parquet", "messages"):
        export_dataset(source, tmp_path / format, format)
        found = load_dataset(str(tmp_path / format), cache_dir=str(tmp_path / "cache"))
        assert {s: len(d) for s, d in found.items()} == {"train": 3, "test": 1} and turns(
            found["train"][2]
        ) == conversation(2, HOSTILE[:-1]).turns


def test_a_changed_file_is_loaded_anew(tmp_path):
    dataset(tmp_path / "data", [conversation(0, ("ما؟", "نعم."))])
    first = load_dataset_dict(tmp_path / "data", tmp_path / "cache")
    dataset(tmp_path / "data", [conversation(0, ("أين؟", "هنا."))])
    second = load_dataset_dict(tmp_path / "data", tmp_path / "cache")
    assert (
        first["train"][0]["messages"][0]["content"],
        second["train"][0]["messages"][0]["content"],
    ) == ("ما؟", "أين؟")


def test_half_a_character_is_refused_by_name(tmp_path):
    dataset(tmp_path / "data", [conversation(0, ("ما؟", "نعم."))])
    line = (tmp_path / "data/train.jsonl").read_text(encoding="utf-8")
    (tmp_path / "data/train.jsonl").write_text(line.replace("نعم", "\\ud83d"), encoding="utf-8")
    for format in FORMATS:
        with pytest.raises(UserError, match=r"train.jsonl, row 1 holds .* half of a character"):
            export_dataset(tmp_path / "data", tmp_path / format, format)
        assert not any((tmp_path / format).iterdir())


def finished_run(path):
    run = RunFolder(path)
    run_stage(
        run,
        "split",
        lambda p: (
            dataset(p, [conversation(0, ("ما؟", "نعم."))], [conversation(1, ("أين؟", "هنا."))])
            and {"train": 1, "test": 1}
        ),
    )
    return run


def test_only_a_finished_and_unchanged_dataset_of_a_run_is_exported(tmp_path):
    (tmp_path / "run/stages").mkdir(parents=True)
    with pytest.raises(
        UserError, match="has no finished dataset; make it with: arabic-dialog generate"
    ):
        export_dataset(tmp_path / "run", tmp_path / "out")
    run = finished_run(tmp_path / "run")
    assert export_dataset(run.path, tmp_path / "out") == {"train": 1, "test": 1}
    with (run / "split/train.jsonl").open("a") as f:
        f.write("{}\n")
    with pytest.raises(UserError, match="is not what the stage wrote"):
        export_dataset(run.path, tmp_path / "out")

    def killed(path):
        save_jsonl(path / "train.jsonl", [conversation(0, ("لا", "نعم"))])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage(run, "split", killed, params={"seed": 1})
    with pytest.raises(UserError, match="has no finished dataset"):
        find_splits(run.path)


def test_what_is_not_ours_is_not_overwritten(tmp_path):
    source, out = dataset(tmp_path / "data", [conversation(0, ("ما؟", "نعم."))]), tmp_path / "out"
    out.mkdir()
    (out / "train.parquet").write_text("mine")
    with pytest.raises(UserError, match="train.parquet is not from an export"):
        export_dataset(source, out)
    assert (out / "train.parquet").read_text() == "mine"
    (out / "train.parquet").unlink()
    export_dataset(source, out, "datasets")
    export_dataset(source, out, "messages")  # another format takes the place of the first
    assert sorted(p.name for p in out.iterdir()) == ["export.json", "train.jsonl"]
    with (out / "train.jsonl").open("a") as f:
        f.write("mine\n")
    with pytest.raises(UserError, match="train.jsonl was changed since it was exported"):
        export_dataset(source, out, "sharegpt")
    with pytest.raises(UserError, match="is a file; name a folder"):
        export_dataset(source, source / "train.jsonl")
    with pytest.raises(UserError, match="no format 'csv'; there are parquet"):
        export_dataset(source, tmp_path / "new", "csv")


@pytest.mark.parametrize("when", ["write_jsonl", "save_text", "replace"])
def test_an_export_that_was_cut_short_can_be_made_again(tmp_path, monkeypatch, when):
    source, out = (
        dataset(
            tmp_path / "data",
            [conversation(0, ("ما؟", "نعم."))],
            [conversation(1, ("ما؟", "نعم."))],
        ),
        tmp_path / "out",
    )
    export_dataset(source, out, "parquet")
    before = (out / "train.parquet").read_bytes()
    (out / ".export-killed").mkdir()
    (out / ".export-killed/train.jsonl").write_text("{")  # what kill -9 leaves

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as m:
        m.setattr(
            *{
                "write_jsonl": (exports, when),
                "save_text": (exports, when),
                "replace": (exports.os, when),
            }[when],
            fail,
        )
        with pytest.raises(UserError, match="cannot write .*No space left"):
            export_dataset(source, out, "messages")
    if when == "write_jsonl":
        assert (out / "train.parquet").read_bytes() == before
    assert export_dataset(source, out, "messages") == {"train": 1, "test": 1}
    assert sorted(p.name for p in out.iterdir()) == ["export.json", "test.jsonl", "train.jsonl"]


class Row(dict):
    "A row that counts how many of its kind are alive"

    alive = most = 0

    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        Row.alive += 1
        Row.most = max(Row.most, Row.alive)

    def __del__(self):
        Row.alive -= 1


@pytest.mark.parametrize(
    "write, most",
    [(lambda p, rows: exports.write_parquet(p, rows, group=50), 101), (exports.write_jsonl, 2)],
)
def test_the_rows_of_a_large_dataset_are_never_held_together(tmp_path, write, most):
    Row.alive = Row.most = 0
    row = exports.render_row(conversation(0, ("ما؟", "نعم.")))
    assert write(tmp_path / "file", (Row(row) for _ in range(2_000))) == 2_000 and Row.most <= most


class Api:
    "A hub that keeps what it is given"

    def __init__(self, fail=None, public=False):
        self.fail, self.public, self.calls = fail, public, []

    def create_repo(self, repo_id, **k):
        self.calls.append(("create", repo_id, k))
        if self.fail:
            raise self.fail

    def repo_info(self, repo_id, repo_type):
        return type("Info", (), {"private": not self.public})

    def create_commit(self, repo_id, operations, **k):
        self.files = {
            o.path_in_repo: o.path_or_fileobj
            if isinstance(o.path_or_fileobj, bytes)
            else Path(o.path_or_fileobj).read_bytes()
            for o in operations
        }
        return type("Commit", (), {"commit_url": f"https://hub/{repo_id}/commit/1"})


def test_a_push_is_one_private_commit_of_the_run_as_it_is(tmp_path, monkeypatch):
    import huggingface_hub

    run, api = finished_run(tmp_path / "run"), Api()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    assert (
        push_dataset(run.path, "me/bread", extra={"README.md": "# خبز"})
        == "https://hub/me/bread/commit/1"
    )
    assert api.calls == [
        ("create", "me/bread", {"repo_type": "dataset", "private": True, "exist_ok": True})
    ]
    assert api.files == {
        s: (run / "split" / s).read_bytes() for s in ("train.jsonl", "test.jsonl")
    } | {"README.md": "# خبز".encode()}
    api.public = True
    api.files = None
    with pytest.raises(UserError, match="exists and is public"):
        push_dataset(run.path, "me/bread")
    assert api.files is None
    push_dataset(run.path, "me/bread", private=False)
    assert api.files


def test_a_hub_that_refuses_is_a_clear_message_without_the_token(tmp_path, monkeypatch):
    import huggingface_hub, httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    def answer(status):
        e = HfHubHTTPError.__new__(HfHubHTTPError)
        Exception.__init__(e, "hf_secret")
        e.response = type("R", (), {"status_code": status})
        return e

    run = finished_run(tmp_path / "run")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for fail, why in (
        (OfflineModeIsEnabled("x"), "HF_HUB_OFFLINE is set"),
        (answer(401), "not logged in; run `hf auth login`"),
        (answer(403), "may not write to me/bread"),
        (answer(500), "status 500"),
        (httpx.ConnectError("hf_secret"), "cannot be reached .ConnectError."),
    ):
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda fail=fail: Api(fail))
        with pytest.raises(UserError, match=f"nothing was pushed to the hub: .*{why}") as e:
            push_dataset(run.path, "me/bread")
        assert "hf_secret" not in str(e.value)
    assert not any(
        "hf_secret" in p.read_text(encoding="utf-8") for p in tmp_path.rglob("*") if p.is_file()
    )


def test_the_real_hub_library_is_offline_here_and_says_so(tmp_path):
    code = (
        "import sys\nfrom arabic_dialog.generation.exports import push_dataset\n"
        "from arabic_dialog.core.records import UserError\n"
        "try: push_dataset(sys.argv[1], 'me/bread')\nexcept UserError as e: print(e)"
    )
    run = finished_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", code, run.path],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_TOKEN": "hf_secret"},
    )
    assert "HF_HUB_OFFLINE is set; unset it to push" in done.stdout, done.stderr
    with pytest.raises(UserError, match="is no name for the hub|should be owner/name"):
        push_dataset(run.path, "me/b r e a d")


def test_the_command_exports_and_pushes_what_is_asked_for(tmp_path, monkeypatch):
    import huggingface_hub
    from typer.testing import CliRunner
    from arabic_dialog.commands.cli import app

    run, api = finished_run(tmp_path / "run"), Api()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    run_stage(
        run,
        "check",
        lambda p: (
            save_text(p / "rules.csv", "rule,description,n,example\n")
            and {"accepted": 2, "rejected": 1}
        ),
    )
    config = {
        "comparable": False,
        "engine": "embedded",
        "generator": "embedded-grammar",
        "seed": 0,
        "seeds": [0],
    }
    save_text(
        run / "run.json", json.dumps({"profile": "offline", "config": config, "data_hash": "0"})
    )
    save_text(run / "runs.jsonl", '{"code_version": "0", "started": "2026"}\n')

    def call(*args):
        return CliRunner().invoke(app, ["export", "--run", str(run.path), *args])

    for format in FORMATS:
        done = call("--to", str(tmp_path / format), "--format", format)
        assert done.exit_code == 0 and done.stdout.startswith("1 train, 1 test conversations in"), (
            done
        )
    assert (
        not api.calls
        and "say where to" in str(call().exception)
        and "no format 'csv'" in str(call("--to", str(tmp_path / "x"), "--format", "csv").exception)
    )
    assert (
        call("--push", "me/bread").stdout.strip() == "pushed: https://hub/me/bread/commit/1"
        and api.calls[0][2]["private"]
    )
    assert (
        sorted(api.files) == ["README.md", "croissant.json", "test.jsonl", "train.jsonl"]
        and b'"configs"' not in api.files["README.md"]
        and b"configs:" in api.files["README.md"]
    )
    call("--push", "me/bread", "--public")
    assert not api.calls[1][2]["private"]
