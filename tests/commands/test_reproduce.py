"""A whole run at its smallest: what it leaves, what a stop costs, what a change makes again."""

import json, os, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest
from signals import hear_ctrl_c

from arabic_dialog.core.files import data_path, digest_file, load_csv, load_jsonl
from arabic_dialog.core.records import Checkpoint, Completion, Conversation
from arabic_dialog.reporting.notebooks import notebook_names, run_paper
from arabic_dialog.commands.costs import STAGES
from arabic_dialog.commands.reproduce import make_stages, reproduce
from arabic_dialog.core.records import UserError
from arabic_dialog.core.settings import Profile, load_profile
from arabic_dialog.core.runs import Rehearsal, RunFolder, WatchedProfile, Work
from arabic_dialog.core.workers import Workers

ROOT = Path(__file__).resolve().parents[2]
COMMAND = str(Path(sys.executable).with_name("arabic-dialog"))


def command(*args, cwd=ROOT, **kwargs):
    return subprocess.run(
        [COMMAND, *map(str, args)], cwd=cwd, capture_output=True, text=True, **kwargs
    )


def files(folder, *but):
    return {
        p.relative_to(folder).as_posix(): digest_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and not any(part.startswith("_") or part in but for part in p.relative_to(folder).parts)
    }


@pytest.fixture(scope="module")
def run(finished_run):
    return finished_run


def test_every_stage_leaves_what_it_promises(run):
    assert len(load_jsonl(run / "check/conversations.jsonl", Conversation)) > 290
    assert (
        len(load_csv(run / "check/cells.csv")) == 300
        and len(load_csv(run / "check/attempts.csv")) > 300
    )
    models = {m["model"] for m in load_csv(run / "scores/models.csv")}
    assert models == {
        f"{s}-{k}" for s in ("arabiangpt", "aragpt2") for k in ("base", "finetuned")
    } | {"arabiangpt-control", "retrieval", "reference"}
    about = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert about["data_hash"] == digest_file(run / "check/conversations.jsonl")


def test_each_notebook_ran_and_says_where_its_numbers_come_from(run):
    for name in notebook_names():
        result = json.loads((run / "paper" / name / "result.json").read_text(encoding="utf-8"))
        for word in (
            "Profile smoke",
            "seed 0",
            json.loads((run / "run.json").read_text())["data_hash"],
        ):
            assert word in result["source"], name
        assert result["simulated"] == ("simulated raters" in result["source"]) and result["inputs"]
    simulated = {
        n
        for n in notebook_names()
        if json.loads((run / "paper" / n / "result.json").read_text(encoding="utf-8"))["simulated"]
    }
    assert {"tab_agreement", "fig_human_scores", "fig_metric_vs_human"} <= simulated


def test_every_table_of_ratings_says_who_rated(run):
    tables = {
        p.stem: load_csv(p)
        for p in (run / "rating").glob("*.csv")
        if p.stem not in ("key", "ratings")
    }
    assert {*tables} == {
        "agreement",
        "pairs",
        "severity",
        "drift",
        "within_raters",
        "checks",
        "quality",
        "comparisons",
        "disagreements",
        "correlation",
    }
    assert all(r["raters"] == "simulated raters" for rows in tables.values() for r in rows) and all(
        tables.values()
    )


def test_no_claim_is_judged_at_this_scale(run):
    ledger = load_csv(run / "paper/tab_claims/tab_claims.csv")
    assert len(ledger) == 11 and {c["verdict"] for c in ledger} == {"not comparable at this scale"}


def test_the_true_reply_is_on_topic_and_on_country_by_definition(run):
    summary = {(r["model"], r["metric"]): r for r in load_csv(run / "scores/summary.csv")}
    assert float(summary["reference", "on_both"]["value"]) == 1
    assert float(summary["reference", "raven"]["value"]) > float(
        summary["arabiangpt-base", "raven"]["value"]
    )


def test_the_control_saw_the_same_turns_with_the_replies_of_others(run):
    one, two = (
        json.loads((run / f"train/arabiangpt-{k}-s0/training.json").read_text())
        for k in ("finetuned", "control")
    )
    assert (
        one["steps"] == two["steps"]
        and one["data"] != two["data"]
        and two["proof"]["n_user_tokens_trained"] == 0
    )


def test_the_second_time_everything_is_found(run):
    says_when = ("runs.jsonl", "report.html", "report.json", "reforms.md")  # of its last start
    before, start = files(run, *says_when), time.perf_counter()
    done = command("reproduce", "--profile", "smoke", "--run", run)
    assert done.returncode == 0 and files(run, *says_when) == before
    lines = [line for line in done.stdout.splitlines() if line.startswith("✓")]
    assert lines and all("cached" in line for line in lines), done.stdout
    assert time.perf_counter() - start < 60


# Which stages a changed setting makes again, before anything that reads their files.
# Whoever adds a setting adds it here: to the stages that it shapes, or to the last line.
SHAPES = {
    "complete, check": (
        "prompt, register_, variants, n_scenarios, min_turns, max_turns, engine, generator, "
        "generator_revision, generator_dtype, defect_rate, temperature, top_p, "
        "repetition_penalty, top_k, min_new_tokens, max_new_tokens, stop"
    ),
    "complete, check, variety, relevance, scores": "topics",
    "complete, check, variety, relevance, scores, validity": "countries",
    "check": (
        "attempts, min_arabic_ratio, max_repetition, max_turn_words, min_relevance, disabled_rules"
    ),
    "check, split, variety": "near_duplicate_threshold",
    "split": "validation_share, test_share",
    "bases": (
        "model_layers, model_width, model_heads, model_context, vocabulary_size, "
        "pretrain_length, pretrain_steps, pretrain_learning_rate, pretrain_batch_size"
    ),
    "bases, tuned": "revisions, finetune_n_evaluations, deterministic",
    "tuned": (
        "max_length, finetune_steps, finetune_learning_rate, finetune_batch_size, "
        "finetune_method, lora_rank, lora_alpha, finetune_schedule, finetune_warmup_share, "
        "finetune_weight_decay, finetune_patience, finetune_precision, finetune_packing"
    ),
    "replies": (
        "reply_max_new_tokens, reply_temperature, reply_top_p, reply_repetition_penalty, "
        "reply_num_beams, reply_no_repeat_ngram_size"
    ),
    "replies, marks": "n_test_conversations",
    "replies, scores": "histories",
    "marks": "n_retrieval_conversations",
    "marks, relevance, scores, validity": "encoder",
    "scores, rating": "n_resamples",
    "study": "raters, n_rated_items",
    "study, rating": "criteria",
    "rating": "simulated_raters",
    "complete, check, split, bases, replies, marks, relevance, scores, validity, study, rating": (
        "seed"
    ),
    # what they name has stages of its own
    "others": (
        "students, checkpoints, seeds, control_student, baselines, baseline_revisions, "
        "sweep_learning_rates, sweep_steps"
    ),
    # speed, addresses, and what people read
    "": (
        "workers, generation_batch_size, finetune_micro_batch_size, actors, endpoints, "
        "endpoint_api, endpoint_concurrency, endpoint_timeout, endpoint_key, endpoint_thinking, "
        "name, description, "
        "comparable"
    ),
}
WORDS = {
    "engine": "transformers",
    "generator_dtype": "float32",
    "finetune_method": "lora",
    "finetune_schedule": "constant",
    "finetune_precision": "bfloat16",
    "histories": ("true", "own"),
}


def another(profile, setting):
    "Another value of a setting"
    value = getattr(profile, setting)
    if setting in WORDS:
        return WORDS[setting]
    if isinstance(value, tuple):
        return (*value[:-1], "other")
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return f"{value}, another"
    return value / 2 + 0.01 if isinstance(value, float) else value + 1


def kind_of_stage(name):
    "Checkpoints and replies by what they are"
    folder, _, of = name.partition("/")
    if of == "marks":
        return "marks"
    checkpoint = Checkpoint.parse(of)
    if folder == "train":
        return "bases" if checkpoint.kind == "base" else "tuned"
    return folder


def made_again(run, **change):
    "The kinds of stages that a changed profile would make again"
    profile = load_profile("smoke").model_copy(update=change)
    rehearsal = Rehearsal(profile, RunFolder(run), say=lambda line: None)
    make_stages(rehearsal, Workers(1), "rating")
    return set(map(kind_of_stage, rehearsal.again))


def test_each_setting_makes_the_right_stages_again(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    assert made_again(path) == set()
    profile = load_profile("smoke")
    stages = {s: kinds for kinds, text in SHAPES.items() for s in text.split(", ")}
    assert stages.keys() == Profile.model_fields.keys()
    wanted, found = {}, {}
    for setting, kinds in stages.items():
        if kinds != "others":
            wanted[setting] = set(kinds.split(", ")) - {""}
            found[setting] = made_again(path, **{setting: another(profile, setting)})
    assert found == wanted


def test_a_run_stops_after_the_stage_that_is_named(run, tmp_path):
    copy, last = shutil.copytree(run, tmp_path / "copy"), {}
    for stage in STAGES[:-2]:
        lines = []
        assert reproduce(load_profile("smoke"), copy, stage, lines.append) == []
        last[stage] = {line.split()[1].split("/")[0] for line in lines}
    dataset = {"complete", "check", "split", "variety", "cards"}
    assert last["complete"] == last["check"] == last["split"] == dataset
    assert last["train"] == dataset | {"train", "relevance"}
    assert last["replies"] == last["train"] | {"replies"}
    assert last["scores"] == last["replies"] | {"scores"}
    assert last["rating"] == last["scores"] | {"validity", "study", "rating"}
    with pytest.raises(UserError, match="there is no stage 'reply'; there are complete, check"):
        reproduce(load_profile("smoke"), copy, "reply")


def test_a_run_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    ours = ("OMP_NUM_THREADS", "TOKENIZERS_PARALLELISM", "LRU_CACHE_CAPACITY")
    before = {name: os.environ.get(name) for name in ours}
    small = {"n_scenarios": "60", "seeds": "0", "pretrain_steps": "2", "finetune_steps": "2"}
    profile = load_profile("smoke", overrides=small | {"control_student": ""})
    reproduce(profile, tmp_path, "train", say=lambda line: None)
    assert (tmp_path / "train/arabiangpt-finetuned-s0/model.safetensors").is_file()
    assert {name: os.environ.get(name) for name in ours} == before


def test_a_run_of_another_version_is_told_in_one_line(run, tmp_path):
    copy, lines = shutil.copytree(run, tmp_path / "copy"), []
    state = copy / "stages" / "check.json"
    about = json.loads(state.read_text(encoding="utf-8"))
    del about["shape"]
    state.write_text(json.dumps(about | {"key": "another"}), encoding="utf-8")
    reproduce(load_profile("smoke"), copy, "split", lines.append)
    assert "1 stages are of another version of this program and are made again" in lines[0]
    (checked,) = (line for line in lines if line.startswith("✓ check"))
    assert "made again: it is of another version of this program" in checked
    assert "cached" in next(line for line in lines if line.startswith("✓ split"))


def test_a_recipe_names_every_setting_that_its_stage_reads(run, tmp_path):
    folder = RunFolder(shutil.copytree(run, tmp_path / "run"))
    stages = ("split", "variety", "cards", "relevance", "replies/marks", "scores", "validity")
    for name in (*stages, "rating", "study"):
        folder.state(name).unlink()
    lines = []
    work = Work(WatchedProfile.of(load_profile("smoke")), folder, say=lines.append)
    with Workers(1) as workers:
        make_stages(work, workers, "rating")
    made = {line.split()[1] for line in lines if "cached" not in line}
    assert made == {*stages, "rating", "study"}


def test_a_changed_notebook_parameter_runs_that_notebook_alone(run):
    names = [
        o.name
        for o in run_paper(RunFolder(run), ["tab_examples", "tab_dataset"], {})
        if o.status == "made"
    ]
    assert names == []
    made = run_paper(RunFolder(run), ["tab_examples"], {"n_examples": "2"})
    assert [o.status for o in made] == ["made"], made[0].error


def test_parameters_are_checked(run):
    assert command("paper", "tab_examples", "--run", run, "-p", "n_example=2").returncode == 2
    wrong = command("paper", "tab_examples", "--run", run, "-p", "n_examples=two")
    assert wrong.returncode == 2 and "n_examples = 'two'" in wrong.stderr
    assert (
        "there is no paper notebook 'tab_nothing'"
        in command("paper", "tab_nothing", "--run", run).stderr
    )
    assert command("paper", "--run", run / "nowhere").returncode == 2


def test_a_failing_notebook_keeps_its_traceback_and_the_others_finish(run, tmp_path):
    for name in ("data", "nbs/paper"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "settings.ini", tmp_path)
    broken = tmp_path / "nbs/paper/tab_broken_by_a_test.ipynb"
    cells = json.loads((ROOT / "nbs/paper/tab_quality.ipynb").read_text(encoding="utf-8"))
    for c in cells["cells"]:
        if "open_run(run)" in "".join(c["source"]):
            c["source"] = "raise RuntimeError('broken on purpose <b>')"
    broken.write_text(json.dumps(cells), encoding="utf-8")
    names = ("tab_broken_by_a_test", "tab_quality")
    done = command("paper", *names, "--run", run, cwd=tmp_path)
    assert done.returncode == 1 and "broken on purpose" in done.stdout and "✓ paper" in done.stdout
    assert "RuntimeError" in (
        run / "paper/tab_broken_by_a_test/tab_broken_by_a_test.ipynb"
    ).read_text(encoding="utf-8")
    assert (run / "paper/tab_quality/result.json").is_file()
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "on purpose &lt;b&gt;" in page and "on purpose <b>" not in page
    shutil.rmtree(run / "paper/tab_broken_by_a_test")


def test_a_damaged_file_is_named_and_nothing_is_lost(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    target = tmp_path / "copy/check/conversations.jsonl"
    target.write_text(
        target.read_text(encoding="utf-8").replace("user", "ruse", 1), encoding="utf-8"
    )
    before = files(tmp_path / "copy", "runs.jsonl")
    done = command("reproduce", "--profile", "smoke", "--run", tmp_path / "copy")
    assert (
        done.returncode == 2
        and "conversations.jsonl is not what the stage wrote" in done.stderr
        and files(tmp_path / "copy", "runs.jsonl") == before
    )


def return_sheets(run):
    "Fill the sheets of a run's study as two people might, and hand them back"
    import csv, io

    for sheet in (run / "study/sheets").glob("sheet_*.csv"):
        rows = list(csv.reader(io.StringIO(sheet.read_text(encoding="utf-8-sig"), newline="")))
        for i, r in enumerate(rows[1:]):
            r[3:-1] = [str(1 + (i + len(r[2])) % 5)] * len(r[3:-1])
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        (run / "returned").mkdir(exist_ok=True)
        (run / "returned" / sheet.name).write_text(out.getvalue(), encoding="utf-8")


def test_ratings_of_people_replace_simulated_ones(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    copy = tmp_path / "copy"
    return_sheets(copy)
    done = command("reproduce", "--profile", "smoke", "--run", copy)
    assert done.returncode == 0, done.stderr
    assert (
        json.loads((copy / "rating/study.json").read_text(encoding="utf-8"))["simulated"] is False
    )
    assert not json.loads((copy / "paper/tab_agreement/result.json").read_text(encoding="utf-8"))[
        "simulated"
    ]
    assert {
        r["raters"]
        for name in ("agreement", "drift", "quality")
        for r in load_csv(copy / f"rating/{name}.csv")
    } == {"people"} and not (copy / "rating/checks.csv").exists()


@pytest.mark.parametrize("unit", ["reply", "conversation"])
def test_ratings_on_the_page_replace_simulated_ones(run, tmp_path, unit):
    from arabic_dialog.rating.answers import Entry, StudyFile
    from arabic_dialog.rating.design import load_ratings, load_study
    from arabic_dialog.rating.study import StudyPlan, new_study, run_replies

    shutil.copytree(run, tmp_path / "copy")
    copy = tmp_path / "copy"
    path = new_study(copy / "human", *run_replies(copy), ["hala", "omar"], StudyPlan(21, unit))

    def say(rater):
        with StudyFile(path) as s:
            s.put(
                [
                    Entry(rater, slot.position, c, 1 + (slot.position + len(c)) % 5)
                    for slot in s.slots(rater)
                    for c in s.criteria
                ]
            )
        reproduce(load_profile("smoke"), copy, until="rating", say=lambda text: None)
        return load_study(copy / "rating")

    assert say(
        "hala"
    ).simulated  # one rater agrees with nobody: the simulated ratings stand until there are two
    study = say("omar")
    assert (
        not study.simulated
        and study.unit == unit
        and study.raters == ("hala", "omar")
        and len(load_ratings(copy / "rating")) == 21 * 2 * len(study.criteria)
    )
    assert len(load_csv(copy / "rating/repeats.csv")) == 3 * 2 * len(study.criteria) and {
        r["metric"] for r in load_csv(copy / "rating/correlation.csv")
    } >= {"raven", "bits_per_byte"}
    if unit == "reply":
        done = command("paper", "tab_agreement", "--run", copy)
        assert (
            done.returncode == 0
            and not json.loads(
                (copy / "paper/tab_agreement/result.json").read_text(encoding="utf-8")
            )["simulated"]
        ), done.stderr
        (copy / "returned").mkdir()
        shutil.copy(next((copy / "study/sheets").glob("sheet_*.csv")), copy / "returned")
        done = command("reproduce", "--profile", "smoke", "--run", copy)
        assert done.returncode == 2 and "two studies" in done.stderr


def test_without_raters_the_run_says_what_waits(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    done = command(
        "reproduce",
        "--profile",
        "smoke",
        "--run",
        tmp_path / "copy",
        "--set",
        "simulated_raters=false",
    )
    assert done.returncode == 0 and "tab_agreement: it needs ratings" in done.stdout, (
        done.stdout + done.stderr
    )
    verdicts = {
        c["id"]: c["verdict"] for c in load_csv(tmp_path / "copy/paper/tab_claims/tab_claims.csv")
    }
    assert verdicts["C9"] == verdicts["C11"] == "not run"


def test_a_baseline_that_fails_costs_its_row_and_not_the_run(run, tmp_path):
    from families import make_family
    from published import edit

    for name in ("good", "short"):
        make_family(tmp_path / name, "Qwen2.5-Instruct")
    # it opens, and in the run its prompts turn out to be too long for it
    edit(tmp_path / "short/config.json", lambda c: c.update(max_position_embeddings=120))
    shutil.copytree(run, tmp_path / "copy")
    copy, baselines = tmp_path / "copy", f"baselines={tmp_path / 'good'}, {tmp_path / 'short'}/"
    start = ("reproduce", "--profile", "smoke", "--run", copy, "--set", baselines)
    done = command(*start)
    assert done.returncode == 0, done.stdout + done.stderr
    said = next(line for line in done.stdout.splitlines() if line.startswith("✗"))
    assert "replies/short: the prompt of" in said and "the next tries again" in said
    assert not (copy / "replies/short").exists() and (copy / "replies/good").is_dir()
    models = {m["model"] for m in load_csv(copy / "scores/models.csv")}
    rated = {r["model"] for r in load_csv(copy / "study/key.csv")}
    assert "good" in models & rated and "short" not in models | rated
    result = json.loads((copy / "paper/tab_models/result.json").read_text(encoding="utf-8"))
    assert "without short, which failed (the prompt of" in result["source"]
    assert "without short" in (copy / "report.html").read_text(encoding="utf-8")
    assert "not evaluated" in (copy / "cards/README.md").read_text(encoding="utf-8")
    verified = command("verify", copy)
    assert verified.returncode == 0 and "· replies/short: failed" in verified.stdout
    edit(tmp_path / "short/config.json", lambda c: c.update(max_position_embeddings=512))
    done = command(*start)
    assert done.returncode == 0 and "✗" not in done.stdout, done.stdout + done.stderr
    assert "short" in {m["model"] for m in load_csv(copy / "scores/models.csv")}
    assert "failed" not in json.loads((copy / "run.json").read_text(encoding="utf-8"))
    assert command("verify", copy).returncode == 0


def test_the_ledger_follows_when_people_have_rated_and_verify_holds(run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    copy = tmp_path / "copy"

    def reproduced():
        "What of the paper was made, and the ledger"
        without = ("--set", "simulated_raters=false")
        done = command("reproduce", "--profile", "smoke", "--run", copy, *without)
        assert done.returncode == 0, done.stderr
        made = {p.parent.name: p.stat().st_mtime_ns for p in copy.glob("paper/*/_made.json")}
        return made, {c["id"]: c for c in load_csv(copy / "paper/tab_claims/tab_claims.csv")}

    first, ledger = reproduced()
    assert ledger["C9"]["verdict"] == "not run" and ledger["C9"]["this_run"] == "–"
    again, _ = reproduced()
    assert again == first  # nothing new, nothing made
    return_sheets(copy)
    second, ledger = reproduced()
    assert ledger["C9"]["verdict"] == "not comparable at this scale"
    assert "–" not in (ledger["C9"]["this_run"], ledger["C11"]["this_run"])
    rated = {"tab_agreement", "fig_human_scores", "fig_metric_vs_human"}
    made = {name for name, at in second.items() if first.get(name) != at}
    assert made == rated | {"tab_claims"}
    assert command("verify", copy).returncode == 0
    (copy / "paper/tab_agreement/result.json").unlink()
    done = command("verify", copy)
    assert done.returncode and "paper/tab_agreement/result.json: missing" in done.stdout


@pytest.mark.parametrize(
    "args, said",
    [
        (["reproduce", "--profile", "ofline"], "no profile 'ofline'"),
        (["reproduce", "--profile", "smoke", "--set", "engine=magic"], "engine = 'magic'"),
        (["reproduce", "--profile", "smoke", "--set", "checkpoints=new:gpt5, new:aragpt2"], "gpt5"),
        (
            ["reproduce", "--profile", "smoke", "--set", "topics=README.md"],
            "more cells than columns",
        ),
        (["generate", "--profile", "smoke", "--set", "seed"], "key=value"),
        (["evaluate", "--profile", "smoke", "--set", "histories=own"], "histories must be true"),
        (["reproduce", "--profile", "paper"], "this machine cannot run the profile"),
        (["paper", "--run", "runs/none-such"], "there is no run in runs/none-such"),
    ],
)
def test_bad_input_is_answered_in_one_line(args, said, tmp_path):
    done = command(
        *args,
        *(["--run", tmp_path / "r"] if args[0] != "paper" else []),
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )


def test_a_run_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("generate", "--profile", "smoke", "--run", tmp_path / "file")
    assert done.returncode == 2 and "cannot write" in done.stderr


def test_killed_while_training_it_gives_the_same_weights(run, tmp_path):
    args = ["finetune", "--profile", "smoke", "--run", str(tmp_path / "run")]
    process = subprocess.Popen(
        [COMMAND, *args], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    begun = tmp_path / "run/train/arabiangpt-finetuned-s0/_trainer/job.txt"
    while not begun.exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1)  # the workers notice that they are alone
    assert not (tmp_path / "run/train/arabiangpt-finetuned-s0/model.safetensors").exists()
    done = command(*args)
    assert done.returncode == 0, done.stderr
    for p in sorted((run / "train").glob("*/model.safetensors")):
        assert digest_file(tmp_path / "run/train" / p.parent.name / p.name) == digest_file(p), (
            p.parent.name
        )


def test_ctrl_c_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        [COMMAND, "generate", "--profile", "offline", "--run", str(tmp_path / "run")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )

    def log():
        return next((tmp_path / "run").glob("raw/*/completions.jsonl"), None)

    while not (log() and log().stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on where it was" in said and "Traceback" not in said
    assert (
        load_jsonl(log(), Completion) and not (tmp_path / "run/complete/completions.jsonl").exists()
    )


def test_two_runs_in_one_folder_are_not_mixed(tmp_path):
    with RunFolder(tmp_path / "run").locked():
        done = command("generate", "--profile", "smoke", "--run", tmp_path / "run")
    assert done.returncode == 2 and f"in use by process {os.getpid()}" in done.stderr


def test_the_shipped_sample_is_what_the_generator_gives(tmp_path):
    small = {
        "n_scenarios": "20",
        "defect_rate": "0",
        "validation_share": "0.1",
        "test_share": "0.1",
    }
    reproduce(
        load_profile("offline", overrides=small), tmp_path, until="split", say=lambda line: None
    )
    for made, shipped in (
        ("complete/completions.jsonl", "completions.jsonl"),
        ("check/conversations.jsonl", "conversations.jsonl"),
    ):
        assert (tmp_path / made).read_bytes() == data_path("sample", shipped).read_bytes(), (
            f"{shipped} is old; see data/sample/README.md"
        )
