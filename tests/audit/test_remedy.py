"""What is tried, what it costs, what is recommended: on records whose answer is known."""

import pytest
import torch
from reference.records_of import image
from scipy.stats import binom

from sidestep import registry
from sidestep.audit import candidates, remedy
from sidestep.audit.evidence import Change, Recommendation, Share, Tried
from sidestep.errors import BadData, SidestepError
from sidestep.runs.generate import method


def rows(rule, copies, of=20, agreement=1):
    return [image(rule, f"p{i}", 0, 0.9 if i < copies else 0.1, agreement) for i in range(of)]


def test_mcnemar_is_the_exact_binomial_test_on_pairs_that_differ():
    before, after = rows("plain", 12), rows("x", 3)
    # 9 pairs lost their copy, none gained one: two-sided 2 * 0.5^9.
    assert remedy.mcnemar(after, before) == pytest.approx(2 * 0.5**9, rel=1e-12)
    assert remedy.mcnemar(before, before) == 1.0
    # 9 against 1: the sum of the tails, by hand.
    gained = [image("x", f"p{i}", 0, 0.9 if i < 3 or i == 15 else 0.1, 1) for i in range(20)]
    tail = 2 * sum(binom.pmf(k, 10, 0.5) for k in (0, 1))
    assert remedy.mcnemar(gained, before) == pytest.approx(tail, rel=1e-12)


def tried(nfe, ordinary, copies=0, backward=0.0, change=None):
    said = None if ordinary is None else Change(mean=ordinary, low=ordinary, high=ordinary)
    return Tried(
        label="", name="", settings={}, findings=Share.count(copies, 20), ordinary=said,
        nfe=nfe, backward=backward, change=change,
    )  # fmt: skip


def test_agreement_comes_before_evaluations_and_chance_before_neither():
    costly, harmful = tried(100, 0.0), tried(40, -0.3)
    assert remedy.price(costly) < remedy.price(harmful)
    # Losses below HARM are within chance: the cheaper one wins.
    assert remedy.price(tried(40, -0.04)) < remedy.price(tried(50, 0.0))
    # A pass backward costs two evaluations; a gain is no bonus.
    assert remedy.price(tried(50, 0.4)) < remedy.price(tried(40, 0.0, backward=6.0))
    assert remedy.price(tried(50, 0.0)) < remedy.price(tried(50, 0.0, copies=1))
    # Without a measure of agreement, what moves ordinary pictures less is cheaper.
    assert remedy.price(tried(50, None, change=0.07)) < remedy.price(tried(40, None, change=0.2))


def test_agreement_is_measured_by_concepts_or_by_text():
    assert remedy.measure(rows("plain", 1)) == "agreement_r5"
    assert remedy.measure(rows("plain", 1, agreement=None)) is None
    texts = [image("plain", "p", 0, 0.1, None, text={"clip": 0.2})]
    assert remedy.measure(texts) == "clip"


def test_every_registered_method_is_a_candidate_or_says_what_it_needs():
    known = candidates.load()
    there = {c.name for c in known.candidates} | set(known.needs)
    assert there == {e.name for e in registry.entries(*registry.GUIDES)}
    labels = [c.method(7.5).slug for c in known.candidates]
    assert len(labels) == len(set(labels))


def test_names_choose_candidates():
    assert {c.name for c in candidates.load(["static", "cads"]).candidates} == {"static", "cads"}
    assert candidates.load(["none"]).candidates == ()
    with pytest.raises(SidestepError, match="did you mean static"):
        candidates.load(["statik"])
    with pytest.raises(BadData, match="somebody has to write"):
        candidates.load(["rewording"])


def test_a_candidate_whose_pictures_overflow_is_not_tried():
    from sidestep.adapters.stable_diffusion import load
    from sidestep.models import embedded

    model = load(embedded.folder())
    how = method("constant")
    assert candidates.unfit(model, how, "a fox") is None
    with torch.no_grad():
        next(model.pipe.vae.decoder.parameters()).fill_(torch.nan)
    assert "not finite" in candidates.unfit(model, how, "a fox")


def test_new_seeds_are_those_of_the_recommended_setting_and_not_of_the_last_one_tried():
    best = Recommendation(
        label="a", name="static", settings={}, why="", seed=1, before=Share.count(9, 10),
        confirmed=Share.count(1, 10), holds=False, python="", command="",
    )  # fmt: skip
    parts = {"tried": rows("a", 3), "confirmed-1": rows("a", 2), "confirmed-2": rows("b", 5)}
    found = remedy.Remedy((), best, parts).confirmed
    assert {r.rule for r in found} == {"a"} and sum(bool(r.copy) for r in found) == 2
