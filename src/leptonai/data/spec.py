"""What you ask of the data stage."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from leptonai.core.nouns import Frozen, Name
from leptonai.core.signature import FeatureType
from leptonai.data.spec_check import Rules

PACKED = (".gz", ".bz2", ".xz", ".zst")
_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson")
TABLES = (*_TEXTS, *(text + packed for text in _TEXTS for packed in PACKED), ".parquet", ".arrow", ".feather", ".npz")
"""How files end that hold rows."""

ARRAYS = ("-ubyte", "-ubyte.gz", ".idx", ".idx.gz")
"""How IDX files end: each holds one array, and those of one dataset lie side by side."""

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
SOUNDS = (".wav", ".flac")
WRITINGS = (".txt", ".md")
MEDIA = (*IMAGES, *SOUNDS, *WRITINGS)
"""How files end that are one row each: an image, a sound, a text."""

NOTES = (".json", ".xml")
"""How files end that say what is in images, beside them."""


Side = Annotated[int, Field(ge=1, le=8192)]  # pixels


class SourceFile(Frozen):
    """One file to import. Its bytes lie in sealed blobs, in order."""

    name: str = Field(min_length=1, max_length=4096)  # as the user wrote it; a label, never opened as a path
    size: int = Field(ge=0)
    parts: tuple[str, ...] = ()
    offset: int = Field(default=0, ge=0)  # where in the first part it begins: many small files share one part
    path: str | None = None  # in place of parts: where it lies on the machine of the Site, see `Import.local`
    changed: int = 0  # of a file with a path: when, in nanoseconds, so that one that changes meanwhile is noticed
    label: str | None = None  # of an image, sound or text: the name of the class folder it was in


class Import(Frozen):
    """Make a dataset version of files: tables, arrays, or images, sounds and texts with a class folder, table or boxes."""

    name: Name
    files: tuple[SourceFile, ...] = ()
    index: str | None = None  # in place of `files` where they are many: a sealed blob that holds them as a JSON list...
    parts: tuple[str, ...] = ()  # ...and the blobs that they lie in
    target: str | None = None  # None: a column named label, target or y, else the last one; "" for none
    types: dict[str, FeatureType] = Field(default_factory=dict)  # overrides of what is inferred
    local: bool = (
        False  # files with a path are read where they lie: only for programs of the user and machine of the server
    )
    unlabelled: bool = False  # rows may have no value of the target: it is found later
    base: str | None = None  # a version whose rows come first: its shards are shared
    labels: str | None = None  # which of the files is a table that says more of each image, sound or text
    image_size: tuple[Side, Side] | None = None  # (height, width): resize images to it
    audio_rate: int | None = Field(default=None, ge=1000, le=192_000)  # samples a second; None: as the first file has
    audio_seconds: float | None = Field(
        default=None, gt=0, le=600
    )  # longer sounds are cut, shorter ones end in silence
    pii: tuple[str, ...] = ()  # personal columns: each gets a key of its own, which the permission dataset:pii opens
    checks: Rules | None = None  # what the rows must keep; None: what the newest version of the name was imported with
    augment: Annotated[tuple[dict[str, Any] | str, ...], Field(max_length=32)] | None = (
        None  # how a training changes its rows; None: as above
    )
    declares: tuple[str, ...] = ()  # which of checks and augment were asked for: the server fills it in
    shard_rows: int = Field(default=65_536, ge=1)

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.files) == (self.index is not None):
            raise ValueError("give files, or an index of files: one of them")
        if named := [name for name in self.pii if self.types.get(name) is FeatureType.CATEGORY]:
            raise ValueError(f"{named[0]} cannot be a category: it is personal, and everybody would see its categories")
        if self.parts and self.index is None:
            raise ValueError("parts come with an index")
        return self
