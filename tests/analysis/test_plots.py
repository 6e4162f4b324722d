"Figures come out the same in another process, with fonts that do not depend on the machine"

import os
import subprocess
import sys

import pytest

DRAW = """
import hashlib, io, pandas as pd
from arabic_dialog.analysis.plots import plot_agreement
nan = float("nan")
table = pd.DataFrame({"label": ["سلامة اللغة", "Fluency · الطلاقة"], "kappa": [.4, nan]})
table = table.assign(kappa_low=[.3, nan], kappa_high=[.5, nan])
out = io.BytesIO()
figure = plot_agreement(table, {"kappa": "Cohen’s κ"})
figure.savefig(out, format="svg", metadata={"Date": None})
print(hashlib.sha256(out.getvalue()).hexdigest())
"""


def test_same_file_in_another_process():
    def draw(seed):
        return subprocess.run(
            [sys.executable, "-c", DRAW],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )

    a, b = draw("1"), draw("2")
    assert a.stdout == b.stdout and len(a.stdout) == 65
    assert "missing from" not in a.stderr, a.stderr  # a glyph that no font has


@pytest.mark.parametrize("module", ["analysis.plots", "reporting.cards", "reporting.report"])
def test_import_is_light(module):
    heavy = ("matplotlib", "pandas", "numpy", "jinja2", "torch")
    code = f"import sys, arabic_dialog.{module}; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def drawn():
    "Every figure, with names as long as they come"
    import numpy as np, pandas as pd
    from arabic_dialog.analysis import plots as p

    kinds, names = (
        list(p.LOOKS),
        [
            "true reply",
            "AraGPT2, fine-tuned",
            "ArabianGPT, fine-tuned on shuffled replies",
            "مستوى اللغة قبل الضبط",
            "a-model-of-some-length/with-a-very-long-name-1.5b",
        ],
    )
    models = pd.DataFrame(
        {
            "label": names,
            "kind": kinds,
            **{
                f"m{i}{end}": np.linspace(0.1 + d, 0.9 + d, 5).clip(0, 1)
                for i in range(6)
                for end, d in (("", 0), ("_low", -0.1), ("_high", 0.1))
            },
        }
    )
    yield "models", p.plot_models(models, {f"m{i}": f"A measure {i}" for i in range(6)})
    rated = pd.DataFrame(
        {
            "label": ["Fluency · سلامة اللغة", "Cultural fit · الملاءمة الثقافية"],
            **{
                c + end: [0.4 + d, 0.6 + d]
                for c in ("k", "r")
                for end, d in (("", 0), ("_low", -0.3), ("_high", 0.3))
            },
        }
    )
    yield "agreement", p.plot_agreement(rated, {"k": "Cohen's κ", "r": "Spearman's ρ"})
    cells = pd.DataFrame(
        [
            {"row": r, "column": c, "accepted": 1200 - 7 * i, "planned": 1200}
            for i, r in enumerate(("شمال أفريقيا", "منطقة الكاريبي", "شبه الجزيرة العربية"))
            for c in ("technology", "traditions", "arts")
        ]
    )
    yield "coverage", p.plot_coverage(cells)
    yield (
        "lengths",
        p.plot_lengths(
            pd.DataFrame(
                [("turns per conversation", "", 4 + 2 * i, 100) for i in range(3)]
                + [
                    ("words per turn", s, i + 1, 1000 - i)
                    for s in ("user", "assistant")
                    for i in range(40)
                ],
                columns=["panel", "group", "length", "n"],
            )
        ),
    )
    yield (
        "curves",
        p.plot_curves(
            pd.DataFrame(
                [
                    (f"arabiangpt: {w}", k, s, part, step, 7 - step / 10)
                    for w, k in (
                        ("pretraining", "before"),
                        ("fine-tuning", "after"),
                        ("fine-tuning", "control"),
                    )
                    for s in (0, 1)
                    for part in ("train", "validation")
                    for step in range(10)
                ],
                columns=["panel", "kind", "seed", "split", "step", "loss"],
            )
        ),
    )
    yield (
        "scatter",
        p.plot_scatter(
            pd.DataFrame({"x": np.linspace(0, 1, 25), "y": [1, 2, 3, 4, 5] * 5, "kind": kinds * 5}),
            "RAVEN",
            "overall quality",
            "Spearman's ρ 0.74",
        ),
    )
    yield (
        "shares",
        p.plot_shares(
            pd.DataFrame(
                {
                    "row": [
                        "No turn repeats the words it just said, and no word goes on and on",
                        "Only one turn",
                    ],
                    "share": [0.3, 0.0001],
                    "n": [30, 1],
                }
            ),
            "share of the completions",
        ),
    )


def test_nothing_is_clipped_and_no_names_lie_on_each_other():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for name, figure in drawn():
        FigureCanvasAgg(figure).draw()
        seen = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert (
            width <= 6.51
            and -0.02 <= seen.x0
            and -0.02 <= seen.y0
            and seen.x1 <= width + 0.02
            and seen.y1 <= height + 0.02
        ), (name, seen)
        for ax in figure.axes:
            for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
                boxes = [
                    t.get_window_extent()
                    for t in labels
                    if t.get_text() and t.get_visible() and t.get_rotation() == 0
                ]
                for a, b in zip(boxes, boxes[1:], strict=False):
                    assert not (
                        a.x0 < b.x1 - 1 and b.x0 < a.x1 - 1 and a.y0 < b.y1 - 1 and b.y0 < a.y1 - 1
                    ), (name, [t.get_text() for t in labels])


def test_kinds_of_models_differ_in_more_than_colour():
    from arabic_dialog.analysis.plots import GROUPS, LOOKS

    looks = list(LOOKS.values())
    assert (
        len({look.mark for look in looks})
        == len({str(look.line) for look in looks})
        == len({look.colour for look in looks})
        == len(looks)
    )
    assert len({(g.mark, g.line) for g in GROUPS}) == len(GROUPS)
