"""What you ask of the data stage."""

from typing import Self

from pydantic import Field, model_validator

from leptonai.core.nouns import FeatureType, Frozen, Name


class SourceFile(Frozen):
    """One file to import. Its bytes lie in sealed blobs, in order."""

    name: str = Field(min_length=1, max_length=4096)  # as the user wrote it; a label, never opened as a path
    size: int = Field(ge=0)
    parts: tuple[str, ...]
    offset: int = Field(default=0, ge=0)  # where in the first part it begins: many small files share one part
    label: str | None = None  # for an image: the name of the folder it was in


class Import(Frozen):
    """Make a dataset version of files: CSV (also gzipped), Parquet, NPZ, or images in a folder for each class."""

    name: Name
    files: tuple[SourceFile, ...] = ()
    index: str | None = None  # in place of `files` where they are many: a sealed blob that holds them as a JSON list...
    parts: tuple[str, ...] = ()  # ...and the blobs that they lie in
    target: str | None = None  # None: a column named label, target or y, else the last one; "" for none
    types: dict[str, FeatureType] = Field(default_factory=dict)  # overrides of what is inferred
    image_size: tuple[int, int] | None = None  # (height, width): resize images to it
    shard_rows: int = Field(default=65_536, ge=1)

    @model_validator(mode="after")
    def _one_list(self) -> Self:
        if bool(self.files) == (self.index is not None):
            raise ValueError("give files, or an index of files: one of them")
        if self.parts and self.index is None:
            raise ValueError("parts come with an index")
        return self
