"""What a report says in words: the verdict, and what its numbers do not say."""

from typing import Any

from sidestep.runs.records import Record
from sidestep.runs.summary import is_scored
from sidestep.web.run import Run, Summary

SPACE = "\N{NO-BREAK SPACE}"  # a number and its % stay on one line
KINDS = {
    "target": ("memorized captions", "captions whose picture training repeated"),
    "ordinary": ("ordinary captions", "captions whose words come with many pictures"),
    "other": ("prompts", "prompts of no known kind"),
}


def percent(share: float, digits: int = 0) -> str:
    """A share in [0, 1] as a percentage, such as `4 %`; `under 1 %` is not rounded to nothing."""
    if digits == 0 and 0 < share < 0.01:
        return f"under 1{SPACE}%"
    return f"{100 * share:.{digits}f}{SPACE}%"


def share(value: float | None) -> str:
    """A share in [0, 1] as a percentage, `-` where it is not known."""
    return "-" if value is None else percent(value)


def count(number: int, noun: str) -> str:
    """`1 picture`, `2 pictures`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline_kind(summary: Summary) -> str | None:
    """The kind of prompt the verdict is about; None where nothing is scored."""
    kinds = {kind for rows in summary.values() for kind in rows}
    return next((kind for kind in KINDS if kind in kinds), None)


def plain_rule(run: Run, kind: str) -> str | None:
    """The rule of plain guidance with scored pictures of a kind, None where there is none."""
    for rule, rows in run.records.items():
        if rows[0].method == "constant" and kind in run.summary.get(rule, {}):
            return rule
    return None


def best_rule(run: Run, kind: str) -> str | None:
    """The rule with the highest good share, apart from plain guidance; then the fewest copies.

    Where no agreement is known the fewest copies decide alone.
    """
    rows = {
        rule: kinds[kind]
        for rule, kinds in run.summary.items()
        if kind in kinds and rule != plain_rule(run, kind)
    }
    if not rows:
        return None
    return max(rows, key=lambda rule: (rows[rule]["good_share"] or 0.0, -rows[rule]["copy_share"]))


def verdict(run: Run) -> list[str]:
    """One paragraph as sentences, computed from the summary alone."""
    kind = headline_kind(run.summary)
    if kind is None:
        return _unscored(run)
    plain, best = plain_rule(run, kind), best_rule(run, kind)
    captions, rows = KINDS[kind][0], run.summary
    said = []
    if plain is not None:
        said.append(
            f"Plain guidance copied a training picture in {_share(rows[plain][kind])} of "
            f"{count(rows[plain][kind]['images'], 'image')} made from {captions}."
        )
    if best is not None:
        one = rows[best][kind]
        other = rows[plain][kind] if plain is not None else None
        known = one["good_share"] is not None
        name = f"{'The best rule' if known else 'The rule with the fewest copies'}, “{best}”,"
        if other is None:
            said.append(
                f"{name} copied a training picture in {_share(one)} of "
                f"{count(one['images'], 'image')} made from {captions}{_agreement(one)}."
            )
        else:
            said.append(f"{name} copied in {_share(one)}{_kept(one, other)}.")
            said.append(_difference(one, other))
        if known:
            than = f" (plain guidance: {share(other['good_share'])})" if other else ""
            said.append(
                f"With it, {percent(one['good_share'])} of the images are good: on the prompt and "
                f"no copy{than}."
            )
    said += _ordinary(run, kind, plain, best)
    return said


def opened(row: dict[str, Any], method: str) -> str:
    """How guidance came on in one summary row of a method, in words."""
    if method == "constant":
        return "from the start"
    parts = [
        f"{row[key]:,} {name}"
        for key, name in (
            ("opened_by_signal", "by signal"),
            ("opened_by_fallback", "by fallback"),
            ("never_opened", "never"),
        )
        if row[key]
    ]
    return ", ".join(parts) or "at a set time"


def limits(run: Run) -> list[str]:
    """What the numbers mean and do not mean, as sentences."""
    rows = [r for r in run.every if is_scored(r)]
    said = []
    if rows:
        said += _copy_means(run, rows[0])
        said.append(
            "Intervals are 95 % Clopper-Pearson bounds for these prompts. Images of one prompt "
            "resemble each other, so for other prompts the uncertainty is wider."
        )
        said.append(
            "The best rule is named after the same images it is reported on; on new prompts expect "
            "it to do somewhat worse."
        )
    if any(r.agreement is not None for r in rows):
        said.append(
            "Agreement (R@1, R@5) is the share of images whose concept is the nearest, or among "
            "the "
            "five nearest, of all concepts to the image in feature space"
            + _ceiling(run)
            + ". It says what is shown, not how well it is drawn."
        )
    if any(r.text for r in rows):
        said.append(
            "An image-text score is the mean cosine of picture and prompt under the model it is "
            "named after. Memorized pictures fit their captions unnaturally well, so it must fall "
            "a little where copies stop."
        )
    if rows:
        said.append(
            "Diversity is the mean dissimilarity between images of the same prompt. NFE counts "
            "network evaluations of one image; seconds are wall time on the machine of the run."
        )
    said.append(
        "A low copy share speaks about these prompts, seeds and this model. It is no proof that "
        "the "
        "model cannot give away a training picture in another way."
    )
    return said


def _unscored(run: Run) -> list[str]:
    rows = run.every
    prompts = len({r.prompt for r in rows})
    rules = run.rules[0] if len(run.rules) == 1 else count(len(run.rules), "rule")
    return [
        f"{count(len(rows), 'picture')} of {count(prompts, 'prompt')} with {rules}.",
        "They were not compared with training pictures, so this report shows no copies and no "
        "agreement: only the pictures, and when guidance came on.",
    ]


def _share(row: dict[str, Any]) -> str:
    low, high = percent(row["copy_low"]), percent(row["copy_high"])
    return f"{percent(row['copy_share'])} (95 % interval {low} to {high})"


def _agreement(row: dict[str, Any]) -> str:
    if row["agreement_r5"] is None:
        return ""
    return f"; {percent(row['agreement_r5'])} of them show what the prompt says"


def _kept(one: dict[str, Any], plain: dict[str, Any]) -> str:
    scores = [
        f"{name} is {value:.3f} against {plain['text'][name]:.3f}"
        for name, value in one["text"].items()
        if name in plain["text"]
    ]
    if not plain["agreement_r5"] or one["agreement_r5"] is None:
        return f"; {', '.join(scores)}" if scores else ""
    kept = percent(one["agreement_r5"] / plain["agreement_r5"])
    return (
        f" and kept {kept} of plain guidance's agreement with the prompt (concept among the five "
        f"nearest: {percent(one['agreement_r5'])} against {percent(plain['agreement_r5'])})"
    )


def _difference(one: dict[str, Any], plain: dict[str, Any]) -> str:
    if not plain["copies"]:
        return "As plain guidance copied nothing, this run cannot show that a rule prevents copies."
    if one["copy_high"] < plain["copy_low"]:
        return "The intervals do not overlap, so chance alone does not explain the difference."
    if one["copy_share"] < plain["copy_share"]:
        return "The intervals overlap, so this run is too small to tell the two apart."
    return "It did not copy less than plain guidance."


def _ordinary(run: Run, kind: str, plain: str | None, best: str | None) -> list[str]:
    shares = {
        rule: run.summary[rule]["ordinary"]
        for rule in (plain, best)
        if rule is not None and "ordinary" in run.summary[rule]
    }
    if kind == "ordinary" or not shares:
        return []
    told = " and ".join(
        f"“{rule}” copied in {percent(row['copy_share'])}" for rule, row in shares.items()
    )
    return [f"On ordinary captions {told}."]


def _copy_means(run: Run, record: Record) -> list[str]:
    listed = run.header.get("calibration")
    found = [
        c
        for c in (listed if isinstance(listed, list) else [])
        if isinstance(c, dict) and c.get("recipe") == record.recipe
    ]
    said = f"A copy is an image whose similarity to its nearest training picture ({record.recipe})"
    if record.threshold is not None:
        said += f" lies above {record.threshold:.3f}"
    said += "."
    if found and isinstance(found[0].get("rate"), int | float):
        said += (
            f" The threshold is set so that at most {percent(found[0]['rate'], 1)} of pictures "
            "that "
            "were never trained on would pass as copies"
        )
        if isinstance(found[0].get("controls"), int):
            said += f", measured on {found[0]['controls']:,} of them"
        said += ". A copy that was changed beyond what the recipe recognises is missed."
    return [said]


def _ceiling(run: Run) -> str:
    ceiling = run.header.get("agreement_ceiling")
    if not isinstance(ceiling, dict) or not isinstance(ceiling.get("r5"), int | float):
        return ""
    return f"; real drawings that were held out of training reach {percent(ceiling['r5'])} of R@5"
