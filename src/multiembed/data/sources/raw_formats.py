"""Every format of raw rows by name, loaded when it is asked for. A new one enters here."""

from typing import TYPE_CHECKING, Any

from multiembed.base.registry import Registry

if TYPE_CHECKING:
    from multiembed.data.sources.formats import RawFormat
else:
    RawFormat = Any  # polars loads with the first format

FORMATS: Registry[RawFormat] = Registry(
    "format",
    {
        "flights": "multiembed.data.sources.flights:FLIGHTS",
        "criteo": "multiembed.data.sources.formats:CRITEO",
        "avazu": "multiembed.data.sources.formats:AVAZU",
        "table": "multiembed.data.sources.columnar:TABLE",
        "criteo_x4": "multiembed.data.sources.formats:CRITEO_X4",
        "avazu_x4": "multiembed.data.sources.formats:AVAZU_X4",
        "frappe_x1": "multiembed.data.sources.formats:FRAPPE_X1",
        "movielenslatest_x1": "multiembed.data.sources.formats:MOVIELENS_X1",
    },
)
"""Every format, in the order in which they are listed."""
