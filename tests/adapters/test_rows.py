"""Rows of a network call: what is cut, what is left whole, what is refused."""

import pytest
import torch

from sidestep.adapters.pipeline.rows import Arguments, answer, argument, select, spread, take
from sidestep.errors import SidestepError

NAMES = ["sample", "timestep", "encoder_hidden_states"]
ROWS = torch.arange(4.0)


def test_arguments_with_a_row_each_are_cut_and_positional_ones_stay_so():
    call = Arguments(
        (ROWS[:, None], torch.tensor(7)), {"encoder_hidden_states": ROWS[:, None, None]}
    )
    cut = select(NAMES, call, 4, [1, 3])
    assert cut.positional[0][:, 0].tolist() == [1, 3] and cut.positional[1].item() == 7
    assert cut.named["encoder_hidden_states"][:, 0, 0].tolist() == [1, 3]
    assert argument(NAMES, cut, "timestep").item() == 7
    assert argument(NAMES, cut) is cut.positional[0]


def test_frames_of_a_sample_stay_together():
    hidden = torch.arange(8.0)[:, None]  # two frames of each of four rows
    cut = select(NAMES, Arguments((), {"encoder_hidden_states": hidden}), 4, [0, 2])
    assert cut.named["encoder_hidden_states"][:, 0].tolist() == [0, 1, 4, 5]


def test_tables_of_positions_are_whole_though_their_length_is_the_batchs():
    given = {"img_ids": ROWS, "image_rotary_emb": (ROWS, ROWS), "freqs": torch.arange(8.0)}
    cut = select(NAMES, Arguments((), given), 4, [0])
    assert all(cut.named[name] is given[name] for name in given)


def test_dictionaries_lists_of_parts_and_lists_of_rows():
    given = {
        "added_cond_kwargs": {"time_ids": ROWS, "image_embeds": [ROWS], "scale": 0.5},
        "down_block_additional_residuals": (ROWS, ROWS, ROWS, ROWS),
        "x": list(ROWS),
    }
    cut = select(NAMES, Arguments((), given), 4, [2]).named
    assert cut["added_cond_kwargs"]["time_ids"].tolist() == [2]
    assert cut["added_cond_kwargs"]["image_embeds"][0].tolist() == [2]
    assert cut["added_cond_kwargs"]["scale"] == 0.5
    assert [r.tolist() for r in cut["down_block_additional_residuals"]] == [[2]] * 4
    assert [x.item() for x in cut["x"]] == [2]


def test_a_list_that_could_be_either_is_refused():
    with pytest.raises(SidestepError, match="'captions' is a list as long as the batch, 4 rows"):
        select(NAMES, Arguments((), {"captions": ["a"] * 4}), 4, [0])


@pytest.mark.parametrize("keep", [[0, 1], [1, 3], [2]])
def test_spread_puts_rows_back_where_they_were_taken(keep):
    expected = torch.zeros(4).index_put((torch.tensor(keep),), ROWS[keep])
    assert torch.equal(spread(take(ROWS, keep), 4, keep), expected)


def test_answers_of_every_form():
    from diffusers.models.modeling_outputs import Transformer2DModelOutput

    one, other = torch.zeros(2, 3), torch.ones(2, 3)
    for output in (one, (one, "rest"), ([*one], "rest"), Transformer2DModelOutput(sample=one)):
        tensor, put = answer(output)
        assert torch.equal(tensor, one)
        assert torch.equal(answer(put(other))[0], other)
        assert type(put(other)) is type(output)
    with pytest.raises(SidestepError, match="answered with a str"):
        answer("no")
