"""Ray's actors write what one process writes, also when one is killed"""

import sys, time
from pathlib import Path

import pytest

from arabic_dialog.generation.completing import make_engine
from arabic_dialog.models.engines import RayEngine, load_engine, start_ray
from arabic_dialog.core.records import Request, Sampling, UserError
from arabic_dialog.core.settings import load_profile

SAMPLING = Sampling(temperature=1.0, max_new_tokens=24)
REQUESTS = [Request(f"r{i}", "كلام " * (1 + i % 4) + str(i)) for i in range(48)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    from arabic_dialog.models.loading import new_model

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [r.prompt for r in REQUESTS],
        trainers.BpeTrainer(
            vocab_size=280,
            show_progress=False,
            special_tokens=["<|endoftext|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
    )
    path = str(tmp_path_factory.mktemp("model"))
    tokenizer.save_pretrained(path)
    new_model("gpt2", tokenizer, 2, 32, 2, 128, seed=0).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def alone(folder):
    return {
        c.scenario_id: c
        for c in load_engine(folder, None, "float32", 8).complete(REQUESTS, SAMPLING)
    }


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    assert start_ray(2)
    yield ray
    assert ray.is_initialized()  # the engine stops no Ray that was there before it
    ray.shutdown()


def workers():
    "Ray's processes that run our actors"
    import psutil

    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if "MapWorker(MapBatches(Actor))" in " ".join(p.info["cmdline"] or [])
    ]


def test_no_ray_no_checkpoint_no_actors(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="there is no checkpoint folder nowhere"):
        list(RayEngine("nowhere").complete(REQUESTS, SAMPLING))
    with pytest.raises(UserError, match=r"pip install 'arabic-dialog\[ray\]'"):
        list(RayEngine(folder).complete(REQUESTS, SAMPLING))
    with pytest.raises(UserError, match="actors is 0"):
        RayEngine(folder, actors=0)
    assert list(RayEngine(folder).complete([], SAMPLING)) == []


def test_a_profile_names_its_engine(folder):
    engine = make_engine(
        load_profile(
            "smoke",
            overrides={
                "engine": "ray",
                "generator": folder,
                "generator_dtype": "float32",
                "actors": "3",
                "generation_batch_size": "5",
            },
        )
    )
    assert (
        engine.values == (folder, None, "float32", 5)
        and engine.actors == 3
        and engine.name == Path(folder).name
    )
    with pytest.raises(UserError, match="not shown"):
        make_engine(
            load_profile(
                "smoke",
                overrides={
                    "engine": "openai",
                    "endpoints": "http://localhost/v1",
                    "endpoint_key": "sk-secret",
                },
            )
        )


def test_a_cluster_that_does_not_answer_is_named_at_once(folder, monkeypatch):
    ray = pytest.importorskip("ray")
    assert not ray.is_initialized()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    start = time.monotonic()
    with pytest.raises(UserError, match="RAY_ADDRESS is 127.0.0.1:1, and no cluster answers"):
        list(RayEngine(folder).complete(REQUESTS, SAMPLING))
    assert time.monotonic() - start < 60  # Ray's own attempts take minutes


def test_two_actors_write_what_one_process_writes_although_one_is_killed(folder, alone, cluster):
    engine, done, killed = RayEngine(folder, None, "float32", 2, actors=2, block_size=2), [], None
    for c in engine.complete(REQUESTS, SAMPLING):
        done.append(c)
        if killed is None:
            early = engine.n_tokens
            killed = workers()[0]
            killed.kill()
    assert (
        len(done) == len(alone) and {c.scenario_id: c for c in done} == alone
    )  # nothing lost, nothing twice, nothing else
    assert (
        not killed.is_running() and 0 < early < engine.n_tokens / 4
    )  # the first block came long before the last


def test_what_an_actor_refuses_reaches_the_person_and_no_actor_is_left(folder, cluster):
    with pytest.raises(UserError, match="^the prompt of long has .* tokens"):
        list(
            RayEngine(folder, None, "float32", 2, actors=1, block_size=2).complete(
                [Request("long", "خبز " * 300), *REQUESTS], SAMPLING
            )
        )
    until = time.monotonic() + 30
    while workers() and time.monotonic() < until:
        time.sleep(0.1)
    assert not workers()
