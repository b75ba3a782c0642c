"""What a user can get wrong: always one sentence, *subject must rule, got value*."""

import re

UNSEEN = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
"""Line ends and other control characters, which names in the user's files may hold."""


class InputError(ValueError):
    """The user's input is wrong; the command line prints it as one line and exits with 2."""

    def __init__(self, message: str) -> None:
        super().__init__(UNSEEN.sub(lambda found: repr(found[0])[1:-1], message))


class ConfigError(InputError):
    """A configuration names something unknown or out of range."""


class DataError(InputError):
    """Raw rows, an encoded dataset, a run directory or a checkpoint cannot be read as asked."""
