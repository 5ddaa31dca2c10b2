"""Pages are made of strangers' text: labels, names, reasons stay text, and a page asks nobody for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ops import reporting
from ops.core.paths import Workspace
from tests.report_workspace import build, spend

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><style>body{background:url(https://evil.example/x)}",
    "javascript:alert(1)",
    "{{ 7 * 191 }}{% raw %}",
    "</title><script>alert(1)</script>",
    "'; --><b>\u202eevil",
    "=HYPERLINK(1)&amp;<a href=//evil.example>",
)
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "main",
    "header",
    "div",
    "p",
    "h1",
    "h2",
    "h3",
    "em",
    "strong",
    "dl",
    "dt",
    "dd",
    "section",
    "figure",
    "figcaption",
    "img",
    "ul",
    "li",
    "i",
    "b",
    "span",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "footer",
    "svg",
    "text",
    "line",
    "rect",
    "circle",
    "polyline",
    "polygon",
}
FAMILY = "sngan"


class Collector(HTMLParser):
    """Every element and attribute as a browser's parser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    ws = build(tmp_path_factory.mktemp("hostile"), "FAIL", classes=HOSTILE)
    spend(ws, FAMILY)
    return ws


@pytest.fixture(scope="module", params=["report", "leaderboard"])
def page(request: pytest.FixtureRequest, workspace: Workspace) -> str:
    ws = workspace
    if request.param == "leaderboard":
        reporting.compare(ws.reports, [FAMILY], ws.timing, out=ws.leaderboard)
        return (ws.leaderboard / "leaderboard.html").read_text()
    reporting.report(
        FAMILY,
        ws.filtered(FAMILY),
        ws.attacks(FAMILY),
        ws.pictures(FAMILY),
        ws.utility(FAMILY),
        ws.verdict(FAMILY),
        ws.controls,
        ws.real,
        ws.timing,
        out=ws.report(FAMILY),
    )
    return ws.report(FAMILY).read_text()


@pytest.fixture(scope="module")
def parsed(page: str) -> Collector:
    collector = Collector()
    collector.feed(page)
    return collector


def test_hostile_labels_create_no_element(parsed: Collector) -> None:
    assert parsed.tags <= TAGS, parsed.tags - TAGS


def test_hostile_labels_stay_readable_text(page: str, workspace: Workspace) -> None:
    if "evidence report" in page:
        assert "&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;" in page
        assert "{{ 7 * 191 }}" in page, "a label is no template"
    assert "1337" not in re.sub(r"base64,[^\"]+", "", page)


def test_no_attribute_runs_or_fetches_anything(parsed: Collector) -> None:
    for tag, name, value in parsed.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"href", "srcset", "action", "formaction", "xlink:href", "srcdoc", "data"}, (tag, name)
        if name == "src":
            assert value.startswith("data:image/png;base64,"), value[:60]
        if name == "style":
            assert re.fullmatch(r"[\w\s:;%.,()#+-]*", value), value
            assert "url" not in value


def test_the_page_names_no_address_outside_labels(page: str) -> None:
    outside = page
    for label in HOSTILE:
        for form in (
            label,
            label.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;"),
        ):
            outside = outside.replace(form, "")
    assert not re.search(r"https?://|url\(|@import|<script", outside)


def test_the_policy_forbids_scripts_and_requests(parsed: Collector) -> None:
    policies = [
        value for tag, name, value in parsed.attributes if tag == "meta" and name == "content" and "src" in value
    ]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_style_sheet_cannot_be_left_by_a_label(page: str) -> None:
    assert page.count("<style>") == page.count("</style>") == 1


def test_the_page_holds_no_path_and_no_identifier(page: str, workspace: Workspace) -> None:
    assert str(workspace.root) not in page
    assert not re.search(r"\bs\d{5}\b", page), "identifiers of single images stay out"


def test_a_hostile_family_name_is_escaped(tmp_path: Path) -> None:
    family = "<img src=x onerror=alert(1)>"
    ws = build(tmp_path, "PASS", family)
    reporting.compare(ws.reports, [family], ws.timing, out=ws.leaderboard)
    collector = Collector()
    collector.feed((ws.leaderboard / "leaderboard.html").read_text())
    assert not [name for tag, name, _ in collector.attributes if tag == "img" and name == "onerror"]
