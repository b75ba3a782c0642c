"""Tables -> spectra -> measures -> a verdict."""

from multiembed.collapse.attribution import Attribution as Attribution
from multiembed.collapse.attribution import attribute as attribute
from multiembed.collapse.diversity import Diversity as Diversity
from multiembed.collapse.diversity import MeanDiversity as MeanDiversity
from multiembed.collapse.diversity import mean_diversity as mean_diversity
from multiembed.collapse.diversity import random_set_diversity as random_set_diversity
from multiembed.collapse.diversity import set_diversity as set_diversity
from multiembed.collapse.measures import (
    centered_information_abundance as centered_information_abundance,
)
from multiembed.collapse.measures import condition as condition
from multiembed.collapse.measures import dims_for_energy as dims_for_energy
from multiembed.collapse.measures import effective_rank as effective_rank
from multiembed.collapse.measures import information_abundance as information_abundance
from multiembed.collapse.measures import mean_share as mean_share
from multiembed.collapse.measures import (
    normalized_information_abundance as normalized_information_abundance,
)
from multiembed.collapse.measures import numerical_rank as numerical_rank
from multiembed.collapse.measures import participation_ratio as participation_ratio
from multiembed.collapse.measures import (
    relative_information_abundance as relative_information_abundance,
)
from multiembed.collapse.measures import stable_rank as stable_rank
from multiembed.collapse.measures import tail_slope as tail_slope
from multiembed.collapse.null import null_information_abundance as null_information_abundance
from multiembed.collapse.spectrum import Spectrum as Spectrum
from multiembed.collapse.spectrum import spectrum as spectrum
from multiembed.collapse.subembeddings import CoInfluence as CoInfluence
from multiembed.collapse.subembeddings import SubEmbeddings as SubEmbeddings
from multiembed.collapse.subembeddings import (
    field_aware_sub_embeddings as field_aware_sub_embeddings,
)
from multiembed.collapse.subembeddings import interaction_patterns as interaction_patterns
from multiembed.collapse.subembeddings import sub_embeddings as sub_embeddings
from multiembed.collapse.subembeddings import sub_embeddings_per_set as sub_embeddings_per_set
from multiembed.collapse.summary import Summary as Summary
from multiembed.collapse.summary import TrainedSummary as TrainedSummary
from multiembed.collapse.summary import summarise_trained as summarise_trained
