"""The formula of memory against every tensor that is really made, and what follows from it."""

import tempfile
from collections import deque

import pytest
import torch
import transformers

from arabic_dialog.core.hardware import HARDWARE
from arabic_dialog.core.memory import (
    MemoryUse,
    TrainingMode,
    decoding_memory,
    fitting_conversations,
    fitting_rows,
    memory_meter,
    trained_parameters,
    training_memory,
)
from arabic_dialog.core.records import Sampling
from arabic_dialog.finetuning.finetune import Material, fit
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.finetuning.trainer import Training
from arabic_dialog.models.decoding import Pool, Row
from arabic_dialog.models.loading import config_class, load_checkpoints, model_facts, new_model

JAIS = model_facts(load_checkpoints()["inceptionai/jais-13b-chat"])


def gpt(kind, vocabulary, layers=2, width=128):
    size = {"n_embd": width, "n_layer": layers, "n_head": 4, "n_positions": 512}
    inner = {"n_inner": 8 * width // 3} if kind == "jais" else {}
    return {"model_type": kind, "vocab_size": vocabulary, **size, **inner}


def grouped(kind, vocabulary):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    size = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2}
    return {
        "model_type": kind,
        "vocab_size": vocabulary,
        "max_position_embeddings": 512,
        **size,
        **heads,
    }


WRITING = [  # config, rows, tokens of a prompt, new tokens, dtype
    (gpt("gpt2", 600), 16, 100, 8, "float32"),
    (gpt("gpt2", 600, layers=8), 8, 20, 60, "float32"),  # the cache is what counts
    (gpt("aragpt2", 600), 8, 200, 8, "float32"),
    (gpt("jais", 600), 16, 100, 8, "float32"),
    (gpt("jais", 20_000), 16, 20, 8, "bfloat16"),  # the vocabulary is what counts
    (gpt("gpt2", 20_000), 16, 20, 8, "float32"),
    (grouped("qwen3", 600), 16, 100, 8, "float32"),
    (grouped("qwen3", 20_000), 16, 20, 8, "float32"),
    (grouped("llama", 600), 8, 100, 40, "bfloat16"),
]


@pytest.mark.parametrize("config, rows, prompt, new, dtype", WRITING)
def test_writing_takes_what_the_formula_says(config, rows, prompt, new, dtype):
    typed = config_class(config).from_dict(config)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(typed).to(getattr(torch, dtype)).eval()
    sampling = Sampling(0.5, 1.0, 1.2, max_new_tokens=new)
    # each its own: of equal prompts one is read
    prompts = ([5 + i] + [5] * (prompt - 1) for i in range(rows + 1))
    waiting = deque(Row(i, tokens, (0, i)) for i, tokens in enumerate(prompts))
    with memory_meter(model.parameters()) as meter:
        pool = Pool(model, rows, sampling, prompt, [-1])
        while waiting or pool.live:
            pool.advance(waiting)
    facts = model_facts(typed)
    facts = type(facts)(**{**vars(facts), "number_bytes": model.dtype.itemsize})
    said = decoding_memory(facts, rows, prompt + new, prompt)
    assert meter.peak == pytest.approx(said.total, rel=0.15)
    assert pool.memory() == pytest.approx(meter.peak, rel=0.15)


TOKENIZER = train_tokenizer(["الخبز في مصر والشاي في المغرب والقهوة في اليمن " * 5], 1000)
LEARNING = [  # kind, layers, conversations at once, tokens, vocabulary, precision, share trained
    ("gpt2", 2, 8, 200, 0, "float32", 1),
    ("gpt2", 6, 4, 300, 0, "float32", 0.5),
    ("gpt2", 2, 8, 200, 8000, "float32", 1),
    ("aragpt2", 4, 8, 100, 0, "float32", 1),
    ("jais", 4, 4, 200, 0, "float32", 1),
    ("gpt2", 4, 8, 200, 0, "bfloat16", 1),
]


@pytest.mark.parametrize("kind, layers, size, length, vocabulary, precision, share", LEARNING)
def test_learning_takes_what_the_formula_says(
    kind, layers, size, length, vocabulary, precision, share
):
    n_untrained = round(length * (1 - share))
    ids = [7 + i % 50 for i in range(length)]
    row = {"input_ids": ids, "labels": [-100] * n_untrained + ids[n_untrained:]}

    def make(**how):
        model = new_model(kind, TOKENIZER, layers, 128, 4, 512, seed=0)
        if vocabulary:
            model.resize_token_embeddings(vocabulary)
        return model

    how = Training(2, 1e-4, size, 0, micro_batch_size=size, n_evaluations=1, precision=precision)
    with tempfile.TemporaryDirectory() as folder, memory_meter() as meter:
        fit(Material(make, TOKENIZER, [row] * size * 2, [row] * size), folder, how)
    said = training_memory(
        model_facts(make().config), size, length, TrainingMode("full", precision)
    )
    assert (
        meter.peak == pytest.approx(said.total, rel=0.15) if share == 1 else meter.peak < said.total
    )


def test_sixty_four_conversations_of_jais_take_more_than_an_h100_has():
    use = decoding_memory(JAIS, 64, 300 + 1024, 300)
    assert use.weights == 26_041_623_920 and use.texts == 64 * 1489 * 819_200
    assert 104e9 < use.total < 106e9
    free = HARDWARE["h100"].memory - JAIS.weight_bytes
    assert fitting_rows(JAIS, 64, 1324, 300, free) == 32
    assert 32 < fitting_rows(JAIS, 0, 1324, 300, free) < 64


@pytest.mark.parametrize("wanted", [0, 1, 7, 64])
@pytest.mark.parametrize("free", [0, 1e8, 2e9, 2e10, 1e12])
def test_what_fits_fits_and_one_more_does_not(wanted, free):
    rows = fitting_rows(JAIS, wanted, 1324, 300, free)

    def beside(n: int) -> float:
        use: MemoryUse = decoding_memory(JAIS, n, 1324, 300)
        return use.texts + use.work

    assert rows <= (wanted or 256)
    assert not rows or beside(rows) <= 0.95 * free
    if wanted == 0 and 1 < rows < 256:
        assert beside(rows) <= 0.85 * free < beside(rows + 1)
    if not rows:
        assert beside(1) > 0.95 * free


def test_conversations_at_once_divide_the_batch_and_are_none_where_the_weights_do_not_fit():
    arabiangpt = model_facts(load_checkpoints()["riotu-lab/ArabianGPT-08B-V2"])
    on_gpu = TrainingMode("full", "bfloat16", recomputed=True)
    sizes = [16, 8, 4, 2, 1]
    found = [
        fitting_conversations(arabiangpt, sizes, 1024, gb * 1e9, on_gpu) for gb in (80, 24, 12)
    ]
    assert found == [16, 16, 0]
    lora = TrainingMode("lora", "bfloat16", recomputed=True)
    assert fitting_conversations(arabiangpt, sizes, 1024, 12e9, lora) in sizes
    assert trained_parameters(arabiangpt, lora) < 0.03 * arabiangpt.parameters
