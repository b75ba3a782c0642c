"""What a user can get wrong: always one sentence, *subject must rule, got value*."""

import re

UNSEEN = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")
"""Line ends and other control characters, which names in the user's files may hold."""


class InputError(ValueError):
    """The user's input is wrong; the command line prints it as one line and exits with 2.

    Catch it for every mistake that a user can make; `ConfigError` and `DataError` tell which.

    Args:
        message: One sentence, *subject must rule, got value*. Control characters, which names in
            the user's files may hold, become escapes, so that it stays one line.

    Example:
        >>> import multiembed as me
        >>> try:
        ...     me.load_run("nowhere")
        ... except me.InputError as error:
        ...     print(error)
        nowhere must be a run directory, got no config.toml in it
    """

    def __init__(self, message: str) -> None:
        super().__init__(UNSEEN.sub(lambda found: repr(found[0])[1:-1], message))


class ConfigError(InputError):
    """A configuration names something unknown or out of range.

    Example:
        >>> import multiembed as me
        >>> me.ClickModel("dcn2", cardinalities=[1000, 200])
        Traceback (most recent call last):
            ...
        multiembed.base.errors.ConfigError: architecture must be one of ...; did you mean 'dcnv2'?
    """


class DataError(InputError):
    """Raw rows, an encoded dataset, a run directory or a checkpoint cannot be read as asked.

    Example:
        >>> import multiembed as me
        >>> me.open_dataset("nowhere")
        Traceback (most recent call last):
            ...
        multiembed.base.errors.DataError: ...
    """


class WriteError(DataError):
    """A file or directory cannot be written; what was finished before is kept."""

    def __init__(self, target: object, reason: str) -> None:
        super().__init__(f"{target} must be writable, got: {reason}")
