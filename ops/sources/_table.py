"""A CSV inside a source that says what its files are: file, label, subject, mask, attributes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence

from ops.core.errors import CallError, explain
from ops.core.progress import Reporter
from ops.sources._files import (
    Entry,
    FileItem,
    FilesConfig,
    Meaning,
    Placed,
    clean_name,
    name_fault,
    split_attribute,
)
from ops.sources._item import Item, Refusal


def from_table(placed: Sequence[Placed], config: FilesConfig, reporter: Reporter) -> Iterator[Item | Refusal]:
    """One image a row; files that no row names are left out, and counted aloud."""
    by_name = {"/".join(([p.split] if p.split else []) + list(p.parts)): p for p in placed} | {
        p.entry.name: p for p in placed
    }
    table = by_name.get(str(config.table))
    if table is None:
        raise CallError(
            explain(
                expected=f"a table '{config.table}' in {config.path}", found="no such file", todo="set source.table"
            )
        )
    rows, named = read_table(table.entry, config), {table.entry.name}
    seen: set[str] = set()
    for row in rows:
        result = read_row(row, by_name, seen, config)
        named |= {p.entry.name for p in (by_name.get(row["file"]), by_name.get(row.get("mask", ""))) if p is not None}
        yield result
    left = sum(1 for item in placed if item.entry.name not in named)
    if left:
        reporter.note(f"source: {left:,} files that {config.table} does not name were left out")


def read_table(entry: Entry, config: FilesConfig) -> list[dict[str, str]]:
    """Rows of the CSV, cells stripped. Raises CallError where a needed column is absent or it is no UTF-8."""
    try:
        reader = csv.DictReader(io.StringIO(entry.read().decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise CallError(
            explain(expected=f"UTF-8 in {config.table}", found="other bytes", todo="save it as UTF-8")
        ) from error
    columns = list(reader.fieldnames or [])
    needed = (
        ["file"] + (["label"] if config.labels == "table" else []) + (["subject"] if config.subjects == "table" else [])
    )
    if missing := [name for name in needed if name not in columns]:
        raise CallError(
            explain(
                expected=f"columns {', '.join(missing)} in {config.table}", found=", ".join(columns), todo="add them"
            )
        )
    return [
        {str(key): (value or "").strip() for key, value in row.items() if isinstance(value, str | None)}
        for row in reader
    ]


def read_row(
    row: Mapping[str, str], by_name: Mapping[str, Placed], seen: set[str], config: FilesConfig
) -> Item | Refusal:
    """One row of the table as an item, or why it is none."""
    name = row["file"]
    if fault := name_fault(name, config.max_depth):
        return fault
    item = by_name.get(name)
    if item is None:
        return Refusal(name, "missing", f"named in {config.table}, not in the source")
    if item.entry.name in seen:
        return Refusal(name, "listed_twice", f"named again in {config.table}")
    seen.add(item.entry.name)
    label = row["label"] if "label" in row and config.labels in ("auto", "table") else config.constant_label
    subject = row.get("subject", "") if config.subjects == "table" else ""
    if not label or (config.subjects == "table" and not subject):
        return Refusal(name, "no_subject" if label else "no_label", f"an empty cell in {config.table}")
    mask = by_name.get(row.get("mask", "")) if row.get("mask") else None
    if row.get("mask") and mask is None:
        return Refusal(name, "mask_missing", f"'{clean_name(row['mask'])}' is not in the source")
    attributes = row_attributes(row)
    if attributes is None:
        return Refusal(name, "bad_attributes", f"the column attributes of {config.table} is no JSON object there")
    meaning = Meaning(label, subject, attributes | split_attribute(item, config))
    return FileItem(item.entry, mask.entry if mask else None, config.mask_threshold, meaning)


def row_attributes(row: Mapping[str, str]) -> dict[str, str] | None:
    """Every further column, and the members of a JSON object in a column ``attributes``; None where it is no object."""
    known = ("file", "label", "subject", "mask", "attributes")
    extra = {key: value for key, value in row.items() if key not in known and value}
    if row.get("attributes"):
        try:
            members = json.loads(row["attributes"])
        except json.JSONDecodeError:
            return None
        if not isinstance(members, dict):
            return None
        extra |= {str(key): str(value) for key, value in members.items()}
    return extra
