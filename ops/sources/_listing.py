"""From a reader's entries to what a source offers: by table or by names, and only the classes asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ops.core.errors import CallError, explain
from ops.core.progress import Reporter
from ops.sources._files import Entry, FilesConfig, from_names, is_system, place, some
from ops.sources._item import Item, Refusal
from ops.sources._table import from_table


class Listing(Iterator[Item | Refusal]):
    """An iterator that knows how long it is (``operator.length_hint``), so that progress has a total."""

    def __init__(self, found: Sequence[Item | Refusal]) -> None:
        self._rest = list(reversed(found))

    def __next__(self) -> Item | Refusal:
        if not self._rest:
            raise StopIteration
        return self._rest.pop()

    def __length_hint__(self) -> int:
        return len(self._rest)


def items_of(entries: Sequence[Entry], refusals: Sequence[Refusal], config: FilesConfig, reporter: Reporter) -> Listing:
    """Entries and settings to items, in the order of ``entries``.

    Raises CallError where the settings name a folder, table or class that the source does not have.
    """
    system = [
        Refusal(entry.name, "system_file", "hidden, or left by an operating system")
        for entry in entries
        if is_system(entry.name)
    ]
    placed = place([entry for entry in entries if not is_system(entry.name)], config)
    found = from_table(placed, config, reporter) if config.table is not None else from_names(placed, config)
    return Listing([*refusals, *system, *chosen(found, config, reporter)])


def chosen(found: Iterator[Item | Refusal], config: FilesConfig, reporter: Reporter) -> list[Item | Refusal]:
    """Only the classes that the settings ask for. Raises CallError for a class that no image has."""
    everything = list(found)
    if config.classes is None:
        return everything
    have = {item.label for item in everything if isinstance(item, Item)}
    if missing := sorted(set(config.classes) - have):
        raise CallError(
            explain(expected=f"images of class {', '.join(missing)}", found=some(have), todo="set source.classes")
        )
    kept = [item for item in everything if isinstance(item, Refusal) or item.label in config.classes]
    reporter.note(f"source: {len(everything) - len(kept):,} images of other classes were left out")
    return kept
