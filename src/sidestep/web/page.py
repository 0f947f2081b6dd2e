"""The templates of the pages, with what all of them share."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment() -> Environment:
    """Templates that escape all text and refuse what they do not know."""
    return Environment(
        loader=PackageLoader("sidestep.web"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
