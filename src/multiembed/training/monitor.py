"""Collapse watched during training: measures of the tables at every evaluation."""

from multiembed.collapse import information_abundance
from multiembed.models import EmbeddingSets


def mean_abundance(embedding: EmbeddingSets) -> float:
    """Return the information abundance averaged over fields, all sets side by side.

    This is the quantity of Guo et al., Table 2; a field of zeros alone counts as 0.
    """
    tables = [block.cpu().numpy() for block in embedding.by_field()]
    return sum(information_abundance(t) if t.any() else 0.0 for t in tables) / len(tables)
