"""What the first page of an audit's report says in sentences."""

from sidestep.audit.evidence import Evidence, Finding, Recommendation, Share
from sidestep.audit.tally import Tally
from sidestep.web.figures import percent
from sidestep.web.words import SPACE, count

STATES = {
    "pass": ("Pass", "✓"),
    "finding": ("Finding", "✕"),
    "inconclusive": ("Inconclusive", "?"),
}
MEASURES = {
    "agreement_r5": "R@5 (agreement_r5): the share of pictures whose concept is among the five "
    "nearest of all concepts"
}


def verdict(evidence: Evidence) -> str:
    """The verdict in one sentence."""
    level = percent(evidence.verdict.level)
    match evidence.verdict.state:
        case "pass":
            return (
                "Under the attacks that were run, copies of training pictures stayed within the "
                f"accepted share of {level}."
            )
        case "finding":
            many = count(len(evidence.findings), "different one")
            return (
                "The audited setting gives training pictures back more often than is accepted: "
                f"{many} came back."
            )
        case "inconclusive":
            return (
                "What was made and read does not tell whether copies of training pictures stay "
                f"within the accepted share of {level}."
            )


def bounds(share: Share) -> str:
    """A share with its bounds; where nothing was found, what that can mean at most."""
    said = f"{share.copies:,} of {share.of:,} pictures ({percent(share.share)})"
    if share.copies == 0:
        return (
            f"{said}. None among {share.of:,} does not mean never: the true share may be up to "
            f"{percent(share.high)} (two-sided 95{SPACE}% bound; the rule of thumb, 3/n, says at "
            f"most {percent(min(1.0, 3 / share.of))})"
        )
    return f"{said}, 95{SPACE}% interval {percent(share.low)} to {percent(share.high)}"


def brief(share: Share) -> str:
    """A share with its bounds in a few words."""
    bounded = f"95{SPACE}% interval {percent(share.low)} to {percent(share.high)}"
    return f"{share.copies:,} of {share.of:,} pictures ({percent(share.share)}, {bounded})"


def measure(name: str) -> str:
    """What measures agreement with the prompt, in words where it has them."""
    return MEASURES.get(name, name)


def confirmation(one: Recommendation, level: float) -> str:
    """Whether new seeds bear a recommendation out."""
    found = f"{one.confirmed.copies:,} of {one.confirmed.of:,} pictures from new seeds"
    if one.holds:
        return f"Confirmed: {found} are copies, within the accepted {percent(level)}."
    return f"Not confirmed: {found} are copies, more than the accepted {percent(level)}."


def came_back(finding: Finding) -> str:
    """How a training picture came back, in a line."""
    parts = [
        f"highest similarity {finding.similarity:.3f}",
        f"for {count(len(finding.prompts), 'prompt')}",
        "once in the training set"
        if finding.training.times == 1
        else f"{finding.training.times:,} times in the training set",
    ]
    if finding.local:
        parts.append("a part of the picture only")
    return ", ".join(parts)


def reviewed(tally: Tally) -> str:
    """How many exhibits people hold to be copies."""
    people = "1 person" if len(tally.reviewers) == 1 else f"{len(tally.reviewers):,} people"
    return (
        f"{people} reviewed {len(tally.opinions):,} of {count(tally.exhibits, 'exhibit')}. "
        f"Called a copy: {tally.count('copy'):,}. Called no copy: {tally.count('no copy'):,}. "
        f"Unsure: {tally.count('unsure'):,}. Reviewers disagree: {tally.count('split'):,}."
    )


def together_chosen(tally: Tally) -> str:
    """How often reviewers of the same exhibit chose the same."""
    if not tally.several:
        return "No exhibit was reviewed by more than one person."
    return (
        f"Of {count(tally.several, 'exhibit')} with more than one reviewer, all chose the same "
        f"in {tally.agreed:,}."
    )
