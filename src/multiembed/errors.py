"""What a user can get wrong: always one sentence, *subject must rule, got value*."""


class InputError(ValueError):
    """The user's input is wrong; the command line prints it as one line and exits with 2."""


class ConfigError(InputError):
    """A configuration names something unknown or out of range."""


class DataError(InputError):
    """Raw rows, an encoded dataset, a run directory or a checkpoint cannot be read as asked."""
