"""Errors as sentences: what came, what was expected, the next move."""


class SidestepError(Exception):
    """A problem the user can act on; the command line prints its sentence without a traceback."""


class SidestepWarning(UserWarning):
    """Something that the user should know and that stopped nothing."""


class MissingExtra(SidestepError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, install: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package}, not installed here. {install}")


class BadModel(SidestepError):
    """A model folder is missing, incomplete or of a family that is not supported."""


class Overflow(SidestepError):
    """A model's pictures hold numbers that are not finite."""


class BadRecords(SidestepError):
    """A record file cannot be read or does not fit the run."""


class BadBundle(SidestepError):
    """A folder is no evidence bundle, or cannot be made one."""


class BadReviews(SidestepError):
    """What people say of an audit's exhibits cannot be read, or does not fit the audit."""


class BadScenario(SidestepError):
    """A scenario file cannot be read, or says something that a scenario cannot say."""


class BadData(SidestepError):
    """The data of a scenario is missing, or does not have the published form."""
