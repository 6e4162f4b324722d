"""The project's own checks find what they are for."""

import json

import pytest
from check import tests_for as asked_tests
from house import ROOT, modules
from notebooks import differences, run, same


@pytest.mark.parametrize(
    "fresh", ["ρ is 0.31 of 1,204", "ρ is 0.32 of 1,204", "ρ is 0.31 of 1,210"]
)
def test_texts_that_differ_in_last_digits_are_the_same(fresh):
    assert same("ρ is 0.31 of 1,204", fresh)


@pytest.mark.parametrize("fresh", ["ρ is 0.41 of 1,204", "r is 0.31 of 1,204", "ρ is 0.31", ""])
def test_texts_that_differ_otherwise_are_not(fresh):
    assert not same("ρ is 0.31 of 1,204", fresh)


def cell(source, text):
    output = {"output_type": "execute_result", "data": {"text/plain": text}, "metadata": {}}
    return {"cell_type": "code", "source": source, "outputs": [output] if text else []}


def test_an_output_that_no_longer_holds_is_found_and_one_that_varies_is_not():
    stored = {"cells": [cell("f()", "'a'"), cell("#| varies\ng()", "'b'"), cell("h()", "")]}
    fresh = {"cells": [cell("f()", "'z'"), cell("#| varies\ng()", "'z'"), cell("h()", "'z'")]}
    found = list(differences(stored, fresh))
    assert [f.split(" stores ")[0] for f in found] == ["cell 0", "cell 2"]
    assert list(differences(stored, stored)) == []


def test_a_notebook_is_run_and_compared_and_stays_as_it_is(tmp_path):
    cells = [{**cell("1 + 1", "3"), "id": "a", "metadata": {}, "execution_count": None}]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    result = run(path)
    assert result.passed and result.differences == ["cell 0 stores '3', and gives '2'"]
    assert json.loads(path.read_text(encoding="utf-8")) == notebook


def test_a_changed_notebook_asks_for_the_tests_of_its_module():
    path = modules()["metrics.raven"].notebook
    assert ROOT / "tests/metrics/test_raven.py" in asked_tests(path)
    assert asked_tests(ROOT / "README.md") == []
