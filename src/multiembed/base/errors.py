"""What a user can get wrong: always one sentence, *subject must rule, got value*."""

import errno
import os
import re

_URL = re.compile(
    r"([a-z][a-z0-9+.-]{0,30}://)"
    r"(?:[^/?#\s]*@|(?!\[)[^/?#\s:]*:(?!\d*(?:[/?#\s]|$))\S*@)?"  # a password may hold marks
    r"([^?#\s]*)(?:[?#]\S*)?",
    re.IGNORECASE,
)
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What names in the user's files may hold and no terminal may get: control characters, line ends,
marks that turn the direction of text, and halves of characters, which no encoding can write."""
_NUMBER = re.compile(r"(?:os error|[Ee]rrno|Os \{ code:) (\d+)")
"""How libraries in other languages say which error of the system they met."""
_LONGEST = 2000
"""Characters of a message; names, paths and values in it may have any number."""
_REASONS = {
    os.strerror(code): code
    for code in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOMEM),
        errno.EMFILE,
    )
}
"""Those that some libraries pass on in words alone."""
_PREPARED = {
    r"\.multiembed-[0-9a-f]{8}/": "",
    r"(?:(?<=/)|^)\.([^/]+)\.multiembed(/\1)?(?=/|$)": r"\1",
}
"""Where `base.files` and `base.workplaces` write what will have another name, and that name."""
_RULES = {
    "maximum recursion depth": "what is read must be nested less deeply",
    "integer string conversion": "whole numbers must have fewer digits",
    "surrogates not allowed": "a name that is written must be UTF-8",
    "'ascii' codec": "the locale must hold every name (PYTHONUTF8=1 makes it UTF-8)",
    "embedded null": "a path must hold no NUL",
}
"""What Python itself refuses, by its words."""


def shown(text: str) -> str:
    """Return text as it may be printed: what `UNSEEN` names becomes an escape."""
    return UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)


def brief(message: str) -> str:
    """Return a message without its middle, where it is too long for anybody to read."""
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]}[...]{message[-_LONGEST // 2 :]}"


def system_error(error: BaseException) -> int | None:
    """Return the number of the system's error that `error` tells of, whichever library raised it.

    None if it tells of none: then it is ours.
    """
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _NUMBER.search(str(error))
    if found:
        return int(found[1])
    return next((code for words, code in _REASONS.items() if words in str(error)), None)


def said_of_surroundings(error: BaseException) -> str | None:
    """Return in one sentence why this machine would not do what was asked; None if it would have.

    The last resort, where no one who knew more of the file or the number turned the error into an
    `InputError`.
    """
    code = system_error(error)
    if code == errno.ENOMEM:
        return f"memory must hold what was asked for, got: {_first_line(error)}"
    if code is not None and isinstance(error, OSError) and error.filename is not None:
        name = error.filename if error.filename2 is None else error.filename2
        name = os.fsdecode(name) if isinstance(name, bytes) else str(name)
        return f"{_asked_for(name)} must be usable, got: {os.strerror(code)}"
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk must have room for what is written, got: {os.strerror(code)}"
    if code is not None or isinstance(error, OSError):
        return f"files must be usable, got: {_first_line(error)}"
    for words, rule in _RULES.items():
        if words in str(error):
            return f"{rule}, got: {_first_line(error)}"
    return None


def _asked_for(path: str) -> str:
    """Return the path that the user knows of a file that is written elsewhere first."""
    for pattern, known in _PREPARED.items():
        path = re.sub(pattern, known, path)
    return path


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def without_secrets(text: str) -> str:
    """Cut from the URLs of a text what may be secret: user, password, query and fragment.

    >>> without_secrets("got https://me:pw@host/rows.csv?sig=1f and s3://b")
    'got https://host/rows.csv and s3://b'
    """
    return _URL.sub(r"\1\2", text)


class InputError(ValueError):
    """The user's input is wrong; the command line prints it as one line and exits with 2.

    Catch it for every mistake that a user can make; `ConfigError` and `DataError` tell which.

    Args:
        message: One sentence, *subject must rule, got value*. Control characters, which names in
            the user's files may hold, become escapes, so that it stays one line; URLs lose what
            may be secret; what is too long its middle.

    Example:
        >>> import multiembed as me
        >>> try:
        ...     me.load_run("nowhere")
        ... except me.InputError as error:
        ...     print(error)
        nowhere must be a run directory, got no config.toml in it
    """

    def __init__(self, message: str) -> None:
        super().__init__(brief(shown(without_secrets(message))))


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
        super().__init__(f"{_asked_for(str(target))} must be writable, got: {reason}")
        self.told = str(target), reason

    def __reduce__(self) -> tuple[type["WriteError"], tuple[str, str]]:
        """Let it come home from another process."""
        return WriteError, self.told
