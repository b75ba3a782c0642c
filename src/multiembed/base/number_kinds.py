"""How numbers can be embedded, by name: what datasets say, and models know."""

from typing import Literal

NumericKind = Literal["linear", "plr", "soft"]
"""`linear`: a line; `plr`: periodic functions, a linear map and ReLU; `soft`: soft buckets."""
NumericRuleName = Literal["log", "quantiles", "as_is"]
"""How numbers become ids: the paper's buckets, those of equal counts, or every number its own."""
