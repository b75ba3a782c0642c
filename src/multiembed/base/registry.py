"""Things by name: one table says what there is, and each is loaded when it is first asked for."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Generic, TypeVar, cast

from typing_extensions import override

from multiembed.base.validation import known_name

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """A mapping of names to things, most of which are not loaded yet.

    Names can be checked without loading anything, so that a configuration is read in no time.

    Args:
        subject: What messages call one of the things: `architecture`.
        entries: Name to `package.module:object`, in the order in which they are shown.
    """

    def __init__(self, subject: str, entries: Mapping[str, str]) -> None:
        self.subject = subject
        self._entries: dict[str, str | Entry] = dict(entries)

    @override
    def __getitem__(self, name: str) -> Entry:
        entry = self._entries[self.known(name)]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            self._entries[name] = entry = cast(Entry, getattr(import_module(module), attribute))
        return entry

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    @override
    def __len__(self) -> int:
        return len(self._entries)

    @override
    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def known(self, name: str) -> str:
        """Return `name` if there is one of this name, without loading it.

        Raises:
            ConfigError: If there is none; a near word is suggested.
        """
        return known_name(name, self._entries, subject=self.subject)

    @contextmanager
    def also(self, name: str, entry: Entry) -> Iterator[None]:
        """Have one more, or another one of a known name, for the time of a block."""
        before = dict(self._entries)
        self._entries[name] = entry
        try:
            yield
        finally:
            self._entries = before
