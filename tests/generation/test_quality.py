"""Each rule on sentences that a reader of Arabic would, and would not, object to, and on noise."""

import random
import time

import pytest

from arabic_dialog.core.records import Conversation, Scenario, Turn
from arabic_dialog.generation.embedded import EmbeddedEngine
from arabic_dialog.generation.parsing import parse_conversation
from arabic_dialog.generation.quality import Limits, RULES, check_conversation

GOOD = (
    "كيف يُقدَّم الشاي في المغرب؟",
    "يُقدَّم الشاي في المغرب بالنعناع والسكر.",
    "وهل يشربه الناس كل يوم؟",
    "نعم، يشربه كثير من الناس بعد كل وجبة.",
)


def conversation(*texts, speakers=("user", "assistant")):
    return Conversation(
        "x",
        Scenario("x", "tea", "MA", 0),
        tuple(Turn(speakers[i % 2], t) for i, t in enumerate(texts)),
        "m",
    )


def found(*texts, finish="stop", **more):
    return [i.rule for i in check_conversation(conversation(*texts), finish_reason=finish, **more)]


# (rule, speaker of the sentence, sentence that breaks it)
BAD = [
    ("role_flip", "assistant", "نعم.\nالمستخدم: وماذا يأكلون معه؟"),
    ("role_flip", "assistant", "نعم. **User:** ماذا بعد؟"),
    ("role_flip", "user", "شكرًا.\n٣. المساعد: العفو."),
    ("role_flip", "assistant", "بالتأكيد.\n[|Human|] وما رأيك؟"),
    ("role_flip", "user", "كيف يمكنني مساعدتك اليوم؟"),
    ("role_flip", "user", "بصفتي مساعدًا ذكيًّا، يسعدني أن أساعدك."),
    ("role_flip", "assistant", "هل يمكنك مساعدتي في اختيار نوع الشاي؟"),
    ("role_flip", "assistant", "شكرًا جزيلًا لك على المعلومات المفيدة."),
    ("truncated", "assistant", "نعم، يشربه كثير من الناس بعد كل وجبة وفي المساء مع"),
    ("truncated", "assistant", "نعم، لأن"),
    ("truncated", "assistant", "نعم، يشربونه صباحًا،"),
    ("early_ending", "assistant", "نعم، وهذه أشهر أنواعه:"),
    ("early_ending", "assistant", "إليك الخطوات: **"),
    ("damaged_text", "assistant", "Ø§Ù„Ø³Ù„Ø§Ù… عليكم."),
    ("damaged_text", "assistant", "ط§ظ„ط³ظ„ط§ظ… عليكم."),
    ("damaged_text", "assistant", "ÇáÓáÇã عليكم."),
    ("damaged_text", "assistant", "الشاي &quot;الأخضر&quot;."),
    ("damaged_text", "assistant", "نعم.</s>"),
    ("damaged_text", "assistant", "نعم <|im_end|>"),
    ("damaged_text", "assistant", "قال ??? ???? ?????."),
    ("damaged_text", "assistant", "سطر\\nسطر آخر."),
    ("damaged_text", "assistant", "نعم <br> لا."),
    ("foreign_words", "assistant", "نعم، they drink it every day."),
    ("foreign_words", "assistant", "نعم، los marroquíes toman té siempre."),
    ("foreign_script", "assistant", "يسمونه чай في روسيا."),
    ("foreign_script", "assistant", "نعم، 他们每天喝茶."),
    ("foreign_script", "assistant", "نعم、 والنعناع शाय."),
    ("foreign_script", "user", "ما معنى שלום؟"),
    ("language", "assistant", "بله، مردم هر روز چای می‌نوشند و آن را دوست دارند."),
    ("language", "assistant", "جی ہاں، لوگ روزانہ چائے پیتے ہیں اور اسے پسند کرتے ہیں۔"),
    ("language", "assistant", "بەڵێ، خەڵک هەموو ڕۆژێک چای دەخۆنەوە."),
    ("language", "assistant", "هو، خلک هره ورځ چای څښي او خوښوي یې."),
    ("language", "assistant", "قهوه در ايران بسيار محبوب است و مردم آن را دوست دارند."),
    ("loop", "assistant", "نعم نعم نعم نعم نعم نعم."),
    ("loop", "assistant", "الشاي لذيذ جدا " * 5 + "."),
    ("loop", "assistant", "الشاي راااااااااااائع في كل وقت."),
    ("loop", "assistant", "لا أدري شايشايشايشايشايشايشايشاي."),
    ("repeated_turn", "assistant", GOOD[1]),
    ("repeated_turn", "assistant", "يقدم الشّاي في المغرب بالنعناع، والسكر!"),
    ("refusal", "assistant", "عذرًا، لا يمكنني المساعدة في هذا الطلب."),
    ("refusal", "assistant", "كنموذج لغوي، لا أشرب الشاي."),
    ("refusal", "assistant", "لا أستطيع كتابة محتوى من هذا النوع."),
    ("refusal", "assistant", "أنا مجرد برنامج حاسوبي ولا أتذوق الشاي."),
    ("refusal", "assistant", "بصفتي نموذجًا لغويًا للذكاء الاصطناعي، لا رأي لي."),
    ("refusal", "assistant", "ليس لدي مشاعر لأحب الشاي."),
    ("refusal", "assistant", "تم تدريبي على نصوص كثيرة."),
    ("refusal", "assistant", "أعتذر، فأنا نموذج لغوي ولا تتوفر لدي معلومات كافية."),
    ("refusal", "assistant", "لن أتمكن من تلبية طلبك."),
    ("refusal", "assistant", "نعم. As an AI, I know."),
    ("refusal", "assistant", "أنا روبوت محادثة لا أشرب شيئًا."),
    ("refusal", "assistant", "أنا غير قادر على تنفيذ هذا."),
    ("personal_data", "assistant", "راسلني على tea@example.com."),
    ("personal_data", "assistant", "اتصل بي على ٠٥٠١٢٣٤٥٦٧."),
    ("personal_data", "user", "رقمي +212 6 12 34 56 78."),
    ("personal_data", "assistant", "الهاتف 0522 123 456."),
    ("personal_data", "assistant", "هاتف المقهى: 22334455."),
    ("personal_data", "assistant", "حولها إلى SA03 8000 0000 6080 1016 7519."),
    ("personal_data", "user", "بطاقتي 4111 1111 1111 1111."),
    ("personal_data", "user", "بطاقتي ٤١١١١١١١١١١١١١١١."),
    ("empty_turn", "user", "؟!"),
    ("empty_turn", "assistant", "…"),
    ("long_turn", "assistant", " ".join(f"كلمة{i}" for i in range(130)) + "."),
]


@pytest.mark.parametrize("rule, speaker, text", BAD)
def test_a_fault_is_found(rule, speaker, text):
    assert rule in found(
        *(GOOD[:3] + (text,) if speaker == "assistant" else GOOD[:2] + (text, GOOD[3]))
    )


# what looks like a fault and is none
FINE = [
    ("assistant", "اكتب اسم المستخدم: أحمد، ثم كلمة المرور."),
    ("assistant", "قل للبائع: هل يمكنك مساعدتي؟"),
    ("assistant", "المساعد في المقهى يقدم الشاي لكل مستخدم."),
    ("user", "لدي سؤال آخر، هل يمكنك مساعدتي؟"),
    ("user", "ماذا يقول البائع؟ «كيف يمكنني مساعدتك»؟"),
    ("assistant", "هل يمكنك إخباري بميزانيتك كي أقترح لك شيئًا؟"),
    ("assistant", "شكرًا على سؤالك الجميل."),
    ("assistant", "أنا هنا لمساعدتك في كل وقت."),
    ("assistant", "على الرحب والسعة"),
    ("assistant", "أهلًا بك دائمًا 😊"),
    ("assistant", "قال الشاعر: «الشاي أنيس الجليس.»"),
    ("assistant", "(نعم، في كل مساء.)"),
    ("assistant", "اشرب منه كوبًا أو كوبين…"),
    ("user", "مع السلامة بالفرنسية، كيف تُقال؟"),
    ("user", 'ما معنى قولهم "إلى اللقاء"؟'),
    ("assistant", "يسمى ذلك AT&T في الإعلانات."),
    ("assistant", "حقًا؟؟؟ هذا رائع!!!"),
    ("assistant", "إذا كان س < ص فالكوب أصغر."),
    ("assistant", "مقهى café في الدار البيضاء."),
    ("assistant", "اقرأ Toy Story مع الشاي في مقاهي المدينة القديمة كل مساء."),
    ("assistant", "نسبة π هي ٣٫١٤ تقريبًا."),
    ("assistant", "يشبه ڤيينا وپاريس وچاي بغداد."),
    ("assistant", "گاع الناس كيشربو أتاي هنا."),
    ("assistant", "ههههه، صدقت والله."),
    ("assistant", "شيئًا فشيئًا، ويومًا بعد يوم، تتعود عليه."),
    ("assistant", "نعم نعم، هذا ما يفعله الناس هناك في كل مساء ومع كل ضيف."),
    ("assistant", "جدًا جدًا، والناس يحبونه في البيت وفي العمل."),
    ("user", "هل أنت نموذج لغوي أم إنسان؟"),
    ("user", "لا أستطيع كتابة هذا الطلب وحدي، فما الحل؟"),
    ("assistant", "النموذج اللغوي برنامج يتنبأ بالكلمة التالية، ويستعمل كنموذج لغوي في الهواتف."),
    ("assistant", "الذكاء الاصطناعي يغير صناعة الشاي."),
    ("assistant", "لا يمكنني الجزم بذلك، لكن الأغلب أنه صيني الأصل."),
    ("assistant", "لا أستطيع أن أنسى طعم الشاي بالنعناع."),
    ("assistant", "عذرًا على التأخير، الشاي جاهز."),
    ("assistant", "ليست لدي أرقام دقيقة عن الاستهلاك هذا العام."),
    ("assistant", "لا يمكنني أن أصف لك جماله بكلمات."),
    ("assistant", "نظام الري برنامج وطني ناجح."),
    ("assistant", "أنا أفضل نظام الوجبات الصغيرة."),
    ("assistant", "مساعد الطباخ يقول: أنا مساعد جيد."),
    ("assistant", "بلغ الإنتاج ٢٠٠٠٠٠٠٠٠ كيلوغرام في سنة 2023."),
    ("assistant", "من 2019-2020 إلى 01-02-2023 ارتفع السعر."),
    ("assistant", "رقم الطوارئ 190، والكتاب 978-3-16-148410-0."),
    ("assistant", "يكلف 1.000.000 درهم، أي 100,000,000 سنتيم."),
    ("assistant", "اتصل على 112 عند الحاجة."),
    ("assistant", "النسبة 0.123456789 تقريبًا."),
    ("assistant", "بعد 4111 1111 1111 1112 خطوة."),
    ("assistant", "تابع @atay على الشبكة."),
    ("assistant", "👍 ممتاز."),
]


@pytest.mark.parametrize("speaker, text", FINE)
def test_what_only_looks_like_a_fault_is_let_through(speaker, text):
    assert (
        found(*(GOOD[:3] + (text,) if speaker == "assistant" else GOOD[:2] + (text, GOOD[3]))) == []
    )


# the assistant refuses, or speaks of itself as a program, in the words that models use
REFUSED = (
    "أعتذر، ولكن لا يمكنني مساعدتك",
    "أعتذر، لكنني لا أستطيع المساعدة في هذا الأمر.",
    "أعتذر عن عدم قدرتي على مساعدتك في ذلك.",
    "عذرًا، لا يمكنني تقديم هذه المعلومات.",
    "ليس لدي القدرة على تقديم معلومات محدثة.",
    "ليس لديّ القدرة على الوصول إلى الإنترنت.",
    "ليس لدي إمكانية الوصول إلى بيانات حية.",
    "كمساعد ذكي، لا أستطيع تذوق الطعام.",
    "وكمساعد افتراضي، ليس لي رأي.",
    "بصفتي مساعدًا ذكيًا، لا أملك تجارب شخصية.",
    "باعتباري نموذج ذكاء اصطناعي، لا أستطيع إبداء رأيي.",
    "بما أنني نموذج لغوي فلا أعرف ذلك.",
    "أنا آسف، لا أستطيع الإجابة على هذا السؤال.",
    "للأسف، لا يمكنني مساعدتك في ذلك.",
    "آسف، لكن هذا الطلب خارج نطاق قدراتي.",
    "هذا السؤال يتجاوز حدود معرفتي.",
    "لا أستطيع الرد على مثل هذه الأسئلة.",
    "لا يسمح لي بمناقشة هذه المواضيع.",
    "يتعارض هذا مع سياسات الاستخدام.",
    "لا أملك القدرة على إرسال الرسائل.",
    "لا تتوفر لدي إمكانية حجز الفنادق.",
    "أود مساعدتك ولكن لا أستطيع تقديم نصائح طبية.",
    "لا يمكنني كتابة محتوى من هذا النوع.",
    "لا أستطيع أن أقدم لك معلومات عن ذلك.",
    "يؤسفني أنني لا أستطيع مساعدتك.",
    "لا أقدر أساعدك في هذا الموضوع.",
    "ما أقدر أساعدك.",
    "أنا مجرد برنامج ولا أشعر بالجوع.",
    "لم أتمكن من فهم طلبك.",
    "لست قادرا على مساعدتك في هذا.",
    "أعتذر، لا يمكنني تلبية هذا الطلب.",
    "نعتذر، لا يمكننا تقديم المساعدة.",
    "معذرة، لا يمكنني المشاركة في هذا الحوار.",
    "ليس بإمكاني تقديم استشارات قانونية.",
    "لا أمتلك معلومات كافية للإجابة.",
    "كذكاء اصطناعي لا أملك مشاعر.",
    "أنا روبوت ولا آكل.",
    "I'm sorry, but I can't assist with that request.",
    "I cannot help with that.",
    "As a language model, I don't have opinions.",
    "I'm unable to provide medical advice.",
    "Sorry, I can't help you with this.",
    "I apologize, but I cannot fulfill this request.",
    "I'm just an AI.",
    "I don't have access to real-time information.",
    "لا يمكنني إنشاء حوار عن هذا الموضوع.",
    "أرفض الإجابة عن هذا السؤال.",
    "لا أستطيع تنفيذ هذا الطلب لأنه مخالف لسياسة المحتوى.",
    "أعتذر منك، لست مؤهلًا للإجابة عن هذا السؤال.",
    "لا أستطيع التحدث عن هذا الموضوع.",
)
# an assistant that speaks as somebody would
NOT_REFUSED = (
    "لا أستطيع الحضور غدًا.",
    "أعتذر، لا أستطيع الحضور هذا المساء.",
    "لا يمكنني الجزم بذلك.",
    "لا يمكنني تقديم خصم أكبر من ذلك يا سيدي.",
    "للأسف لا يمكنني تخفيض السعر.",
    "عذرًا على التأخير.",
    "أعتذر عن سوء الفهم، المقصود هو الفرن الحجري.",
    "لا أستطيع أن أصف لك جمالها.",
    "لا يمكنني تخيل رمضان دون القطايف.",
    "ليس لدي وقت كاف اليوم.",
    "ليس لدي شك في أن المتحف يستحق الزيارة.",
    "لا أملك سيارة، لكن القطار مريح.",
    "بصفتي طباخًا أنصحك بالزيت البلدي.",
    "كمساعد للطباخ عملت سنتين.",
    "كنموذج على ذلك، يزرع الناس الزيتون.",
    "النظام الآلي في المطار سريع.",
    "لا يمكن الوصول إلى القرية بالسيارة شتاءً.",
    "لا يمكنك الوصول إلى الشاطئ إلا مشيًا.",
    "لا تستطيع الإجابة عن كل سؤال في المقابلة، وهذا طبيعي.",
    "يعمل التطبيق كمساعد ذكي في الهاتف.",
    "الكيس خارج نطاق الضمان.",
    "لا أنصحك بذلك.",
    "لا أستطيع مقاومة الكنافة!",
    "لم أتمكن من زيارة القلعة في الشتاء لأنها تغلق.",
    "يمكنني مساعدتك في اختيار الفندق.",
    "هل يمكنني مساعدتك في شيء آخر؟",
    "لا، يمكنك الدفع نقدًا.",
    "يتعارض ذلك مع سياسة الفندق.",
    "الروبوت يساعد في المصانع.",
    "لا مانع لدي، ويسعدني تقديم المساعدة.",
)


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_is_found_in_many_wordings(text):
    assert found("متى نلتقي؟", text, rules=["refusal"]) == ["refusal"]
    assert found(text, "نعم.", rules=["refusal"]) == []  # a user may say so


@pytest.mark.parametrize("text", NOT_REFUSED)
def test_what_is_no_refusal_passes(text):
    assert found("متى نلتقي؟", text, rules=["refusal"]) == []


COURTESY = (
    "هل تحتاج إلى أي مساعدة أخرى؟",
    "هل هناك شيء آخر يمكنني مساعدتك به اليوم؟",
    "شكرًا جزيلًا لك على وقتك.",
    "على الرحب والسعة يا صديقي.",
    "إذا كان لديك أي سؤال آخر فلا تتردد في طرحه.",
    "مع السلامة، أتمنى لك يومًا سعيدًا.",
)


@pytest.mark.parametrize("text", COURTESY)
def test_a_polite_formula_may_be_said_twice_but_not_on_and_on(text):
    talk = ("كيف يُقدَّم الشاي؟", text, "وهل يُشرب كل يوم؟", text)
    assert found(*talk, rules=["repeated_turn"]) == []
    assert found(*talk, "ومتى؟", text, rules=["repeated_turn"]) == ["repeated_turn"]


def test_what_stands_beside_a_polite_formula_may_not_come_again():
    told = "يُقدَّم بالنعناع والسكر في كؤوس صغيرة. هل تحتاج إلى أي مساعدة أخرى؟"
    assert found("كيف؟", told, "وماذا بعد؟", told, rules=["repeated_turn"]) == ["repeated_turn"]


COUNTRIES = {
    "US": ("أمريكا", "أميركا", "في نيويورك"),
    "GB": ("بريطانيا", "إنجلترا", "في مانشستر"),
    "CG": ("الكونغو", "الكونغولية"),
    "CD": ("الكونغو",),
    "CI": ("كوت ديفوار", "في أبيدجان"),
    "HU": ("هنغاريا", "الهنغارية"),
    "MM": ("بورما", "البورميون"),
    "AE": ("دبي", "في الشارقة"),
    "PS": ("القدس", "غزة"),
    "CZ": ("تشيكيا",),
    "ET": ("الحبشة",),
    "LK": ("سيلان",),
}


def test_a_country_is_known_by_its_other_names_and_its_cities():
    from arabic_dialog.generation.checking import load_country_names, scenario_words
    from arabic_dialog.generation.scenarios import load_countries
    from arabic_dialog.core.files import find_root
    from arabic_dialog.core.settings import load_profile

    _, words_of = scenario_words(load_profile("offline"), find_root())
    for code, names in COUNTRIES.items():
        for name in names:
            texts = ("حدثني عنها.", f"الحياة فيها، أعني {name}، جميلة.")
            assert found(*texts, rules=["off_country"], country_words=words_of(code)) == []
    assert load_country_names().keys() == load_countries().keys()
    assert all(len(set(names)) == len(names) >= 4 for names in load_country_names().values())


def test_the_objection_names_the_country_in_words():
    (issue,) = check_conversation(
        conversation("كيف؟", "هكذا."),
        country_words=("الكونغو برازافيل", "كونغولي"),
        rules=["off_country"],
    )
    assert issue.detail == "no word of الكونغو برازافيل (MA), such as كونغولي"


def test_the_heading_of_another_conversation_is_found():
    for text in (
        "نعم. حوار بين سائح ومرشد عن المتاحف من 10 أدوار:",
        "نعم.\nمحادثة بين أم وابنتها حول السوق:\nلا.",
    ):
        assert found("ما هذا؟", text, rules=["other_conversation"]) == ["other_conversation"]
    for text in ("دار حوار بين الناس عن السوق.", "نعم، كان حوارًا طويلًا بينهما عن العمل: صعبًا."):
        assert found("ما هذا؟", text, rules=["other_conversation"]) == []


def test_a_tag_is_damage_but_where_code_is_the_subject():
    assert found("ما هذا؟", "نعم <br> لا.", rules=["damaged_text"]) == ["damaged_text"]
    talk = ("كيف أبدأ سطرًا في HTML؟", "اكتب <br> هنا.")
    assert found(*talk, rules=["damaged_text"]) == []
    assert found(*talk[:1], "اكتب </s> هنا.", rules=["damaged_text"]) == ["damaged_text"]


def test_the_user_takes_leave_only_at_the_end():
    assert found(GOOD[0], GOOD[1], "شكرًا لك، مع السلامة.", "في أمان الله.") == []
    assert found(GOOD[0], GOOD[1], "شكرًا لك، مع السلامة.", "في أمان الله.", *GOOD[2:]) == [
        "early_ending"
    ]


def test_the_prompt_comes_back():
    prompt = (
        "اكتب محادثة طبيعية بين مستخدم ومساعد، سطرًا لكل دور.\n"
        "الموضوع: الشاي\nالبلد: المغرب\nالمستخدم: …"
    )
    assert found(*GOOD, prompt=prompt) == [] and found(
        *GOOD[:3], "الموضوع: الشاي.", prompt=prompt
    ) == ["prompt_echo"]
    assert found(
        *GOOD[:3], "اكتب محادثةً طبيعيةً بين مستخدم ومساعد سطرا لكل دور.", prompt=prompt
    ) == ["prompt_echo"]
    assert found(*GOOD[:3], "هذا الموضوع. الشاي في البلد كله.", prompt=prompt) == []


def test_vowel_marks_and_spelling_do_not_hide_a_repetition():
    assert "repeated_turn" in found(*GOOD, "وهل يشربه النّاس كُلَّ يومٍ", GOOD[3].replace("نعم", "أجل"))
    told = "يُقدَّم الشاي في المغرب بعد كل وجبة مع النعناع والسكر في كؤوس صغيرة"
    assert found(
        GOOD[0], f"{told}.", GOOD[2], f"نعم، في كل بيت وفي كل مقهى من مقاهي المدن القديمة. {told}."
    ) == ["repeated_sentence"]


def test_rules_are_switched_off_by_name():
    texts = (*GOOD[:3], "نعم، they drink it every day on")
    every = found(*texts, finish="length")
    assert {"foreign_words", "truncated"} <= set(every)
    assert found(*texts, finish="length", rules=[r for r in RULES if r not in every]) == []
    with pytest.raises(ValueError, match="no rule 'spelling'.*too_few_turns"):
        found(*texts, rules=["spelling"])
    assert all(f.__doc__ and f.__name__ == name for name, f in RULES.items())


def test_sound_conversations_of_the_embedded_generator_pass():
    from arabic_dialog.core.records import Request, Sampling
    from arabic_dialog.generation.scenarios import (
        load_countries,
        load_template,
        load_topics,
        plan_scenarios,
        render_prompt,
    )

    topics, countries, template = load_topics(), load_countries(), load_template()
    scenarios = plan_scenarios(topics, countries, 1, 302, 7)
    requests = [
        Request(
            s.id,
            render_prompt(template, s, topics[s.topic], countries[s.country], 6, "الفصحى"),
            s,
            6,
        )
        for s in scenarios
    ]
    engine = EmbeddedEngine(defect_rate=0)
    for c, s in zip(engine.complete(requests, Sampling(seed=7)), scenarios, strict=True):
        said = Conversation(s.id, s, parse_conversation(c.text), c.model)
        assert (
            check_conversation(
                said,
                Limits(max_turn_words=90),
                c.finish_reason,
                engine.grammar.keywords(s.topic),
                engine.grammar.country_words(s.country),
                prompt=c.prompt,
            )
            == []
        )


PIECES = [
    *(t for _, _, t in BAD),
    *(t for _, t in FINE),
    "المستخدم",
    ":",
    "：",
    "[|AI|]",
    "\n",
    "\t",
    "\x00",
    "\ud800",
    "\ufffd",
    "\u200f",
    "؟",
    "?",
    "...",
    "،",
    "«",
    "(",
    "00",
    "+",
    "٠١٢٣",
    "4111",
    "@",
    "a.b",
    "SA03",
    "ه" * 12,
    "\u064b" * 5,
    "😀",
    "ﷺ",
    "است را",
    "چ",
    "中",
    "Σ",
    "i am",
    "شكرا",
    "الله",
    "",
    " ",
    "\u2028",
    "\x1c",
    "\U0001d7d8",
    "²",
]


def test_no_text_makes_a_rule_raise():
    chance = random.Random(0)
    for _ in range(30_000):
        texts = [
            chance.choice(("", " ")).join(
                chance.choice(PIECES)[: chance.choice((3, 9, 30))]
                for _ in range(chance.randrange(4))
            )
            for _ in range(chance.randrange(5))
        ]
        speakers = chance.choice(
            (
                ("user", "assistant"),
                ("assistant", "user"),
                ("user", "user"),
                ("assistant", "assistant"),
            )
        )
        for issue in check_conversation(
            conversation(*texts, speakers=speakers),
            finish_reason=chance.choice(("stop", "length", "")),
            prompt=chance.choice(PIECES),
            topic_words=("شاي",),
        ):
            assert issue.rule in RULES and issue.detail


@pytest.mark.parametrize(
    "piece",
    [
        "ا",
        "شاي ",
        "شاي",
        "\n",
        ": ",
        "المستخدم ",
        "\n\n1. ",
        "a",
        "a@",
        "0",
        "+1 ",
        "00 ",
        "طظ",
        "A1 ",
        "ÃØ",
        "<",
        "&",
        "ههه ",
        "?? ",
        "« ",
        "أنا ",
        "- ",
        "چ",
        "4111 ",
        "!",
        "\u064b",
    ],
)
def test_time_grows_with_the_text_not_its_square(piece):
    texts = [piece * (50_000 // len(piece))] * 2
    start = time.process_time()
    check_conversation(conversation(*texts), topic_words=("شا", "شاي اخضر"), prompt=piece * 1000)
    assert time.process_time() - start < 5  # a square would take minutes
