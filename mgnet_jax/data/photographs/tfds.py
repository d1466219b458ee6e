"""What we use of tensorflow-datasets and of array_record, a format of its sets, without TensorFlow.

A set lies in FOLDER/NAME/VERSION: some files of metadata and, for each split, shards of records, a
record for each image.
"""

# The only module that imports these two, and where they are needed: what reads no prepared set does
# not wait for them.
import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mgnet_jax.data.info import DataError

INFO_FILE = "dataset_info.json"


def default_folder() -> Path:
    """The folder of sets where none is named."""
    import tensorflow_datasets as tfds

    return Path(tfds.core.constants.DATA_DIR).expanduser()


def open_set(folder: Path, remedy: str) -> Any:
    """Opens the metadata of a set: tensorflow-datasets' builder.

    Args:
      folder: of a version.
      remedy: what to do if the set has another format.

    Raises:
      DataError: it has.
      Exception: of any kind, where the metadata is missing or damaged.
    """
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    formats = builder.info.available_file_formats()
    if tfds.core.FileFormat.ARRAY_RECORD not in formats:
        found = ", ".join(form.value for form in formats)
        raise DataError(f"{folder}: expected the format array_record, found {found}. {remedy}")
    return builder


def read_images(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the images, all of one size, and the labels of a split into memory."""
    examples = list(builder.as_data_source(split))
    images = np.stack([example["image"] for example in examples])
    return images, np.array([example["label"] for example in examples])


def class_names(builder: Any) -> list[str]:
    """The names of the classes of a set of images, in label order.

    Raises:
      DataError: it holds no images, or labels that are no classes.
    """
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    for key, kind in (("image", tfds.features.Image), ("label", tfds.features.ClassLabel)):
        if not isinstance(feature := features.get(key), kind):
            raise DataError(
                f"{builder.data_path}: expected a feature {key!r} of the type {kind.__name__}, "
                f"found {feature}"
            )
    return features["label"].names


def shards(builder: Any, split: str) -> dict[str, int]:
    """The names of the shards of a split, and how many records each has."""
    info = builder.info.splits[split]
    names = [os.path.basename(path) for path in info.filenames]
    return dict(zip(names, info.shard_lengths, strict=True))


def open_shard(path: Path) -> Any:
    """Opens a shard for reads in any order; one that is cut or missing has no records.

    Returns:
      What has `num_records()` and `read([place])`, which threads may share. Records have checksums:
      `read` raises RuntimeError for a damaged one.
    """
    from array_record.python import array_record_module

    options = "readahead_buffer_size:0,max_parallelism:0"
    return array_record_module.ArrayRecordReader(str(path), options, file_reader_buffer_size=2**15)


def parse(record: bytes) -> Any:
    """The features of a record by name, as TensorFlow's proto holds them."""
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


def shard_file(name: str, split: str, index: int, count: int) -> str:
    """The name of a shard."""
    return f"{name}-{split}.array_record-{index:05}-of-{count:05}"


def _features(class_names: Sequence[str]) -> Any:
    """The features of a set of photographs, as imagenet2012 has them."""
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
    label = tfds.features.ClassLabel(names=list(class_names))
    features = {"image": image, "label": label, "file_name": tfds.features.Text()}
    return tfds.features.FeaturesDict(features)


class ShardWriter:
    """Writes a shard; the same photographs make the same bytes.

    Every call raises OSError where the file cannot be written.

    Attributes:
      images: how many photographs it holds.
      bytes: the size of their records.
    """

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        from array_record.python import array_record_module
        from tensorflow_datasets.core.example_serializer import ExampleSerializer

        self.images = self.bytes = 0
        self._features = _features(class_names)
        self._serializer = ExampleSerializer(self._features.get_serialized_info())
        with _writing():
            self._writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")

    def write(self, jpeg: bytes, label: int, file_name: bytes) -> None:
        """Adds a photograph."""
        example = {"image": io.BytesIO(jpeg), "label": label, "file_name": file_name}
        encoded = self._serializer.get_tf_example(self._features.encode_example(example))
        record = encoded.SerializeToString(deterministic=True)
        with _writing():
            self._writer.write(record)
        self.images += 1
        self.bytes += len(record)

    def close(self) -> None:
        """Ends the file."""
        with _writing():
            self._writer.close()


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Makes an error of array_record one of the system, without the places in its own layers."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).partition("; ")[0]) from error


def write_metadata(
    folder: Path,
    name: str,
    version: str,
    class_names: Sequence[str],
    splits: Mapping[str, tuple[Sequence[int], int]],
) -> None:
    """Makes a folder of whole shards a set of tensorflow-datasets.

    Args:
      folder: with the shards, each named by `shard_file`.
      name: of the set.
      version: of the set.
      class_names: in label order.
      splits: how many records each shard of a split has, and the size of them all in bytes.
    """
    import tensorflow_datasets as tfds

    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=name, filetype_suffix="array_record"
    )
    infos = [
        tfds.core.SplitInfo(split, list(lengths), size, template.replace(split=split))
        for split, (lengths, size) in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(class_names),
        split_infos=infos,
        version=version,
        description=f"{name}: photographs and their classes, prepared by mgnet_jax.",
        check_data=False,  # reads with TensorFlow
    )
