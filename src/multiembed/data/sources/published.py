"""Published splits as the benchmark BARS prepares them, by name.

A directory holds `train.csv`, `valid.csv` and `test.csv` with a header. Label, fields and minimum
counts are those of the benchmark's own configurations (Zhu et al., BARS-CTR, CIKM 2021).
"""

from typing import NamedTuple

from multiembed.data.sources.source import Column
from multiembed.data.store.schema import DateRule


class Layout(NamedTuple):
    """What the files of one published split hold."""

    title: str
    label: str
    columns: tuple[Column, ...]

    @property
    def raw_names(self) -> tuple[str, ...]:
        """Columns of the files that fields are made from."""
        return tuple(dict.fromkeys(column.raw for column in self.columns))


def _categories(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, "categorical") for name in names)


def _moments(column: str, format: str) -> tuple[Column, Column, Column]:
    hour = DateRule(column=column, part="hour", format=format)
    weekday = DateRule(column=column, part="weekday", format=format)
    weekend = DateRule(column=column, part="weekend", format=format)
    return (
        Column("hour", "categorical", hour),
        Column("weekday", "categorical", weekday),
        Column("weekend", "categorical", weekend),
    )


_HOUR, *_DAYS = _moments("hour", "%y%m%d%H")

# DIFFERS: BARS buckets Criteo's numbers as floor(ln(v)^2) above 2 and keeps others, so that 1
# and 3 are one value; the paper's rule, ours, takes 2 off the others, which keeps them apart.
LAYOUTS = {
    "criteo_x4": Layout(
        "Criteo_x4",
        "Label",
        (
            *(Column(f"I{number}", "numeric") for number in range(1, 14)),
            *_categories(*(f"C{number}" for number in range(1, 27))),
        ),
    ),
    "avazu_x4": Layout(
        "Avazu_x4",
        "click",
        (
            _HOUR,
            *_categories("C1", "banner_pos", "site_id", "site_domain", "site_category"),
            *_categories("app_id", "app_domain", "app_category", "device_id", "device_ip"),
            *_categories("device_model", "device_type", "device_conn_type"),
            *_categories(*(f"C{number}" for number in range(14, 22))),
            *_DAYS,
        ),
    ),
    "frappe_x1": Layout(
        "Frappe_x1",
        "label",
        _categories(
            *("user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather"),
            *("country", "city"),
        ),
    ),
    "movielenslatest_x1": Layout(
        "MovielensLatest_x1", "label", _categories("user_id", "item_id", "tag_id")
    ),
}
