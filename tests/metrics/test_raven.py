"""What RAVEN must do whatever it is given: damage, other processes, properties over many texts."""

import json
import multiprocessing
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.metrics import raven as rv
from arabic_dialog.core.files import digest
from arabic_dialog.core.records import UserError
from arabic_dialog.models.encoders import Encoder, VectorFile, load_encoder
from arabic_dialog.metrics.spoiling import RUNGS, cases, places, sample_conversations, spoil

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
    items = [(c.history, c.reply) for c in cases(sample_conversations(12, "test"))]
    together = raven.score(items).raven.to_numpy()
    shuffled = random.Random(0).sample(range(len(items)), len(items))
    other = raven.score([items[k] for k in shuffled], batch_size=5).raven.to_numpy()
    assert np.allclose(other, together[shuffled], atol=1e-4)


def test_each_rung_is_told_apart(raven):
    table = rv.ladder(sample_conversations(45, "test", seed=7), raven)
    least = {
        "off-topic": 0.97,
        "other country": 0.85,
        "copied question": 0.99,
        "self-repetition": 0.98,
        "gibberish": 0.99,
        "English": 0.98,
        "all-purpose": 0.95,
        "truncated": 0.85,
        "shuffled turns": 0.7,
    }
    assert {k: v for k, v in least.items() if table.raven[k] < v} == {}
    assert abs(table.lost["dialect"]) <= 0.05


def test_the_shipped_calibration_is_the_documented_one():
    """Its conversations are those of the documented call; the curves follow from them."""
    encoder = load_encoder()
    shipped = rv.load_calibration(encoder)
    assert (
        shipped.made.conversations == 2000
        and shipped.made.source == "sample_conversations(2000, 'calibration'), people_chatting()"
    )
    lines = sample_conversations(2000, "calibration")
    assert shipped.made.data == digest([[t.text for t in c.turns] for c in lines]), (
        "the grammar has changed: make the calibration again (nbs/metrics/06_raven.ipynb)"
    )
    for signal, curve in shipped.curves.items():
        less_is_better = signal in ("generic", "copied", "repeated")
        assert (curve.low > curve.high) == less_is_better, signal
    assert (
        set(shipped.curves) == {*rv.CALIBRATED, "agreement"}
        and shipped.scorer.width == encoder.width
    )


def test_another_encoder_can_be_calibrated():
    encoder = load_encoder("ngrams")
    calibration = rv.calibrate(sample_conversations(100, "calibration"), encoder, steps=40)
    with pytest.raises(UserError, match="ngrams"):
        rv.Raven(load_encoder(), calibration)
    table = rv.ladder(
        sample_conversations(25, "test"),
        rv.Raven(encoder, calibration),
        rungs=["off-topic", "copied question", "English"],
    )
    assert (
        table.raven["off-topic"] > 0.8 and table.raven[["copied question", "English"]].min() > 0.9
    )


@pytest.mark.parametrize(
    "change, said",
    [
        ({"version": "raven-1"}, "raven-1"),
        ({"encoder": "use-multilingual-00000000"}, "00000000"),
        ({"extra": 1}, "extra"),
        ({"judge": {}}, "judge cannot be read"),
        ({"curves": {}}, "curves cannot be read"),
        ({"curves": {"answers": [1]}}, "curves cannot be read"),
    ],
)
def test_a_calibration_for_something_else_is_refused(tmp_path, monkeypatch, change, said):
    encoder = load_encoder()
    data = json.loads(rv.calibration_path(encoder).read_text(encoding="utf-8")) | change
    path = tmp_path / "c.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setattr(rv, "calibration_path", lambda encoder: path)
    with pytest.raises(UserError, match=said):
        rv.load_calibration(encoder)


def test_a_calibration_that_is_loaded_and_saved_is_the_same_file(tmp_path, monkeypatch):
    encoder = load_encoder()
    shipped, path = rv.calibration_path(encoder), tmp_path / "c.json"
    calibration = rv.load_calibration(encoder)
    monkeypatch.setattr(rv, "calibration_path", lambda encoder: path)
    assert rv.save_calibration(calibration, encoder) == path
    assert path.read_bytes() == shipped.read_bytes()


def test_a_torn_calibration_is_named(tmp_path, monkeypatch):
    path = tmp_path / "raven-2_use-multilingual.json"
    path.write_text('{"version": "raven-2", "enc', encoding="utf-8")
    monkeypatch.setattr(rv, "calibration_path", lambda encoder: path)
    with pytest.raises(UserError, match="torn.*arabic-dialog calibrate"):
        rv.load_calibration(load_encoder())


def test_an_encoder_of_another_width_is_refused():
    """Same name, same fingerprint, other width: only the width can tell."""
    real = load_encoder()
    other = Encoder(real.name, 8, lambda texts: np.ones((len(texts), 8)), real.fingerprint)
    with pytest.raises(UserError, match="vectors of 512 numbers.*have 8.*calibrate"):
        rv.Raven(other)


def test_a_missing_calibration_says_how_to_make_one():
    with pytest.raises(UserError, match="arabic-dialog calibrate other"):
        rv.Raven(Encoder("other", 2, lambda texts: np.ones((len(texts), 2))))


def test_a_reference_adds_a_form_and_changes_nothing_else(raven):
    items = [(c.history, c.reply) for c in cases(sample_conversations(8, "test"))]
    plain, with_true = raven.score(items), raven.score(items, references=[r for _, r in items])
    other = raven.score(items, references=["تقلع الطائرة في السابعة صباحًا."] * len(items))
    assert (with_true[plain.columns] == plain).all(axis=None) and with_true.agreement.min() > 0.9
    assert (
        with_true.raven_with_reference > other.raven_with_reference
    ).all() and other.agreement.median() < 0.3
    with pytest.raises(UserError, match="1 references"):
        raven.score(items, references=["نص"])
    assert list(raven.score([], references=[]).columns[-2:]) == [
        "agreement",
        "raven_with_reference",
    ]


ODD = {
    "empty": "",
    "emoji": "😀",
    "marks": "\u064b\u064c\u0650",
    "spaces": " \n\t",
    "long": "كلمة " * 10_000,
    "controls": "\x00\u202e\u200f",
    "loop": "هه" * 5000,
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize(
    "history", [[], [""], ["😀"], ["ما رأيك في القهوة؟"] * 50, ["كلمة " * 10_000]]
)
def test_replies_and_histories_that_are_hardly_any(raven, name, history):
    p = {k: float(v[0]) for k, v in raven.parts([(history, ODD[name])]).items()}
    assert all(0 <= v <= 1 for v in p.values())
    if name in ("empty", "emoji", "marks", "spaces", "controls"):
        assert p["raven"] == 0
    assert len(raven.explain(history, ODD[name])) == len(rv.PARTS) + 1


def test_an_explanation_names_what_was_spoiled(raven):
    history, good = (
        ["ما أشهر أنواع الخبز في مصر؟"],
        "الخبز البلدي هو الأشهر في مصر، ويُخبز من القمح الكامل في أفران ساخنة جدًا.",
    )
    said = {
        "copies an earlier turn": history[0],
        "repeats itself": "الخبز البلدي " * 8,
        "not in Arabic script": "Baladi bread is the best known.",
        "breaks off": "الخبز البلدي هو الأشهر في مصر ويُخبز من",
        "names a country that": "الأرز الأبيض هو الأشهر في اليابان.",
        "far from the last turn": "تقلع الطائرة في السابعة صباحًا.",
    }
    for why, reply in said.items():
        table = raven.explain(history, reply).set_index("part")["why it is low"]
        assert why in " ".join(table[list(rv.PARTS)]) and table["raven"].startswith("most by"), why
    assert raven.explain(history, good).set_index("part")["why it is low"]["raven"] == ""


def test_memory_does_not_grow_with_the_number_of_turns(raven):
    import tracemalloc

    items = [(c.history, c.reply) for c in cases(sample_conversations(60, "test"))]
    raven.score(items)

    def peak(n):
        many = items * n
        tracemalloc.start()
        raven.score(many, batch_size=100)
        out = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return out

    few, many = peak(2), peak(12)
    assert many < few + 12 * len(items) * 200  # a row of numbers for each turn, and nothing else


def test_too_few_conversations_do_not_make_a_calibration():
    with pytest.raises(UserError, match="too few"):
        rv.calibrate(sample_conversations(3, "calibration"), load_encoder("ngrams"))


@pytest.mark.parametrize("rung", RUNGS)
def test_spoiling_is_seeded_and_changes_something(rung):
    pool = cases(sample_conversations(20, "test"))
    first, second = (
        [spoil(rung, c, pool, random.Random(k)) for k, c in enumerate(pool)] for _ in range(2)
    )
    assert first == second
    made = [(s, c) for s, c in zip(first, pool, strict=True) if s]
    assert made
    changed = [s for s, c in made if s != (c.history, c.reply)]
    assert len(changed) == len(made) or rung == "dialect" and len(changed) > len(made) / 2


def test_a_moved_reply_no_longer_names_its_country():
    pool = cases(sample_conversations(60, "test"))
    moved = [
        (c, s)
        for k, c in enumerate(pool)
        if (s := spoil("other country", c, pool, random.Random(k)))
    ]
    left = [c for c, s in moved if any(p == {c.scenario.country} for p in places(s[1]))]
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


def test_a_killed_writer_leaves_a_sound_cache(tmp_path):
    path, context = tmp_path / "v.sqlite", multiprocessing.get_context("spawn")
    VectorFile(path, 4).put({"قديم": np.ones(4, np.float32)})
    writer = context.Process(target=_store, args=((path, 0),))
    writer.start()
    while not VectorFile(path, 4).get(["نص 3"]) and writer.is_alive():
        pass
    writer.kill()
    writer.join()
    found = VectorFile(path, 4).get(["قديم", *(f"نص {k}" for k in range(50))])
    assert (
        found["قديم"][0] == 1
        and len(found) >= 2
        and all(v[0] == int(t.split()[1]) for t, v in found.items() if t != "قديم")
    )
    VectorFile(path, 4).put({"جديد": np.ones(4, np.float32)})
    assert "جديد" in VectorFile(path, 4).get(["جديد"])


def test_a_cache_damaged_in_use_is_named(tmp_path):
    file = VectorFile(tmp_path / "v.sqlite", 4)
    (tmp_path / "v.sqlite").write_bytes(b"torn" * 100)
    with pytest.raises(UserError, match="delete the file"):
        file.get(["نص"])


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    """A model of sentence-transformers, tiny and untrained, made here."""
    st_ = pytest.importorskip("sentence_transformers")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    from sentence_transformers.sentence_transformer import modules

    folder = tmp_path_factory.mktemp("model") / "tiny bert"
    letters = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"ابتثجحخدذرزسشصضطظعغفقكلمنهويةىأإآءئؤ",
    ]
    tokens = Tokenizer(
        models.WordPiece(
            {t: k for k, t in enumerate([*letters, *("##" + t for t in letters[5:])])},
            unk_token="[UNK]",
        )
    )
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    bert = folder.parent / "bert"
    BertModel(
        BertConfig(
            vocab_size=len(letters) * 2,
            hidden_size=24,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    ).save_pretrained(bert)
    PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    ).save_pretrained(bert)
    word = modules.Transformer(str(bert))
    st_.SentenceTransformer(
        modules=[word, modules.Pooling(word.get_embedding_dimension())], device="cpu"
    ).save(str(folder))
    return folder


def test_a_model_of_sentence_transformers_by_its_folder(sentence_model, tmp_path):
    encoder = load_encoder(str(sentence_model), cache_dir=tmp_path)
    v = encoder.encode(["قهوة الصباح", "", "قهوة الصباح", "شاي"])
    assert (
        encoder.width == 24
        and np.allclose(np.linalg.norm(v, axis=1), [1, 0, 1, 1], atol=1e-5)
        and (v[0] == v[2]).all()
    )
    again = load_encoder(str(sentence_model), cache_dir=tmp_path)
    again._encode = None  # would fail if asked
    assert again.fingerprint == encoder.fingerprint and (again.encode(["شاي"]) == v[3:]).all()
    with pytest.raises(UserError, match="no raven-2 calibration for the encoder tiny bert"):
        rv.Raven(encoder)
    calibration = rv.calibrate(sample_conversations(100, "calibration"), encoder, steps=30)
    assert (
        rv.Raven(encoder, calibration)
        .score([(["ما رأيك في القهوة؟"], "القهوة لذيذة.")])
        .raven.between(0, 1)
        .all()
    )


def test_other_weights_are_another_encoder(sentence_model, tmp_path):
    import shutil

    copy = tmp_path / sentence_model.name
    shutil.copytree(sentence_model, copy)
    with next(copy.rglob("*.safetensors")).open("r+b") as f:
        f.seek(-4, 2)
        f.write(b"\0\0\0\0")
    one, other = load_encoder(str(sentence_model)), load_encoder(str(copy))
    assert one.name == other.name and one.fingerprint != other.fingerprint


def test_code_that_comes_with_a_model_is_not_run(sentence_model, tmp_path):
    import shutil

    copy = tmp_path / "foreign"
    shutil.copytree(sentence_model, copy)
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Encoder: pass\n")
    parts = json.loads((copy / "modules.json").read_text())
    parts[1]["type"] = "own.Encoder"
    (copy / "modules.json").write_text(json.dumps(parts))
    with pytest.raises(UserError, match="is not run"):
        load_encoder(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name, said",
    [("bert", "no encoder"), ("nobody/nothing", "neither a folder nor"), (".", "modules.json")],
)
def test_encoders_that_are_none(name, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=said):
        load_encoder(name)


def test_an_encoder_whose_numbers_are_no_numbers():
    with pytest.raises(UserError, match="not finite"):
        Encoder("toy", 2, lambda texts: np.full((len(texts), 2), np.nan)).encode(["نص"])


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cache of vectors"):
        load_encoder("ngrams", cache_dir=tmp_path / "file")


def test_memory_of_an_encoder_is_bounded():
    encoder = Encoder("toy", 2, lambda texts: np.ones((len(texts), 2)), keep=10)
    encoder.encode([f"نص {k}" for k in range(100)])
    assert len(encoder._memory) == 10 and len(encoder.encode([f"نص {k}" for k in range(30)])) == 30


def test_chats_between_people_are_read_from_their_file_alone(tmp_path):
    from arabic_dialog.metrics.next_turn import people_chatting

    said = [
        [{"text": "Hello"}],
        [{"text": " hi "}, {"text": "how are you?"}],
        [{"text": ""}],
        [{"text": "fine"}],
        [{"text": "x" * 900}],
    ]
    (tmp_path / "dataset.json").write_text(
        json.dumps({"b": {"messages": said}, "a": {"messages": said[:2]}})
    )
    chats = people_chatting(tmp_path / "dataset.json")
    assert chats == [["Hello", "hi how are you?", "fine", "x" * 400]]
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="no dataset.json"):
        people_chatting(tmp_path / "dataset.json")
    with pytest.raises(UserError, match="no dataset.json"):
        people_chatting(tmp_path / "nowhere.json")
