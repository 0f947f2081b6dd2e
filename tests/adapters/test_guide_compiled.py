"""sidestep.guide and torch.compile, in every order; the backend runs what it traced as it is."""

import pytest
import torch
from torch._dynamo.utils import counters

import sidestep

pytest.importorskip("adapters.families", reason="the families are not here")

from adapters.families import FAMILIES

BY_NAME = {family.name: family for family in FAMILIES}


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True], ids=["compile, attach", "attach, compile"])
@pytest.mark.parametrize("way", ["wrap", "in place", "blocks", "full graph"])
@pytest.mark.parametrize("name", ["sd3", "wan"])  # rows left out; a whole call left out
def test_it_acts_on_a_compiled_network_without_a_graph_break(name, way, late):
    family = BY_NAME[name]

    def call(pipe):
        return family.call(pipe, [0, 1], steps=6, scale=4.0)

    plain = family.build()
    with sidestep.guide(plain, "static") as run:
        expected = call(plain)
    nfe = run.trace.nfe.tolist()

    pipe = family.build()
    network = pipe.transformer

    def compiled():
        if way == "wrap":
            pipe.transformer = torch.compile(network, backend="eager")
        elif way == "blocks":  # as compile_repeated_blocks does, which SD3 does not offer
            for block in network.transformer_blocks if name == "sd3" else network.blocks:
                block.compile(backend="eager")
        else:
            network.compile(backend="eager", fullgraph=way == "full graph")

    # A call that is left out compiles nothing, which `fullgraph` takes for an error.
    skip = not (way == "full graph" and name == "wan")

    torch._dynamo.reset()
    counters.clear()
    if not late:
        compiled()
        call(pipe)  # the graph is there before the hooks are
    with sidestep.guide(pipe, "static", skip=skip) as run:
        if late:
            compiled()
        made = call(pipe)
    if skip:
        assert torch.equal(made, expected) and run.trace.nfe.tolist() == nfe
    else:
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-4)
    assert not counters["graph_break"]
