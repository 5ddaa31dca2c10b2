"""The pages: what they show, what they refuse to show, and that they say what the files say."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ops import reporting
from ops.core.errors import UnderstudyError
from ops.core.paths import Workspace
from ops.pages import charts, numbers, similarity, usefulness
from ops.pages.numbers import Interval
from ops.pages.svg import Scale
from tests.report_workspace import build, spend, write

FAMILY = "sngan"
FORBIDDEN = re.compile(r"anonym|guarante|100 ?% private|complian", re.IGNORECASE)


def page_of(ws: Workspace, family: str = FAMILY) -> str:
    reporting.report(
        family,
        ws.filtered(family),
        ws.attacks(family),
        ws.pictures(family),
        ws.utility(family),
        ws.verdict(family),
        ws.controls,
        ws.real,
        ws.timing,
        out=ws.report(family),
    )
    return ws.report(family).read_text()


def text_of(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workspace]:
    folder = tmp_path_factory.mktemp("states")
    return {state: build(folder / state, state) for state in ("PASS", "FAIL", "UNDECIDED", "INVALID")}


@pytest.fixture(scope="module")
def pages(built: dict[str, Workspace]) -> dict[str, str]:
    return {state: page_of(ws) for state, ws in built.items()}


@pytest.fixture
def workspace(built: dict[str, Workspace], pages: dict[str, str], tmp_path: Path) -> Workspace:
    """A PASS that a test may damage."""
    shutil.copytree(built["PASS"].root, tmp_path / "copy")
    return Workspace(tmp_path / "copy")


def edit(path: Path, **changes: object) -> None:
    write(path, json.loads(path.read_text()) | changes)


# --- the report ----------------------------------------------------------------------------------------------------


def test_each_verdict_is_shown_with_its_reason_and_its_meaning(pages: dict[str, str]) -> None:
    for state, page in pages.items():
        assert f'<p class="state">{state}</p>' in page
    assert "may be released" in text_of(pages["PASS"])
    assert "must not be released" in text_of(pages["FAIL"])
    assert "copies of training images" in text_of(pages["FAIL"])
    assert "more subjects in each of the roles" in text_of(pages["UNDECIDED"])
    assert "prove nothing in either direction" in text_of(pages["INVALID"])


def test_only_a_pass_says_that_images_may_be_released(pages: dict[str, str]) -> None:
    for state in ("FAIL", "UNDECIDED", "INVALID"):
        assert "may be released" not in text_of(pages[state])


def test_the_page_always_names_attacks_sizes_missable_leak_and_threat(pages: dict[str, str]) -> None:
    for page in pages.values():
        text = text_of(page)
        assert "nearest neighbour" in text
        assert "copy census" in text
        assert "largest leak that could be missed" in text
        assert "someone who holds the released images" in text
        assert "no statement of differential privacy" in text
        assert "holds the generator itself" in text, "an attack that was not run is named as not tested"


def test_the_page_claims_nothing_that_cannot_be_shown(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert not FORBIDDEN.search(text_of(page))


def test_the_tables_show_the_figures_of_the_files(pages: dict[str, str], built: dict[str, Workspace]) -> None:
    text = text_of(pages["PASS"])
    figures = json.loads((built["PASS"].attacks(FAMILY) / "images/nearest_neighbour.json").read_text())
    assert f"{figures['auc']:.3f}" in text
    assert str(figures["members_in_top_at_fpr_1e2"]) in text
    assert "88.4 %" in text
    assert "87.3 – 89.5 %" in text
    assert "0.0183 ± 0.0021" in text
    assert "0.0201 ± 0.0031" in text, "before the filter"


def test_an_attack_is_shown_because_its_file_is_there_not_because_it_is_known(workspace: Workspace) -> None:
    folder = workspace.attacks(FAMILY) / "images"
    shutil.copy(folder / "nearest_neighbour.json", folder / "entirely_new.json")
    edit(folder / "summary.json", attacks="copy_census,nearest_neighbour,entirely_new")
    assert "entirely new" in text_of(page_of(workspace))


def test_another_threat_model_is_no_longer_called_untested(workspace: Workspace) -> None:
    folder = workspace.attacks(FAMILY)
    shutil.copytree(folder / "images", folder / "generator")
    edit(folder / "generator/summary.json", threat="generator")
    text = text_of(page_of(workspace))
    assert "holds the generator itself" not in text
    assert "someone who holds the generator and can draw" in text


def test_images_that_are_their_own_subjects_are_said_to_be(workspace: Workspace, pages: dict[str, str]) -> None:
    sentence = "every image counts as its own subject"
    assert sentence not in text_of(pages["PASS"])
    edit(workspace.attacks(FAMILY) / "images/summary.json", n_member_images=3000)
    assert sentence in text_of(page_of(workspace))


def test_what_was_not_measured_is_a_dash_and_no_error(workspace: Workspace) -> None:
    kept = {"accuracy_tstr_reason": "too few images", "accuracy_chance": 0.25}
    write(workspace.utility(FAMILY), kept)
    edit(workspace.verdict(FAMILY), tstr_over_trtr=None)
    for path in workspace.pictures(FAMILY).glob("confusion*"):
        path.unlink()
    text = text_of(page_of(workspace))
    assert "No classifier could be trained" in text
    assert "—" in text


def test_an_attack_that_could_not_run_says_why(workspace: Workspace) -> None:
    folder = workspace.attacks(FAMILY) / "images"
    write(folder / "nearest_neighbour.json", {"kind": "membership", "evaluated": False, "why": "nothing is released"})
    (folder / "nearest_neighbour_roc.csv").unlink()
    assert "nothing is released" in text_of(page_of(workspace))


@pytest.mark.parametrize("name", ["verdict", "utility"])
def test_a_missing_input_is_an_error_that_names_it(workspace: Workspace, name: str) -> None:
    before = workspace.report(FAMILY).read_bytes()
    getattr(workspace, name)(FAMILY).unlink()
    with pytest.raises(UnderstudyError, match=f"{name}.json"):
        page_of(workspace)
    assert workspace.report(FAMILY).read_bytes() == before, "a failed report leaves the last one as it was"


def test_missing_attacks_scores_or_controls_are_errors(workspace: Workspace) -> None:
    workspace.controls.unlink()
    with pytest.raises(UnderstudyError, match=r"controls\.json"):
        page_of(workspace)
    (workspace.filtered(FAMILY) / "filter.json").unlink()
    with pytest.raises(UnderstudyError, match=r"filter\.json"):
        page_of(workspace)
    shutil.rmtree(workspace.attacks(FAMILY) / "images")
    with pytest.raises(UnderstudyError, match="attack results"):
        page_of(workspace)


def test_an_unknown_verdict_is_refused(workspace: Workspace) -> None:
    edit(workspace.verdict(FAMILY), verdict="PROBABLY FINE")
    with pytest.raises(UnderstudyError, match="PROBABLY FINE"):
        page_of(workspace)


def test_costs_are_shown_when_known_and_absent_otherwise(workspace: Workspace) -> None:
    assert "What it cost" not in page_of(workspace)
    spend(workspace, FAMILY)
    text = text_of(page_of(workspace))
    assert "What it cost" in text
    assert "3 min 35 s" in text


def test_the_same_files_give_the_same_bytes(workspace: Workspace) -> None:
    spend(workspace, FAMILY)
    assert page_of(workspace) == page_of(workspace)


def test_nothing_is_called_passed_when_the_audit_is_void(pages: dict[str, str]) -> None:
    assert "PASS" not in re.sub(r"a PASS needs|behind a PASS", "", text_of(pages["INVALID"]))
    assert "void" in text_of(pages["INVALID"])


def test_a_page_that_may_show_copies_says_so(pages: dict[str, str]) -> None:
    assert "keep this page where the private images are kept" in text_of(pages["FAIL"])
    assert "none was taken from the private images" in text_of(pages["PASS"])


def test_a_failed_control_stands_out(pages: dict[str, str]) -> None:
    assert "not as expected" in text_of(pages["INVALID"])
    assert "not as expected" not in text_of(pages["PASS"])


# --- the leaderboard -----------------------------------------------------------------------------------------------


@pytest.fixture
def compared(workspace: Workspace) -> Workspace:
    build(workspace.root, "FAIL", "dcgan")
    spend(workspace, FAMILY)
    reporting.compare(workspace.reports, ["dcgan", FAMILY], workspace.timing, out=workspace.leaderboard)
    return workspace


def test_the_leaderboard_has_quality_and_leakage_of_every_family_and_no_cost(compared: Workspace) -> None:
    board = json.loads((compared.leaderboard / "leaderboard.json").read_text())
    assert set(board) == {"dcgan", FAMILY}
    assert board["dcgan"]["verdict"] == "FAIL"
    assert board[FAMILY]["accuracy_tstr"] == pytest.approx(0.884)
    assert board[FAMILY]["gap_tstr"] == pytest.approx(0.047)
    assert board[FAMILY]["fid_train"] == pytest.approx(18.42)
    assert board["dcgan"]["images_copy_census_copies_drawn_of_train"] == 2
    for key in ("auc", "auc_low95", "tpr_at_fpr_1e2", "tpr_at_fpr_1e3_high95"):
        assert 0 <= board[FAMILY][f"images_nearest_neighbour_{key}"] <= 1
    assert not [key for entry in board.values() for key in entry if "second" in key or "memory" in key]


def test_the_leaderboard_page_shows_costs_grids_and_verdicts(compared: Workspace) -> None:
    page = (compared.leaderboard / "leaderboard.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "3 min 35 s" in page
    assert '<span class="badge">FAIL</span>' in page
    assert not FORBIDDEN.search(text_of(page))


def test_a_cost_changes_the_page_but_not_the_figures(compared: Workspace) -> None:
    before = (compared.leaderboard / "leaderboard.json").read_bytes()
    edit(compared.timing / f"train@{FAMILY}.json", seconds=1.0)
    reporting.compare(compared.reports, ["dcgan", FAMILY], compared.timing, out=compared.leaderboard)
    assert (compared.leaderboard / "leaderboard.json").read_bytes() == before
    assert "3 min 35 s" not in (compared.leaderboard / "leaderboard.html").read_text()


def test_comparing_a_family_that_was_not_judged_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(UnderstudyError, match=r"verdict\.json"):
        reporting.compare(workspace.reports, [FAMILY, "other"], workspace.timing, out=workspace.leaderboard)
    assert not workspace.leaderboard.exists()


# --- numbers and drawings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "value", "around"),
    [
        (Interval(0.51234, 0.4891, 0.5353), "0.512", "0.489 – 0.536"),
        (Interval(12.3456, 10.1, 14.9), "12.3", "10.1 – 14.9"),
        (Interval(3000.0, 2500.0, 3500.0), "3000", "2500 – 3500"),
        (Interval(0.5), "0.500", "—"),
        (Interval(), "—", "—"),
    ],
)
def test_a_number_is_no_finer_than_its_interval(span: Interval, value: str, around: str) -> None:
    assert (numbers.shown(span), numbers.between(span)) == (value, around)


def test_an_upper_bound_is_never_rounded_down() -> None:
    assert numbers.upper(0.5491) == "0.550"
    assert numbers.upper(0.55) == "0.550"


def test_a_share_of_one_is_written_out() -> None:
    assert numbers.percent(1.0) == "100 %"
    assert numbers.percent(0.00873) == "0.87 %"


def test_shares_of_a_histogram_add_up_to_one_with_outliers_in_the_end_bins() -> None:
    import pandas as pd

    found = similarity.shares(pd.Series([-5.0, 0.1, 0.1, 9.0]), np.array([0.0, 0.5, 1.0]))
    assert found.tolist() == [0.75, 0.25]


def test_a_logarithmic_scale_puts_decades_at_equal_distances() -> None:
    scale = Scale(0.001, 1, 0, 300, log=True)
    assert [scale(tick) for tick in scale.ticks()] == pytest.approx([0, 100, 200, 300])
    assert scale(0.0) == 0, "nought is clipped to the edge, not an error"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.5, 0.6), (-0.2, 1.0), (0, 1234)])
def test_ticks_lie_inside_the_scale(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 1).ticks()
    assert 2 <= len(ticks) <= 11
    assert min(ticks) >= low - 1e-9
    assert max(ticks) <= high + 1e-9


def test_measures_leave_out_interval_ends_spreads_and_single_classes() -> None:
    keys = ["fid_train", "fid_train_unfiltered", "fid_intra_mean", "fid_intra_fid_low", "kid_train", "kid_train_std"]
    assert usefulness.measures(keys, "fid") == ["fid_intra_mean", "fid_train"]
    assert usefulness.measures(keys, "kid") == ["kid_train"]


def test_an_unmeasured_bar_is_a_dash() -> None:
    assert "—" in charts.bars([("nothing", Interval(), "real")], "title", None)
