import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from bdd_tf.datasets import decoders, reconstructions
from bdd_tf.datasets.decoders import DecoderSpec
from bdd_tf.datasets.folds import REAL_HELD_OUT
from bdd_tf.datasets.photos import OWN_DECODERS, Photo, read_files, read_manifest
from bdd_tf.errors import UsageError
from tests.datasets import photo_archive

IMAGE = photo_archive.picture(np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    photo_archive.write(folder, per_source=42)
    return folder


@pytest.mark.parametrize(("quality", "subsampling"), [(60, 2), (95, 0), (80, 1)])
def test_a_reconstruction_has_its_photographs_tables_and_subsampling(quality, subsampling):
    original = photo_archive.jpeg(IMAGE, quality, subsampling)
    made = reconstructions.encode_like(255 - IMAGE, original)
    with Image.open(io.BytesIO(original)) as one, Image.open(io.BytesIO(made)) as other:
        assert one.quantization == other.quantization
        assert JpegImagePlugin.get_sampling(one) == JpegImagePlugin.get_sampling(other) == subsampling
    with io.BytesIO() as png:
        Image.fromarray(IMAGE).save(png, "PNG")
        assert reconstructions.encode_like(IMAGE, png.getvalue())[:2] == b"\xff\xd8"


def test_resampling_keeps_the_size_and_most_of_the_image():
    for chain in reconstructions.CHAINS:
        made = reconstructions.resample(IMAGE, chain)
        assert made.shape == IMAGE.shape
        assert 1 < np.abs(made.astype(int) - IMAGE).mean() < 20


def test_photographs_that_every_fold_holds_out_are_not_reconstructed():
    def photo(source, label, split):
        return Photo(source, label, split, source, "", source, "native", 1, 300, 300)

    given = [photo("a", 0, "train"), photo("a", 0, "validation"), photo("g", 1, "train")]
    given += [photo(name, 0, "train") for name in REAL_HELD_OUT]
    assert reconstructions.chosen_reals(given) == given[:1]


def test_a_folder_of_reconstructions(folder, tmp_path):
    output = tmp_path / "made"
    names = (
        "decoder-4-transposed4",
        "decoder-8-transposed4-adv",
        "decoder-4-nearest-vq",
        "decoder-4-nearest-fsq",
    )
    fidelity = reconstructions.write(folder, output, updates=3, images=6, resampled=3, names=names)
    assert set(fidelity) == set(names)
    photos, originals = read_manifest(output), {p.content: p for p in read_manifest(folder) if not p.label}
    assert len(photos) == len(names) * 6 + len(reconstructions.CHAINS) * 3
    assert len(read_files(output, photos)) == len(photos)
    for photo in photos:
        assert photo.family == OWN_DECODERS
        assert photo.split == "train"
        assert photo.label == (photo.source in names)
        original = originals[photo.content]
        assert photo.short_side == pytest.approx(original.short_side, rel=1e-3)
        assert (photo.group, photo.quality, photo.format) == (
            original.group,
            original.quality,
            original.format,
        )
    with pytest.raises(UsageError, match="is not empty"):
        reconstructions.write(folder, output, updates=1, names=names)
    with pytest.raises(UsageError, match="unknown decoder"):
        reconstructions.write(folder, tmp_path / "other", names=("decoder-9",))


def test_every_decoder_returns_images_of_its_inputs_size():
    assert len({spec.name for spec in decoders.SPECS}) == len(decoders.SPECS)
    images = np.stack([IMAGE[:50, :61]])
    for spec in decoders.SPECS:
        made = decoders.reconstruct(decoders.build(spec), images)
        assert made.shape == images.shape, spec.name
        assert made.dtype == np.uint8


def test_training_brings_a_decoder_closer():
    crops = np.stack([photo_archive.picture(np.random.default_rng(i), 64) for i in range(16)])
    spec = DecoderSpec("d", 2, "nearest", width=8, latent=8)
    few, more = (
        decoders.psnr(crops, decoders.reconstruct(decoders.train(spec, crops, n), crops)).mean()
        for n in (1, 80)
    )
    assert more > few + 5


def test_impossible_decoders_are_refused():
    for values in ({"stride": 3}, {"upsampling": "cubic"}, {"loss": "l3"}, {"codes": 8, "latent": 6}):
        with pytest.raises(UsageError):
            DecoderSpec(**{"name": "d", "stride": 2, "upsampling": "nearest"} | values)
