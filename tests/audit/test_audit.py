"""Audits of a stand-in that memorizes six of twelve pictures: what is found, helps, repeats."""

import errno
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from filelock import FileLock
from reference import toy_audit
from reference.killed import Mortal
from reference.toy_audit import MEMORIZED, REQUEST, Drawn, Toy

from sidestep import files
from sidestep.audit import ground
from sidestep.audit import on_ray as search_on_ray
from sidestep.audit.build import build_index
from sidestep.audit.engines import Engines, on_ray
from sidestep.audit.evidence import Evidence
from sidestep.audit.sums import NAME as SUMS
from sidestep.errors import BadData, BadRecords, SidestepError
from sidestep.runs.generate import method
from sidestep.runs.records import read
from sidestep.sources.windows import Window


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("audit") / "out"
    toy_audit.run(out)
    return out


@pytest.fixture(scope="module")
def evidence(folder):
    return Evidence.read(folder)


def bundle(out):
    """Every byte of a bundle, but for when it was begun."""
    kept = {
        p.relative_to(out).as_posix(): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and "work" not in p.relative_to(out).parts and p.suffix != ".tmp"
    }
    about = json.loads(kept.pop("audit.json"))
    del about["scope"]["created"]
    kept.pop(SUMS)
    return kept, about


def test_what_shares_and_intervals_are_of_is_said(evidence, tmp_path):
    assert evidence.limits[-1].startswith("Shares and their intervals are of all 12 prompts. For")
    few = toy_audit.run(tmp_path, request=replace(REQUEST, captions=4, tries=()))
    assert few.limits[-1].startswith(
        "Shares and their intervals are of the 4 sampled prompts, the most duplicated of 12 first, "
        "and say nothing of the others. For those the intervals hold in at least 95 % of cases"
    )
    assert not any("narrow" in said for said in (*few.limits, *evidence.limits))


def test_what_is_memorized_is_found_and_nothing_else(evidence):
    assert evidence.verdict.state == "finding"
    assert {f.training.caption for f in evidence.findings} == {
        f"picture {i}" for i in range(MEMORIZED)
    }
    for one in evidence.findings:
        assert [g.name for g in one.prompts] == [one.training.caption]
        assert one.prompts[0].share.copies == REQUEST.draws


def test_controls_do_not_cry_wolf_and_the_search_can_see(evidence):
    assert evidence.search.negative.copies == 0
    assert evidence.search.positives[0].found.share == 1


def test_counts_are_those_of_the_records(folder, evidence):
    rows = read(folder / evidence.records["observed"])
    for group, kind in zip(evidence.results.kinds, ("target", "ordinary", "other"), strict=True):
        own = [r for r in rows if r.kind == kind]
        assert (group.share.copies, group.share.of) == (sum(r.copy for r in own), len(own))
    tried = read(folder / evidence.records["tried"])
    for one in evidence.tried:
        own = [r for r in tried if r.rule == one.label]
        assert one.unfit or one.findings.copies == sum(r.copy for r in own)


def test_what_helps_is_recommended_and_confirmed_on_new_seeds(folder, evidence):
    best = evidence.recommendation
    assert (best.name, best.settings["time"]) == ("static", 0.5) and best.holds
    old = {r.seed for r in read(folder / evidence.records["observed"])}
    new = read(folder / evidence.records["confirmed-1"])
    assert not old & {r.seed for r in new}
    assert best.confirmed.copies == sum(r.copy for r in new) == 0
    assert all(f.confirmed.copies == 0 for f in evidence.findings)


def test_what_does_not_fit_the_model_says_why(evidence):
    (words,) = [t for t in evidence.tried if t.name == "random-words"]
    assert words.unfit and words.findings is None


def test_with_the_recommended_setting_it_passes(tmp_path):
    request = replace(REQUEST, draws=12)
    made = toy_audit.run(tmp_path, how=method("static", time=0.5), request=request)
    # One of 144 is what chance gives: one in a hundred never-trained pictures passes.
    assert made.verdict.state == "pass" and made.verdict.share.copies <= 1 and not made.tried


def test_a_model_that_memorizes_nothing_passes(tmp_path):
    made = toy_audit.run(tmp_path, model=Toy(memorized=0), request=replace(REQUEST, draws=12))
    assert made.verdict.state == "pass" and made.recommendation is None


def test_too_few_draws_are_inconclusive(tmp_path):
    made = toy_audit.run(tmp_path, model=Toy(memorized=0), request=replace(REQUEST, draws=1))
    assert made.verdict.state == "inconclusive" and "--draws" in made.verdict.settle[0]


def test_batches_and_a_second_run_change_no_byte(folder, tmp_path):
    before = bundle(folder)
    toy_audit.run(folder)  # everything is there already
    assert bundle(folder) == before
    toy_audit.run(tmp_path, request=replace(REQUEST, batch=32))
    assert bundle(tmp_path) == before


def test_another_question_is_refused_and_leaves_the_first(folder):
    before = bundle(folder)
    for request in (replace(REQUEST, draws=5), replace(REQUEST, level=0.1)):
        with pytest.raises(BadRecords, match="asked something else"):
            toy_audit.run(folder, request=request)
    with pytest.raises(BadRecords, match="setting"):
        toy_audit.run(folder, how=method("static", time=0.5))
    assert bundle(folder) == before


def test_other_pictures_are_refused(folder, tmp_path):
    toy_audit.run(tmp_path, request=replace(REQUEST, tries=("none",)))
    with pytest.raises(SidestepError, match="other index"):
        toy_audit.run(
            tmp_path,
            request=replace(REQUEST, tries=("none",)),
            images=Drawn(*toy_audit.TRAINING, "one more"),
        )


def test_trained_controls_and_too_few_are_refused(tmp_path):
    with pytest.raises(BadData, match="never saw"):
        toy_audit.run(tmp_path / "a", controls=Drawn("picture 3", *map(str, range(200))))
    with pytest.raises(BadData, match="at least 99"):
        toy_audit.run(tmp_path / "b", controls=Drawn("control 0", "control 1"))
    with pytest.raises(BadData, match="hold-out"):
        toy_audit.run(tmp_path / "c", controls=None)


def test_the_base_model_is_the_control_of_a_lora(tmp_path):
    """The toy without memory makes the controls: same prompts, at least 2 / rate pictures."""
    made = toy_audit.run(
        tmp_path, base=Toy(memorized=0), controls=None, request=replace(REQUEST, tries=("none",))
    )
    assert made.verdict.state == "finding" and made.search.controls >= 200
    assert {f.training.caption for f in made.findings} == {f"picture {i}" for i in range(MEMORIZED)}


def test_pictures_without_captions_are_inconclusive(tmp_path):
    class Silent(Drawn):
        def items(self):
            return (item._replace(caption=None) for item in super().items())

    made = toy_audit.run(tmp_path, images=Silent(*toy_audit.TRAINING))
    assert made.verdict.state == "inconclusive" and "--prompts" in made.verdict.settle[0]


def test_prompts_of_a_file_take_the_place_of_captions(tmp_path):
    made = toy_audit.run(
        tmp_path, prompts=["picture 1", "something"], request=replace(REQUEST, tries=("none",))
    )
    assert made.verdict.state == "finding" and len(made.findings) == 1


def test_a_part_of_a_training_picture_is_found_by_tiles_alone(tmp_path):
    """The model puts the upper left half of one training picture into whatever else it draws."""

    class Pasting(Toy):
        def denoiser(self, prompts):
            return Toy.denoiser(Toy(memorized=0), prompts)

        def decode(self, latents):
            made, half = super().decode(latents), toy_audit.SIDE // 2
            made[:, half:, half:] = toy_audit.pattern("picture 3")[:half, :half]
            return made

    request = replace(REQUEST, draws=8, tries=("none",))
    whole = toy_audit.run(tmp_path / "whole", model=Pasting(), request=request)
    assert whole.results.local is None and "parts" in whole.scope.not_tested[0]
    made = toy_audit.run(tmp_path / "tiles", model=Pasting(), request=replace(request, tiles=3))
    assert made.verdict.state == "finding"
    assert made.results.local.share > 0.9
    found = [f for f in made.findings if f.local and f.training.caption == "picture 3"]
    here, there = found[0].exhibits[0].window.split(" of the generated picture, ")
    here, there = (
        Window.of(f"#{here}"),
        Window.of("#" + there.removesuffix(" of the training picture")),
    )
    assert (here.left - there.left, here.top - there.top) == (0.5, 0.5)


def test_captions_that_the_model_reads_in_part_are_counted(tmp_path):
    class Short(Toy):
        max_tokens = 9

        def count_tokens(self, prompt):
            return len(prompt)

    made = toy_audit.run(tmp_path, model=Short(), request=replace(REQUEST, tries=("none",)))
    # "picture 10" and "picture 11" have 10 letters.
    assert made.prompts.chosen == "all of them; 2 longer than the model reads, so cut at their end"
    shown = [finding.exhibits[0] for finding in made.findings]
    assert all(one.command.endswith(" --cut") == (len(one.prompt) > 9) for one in shown)


def test_a_second_process_is_told_to_wait(folder):
    with FileLock(folder / "work" / "lock"), pytest.raises(BadRecords, match="another process"):
        toy_audit.run(folder)


def test_no_connection_is_made(tmp_path, monkeypatch):
    def refuse(*args, **more):
        raise AssertionError("an audit asked the network for something")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert toy_audit.run(tmp_path).verdict.state == "finding"


def test_a_full_disk_loses_nothing_finished(folder, tmp_path, monkeypatch):
    """The disk has room for 17 writes more each time; in the end nothing tells that it was full."""
    write, calls, room = files.write, [0], [3]

    def full(path, data):
        calls[0] += 1
        if calls[0] > room[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    for module in [m for m in sys.modules.values() if getattr(m, "write", None) is write]:
        monkeypatch.setattr(module, "write", full)
    stops = 0
    while True:
        try:
            toy_audit.run(tmp_path)
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            stops, calls[0], room[0] = stops + 1, 0, room[0] + 17
    assert stops > 5
    assert bundle(tmp_path) == bundle(folder)


@pytest.mark.slow  # starts Ray
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install ray")
def test_two_ray_workers_make_embed_and_search_the_bytes_of_one_process(tmp_path, monkeypatch):
    import ray

    # Workers do not see the tests' own modules.
    ray.cloudpickle.register_pickle_by_value(toy_audit)
    # Small shards, each a unit of the search: an index of one unit is not worth a worker.
    monkeypatch.setattr(ground, "build_index", partial(build_index, pictures_per_shard=5))
    monkeypatch.setattr(search_on_ray, "SHARDS", 1)
    request = replace(REQUEST, tiles=3, tries=("none",), rate=0.05)
    used, spread = Counter(), on_ray(2)

    def counting(name):
        def engine(*given):
            assert ray.is_initialized()
            used[name] += 1
            return getattr(spread, name)(*given)

        return engine

    engines = Engines(*map(counting, ("make", "embed", "search")), spread.begun)
    toy_audit.run(tmp_path / "spread", request=request, engines=engines)
    assert not ray.is_initialized()
    assert used["make"] and used["embed"] == 3 and used["search"] >= 4
    toy_audit.run(tmp_path / "alone", request=request)
    assert bundle(tmp_path / "spread") == bundle(tmp_path / "alone")


@pytest.mark.slow  # a dozen audits, each a process of its own
def test_killed_at_random_moments(folder, tmp_path, monkeypatch):
    run = Mortal(monkeypatch, toy_audit.run, "reference.toy_audit")
    began = time.monotonic()
    toy_audit.run(tmp_path / "life")
    run.life = time.monotonic() - began
    kills = 0
    while not run.finishes(tmp_path / "out", run.moments.uniform(0.1, 0.5) if kills < 8 else None):
        kills += 1
    assert kills >= 3
    assert bundle(Path(tmp_path / "out")) == bundle(folder)


def test_what_cannot_be_tried_is_said_before_anything_is_made(tmp_path):
    with pytest.raises(SidestepError, match="'statik'; did you mean static"):
        toy_audit.run(tmp_path / "out", request=replace(REQUEST, tries=("statik",)))
    assert not (tmp_path / "out").exists()
