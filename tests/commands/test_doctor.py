"A checkpoint examined from outside: the published figures, and what it must survive"

import json
import pytest, torch

from arabic_dialog.models.loading import ModelFacts, new_model
from arabic_dialog.core.records import UserError
from arabic_dialog.commands.doctor import Gpu, Machine, diagnose, fits, needs
from arabic_dialog.commands.doctor import print_diagnosis, weight_files
from arabic_dialog.finetuning.students import train_tokenizer

# The facts sheet: parameters, GB in bfloat16, bytes of keys and values a token,
# GFLOP a token forward and in training, context
FACTS = {
    "inceptionai/jais-13b-chat": (
        "13,020,811,960",
        "26.04 GB",
        "819,200",
        "26.04 GFLOP",
        "78.1",
        "2,048",
    ),
    "aubmindlab/aragpt2-mega": (
        "1,459,792,896",
        "2.92 GB",
        "294,912",
        "2.92 GFLOP",
        "8.75 GFLOP",
        "1,024",
    ),
    "riotu-lab/ArabianGPT-08B-V2": (
        "791,6",
        "1.58 GB",
        "184,320",
        "1.58 GFLOP",
        "4.74 GFLOP",
        "1,024",
    ),
}


@pytest.fixture
def folder(tmp_path):
    tokenizer = train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)
    new_model("gpt2", tokenizer, 2, 16, 2, 32, seed=0).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("name", FACTS)
def test_published_figures(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = dict(diagnose(name).lines)
    parameters, weights, cache, forward, training, context = FACTS[name]
    assert (
        said["parameters"].startswith(parameters)
        and f"{weights} in bfloat16" in said["weights"]
        and said["keys and values"].startswith(cache)
    )
    assert (
        said["compute"].startswith(forward)
        and training in said["compute"]
        and said["context"].startswith(context)
    )
    assert "not read" in said["known from"] and (
        name.startswith("riotu") or said["special tokens"] == "bos id 0"
    )


def test_a_folder_is_read_without_its_weights(folder, capsys):
    (folder / "model.safetensors").write_bytes(b"no weights at all")  # loading would fail
    print_diagnosis(folder)
    said = capsys.readouterr().out
    assert (
        "this folder" in said
        and "safetensors, 1 file" in said
        and "<|assistant|>" in said
        and "fine-tune every weight" in said
    )


def test_text_of_a_checkpoint_cannot_command_the_terminal(folder, capsys):
    p = folder / "tokenizer_config.json"
    data = json.loads(p.read_text(encoding="utf-8"))
    p.write_text(
        json.dumps(data | {"chat_template": "\x1b]0;owned\x07{{ messages[0]['content'] }}"}),
        encoding="utf-8",
    )
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    print_diagnosis(folder)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x07" not in said and "owned" in said


def test_a_template_that_fails_and_a_missing_tokenizer_are_said(folder, capsys):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no') }}", encoding="utf-8")
    print_diagnosis(folder)
    assert "its template fails: no" in capsys.readouterr().out
    for f in folder.glob("*tokenizer*"):
        f.unlink()
    print_diagnosis(folder)
    assert "unknown without its tokenizer" in capsys.readouterr().out


def test_shards_are_counted_and_code_is_refused(folder):
    (folder / "model.safetensors").unlink()
    for i in (1, 2):
        torch.save({"x": torch.zeros(3)}, folder / f"pytorch_model-0000{i}-of-00002.bin")
    assert [f.suffix for f in weight_files(folder)] == [".bin", ".bin"]
    (folder / "config.json").write_text(
        json.dumps({"model_type": "mystery", "auto_map": {"AutoConfig": "x.Y"}})
    )
    with pytest.raises(UserError, match="never run here"):
        diagnose(folder)


def test_where_it_fits():
    facts = ModelFacts(parameters=5, multiplied=5, cached=1, layers=1, context=1)
    least, more, most = needs(facts).values()
    assert least < more < most
    machine = Machine(memory=(more + most) // 2, gpus=(Gpu("a", (least + more) // 2),))
    assert [fits(n, machine) for n in (least, more, most)] == [
        "on the GPU",
        "in memory, on the processor",
        "not on this machine",
    ]
