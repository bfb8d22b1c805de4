"""What a user means by the files of a dataset: files, folders, archives, buckets, tables in memory, a query.

Everything becomes a list of `Source`: something with a name that can be opened and read. What is wrong is said before anything
is sent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from leptonai.core.errors import FieldError, Invalid
from leptonai.data.spec import ARRAYS, IMAGES, MEDIA, NOTES, SOUNDS, TABLES, WRITINGS
from leptonai.sdk import archives, buckets, frames

_KNOWN = (*TABLES, *ARRAYS, *MEDIA, *NOTES)
_LONGEST = 4096  # characters of a name
_RIGHT = f"{', '.join(TABLES)}, a zip, or a folder of images, sounds or texts by class"


class Source(NamedTuple):
    """A file to send: the name it is to have, the class folder it lies in, its size, and how it is opened."""

    name: str
    label: str | None
    size: int
    open: Callable[[], BinaryIO]
    place: str = ""  # where it lies, for messages
    path: Path | None = None  # of a file on this machine


def sources(files: Any, keep: ExitStack | None = None, *, loose: bool = False) -> list[Source]:
    """Return the files that are meant: paths as given; of a folder or archive, its tables, or what lies in its class folders.

    `keep` holds temporary files open for as long as they are needed. With `loose` images, sounds and texts need no class folders,
    since a table says more of each. Raises `Invalid` that names what is missing, empty, or
    of a kind that is not known: before anything is sent.
    """
    keep = keep or ExitStack()
    alone = isinstance(files, (str, Path, Mapping)) or frames.is_table(files)
    given = [files] if alone else list(files)
    if not given:
        raise Invalid("no file is given: name at least one", errors=[FieldError("files", "at least one")])
    found: list[Source] = []
    for number, item in enumerate(given):
        found += _meant(item, number, keep, loose)
    found = _distinct(found)
    with_notes = any(_ends(source, NOTES) for source in found) or _yolo(found)
    for source in found:
        empty = with_notes and _ends(source, WRITINGS)  # how YOLO says that there is nothing in an image
        _check(source, loose=loose or with_notes or "/" in source.name, empty=empty)
    return found


def _yolo(found: list[Source]) -> bool:
    """Whether texts lie beside images that say what is in them: of the same names, or the names of the classes."""
    images = {source.name.rpartition(".")[0] for source in found if source.label is None and _ends(source, IMAGES)}
    texts = {source.name for source in found if source.label is None and _ends(source, (*WRITINGS, ".yaml"))}
    return bool(images) and any(
        name in ("classes.txt", "data.yaml") or name.rpartition(".")[0] in images for name in texts
    )


def _meant(item: Any, number: int, keep: ExitStack, loose: bool) -> list[Source]:
    if frames.is_table(item) or isinstance(item, Mapping):
        file, ending = keep.enter_context(frames.written(item, f"table {number + 1}"))
        size = file.seek(0, 2)
        return [Source(f"table-{number + 1}{ending}", None, size, lambda: frames.reopened(file))]
    if isinstance(item, str) and buckets.is_url(item):
        inside = [Source(n, None, size, opens, place) for n, size, opens, place in buckets.listed(item)]
        return (
            _arranged(inside, item, loose) if len(inside) > 1 or inside[0].name != item.rpartition("/")[2] else inside
        )
    path = Path(item).expanduser()
    if path.is_dir():
        return _arranged(list(_below(path)), str(path), loose)
    if not path.is_file():
        raise Invalid(f"{item}: there is no such file or folder", errors=[FieldError(str(item), "no such file")])
    if path.name.lower().endswith(".zip"):
        archive = keep.enter_context(archives.opened(path))
        return _arranged([Source(n, None, size, opens, f"{path}: {n}") for n, size, opens in archive], str(path), loose)
    return [_file(path, path.name)]


def _file(path: Path, name: str) -> Source:
    try:
        return Source(name, None, path.stat().st_size, lambda: path.open("rb"), str(path), path)
    except OSError as error:
        raise unreadable(path, error) from error


def _below(folder: Path) -> Iterator[Source]:
    """Yield the files in a folder and in those inside it, but for hidden ones; two levels down are as deep as datasets go."""
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            yield _file(path, inside.as_posix())


def _arranged(inside: list[Source], place: str, loose: bool) -> list[Source]:
    """Return what a folder or an archive is meant to give: its tables, or what is in its class folders, or images with notes."""
    inside = _without_shell(inside)
    top = [source for source in inside if "/" not in source.name]
    deep = [source for source in inside if "/" in source.name]
    if loose:
        return [source for source in inside if _ends(source, MEDIA)]
    tables = [source for source in top if _ends(source, (*TABLES, *ARRAYS))]
    media = [source for source in deep if _ends(source, MEDIA)]
    pictures = [source for source in inside if _ends(source, IMAGES)]
    stems = {PurePosixPath(source.name).stem for source in pictures}
    notes = [
        source
        for source in inside
        if _ends(source, NOTES) or (_ends(source, (".txt",)) and PurePosixPath(source.name).stem in stems)
    ]
    if pictures and notes:
        return [
            *pictures,
            *notes,
            *(s for s in inside if s.name.rpartition("/")[2] in ("classes.txt", "data.yaml") and s not in notes),
        ]
    by_class = [s._replace(label=PurePosixPath(s.name).parent.name) for s in deep if s.name.count("/") == 1]
    if tables and any(_ends(source, (*IMAGES, *SOUNDS)) for source in by_class):
        raise Invalid(
            f"{place} holds tables ({tables[0].name}) and class folders with files ({by_class[0].label}): name the one that is "
            "meant, or say that the table holds the labels (labels=…)",
            errors=[FieldError(place, "tables, or class folders")],
        )
    if tables:
        return tables
    if not media or not by_class:
        raise Invalid(
            f"{place}: there are no tables in this folder, and no images in class folders, such as {place}/cat/1.png",
            errors=[FieldError(place, "tables, or a folder of images for each class")],
        )
    alone = next((source for source in top if _ends(source, MEDIA)), None)
    if alone is not None:
        raise Invalid(
            f"{alone.place or alone.name} lies beside the class folders: put it into one of them, or take it away",
            errors=[FieldError(alone.name, "in a class folder")],
        )
    return by_class


def _without_shell(inside: list[Source]) -> list[Source]:
    """Return names without the one folder that holds everything, as archives often have."""
    parts = [source.name.split("/") for source in inside]
    while parts and all(len(it) > 2 for it in parts) and len({it[0] for it in parts}) == 1:
        parts = [it[1:] for it in parts]
    return [source._replace(name="/".join(it)) for source, it in zip(inside, parts, strict=True)]


def with_labels(found: list[Source], table: "str | Path") -> list[Source]:
    """Return the files of a dataset and the table that says more of each of them. Raises `Invalid`."""
    path = Path(table).expanduser()
    if not path.is_file():
        raise Invalid(
            f"labels: {table} is no file", errors=[FieldError("labels", "a table with a column of file names")]
        )
    return [*(source for source in found if source.place != str(path)), _file(path, f"labels:{path.name}")]


def _ends(source: Source, endings: Iterable[str]) -> bool:
    return source.name.lower().endswith(tuple(endings))


def _distinct(found: list[Source]) -> list[Source]:
    """Return the files with names that tell them apart: those of the same name get their whole path."""
    seen: dict[str, int] = {}
    for source in found:
        seen[source.name] = seen.get(source.name, 0) + 1
    return [source if seen[source.name] == 1 else source._replace(name=source.place) for source in found]


def _check(source: Source, *, loose: bool, empty: bool = False) -> None:
    where = source.place or source.name
    shown = where.encode("utf-8", "replace").decode()
    if shown != where:
        raise Invalid(
            f"the name of {shown} is not Unicode: rename the file", errors=[FieldError(shown, "a name in UTF-8")]
        )
    if len(source.name) > _LONGEST:
        raise Invalid(
            f"{where[:100]}… has a name of {len(source.name):,} characters, and at most {_LONGEST:,} are taken: rename it",
            errors=[FieldError(f"{where[:100]}…", f"at most {_LONGEST:,} characters")],
        )
    if source.label is None and _ends(source, MEDIA) and not loose:
        what = "image" if _ends(source, IMAGES) else "sound" if _ends(source, SOUNDS) else "text"
        raise Invalid(
            f"{where} is one {what}: give the folder that has a folder of {what}s for each class, or a table with labels "
            "(labels=…)",
            errors=[FieldError(where, "a folder")],
        )
    if source.label is None and not _ends(source, (*_KNOWN, ".yaml")):
        raise Invalid(f"{where} is not a kind of file that is known: use {_RIGHT}", errors=[FieldError(where, _RIGHT)])
    if not source.size and not empty:
        raise Invalid(f"{where} is empty: there is no data in it", errors=[FieldError(where, "is empty")])


def unreadable(place: object, error: OSError) -> Invalid:
    """Return what is said of a file that cannot be read."""
    return Invalid(
        f"{error.filename or place} cannot be read: {error.strerror or error}",
        errors=[FieldError(str(place), "readable")],
    )
