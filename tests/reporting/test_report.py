"The report is one page that loads nothing and runs nothing, whatever a model wrote into it"

import copy
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings, strategies as st

from arabic_dialog.reporting.report import render_report

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script><rect width="9" height="9"/></svg>'


def context(text="ما أشهر أنواع الخبز؟"):
    "A run in which everything that someone else may have written is `text`"
    made = dict(status="made", title=text, caption=text, source=text, simulated=True)
    return {
        "about": {
            "id": text,
            "profile": text,
            "config": {"comparable": False, "key": text},
            "code_version": text,
            "started": text,
            "data_hash": text,
        },
        "stages": [
            {"name": text, "counts": {text: 1}, "seconds": 1.5, "cached": False, "digest": text}
        ],
        "results": [
            dict(
                made,
                name="tab_quality",
                rows=[{"rule": text, "n": "3"}],
                columns=["rule", "n"],
                svg=SVG,
                notebook="paper/tab_quality/tab_quality.ipynb",
            ),
            dict(
                made,
                name="tab_examples",
                svg=None,
                notebook="paper/tab_examples/tab_examples.ipynb",
                columns=["conversation", "question", "model", "reply"],
                rows=[{"conversation": "c", "question": text, "model": text, "reply": text}],
            ),
            dict(
                name="fig_wait",
                title=text,
                status="waiting",
                error=text,
                notebook="paper/fig_wait/fig_wait.ipynb",
            ),
            dict(
                name="fig_bad",
                title=text,
                status="failed",
                error=text,
                notebook="paper/fig_bad/fig_bad.ipynb",
            ),
        ],
        "claims": [
            {
                "id": "C1",
                "claim": text,
                "published": text,
                "value": text or None,
                "verdict": "not run",
                "measured_by": "tab_quality",
                "key": "k",
            }
        ],
        "assumptions": [
            {"id": "A01", "unknown": text, "assumed": text, "why": text, "setting": text}
        ],
        "environment": {"python": text},
        "files": {"a.csv": text},
        "reforms": [
            {
                "id": "1a",
                "section": text,
                "item": text,
                "from_run": "." + text,
                "person": "." + text,
                "state": "partly",
            }
        ],
    }


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
    page = Tags(render_report(context()))
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
    plain, page = Tags(render_report(context("x"))), Tags(render_report(context(text)))

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
    page = render_report(context(attack))
    assert (
        "<script" not in page
        and "<img src=x" not in page
        and not [a for a in Tags(page).attrs if a[1].startswith("on")]
    )
    if "{{" in attack:
        assert "49{%" not in page and "{{ 7*7 }}" in page


def test_everything_failed():
    c = context()
    c["results"] = [
        dict(
            name=f"fig_{n}",
            title="t",
            status="failed",
            error="",
            notebook=f"paper/fig_{n}/fig_{n}.ipynb",
        )
        for n in range(3)
    ]
    c["claims"][0]["value"] = None
    c["stages"] = []
    page = render_report(c)
    assert "3 of 3 notebooks failed" in page and "simulated raters</span>" not in page


def test_nothing_is_changed():
    c = context()
    before = copy.deepcopy(c)
    assert render_report(c) == render_report(c) and c == before


def test_says_what_it_is():
    offline, paper = context(), context()
    paper["about"]["config"]["comparable"] = True
    for r in paper["results"]:
        r["simulated"] = False
    assert "not a reproduction of the paper" in render_report(
        offline
    ) and "simulated raters" in render_report(offline)
    page = render_report(paper)
    assert "not a reproduction" not in page and "simulated raters" not in page
