"""How large the numbers of a configuration may be; what they make of memory is asked elsewhere."""

from typing import Annotated

from pydantic import Field

SETS_LIMIT = 1000
MOST_LAYERS = 1000
MOST_RUNS = 100_000
"""Of one experiment: each has a directory, and a line in tables that a person reads."""

Whole = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""A number of steps, rows or bytes: what 64 bits hold."""
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What generators of random numbers take."""
Width = Annotated[int, Field(ge=1, le=1 << 24)]
"""Of an embedding or a layer: two such layers in a row hold more numbers than any memory."""
OptionalWidth = Annotated[int, Field(ge=0, le=1 << 24)]
Depth = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
"""Layers of one kind: each is a module, and rounding alone fills what passes through so many."""
Sets = Annotated[int, Field(ge=1, le=SETS_LIMIT)]
"""Embedding sets: a hundred times the most that the paper has."""
Threads = Annotated[int, Field(ge=1, le=1024)]
"""Of one process: more than CPUs have cores, and fewer than systems refuse to start."""
