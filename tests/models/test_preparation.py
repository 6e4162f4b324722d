"AraGPT2's text: each step worked by hand, both versions against plain `re`, and back for people."

import html
import json
import random
import re

import pytest
from published import make
from tokenizers import Regex, normalizers
from transformers import GPT2Tokenizer

from arabic_dialog.core.records import UserError
from arabic_dialog.finetuning.students import train_tokenizer
from arabic_dialog.models.aragpt2 import PREPARATIONS, preparation_steps, prepare_tokenizer
from arabic_dialog.models.tokenizers import load_tokenizer, preparation_of

NORMALIZERS = {
    kind: normalizers.Sequence(
        [normalizers.Replace(Regex(s.pattern), s.new) for s in preparation_steps(kind)]
    )
    for kind in PREPARATIONS
}


def prepared(text, kind):
    return NORMALIZERS[kind].normalize_str(text)


BOTH = {
    # entities are undone once
    "&quot;نعم&quot; &amp;lt;": '" نعم " lt ;',
    "أ&nbsp;ب&#1548;ج&#x60C;د": "أ ب ، ج ، د",
    # tashkeel U+064B to 0652 and tatweel, and no other mark
    "قَالَ مُحَمَّدٌ": "قال محمد",
    "جميـــل": "جميل",
    # links come before addresses, so that an address in Latin letters is a link
    "زر https://ar.wikipedia.org/wiki/مصر اليوم": "زر [رابط] مصر اليوم",
    "www.example.com": "[رابط]",
    "إلى omar@example.com": "إلى [رابط]",
    "إلى عمر@شركة.مصر غدا": "إلى [بريد] غدا",
    "شكرا @hala_1 لك": "شكرا [مستخدم] لك",
    # markup is what stands between < and >
    "سطر<br />آخر": "سطر آخر",
    "<b>مهم</b> جدا": "مهم جدا",
    # spaces around what is no letter, digit or bracket
    "نعم، (ربما)!": "نعم ، ( ربما ) !",
    "«قال»": "« قال »",
    "[نص]": "[نص]",
    "3.5": "3 . 5",
    # digits leave Arabic letters, and Latin letters keep them
    "5كغم": "5 كغم",
    "عام1995م": "عام 1995 م",
    "5kg": "5kg",
    "H2O": "H2O",
    # what is not in the vocabulary becomes a space
    "قهوة ☕ وشاي 🙂": "قهوة وشاي",
    "پاکستان": "ا ستان",
    "أ & ب": "أ ب",
    # spaces collapse, and a text of nothing is nothing
    "  كلمة \n\t أخرى  ": "كلمة أخرى",
    "🙂": "",
    " ": "",
    "": "",
}


@pytest.mark.parametrize("kind", PREPARATIONS)
def test_each_step_by_hand(kind):
    assert {text: prepared(text, kind) for text in BOTH} == BOTH


@pytest.mark.parametrize(
    "text, in_2020, now",
    [
        ("سنة ١٩٩٥", "سنة ١٩ ٩ ٥", "سنة 1995"),  # the fault of 2020
        ("٢٠ كتابا", "٢ ٠ كتابا", "20 كتابا"),
        ("٥ كتب", "٥ كتب", "5 كتب"),
        ("٢٠كغم", "٢ ٠ كغم", "20 كغم"),
        ("جميييييل", "جميييييل", "جمييل"),
        ("نعم!!!!", "نعم ! ! ! !", "نعم ! !"),
        ("1000000", "1000000", "1000000"),
        ("12/5", "12 5", "12 - 5"),
    ],
)
def test_what_the_versions_do_differently(text, in_2020, now):
    assert (prepared(text, "arabert-2020"), prepared(text, "arabert")) == (in_2020, now)


def restated(text, now):
    "The publishers' steps, as their code has them, with Python's own `re`"
    letters = "\u0621-\u063a\u0641-\u064a"
    text = re.sub("[\u064b-\u0652\u0640]", "", html.unescape(text))
    for link in (
        r"(http(s)?://.)?(www\.)?[-a-zA-Z0-9@:%._+~#=]{2,256}\.[a-z]{2,6}\b[-a-zA-Z0-9@:%_+.~#?&/=]*",
        *(r"https?://[a-zA-Z0-9_./~?=%&-]+", r"www[a-zA-Z0-9_?=%&/.~-]+", r"[a-zA-Z]+\.com"),
        *(r"(?=http)\S+", r"(?=www)\S+", "://"),
    ):
        text = re.sub(link, " [رابط] ", text)
    for address in (r"[\w-]+@([\w-]+\.)+[\w-]+", r"\S+@\S+"):
        text = re.sub(address, " [بريد] ", text)
    text = re.sub(r"@\w+", " [مستخدم] ", text)
    text = re.sub("</?[^>]+>", " ", text.replace("<br />", " "))
    if now:
        text = text.translate(str.maketrans("٠١٢٣٤٥٦٧٨٩", "0123456789"))
        text = re.sub(r"(\D)\1{2,}", r"\1\1", text)
    text = re.sub(rf"([^0-9{letters}\u0660-\u0669a-zA-Z\[\]])", r" \1 ", text)
    text = re.sub(rf"(\d+)([{letters}\u0660-\u066c]+)", r" \1 \2 ", text)
    text = re.sub(rf"([{letters}\u0660-\u066c]+)(\d+)", r" \1 \2 ", text)
    if now:
        text = text.replace("/", "-")
    kept = r"0-9\u0621-\u063a\u0640-\u066c\u0671-\u0674a-zA-Z\[\]!\"#$%'()*+,.:;<=·>?@\\^_`{|}~—"
    return " ".join(re.sub(rf"[^{kept}٪’،؟୍“؛”ۚ»\s«–…‘-]", " ", text).split())


CHARACTERS = "ابتكغيءَُّـ    ,،.؟!\"'«»()[]{}<>/-_=+@#;:٪٫*351abپچ🙂…—\n\u00a0"
WORDS = ["http://a.com/x?y=1", "www.site.org", "omar@mail.com", "@هالة", "حسن@شركة.كوم", "<b>"]
WORDS += ["</b>", "<br />", "&amp;", "&lt;", "&#39;", "&nbsp;", "1995", "هههههه", "5كغم", "..."]


@pytest.mark.parametrize("kind", PREPARATIONS)
def test_it_is_what_the_publishers_code_does(kind):
    rng = random.Random(0)
    for n in range(3000):
        pieces = [*WORDS, *CHARACTERS] if n % 2 else CHARACTERS
        text = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 20)))
        assert prepared(text, kind) == restated(text, kind == "arabert"), repr(text)
    for _ in range(300):  # numbers in Arabic-Indic digits, alone or beside a word
        digits = "".join(rng.choice("٠١٢٣٤٥٦٧٨٩") for _ in range(rng.randint(1, 6)))
        for text in (digits, f"{digits}كغم", f"سنة{digits}", f"({digits})، {digits}%"):
            assert prepared(text, kind) == restated(text, kind == "arabert"), repr(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "An AraGPT2 as it is published, and with its name"
    path = tmp_path_factory.mktemp("models") / "aragpt2-mega"
    bare = train_tokenizer(["ما أشهر أنواع الخبز في مصر؟"] * 3, 300)
    bare.chat_template = None
    make(path, "aragpt2", bare)
    bpe = json.loads(bare._tokenizer.to_str())["model"]
    for file in path.glob("tokenizer*"):
        file.unlink()
    (path / "vocab.json").write_text(json.dumps(bpe["vocab"]))
    merges = "\n".join(map(" ".join, bpe["merges"]))
    (path / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    (path / "tokenizer_config.json").write_text('{"add_prefix_space": false}')  # as released
    return path


SENTENCES = [
    "قال: «مرحبا بك» (أهلا)، ثم مضى؛ أليس كذلك؟",
    'سأل: "كم السعر؟" فأجاب: "خمسة"، ثم قال "شكرا".',
    "السعر 3.5 دينار، أي 1,250 فلسا، عند 10:30.",
    "البريد [رابط] والحساب [مستخدم].",
    "نعم! حقا؟ لا… ربما.",
    "درجة 25% وأكثر، {نص} ‘مقتبس’ “آخر”.",
    "أ=ب+ج و a_b و س<ص.",
]


@pytest.mark.parametrize("kind", PREPARATIONS)
def test_people_read_what_they_wrote(folder, kind):
    tokenizer = load_tokenizer(folder, preparation=kind)
    for text in SENTENCES:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    year = tokenizer.decode(tokenizer("عام ١٩٩٥، عام ٢٠.")["input_ids"])
    assert year == ("عام ١٩٩٥، عام ٢٠." if kind == "arabert-2020" else "عام 1995، عام 20.")


@pytest.mark.parametrize(
    "written, read",
    [
        ('قال " نعم " و " لا " ثم "', 'قال "نعم" و "لا" ثم "'),
        ("هو ' ذا ' و ` ذاك ` و — تلك —", "هو 'ذا' و `ذاك` و —تلك—"),
        ("سنة 1990 - 2000 = عشر", "سنة 1990-2000=عشر"),
        ("a @ b _ c", "a@b_c"),
        ("- بند أول", "- بند أول"),
        ("انتهى.وبدأ", "انتهى. وبدأ"),
        ("3 . 5 و 1 , 250 و 7 : 15", "3.5 و 1,250 و 7:15"),
        ("لا . . . ربما", "لا... ربما"),
    ],
)
def test_what_a_model_writes_is_put_as_people_do(folder, written, read):
    tokenizer = load_tokenizer(folder)
    bare = load_tokenizer(folder, preparation="")
    assert tokenizer.decode(bare(written)["input_ids"]) == read


def test_the_first_word_gets_its_space_and_the_published_form_is_that_of_2020(folder, tmp_path):
    assert preparation_of("aubmindlab/aragpt2-mega") == preparation_of(folder) == "arabert-2020"
    tokenizer, bare = load_tokenizer(folder), load_tokenizer(folder, preparation="")
    assert isinstance(bare, GPT2Tokenizer)  # which would forget it
    assert tokenizer("الخبز")["input_ids"] == bare(" الخبز")["input_ids"]
    assert tokenizer("سنة ١٩٩٥")["input_ids"] == bare(" سنة ١٩ ٩ ٥")["input_ids"]
    tokenizer.save_pretrained(tmp_path / "tuned")
    (tmp_path / "tuned" / "config.json").write_text((folder / "config.json").read_text())
    again = load_tokenizer(tmp_path / "tuned")  # its name says nothing, its files all
    for text in SENTENCES:
        assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert again.decode(again(text)["input_ids"]) == text
    with pytest.raises(UserError, match="'arabert-1' is not one of arabert-2020, arabert"):
        prepare_tokenizer(bare, "arabert-1")
