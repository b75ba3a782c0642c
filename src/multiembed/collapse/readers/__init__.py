"""Checkpoints of this package, of other libraries and of nobody in particular -> tables."""

from multiembed.collapse.readers.cardinalities import parse_cardinalities as parse_cardinalities
from multiembed.collapse.readers.checkpoint import from_mapping as from_mapping
from multiembed.collapse.readers.checkpoint import read_checkpoint as read_checkpoint
from multiembed.collapse.readers.reliability import Reliability as Reliability
from multiembed.collapse.readers.table import Checkpoint as Checkpoint
from multiembed.collapse.readers.table import Skipped as Skipped
from multiembed.collapse.readers.table import Table as Table
