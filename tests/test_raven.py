"""What RAVEN must do whatever it is given, and what a notebook cell cannot show: damage, other processes, properties over many texts."""
import json
import multiprocessing
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog import raven as rv
from arabic_dialog.core import UserError
from arabic_dialog.encoders import Encoder, VectorFile, load_encoder
from arabic_dialog.spoiling import RUNGS, cases, places, sample_conversations, spoil

ARABIC = st.text("ابتثجحخدذرزسشصضطظعغفقكلمنهوي ،.؟!\u064b\u200f😀aZ1\n", max_size=200)


@pytest.fixture(scope="module")
def raven():
    return rv.Raven(load_encoder())


@settings(max_examples=60, deadline=None)
@given(history=st.lists(ARABIC, max_size=4), reply=ARABIC)
def test_every_part_is_between_0_and_1(raven, history, reply):
    for part, value in raven.parts([(history, reply)]).items():
        assert np.isfinite(value[0]) and 0 <= value[0] <= 1, part


def test_a_score_does_not_depend_on_the_batch(raven):
    items = [(h, r) for _, _, h, r in cases(sample_conversations(12, "test"))]
    together = raven.score(items).raven.to_numpy()
    shuffled = random.Random(0).sample(range(len(items)), len(items))
    other = raven.score([items[k] for k in shuffled], batch_size=5).raven.to_numpy()
    assert np.allclose(other, together[shuffled], atol=1e-4)


def test_each_rung_is_told_apart(raven):
    """A little below the design's targets, for these are few conversations; the notebook has the numbers for many."""
    table = rv.ladder(sample_conversations(40, "test", seed=7), raven).raven
    least = {"off-topic": .95, "other country": .85, "copied question": .99, "self-repetition": .97, "gibberish": .98, "English": .98,
             "all-purpose": .94, "truncated": .82, "shuffled turns": .6}
    assert {k: v for k, v in least.items() if table[k] < v} == {}


def test_the_shipped_calibration_is_the_documented_one():
    """Its letter sequences and its numbers of conversations are those of the documented call; the curves follow from them."""
    encoder = load_encoder()
    shipped = rv.load_calibration(encoder)
    assert shipped.made["conversations"] == 800 and shipped.made["from"] == "sample_conversations(800, 'calibration')"
    for signal, (low, high) in shipped.curves.items():
        assert (low > high) == (signal in ("generic", "copied", "repeated")), signal
    assert set(shipped.curves) == set(rv.SIGNALS) and len(shipped.judge["axes"]) == 32 and len(shipped.judge["axes"][0]) == encoder.width


def test_another_encoder_can_be_calibrated():
    encoder = load_encoder("ngrams")
    calibration = rv.calibrate(sample_conversations(150, "calibration"), encoder)
    table = rv.ladder(sample_conversations(25, "test"), rv.Raven(encoder, calibration), rungs=["off-topic", "copied question", "English"])
    assert table.raven["off-topic"] > .8 and table.raven[["copied question", "English"]].min() > .95


@pytest.mark.parametrize("change, said", [({"version": "raven-0"}, "raven-0"), ({"encoder": "use-multilingual-00000000"}, "00000000"), ({"extra": 1}, "extra")])
def test_a_calibration_for_something_else_is_refused(tmp_path, monkeypatch, change, said):
    encoder = load_encoder()
    data = json.loads(rv.calibration_path(encoder).read_text(encoding="utf-8")) | change
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setattr(rv, "calibration_path", lambda encoder: path)
    with pytest.raises(UserError, match=said):
        rv.load_calibration(encoder)


def test_too_few_conversations_do_not_make_a_calibration():
    with pytest.raises(UserError, match="too few"):
        rv.calibrate(sample_conversations(3, "calibration"), load_encoder("ngrams"))


@pytest.mark.parametrize("rung", RUNGS)
def test_spoiling_is_seeded_and_changes_something(rung):
    pool = cases(sample_conversations(20, "test"))
    first, second = ([spoil(rung, c, pool, random.Random(k)) for k, c in enumerate(pool)] for _ in range(2))
    assert first == second
    made = [(s, c) for s, c in zip(first, pool) if s]
    assert made
    changed = [s for s, c in made if s != (c[2], c[3])]
    assert len(changed) == len(made) or rung == "dialect" and len(changed) > len(made) / 2


def test_a_moved_reply_no_longer_names_its_country():
    pool = cases(sample_conversations(60, "test"))
    moved = [(c, s) for k, c in enumerate(pool) if (s := spoil("other country", c, pool, random.Random(k)))]
    left = [c for c, s in moved if any(p == {c[0].scenario.country} for p in places(s[1]))]
    assert len(left) < len(moved) / 20


def _store(args):
    path, start = args
    file = VectorFile(path, 4)
    for k in range(start, start + 50):
        file.put({f"نص {k}": np.full(4, k, np.float32)})


def test_processes_share_a_cache_of_vectors(tmp_path):
    path = tmp_path / "v.sqlite"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_store, [(path, 0), (path, 50)])
    found = VectorFile(path, 4).get([f"نص {k}" for k in range(100)])
    assert len(found) == 100 and all(v[0] == int(t.split()[1]) for t, v in found.items())


@pytest.mark.parametrize("cut", [0, 1, 100, 5000])
def test_a_torn_cache_loses_vectors_and_nothing_else(tmp_path, cut):
    calls = []

    def encode(texts):
        calls.extend(texts)
        return np.array([[len(t), 1.0, 2.0] for t in texts])

    texts = [f"جملة رقم {k}" for k in range(200)]
    expected = Encoder("toy", 3, encode, "0", tmp_path).encode(texts)
    path = tmp_path / "toy-0.sqlite"
    path.write_bytes(path.read_bytes()[:cut])
    calls.clear()
    assert (Encoder("toy", 3, encode, "0", tmp_path).encode(texts) == expected).all()
    assert calls


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cache of vectors"):
        load_encoder("ngrams", cache_dir=tmp_path / "file")


def test_memory_of_an_encoder_is_bounded():
    encoder = Encoder("toy", 2, lambda texts: np.ones((len(texts), 2)), keep=10)
    encoder.encode([f"نص {k}" for k in range(100)])
    assert len(encoder._memory) == 10 and len(encoder.encode([f"نص {k}" for k in range(30)])) == 30
