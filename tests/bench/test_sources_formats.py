"""The published formats, read from stand-ins in the same form."""

import json

import pytest
from bench import stand_ins

from sidestep.bench.loading import load
from sidestep.bench.sources.formats import Captions, Classes, Pairs, Webster
from sidestep.errors import BadData


def names(prompt, images):
    return [p.relative_to(images).as_posix() for p in prompt.own]


def test_webster_prompts_have_the_images_of_their_index_and_the_form_of_the_list(tmp_path):
    stand_ins.s4(tmp_path)
    found = list(load("s4").prompts.prompts(tmp_path, tmp_path / "gt_images"))
    assert [p.text for p in found] == ['a fox, said "Lifted Up"', "a café; a lemon", "=a robot"]
    owned = [names(p, tmp_path / "gt_images") for p in found]
    assert owned == [["111/0.png", "111/1.png"], ["222/0.png"], []]
    assert [p.form for p in found] == ["template", "verbatim", None]
    without = Webster(path="sdv1_500_memorized.jsonl").prompts(tmp_path, tmp_path / "gt_images")
    assert [p.form for p in without] == [None, None, None]


def test_an_unknown_type_of_memorization_is_refused(tmp_path):
    stand_ins.s4(tmp_path)
    list_ = tmp_path / "memorized_laion_prompts.csv"
    list_.write_text(list_.read_text().replace(";VM;", ";XX;"))
    with pytest.raises(BadData, match=r"line 3: 'type' is 'XX'; it must be VM or TM"):
        list(load("s4").prompts.prompts(tmp_path, tmp_path / "gt_images"))


def test_captions_find_their_images_wherever_the_folders_were(tmp_path):
    stand_ins.s1(tmp_path)
    images = tmp_path / "laion_10k_random"
    path = images / "laion_combined_captions.json"
    found = list(load("s1").prompts.prompts(tmp_path, images))
    assert [p.text for p in found] == ["a fox", "a lemon", "a robot", "a fox"]
    expected = [[f"images_large/part_{i % 2}/{i:05d}.jpg"] for i in range(4)]
    assert [names(p, images) for p in found] == expected
    # Keys of Windows, of a missing image, and one that climbs out of the folder.
    (tmp_path / "outside.jpg").touch()
    given = {
        r"D:\data\images_large\part_1\00001.jpg": ["w"], "gone.jpg": ["g"], "../outside.jpg": ["o"]
    }  # fmt: skip
    path.write_text(json.dumps(given))
    found = list(load("s1").prompts.prompts(tmp_path, images))
    assert [names(p, images) for p in found] == [expected[1], [], []]


@pytest.mark.parametrize("captions", [[], [""], "a fox", [7], None])
def test_an_image_without_a_caption_is_refused(tmp_path, captions):
    (tmp_path / "c.json").write_text(json.dumps({"x.jpg": captions}))
    with pytest.raises(BadData, match=r"'x\.jpg' has no list of captions"):
        list(Captions(path="c.json").prompts(tmp_path, tmp_path))


def test_pairs_are_text_and_image_of_one_name_in_the_order_of_names(tmp_path):
    for name in ["10", "9", "b"]:
        (tmp_path / f"{name}.txt").write_text(f" caption {name}\n")
    stand_ins.picture(tmp_path / "9.jpg", 0)
    stand_ins.picture(tmp_path / "b.png", 1)
    stand_ins.picture(tmp_path / "alone.png", 2)
    found = list(Pairs(path=".").prompts(tmp_path, tmp_path))
    assert [p.text for p in found] == ["caption 10", "caption 9", "caption b"]
    assert [names(p, tmp_path) for p in found] == [[], ["9.jpg"], ["b.png"]]
    (tmp_path / "b.txt").write_text("\n")
    with pytest.raises(BadData, match=r"b\.txt is empty"):
        list(Pairs(path=".").prompts(tmp_path, tmp_path))


def test_classes_own_all_images_of_their_folder(tmp_path):
    stand_ins.s2(tmp_path)
    images = tmp_path / "imagenette2/train"
    found = list(load("s2").prompts.prompts(tmp_path, images))
    assert [p.text for p in found][:2] == ["An image of tench", "An image of English springer"]
    assert names(found[0], images) == ["n01440764/n01440764_0.JPEG", "n01440764/n01440764_1.JPEG"]
    other = Classes(path="imagenette2/train", names={"n0": "cat"}, template="a {}")
    with pytest.raises(BadData, match=r"has no folder n0 \(cat\)"):
        list(other.prompts(tmp_path, images))
