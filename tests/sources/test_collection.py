"""The same pictures and captions from a folder, from archives and from Parquet."""

import io
import json
import tarfile
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from sidestep.errors import BadData, MissingExtra
from sidestep.sources import table
from sidestep.sources.base import Columns
from sidestep.sources.collection import open_collection


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def facts(source, columns=None):
    collection = open_collection(str(source), columns)
    items = list(collection.items())
    assert collection.count() == len(items)
    assert len({i.path for i in items}) == len(items)
    return [
        (i.path, i.data if isinstance(i.data, bytes | str) else i.data.read_bytes(), i.caption)
        for i in items
    ]


def test_a_folder_with_captions_beside_and_in_metadata(tmp_path):
    (tmp_path / "b").mkdir()
    for name, seed in (("b/2.png", 1), ("a.png", 2), ("b/1.png", 3)):
        (tmp_path / name).write_bytes(png(seed))
    (tmp_path / "a.txt").write_text(" a fox\n")
    lines = [{"file_name": "2.png", "text": "a sled"}, {"file_name": "none.png", "text": "x"}]
    (tmp_path / "b" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert facts(tmp_path) == [
        ("a.png", png(2), "a fox"), ("b/1.png", png(3), None), ("b/2.png", png(1), "a sled"),
    ]  # fmt: skip


def archive(path, members):
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                file.addfile(info)
            else:
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))


def test_archives_with_captions_before_and_after_the_image(tmp_path):
    archive(
        tmp_path / "00.tar",
        [
            ("0.txt", b"a fox"), ("0.png", png(0)), ("x/1.png", png(1)),
            ("x/1.json", b'{"caption": "a sled", "url": ""}'), ("2.png", png(2)),
        ],
    )  # fmt: skip
    # A link is nothing to read; a name that comes again is another picture.
    archive(tmp_path / "01.tar", [("l.png", None), ("0.png", png(3)), ("0.png", png(4))])
    assert facts(tmp_path) == [
        ("00.tar/0.png", png(0), "a fox"), ("00.tar/x/1.png", png(1), "a sled"),
        ("00.tar/2.png", png(2), None), ("01.tar/0.png", png(3), None),
        ("01.tar/0.png~2", png(4), None),
    ]  # fmt: skip
    assert [f[0] for f in facts(tmp_path / "00.tar")] == [
        "00.tar/0.png", "00.tar/x/1.png", "00.tar/2.png",
    ]  # fmt: skip


def test_an_archive_that_is_cut_off_is_said_and_the_next_is_read(tmp_path):
    archive(tmp_path / "0.tar", [("0.png", png(0)), ("1.png", png(1) * 40), ("2.png", png(2))])
    archive(tmp_path / "1.tar", [("0.png", png(3))])
    data = (tmp_path / "0.tar").read_bytes()
    (tmp_path / "0.tar").write_bytes(data[:4096])  # within the second picture
    items = list(open_collection(str(tmp_path)).items())
    assert [i.path for i in items] == ["0.tar/0.png", "0.tar", "1.tar/0.png"]
    assert "cut off or damaged" in items[1].data


def test_a_compressed_archive_is_not_unfolded(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as file:
        file.addfile(tarfile.TarInfo("a.png"))
    (item,) = open_collection(str(tmp_path)).items()
    assert "cut off or damaged" in item.data


def test_a_caption_that_is_no_text_is_a_sentence(tmp_path):
    archive(tmp_path / "0.tar", [("0.png", png(0)), ("0.txt", b"\xff\xfe")])
    with pytest.raises(BadData, match=r"0\.txt in .*0\.tar' is no UTF-8"):
        list(open_collection(str(tmp_path)).items())


def test_parquet_with_bytes_or_with_the_form_of_data_sets(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(
        pyarrow.table({"picture": [png(0), None], "words": ["a fox", "b"]}), tmp_path / "a.parquet"
    )
    columns = Columns("picture", "words")
    assert facts(tmp_path, columns) == [
        ("a.parquet/0", png(0), "a fox"),
        ("a.parquet/1", "the row holds no bytes of an image", "b"),
    ]
    with pytest.raises(BadData, match="no column 'image'; it has picture, words"):
        facts(tmp_path)
    cells = [{"bytes": png(i), "path": f"{i}.png"} for i in range(table.BATCH + 5)]
    parquet.write_table(
        pyarrow.table({"image": cells, "text": [str(i) for i in range(len(cells))]}),
        tmp_path / "a.parquet",
    )
    assert facts(tmp_path / "a.parquet") == [
        (f"a.parquet/{i}", png(i), str(i)) for i in range(len(cells))
    ]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(BadData, match="no whole Parquet file"):
        facts(tmp_path)


def test_what_cannot_be_a_collection_is_a_sentence(tmp_path):
    with pytest.raises(BadData, match="holds nothing to read"):
        open_collection(str(tmp_path))
    (tmp_path / "a.png").write_bytes(png(0))
    archive(tmp_path / "0.tar", [])
    with pytest.raises(BadData, match=r"holds \.tar and images; give"):
        open_collection(str(tmp_path))
    with pytest.raises(BadData, match="there is no"):
        open_collection(str(tmp_path / "absent"))


@pytest.mark.skipif(find_spec("datasets") is not None, reason="the package is installed")
def test_a_data_set_of_the_hub_names_the_package_it_needs():
    with pytest.raises(MissingExtra, match="pip install datasets"):
        open_collection("owner/name:train")


def test_one_picture_is_no_collection(tmp_path):
    (tmp_path / "a.png").write_bytes(png(0))
    with pytest.raises(BadData, match="is one picture; give the folder that it lies in"):
        open_collection(str(tmp_path / "a.png"))
