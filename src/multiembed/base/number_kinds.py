"""How numbers can be embedded, by name: what datasets say, and models know."""

from typing import Literal

NumericKind = Literal["linear", "plr", "soft"]
"""`linear`: a line; `plr`: periodic functions, a linear map and ReLU; `soft`: soft buckets."""
