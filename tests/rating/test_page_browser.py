"""The rating page in a browser: by keyboard, on a phone, in two languages and windows, offline

and what axe-core says of it
"""

import json
import time
from pathlib import Path

import pytest

import browser as b
from arabic_dialog.rating.answers import Links, StudyFile
from arabic_dialog.rating.exchange import import_returned, progress
from arabic_dialog.rating.page import save_offline_pages
from rating_load import FIELDS, make_study, serving
from rating.test_page import HOSTILE, hostile_study

pytestmark = pytest.mark.skipif(bool(b.MISSING), reason=b.MISSING)
AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    "A served study of forty items"
    folder = tmp_path_factory.mktemp("study") / "human"
    _, links = make_study(
        folder, ["hala", "omar", "rim", "sami", "nour"], 40, name="تقييم ردود المساعد"
    )
    with serving(folder) as (_, port):
        yield (
            folder / "study.sqlite",
            {r: f"http://127.0.0.1:{port}/r/{s}" for r, s in links.raters.items()},
            f"http://127.0.0.1:{port}/o/{links.owner}",
        )


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    driver = b.open_browser(downloads=tmp_path_factory.mktemp("downloads"))
    yield driver
    driver.quit()


@pytest.fixture
def page(chromium):
    "A browser in its usual state, which has nothing to complain of at the end"
    chromium.get("about:blank")
    b.size(chromium, 1280, 900)
    b.dark(chromium, False)
    chromium.get_log("browser")
    yield chromium
    assert not [
        e["message"]
        for e in chromium.get_log("browser")
        if "favicon" not in e["message"] and "ERR_INTERNET_DISCONNECTED" not in e["message"]
    ]


def js(page, code, *args):
    return page.execute_script(f"return {code}", *args)


def text(page, name):
    return js(page, "document.getElementById(arguments[0]).textContent", name)


def until(what, seconds=20):
    "Wait for something to become true"
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def visit(page, address, language="ar"):
    page.get(address)
    page.execute_script(
        "try { localStorage.clear(); localStorage.setItem('rate-language', arguments[0]) } "
        "catch {}",
        language,
    )
    page.get(address)
    until(lambda: js(page, "document.documentElement.dataset.ready"))


def press(page, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    for k in keys:
        ActionChains(page).send_keys(k).perform()


def at(page, n):
    return until(
        lambda: (
            js(page, "!document.getElementById('item').hidden")
            and f" {n} " in f" {text(page, 'heading')} "
        )
    )


def begin(page):
    press(page, "\ue007")
    at(page, 1)


def saved(page):
    return until(
        lambda: (
            js(
                page,
                "document.documentElement.dataset.waiting === '0' "
                "&& document.getElementById('status').dataset.key",
            )
            in ("saved", "kept")
        )
    )


def box(page, selector):
    return js(
        page,
        "(r => [r.left, r.top, r.right, r.bottom])"
        "(document.querySelector(arguments[0]).getBoundingClientRect())",
        selector,
    )


def faults(page):
    "What axe-core finds that is serious or critical"
    page.execute_script(AXE.read_text(encoding="utf-8"))
    found = page.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
        ".then(r => done(r.violations), "
        "e => done([{impact: 'critical', id: String(e), nodes: []}]))"
    )
    return [
        (v["id"], [n["target"] for n in v["nodes"]][:3])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


def test_ten_items_by_keyboard_then_on_a_phone_and_the_owner_sees_it(page, study):
    path, raters, owner = study
    visit(page, raters["hala"])
    begin(page)
    for item in range(1, 11):
        at(page, item)
        press(
            page, *(str(1 + (item + k) % 5) for k in range(len(FIELDS))), "\ue007"
        )  # 1–5 for each question, then Enter
    at(page, 11)
    saved(page)
    with StudyFile(path) as s:
        said = {(p, f): v for _, p, f, v, *_ in s.entries("hala")}
    assert said == {(p, f): 1 + (p + k) % 5 for p in range(1, 11) for k, f in enumerate(FIELDS)}
    visit(page, raters["hala"])  # loaded again, in a browser that remembers nothing
    b.size(page, 390, 844, 2, True)
    assert js(page, "document.getElementById('start').textContent") == "تابع"
    js(page, "document.getElementById('start').click()")
    at(page, 11)
    assert js(page, "document.documentElement.scrollWidth <= innerWidth")
    for f in FIELDS:
        js(page, "document.querySelector(`input[name=${arguments[0]}][value='5']`).click()", f)
    js(page, "document.getElementById('next').click()")
    at(page, 12)
    saved(page)
    page.get(owner + "?lang=en")
    assert (
        js(page, "document.querySelector('[data-rater=hala]').dataset.done") == "11"
        and js(page, "document.querySelector('[data-rater=omar]').dataset.done") == "0"
    )
    with StudyFile(path) as s:
        assert progress(s)[0].done == 11 and progress(s)[0].seconds >= 0


def test_arabic_runs_from_right_to_left(page, study):
    visit(page, study[1]["omar"])
    begin(page)
    assert js(page, "getComputedStyle(document.body).direction") == "rtl"
    user, assistant, form, talk = (
        box(page, s) for s in (".user .bubble", ".assistant .bubble", "#form", "#talk")
    )
    assert (
        user[2] > assistant[2]
        and assistant[0] < user[0]
        and talk[0] >= form[2]
        and user[1] < assistant[1]
    )
    assert box(page, "#back")[0] > box(page, "#next")[2]
    lefts = js(
        page,
        "[...document.querySelectorAll('fieldset:not(.active) .point')].slice(0, 5)"
        ".map(e => e.getBoundingClientRect().left)",
    )
    assert lefts == sorted(lefts, reverse=True)
    # letters run leftwards too: the box of a first letter lies right of the box of a later one
    first, later = js(
        page,
        "(n => [0, 12].map(k => { const r = document.createRange(); r.setStart(n, k); "
        "r.setEnd(n, k + 1); return r.getBoundingClientRect().left; }))"
        "(document.querySelector('.user .bubble').firstChild)",
    )
    assert first > later and js(page, "document.fonts.check('1rem \"Study Arabic\"', 'س')")
    js(page, "document.getElementById('language').click()")
    until(lambda: js(page, "document.documentElement.dir") == "ltr")
    assert (
        box(page, "#back")[2] < box(page, "#next")[0]
        and box(page, ".user .bubble")[2] > box(page, ".assistant .bubble")[2]
    )  # the conversation stays as it is


def test_axe_finds_no_serious_fault(page, study):
    for language in ("ar", "en"):
        visit(page, study[1]["rim"], language)
        assert not faults(page)
        begin(page)
        press(page, "3")
        saved(page)
        for night in (False, True):
            b.dark(page, night)
            assert not faults(page), (language, night)
        press(page, "f", "?")
        until(lambda: js(page, "document.getElementById('keys').open"))
        assert not faults(page)
        b.size(page, 390, 844, 2, True)
        assert not faults(page)
        press(page, "\ue00c", "f")
        assert not faults(page)
        b.size(page, 1280, 900)
        b.dark(page, False)
        page.get(study[2] + f"?lang={language}")
        assert not faults(page)
    visit(page, study[1]["rim"])
    begin(page)
    page.get(study[1]["rim"] + "x")
    assert not faults(page)
    page.get_log("browser")


@pytest.mark.parametrize(
    "width, height", [(640, 450), (320, 640)]
)  # a window of 1280 points at 200 % and at 400 %
def test_nothing_is_cut_off_when_enlarged(page, study, width, height):
    b.size(page, width, height)
    visit(page, study[1]["sami"])
    begin(page)
    assert js(page, "document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert js(
        page,
        "[...document.querySelectorAll('.point, .bubble, button, legend')]"
        ".filter(e => e.checkVisibility()).every(e => { const r = e.getBoundingClientRect(); "
        "return r.left >= -1 && r.right <= innerWidth + 1; })",
    )


def test_all_keys(page, study):
    path, raters, _ = study
    visit(page, raters["sami"])
    begin(page)
    press(page, "n")
    at(page, 2)
    press(page, "b")
    at(page, 1)
    press(page, "٤", "0", "f")
    saved(page)
    press(page, "c")
    until(lambda: js(page, "document.activeElement.id") == "comment")
    press(page, "3n <b>ملاحظة</b>", "\ue00c")
    assert js(page, "document.activeElement.id") != "comment"  # digits and letters are text there
    press(page, "n")
    at(page, 2)
    saved(page)
    until(lambda: len(_said(path, "sami")) == 4)
    assert _said(path, "sami") == {
        (1, "fluency"): 4,
        (1, "coherence"): 0,
        (1, "flag"): 1,
        (1, "comment"): "3n <b>ملاحظة</b>",
    }
    press(page, "?")
    until(lambda: js(page, "document.getElementById('keys').open"))
    js(page, "document.getElementById('keys-on').click()")
    press(page, "\ue00c")
    press(page, "5")
    time.sleep(0.3)
    assert len(_said(path, "sami")) == 4  # shortcuts are off


def _said(path, rater):
    with StudyFile(path) as s:
        return {(p, f): v for _, p, f, v, *_ in s.entries(rater)}


def test_two_windows_both_say_so(page, study):
    path, raters, _ = study
    visit(page, raters["nour"])
    begin(page)
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    try:
        page.get(raters["nour"])
        until(lambda: js(page, "document.documentElement.dataset.ready"))
        begin(page)
        second = page.current_window_handle
        page.switch_to.window(first)
        press(page, "2")
        saved(page)
        page.switch_to.window(second)
        press(page, "5")
        until(
            lambda: (
                js(page, "document.getElementById('notice').dataset.key") == "elsewhere"
                and not js(page, "document.getElementById('notice').hidden")
            )
        )
        page.switch_to.window(first)
        until(lambda: js(page, "document.getElementById('notice').dataset.key") == "elsewhere")
        until(
            lambda: js(page, "document.querySelector('input[name=fluency]:checked').value") == "5"
        )
        assert _said(path, "nour")[1, "fluency"] == 5
    finally:
        page.switch_to.window(second)
        page.close()
        page.switch_to.window(first)


def test_a_lost_connection_loses_no_answer(page, study):
    path, raters, _ = study
    visit(page, raters["omar"], "en")
    begin(page)
    press(page, "1")
    saved(page)

    def connection(off):
        page.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )

    page.execute_cdp_cmd("Network.enable", {})
    connection(True)
    try:
        press(page, "2", "3")
        until(lambda: js(page, "document.getElementById('status').dataset.key") == "unsaved")
        assert "Not saved" in text(page, "status") and (1, "coherence") not in _said(path, "omar")
    finally:
        connection(False)
    saved(page)
    assert _said(path, "omar") == {(1, "fluency"): 1, (1, "coherence"): 2, (1, "relevance"): 3}


def test_hostile_text_is_text_and_nothing_is_fetched_from_elsewhere(page, tmp_path):
    from arabic_dialog.rating.study import save_links

    hostile_study(tmp_path / "study.sqlite")
    save_links(tmp_path, Links({"hala": "hala-link", "omar": "omar-link"}, "owner-link"))
    with serving(tmp_path) as (_, port):
        visit(page, f"http://127.0.0.1:{port}/r/hala-link")
        begin(page)
        for n, wanted in enumerate(HOSTILE, 1):
            at(page, n)
            assert (
                js(page, "document.querySelectorAll('#turns :not(li, span, div, button)').length")
                == 0
            )
            shown = js(page, "document.querySelector('.rated .bubble').textContent")
            if len(wanted) > 10_000:
                assert len(shown) < 10_000
                js(page, "document.querySelector('.rated .more').click()")
                assert js(
                    page,
                    "document.querySelector('.rated .bubble').textContent === 'س'.repeat(1000000)",
                )
            elif not wanted:
                assert shown == "(رد فارغ)"
            elif "\u202e" in wanted:
                assert shown == "U+202EعكسU+202C"
            elif wanted.isprintable():
                assert shown == wanted
            press(page, "n")
        at(page, len(HOSTILE) + 1)
        elsewhere = js(
            page,
            "performance.getEntriesByType('resource').map(e => e.name)"
            ".filter(n => !n.startsWith(location.origin + '/'))",
        )
        assert not elsewhere
        page.get(f"http://127.0.0.1:{port}/o/owner-link?lang=en")
        assert js(page, "document.scripts.length") == 0


def test_the_file_that_needs_no_server(page, tmp_path, request):
    path, _ = make_study(tmp_path / "human", ["hala"], 12)
    with StudyFile(path) as s:
        (out,) = save_offline_pages(s, tmp_path)
    visit(page, out.as_uri())
    b.dark(page)
    assert not faults(page)
    begin(page)
    press(page, *"9123954", "\ue007")  # 9: does not apply; the first question always does
    at(page, 2)
    press(page, "4")
    saved(page)
    page.get(out.as_uri())
    until(lambda: js(page, "document.documentElement.dataset.ready"))
    press(page, "\ue007")
    at(page, 2)
    assert js(page, "document.querySelector('input[name=fluency]:checked').value") == "4"
    js(page, "document.getElementById('download-now').click()")
    folder = Path(json.loads(json.dumps(page.capabilities["chrome"]["userDataDir"]))).parent
    sent = until(lambda: next(iter(sorted(folder.glob("ratings-hala*.json"))), None))
    until(lambda: sent.stat().st_size > 0)
    with StudyFile(path) as s:
        rater, taken = import_returned(s, sent)
        assert rater == "hala" and taken.new == 7 and progress(s)[0].done == 1
        assert {(p, f): v for _, p, f, v, *_ in s.entries("hala")} == {
            (1, f): k for f, k in zip(FIELDS, (1, 2, 3, -1, 5, 4), strict=True)
        } | {(2, "fluency"): 4}
    assert not js(
        page,
        "performance.getEntriesByType('resource').map(e => e.name)"
        ".filter(n => !n.startsWith('data:') && !n.startsWith('blob:'))",
    )
