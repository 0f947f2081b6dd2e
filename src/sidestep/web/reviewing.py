"""The one script of an audit's report: choices on exhibits, saved as a file.

The page's policy names the script by its SHA-256, so that no other script runs there, whatever a
caption holds. The script is the same in every report; what differs stands in attributes.
"""

import base64
import hashlib
from importlib.resources import files

from markupsafe import Markup

from sidestep.audit.reviews import NAME, NOTE

# What `audit.reviews.odd` refuses, for the browser to say while somebody types.
PATTERN = r"(?![=+\-@\uFF1D\uFF0B\uFF0D\uFF20])(?!.*<[\p{L}\/!?]).*"
TITLE = "no tags, and no =, +, - or @ at the start"


def script() -> Markup:
    """The script as it stands between its tags."""
    return Markup(files("sidestep.web").joinpath("templates/review.js").read_text("utf-8"))


def policy(code: str) -> Markup:
    """What a content security policy must say so that this script runs."""
    number = hashlib.sha256(code.encode()).digest()
    return Markup(f"script-src 'sha256-{base64.b64encode(number).decode('ascii')}'; ")


FIELDS = {"NAME": NAME, "NOTE": NOTE, "PATTERN": PATTERN, "TITLE": TITLE}
