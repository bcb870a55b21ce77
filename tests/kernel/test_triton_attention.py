"""Our Triton kernel, run by Triton's interpreter on the CPU, against float64."""

from __future__ import annotations

import interpreted
import pytest
from triton_cases import BASE, CASES, HALF, INT8, bound_of, name_of, variants_of

TRIED = [(i, variant) for i, case in enumerate(CASES) for variant in variants_of({**BASE, **case})]


@pytest.fixture(scope="module")
def results():
    """One process for all cases: the results of CASES, and of extras()."""
    return interpreted.run("triton_in_interpreter.py", given=[{**BASE, **case} for case in CASES], timeout=900)


@pytest.mark.parametrize(("index", "variant"), TRIED, ids=[f"{name_of(CASES[i])}, {name}" for i, name in TRIED])
def test_right(results, index, variant):
    case, result = {**BASE, **CASES[index]}, results["cases"][index]
    one = result[variant]
    assert one["error"] < bound_of(variant)
    assert one["gain"] == pytest.approx(1, abs=0.005)
    assert one["finite"] and one["zeros_agree"]
    assert one["shape"] == result["shape"] and one["dtype"] == case["dtype"]
    assert one["tokens_dense"], "joining the heads of a token would copy"
    assert result["unchanged"]


def test_int8_is_int8(results):
    """Else the two variants are one, and the bound of INT8 says nothing."""
    plain = results["cases"][0]
    assert plain["int8"]["error"] > 10 * plain["half"]["error"]


def test_float8_is_float8_and_video_is_kinder(results):
    assert results["cases"][0]["float8"]["error"] > 2 * results["cases"][0]["int8"]["error"]
    assert results["extras"]["float8_of_neighbours"] < INT8


def test_the_ways_of_newer_gpus_are_other_ways(results):
    """Sums in float16 round otherwise; values that are added later and larger tiles add in another order."""
    errors = [results["cases"][0][name]["error"] for name in ("int8", "int8, float16 sums", "int8, pipelined")]
    assert len(set(errors)) == 3 and max(errors) < 1.05 * min(errors)


def test_rows_that_see_nothing_are_among_the_cases(results):
    empty = {case.get("mask") or case.get("blocks") for case, one in zip(CASES, results["cases"]) if one["zero_rows"]}
    assert {"hidden row", "none for some"} <= empty


def test_the_same_again(results):
    assert results["extras"]["same"]


def test_torch_compile_sees_one_operator(results):
    assert results["extras"]["compiled"]
    assert results["extras"]["operator"] == ["SUCCESS"]


def test_scores_of_ten_thousand(results):
    extras = results["extras"]
    assert extras["huge_int8_finite"] and extras["huge_int8_over_largest_v"] < 1.01
    assert extras["huge_half"] < 2 * HALF


def test_sums_in_float16_hold_the_largest_values(results):
    assert {name: error for name, error in results["extras"]["largest"].items() if not error < 2e-3} == {}


def test_means_of_blocks_are_better_than_nothing(results):
    without, with_means = results["extras"]["means"]
    assert with_means < without / 4


def test_two_imports_of_the_pack_live_together(results):
    assert results["extras"]["second_import"] == [True, True]
