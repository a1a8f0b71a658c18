"""Parameters, images and batches of the classifier: everything that needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from millrace.errors import Invalid
from millrace_components import reference
from millrace_components.classifier.batches import augment, epoch_rows
from millrace_components.classifier.images import read
from millrace_components.classifier.params import Params, parse


@pytest.mark.parametrize(
    "document",
    [{"epochs": 0}, {"epoch": 3}, {"learning_rate": float("nan")}, {"train": "../x/"}, {"train": "/etc/"}, [], None],
)
def test_bad_parameters_are_refused(document: object) -> None:
    with pytest.raises(Invalid):
        parse(document)


def test_a_tree_becomes_rows_in_a_fixed_order(tree: Path) -> None:
    data = read(tree, Params())
    assert data.classes == ("bar", "dot", "ring")
    assert (len(data.train), len(data.recent), len(data.holdout)) == (60, 0, 24)
    assert data.shape == (8, 8, 1)
    assert list(data.train.paths) == sorted(data.train.paths)
    assert data.train.images.dtype == np.float32
    assert 0 <= data.train.images.min() <= data.train.images.max() <= 1
    assert read(tree, Params()).digest == data.digest


def test_the_newest_incident_is_the_reference_and_older_ones_are_training_rows(tree: Path, write: Any) -> None:
    write(tree, "reference/incident-1", 2, 3)
    write(tree, "reference/incident-2", 3, 4)
    data = read(tree, Params())
    assert data.incident == "incident-2"
    assert (len(data.train), len(data.recent)) == (66, 9)
    assert all(path.startswith("reference/incident-2/") for path in data.recent.paths)


def test_one_changed_pixel_is_other_data(tree: Path) -> None:
    before = read(tree, Params()).digest
    path = tree / "train" / "bar" / "000.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    assert read(tree, Params()).digest != before


def test_what_is_no_image_is_refused_with_its_path(tree: Path) -> None:
    (tree / "train" / "dot" / "005.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(Invalid, match=r"train/dot/005\.png"):
        read(tree, Params())


def test_images_of_another_size_are_refused(tree: Path) -> None:
    Image.new("L", (9, 8)).save(tree / "train" / "dot" / "zz.png")
    with pytest.raises(Invalid, match="differs"):
        read(tree, Params())


def test_links_are_not_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes((tree / "train/dot/000.png").read_bytes())
    (tree / "train/dot/link.png").symlink_to(tmp_path / "outside.png")
    assert len(read(tree, Params()).train) == 60


def test_a_class_that_is_only_held_out_is_refused(tree: Path) -> None:
    (tree / "train" / "ring").rename(tree / "elsewhere")
    with pytest.raises(Invalid, match="ring"):
        read(tree, Params())


def test_no_rows_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="train/"):
        read(tmp_path, Params())


def test_colour_and_sixteen_bits_are_read(tmp_path: Path) -> None:
    for prefix in ("train", "holdout"):
        folder = tmp_path / prefix / "a"
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4), (255, 0, 0)).save(folder / "x.png")
    assert read(tmp_path, Params()).shape == (4, 4, 3)
    for prefix in ("train", "holdout"):
        Image.fromarray(np.full((4, 4), 65_535, np.uint16)).save(tmp_path / prefix / "a" / "x.png")
    data = read(tmp_path, Params())
    assert data.shape == (4, 4, 1)
    assert data.train.images.max() == 1


def test_an_epoch_is_a_function_of_seed_and_epoch(tree: Path) -> None:
    data, params = read(tree, Params()), Params(seed=3)
    one, again = epoch_rows(data.train, data.recent, params, 5), epoch_rows(data.train, data.recent, params, 5)
    other = epoch_rows(data.train, data.recent, params, 6)
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[0], other[0])
    assert sorted(one[1]) == sorted(data.train.labels)


def test_the_newest_incident_gets_its_share(tree: Path, write: Any) -> None:
    write(tree, "reference/incident-1", 2, 3, invert=True)
    data, params = read(tree, Params()), Params(reference_share=0.5, noise=0, rotation=0, translation=0, scaling=0)
    images, _ = epoch_rows(data.train, data.recent, params, 0)
    bright = (images.mean(axis=(1, 2, 3)) > 0.5).mean()
    assert bright == pytest.approx(0.5, abs=0.02)


def test_augmentation_without_strength_changes_nothing() -> None:
    images = np.random.default_rng(0).random((5, 8, 8, 1), dtype=np.float32)
    still = Params(rotation=0, translation=0, scaling=0, noise=0)
    assert np.array_equal(augment(images, still, np.random.default_rng(1)), images)
    nearly = Params(rotation=1e-9, translation=0, scaling=0, noise=0)
    assert np.allclose(augment(images, nearly, np.random.default_rng(1)), images, atol=1e-5)


def test_augmentation_keeps_shapes_of_all_sizes() -> None:
    for shape in ((3, 1, 1, 1), (2, 5, 9, 3)):
        images = np.random.default_rng(0).random(shape, dtype=np.float32)
        assert augment(images, Params(), np.random.default_rng(1)).shape == shape


def test_a_reference_says_what_it_is_made_of() -> None:
    random = np.random.default_rng(0)
    outputs = random.dirichlet(np.ones(3), 40).astype(np.float32)
    made = reference.build(
        inputs=random.random((40, 8, 8, 1), dtype=np.float32),
        outputs=outputs,
        labels=outputs.argmax(axis=1),
        training_inputs=random.random((90, 8, 8, 1), dtype=np.float32),
        classes=("a", "b", "c"),
        basis="held-out",
        incident=None,
        dataset="shapes",
        commit="d" * 64,
        run="00000000-0000-7000-8000-000000000001",
    )
    assert (made.record_set, made.rows, made.predictions.accuracy) == ("holdout", 40, 1.0)
    assert made.error_bounds.q005 <= made.error_bounds.q05 <= made.error_bounds.q95 <= made.error_bounds.q995
    assert [histogram.name for histogram in made.features][:3] == ["brightness", "contrast", "edge_energy"]
