"""What a report can show; the reports know nothing of how it was found."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Reportable(Protocol):
    """A diagnosis, as far as a report is concerned."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain lists, dictionaries and numbers."""
        ...
