"The report is one page that loads nothing and runs nothing, whatever a model wrote into it"

import copy
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.reporting.report import RunReport, ShownResult, StageRow, render_report
from arabic_dialog.reporting.claims import ClaimResult

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
    '<script>alert(1)</script><rect width="9" height="9"/></svg>'
)


def result(name, status="made", text="t", **more):
    paths = {"notebook": f"paper/{name}/{name}.ipynb"}
    if status == "made":
        paths["page"] = f"paper/{name}/{name}.html"
        more |= {"caption": text, "source": text, "simulated": True}
    return ShownResult(name=name, title=text, status=status, **paths, **more)


def report(text="ما أشهر أنواع الخبز؟"):
    "A run in which everything that someone else may have written is `text`"
    about = dict.fromkeys(("id", "profile", "code_version", "started", "data_hash"), text)
    example = {"conversation": "c", "before": f"user: {' '.join(text.split())}", "question": text}
    example |= {"model": text, "reply": text}
    claim = ClaimResult("C1", text, text, "tab_quality", "k", "not run", text or None)
    item = {"id": "1a", "section": text, "item": text, "from_run": "." + text, "state": "partly"}
    return RunReport(
        about=about | {"config": {"comparable": False, "key": text}},
        stages=[StageRow(text, {text: 1}, 1.5, text)],
        results=[
            result(
                "tab_quality",
                text=text,
                rows=[{"rule": text, "n": "3"}],
                columns=["rule", "n"],
                svg=SVG,
            ),
            result("tab_examples", text=text, rows=[example], columns=list(example)),
            result("fig_wait", "waiting", text, error=text),
            result("fig_bad", "failed", text, error=text),
        ],
        claims=[claim],
        assumptions=[{"id": "A01", "unknown": text, "assumed": text, "why": text, "setting": text}],
        environment={"python": text},
        files={"a.csv": text},
        reforms=[item | {"person": "." + text}],
        purpose="." + text,
    )


class Tags(HTMLParser):
    "The elements of a page, and their attributes"

    def __init__(self, page):
        super().__init__()
        self.tags, self.attrs, self.depth = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attrs += [(tag, *a) for a in attrs]
        if tag not in ("meta", "img", "br"):
            self.depth.append(tag)

    def handle_endtag(self, tag):
        assert self.depth and self.depth.pop() == tag, f"</{tag}> closes nothing"


def test_self_contained():
    page = Tags(render_report(report()))
    assert not page.depth and not {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "svg",
    } & set(page.tags)
    assert not [a for a in page.attrs if a[1].startswith("on")]
    assert all(v.startswith("data:image/svg+xml;base64,") for _, k, v in page.attrs if k == "src")
    for _, k, v in page.attrs:
        if k == "href":
            assert v.startswith(("#", "paper/", "https://doi.org/10.1371/")) or v == "reforms.md", v
    policy = next(
        v for t, k, v in page.attrs if t == "meta" and k == "content" and "default-src" in v
    )
    assert "default-src 'none'" in policy and "script-src" not in policy
    ids = [v for _, k, v in page.attrs if k == "id"]
    assert len(ids) == len(set(ids)) and {
        v[1:] for _, k, v in page.attrs if k == "href" and v[0] == "#"
    } <= set(ids)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="<>\"'&/={}%#!-`ab \n\u202e", min_size=1, max_size=60),
    )
)
def test_no_text_becomes_markup(text):
    plain, page = Tags(render_report(report("x"))), Tags(render_report(report(text)))

    def outline(p):
        return [t for t in p.tags if t != "span"], [
            (t, k)
            for t, k, _ in p.attrs
            if t not in ("span", "td", "th", "dd") and k not in ("dir", "lang", "title")
        ]

    assert outline(page) == outline(plain)


@pytest.mark.parametrize(
    "attack",
    [
        "</style><script>alert(1)</script>",
        "{{ 7*7 }}{% raw %}",
        '" onerror="alert(1)',
        "<img src=x onerror=alert(1)>",
    ],
)
def test_attacks(attack):
    page = render_report(report(attack))
    assert (
        "<script" not in page
        and "<img src=x" not in page
        and not [a for a in Tags(page).attrs if a[1].startswith("on")]
    )
    if "{{" in attack:
        assert "49{%" not in page and "{{ 7*7 }}" in page


def test_everything_failed():
    failed = [result(f"fig_{n}", "failed") for n in range(3)]
    whole = report()
    claims = [replace(c, value=None) for c in whole.claims]
    page = render_report(replace(whole, results=failed, claims=claims, stages=[]))
    assert "3 of 3 notebooks failed" in page and "simulated raters</span>" not in page


def test_nothing_is_changed():
    whole = report()
    before = copy.deepcopy(whole)
    assert render_report(whole) == render_report(whole) and whole == before


def test_says_what_it_is():
    offline = report()
    assert "not a reproduction of the paper" in render_report(offline)
    assert "simulated raters" in render_report(offline)
    about = offline.about | {"config": {"comparable": True, "key": "x"}}
    results = [replace(r, simulated=False) for r in offline.results]
    page = render_report(replace(offline, about=about, results=results))
    assert "not a reproduction" not in page and "simulated raters" not in page


def test_the_turns_before_an_example_and_the_purpose_of_the_data_are_shown():
    page = render_report(report("ما <b>؟"))
    assert page.count('<p class="earlier" dir="rtl" lang="ar">user: ما &lt;b&gt;؟</p>') == 1
    assert "What the conversations are for.</strong> .ما &lt;b&gt;؟</div>" in page
    assert "What the conversations are for" not in render_report(replace(report(), purpose=""))
