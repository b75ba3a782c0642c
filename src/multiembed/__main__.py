"""`python -m multiembed` is the command line."""

import sys

from multiembed.cli import main

sys.exit(main())
