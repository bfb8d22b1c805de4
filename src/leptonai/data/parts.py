"""The uploaded parts of files, put together again."""

from collections.abc import Callable, Iterator, Sequence

from pydantic import TypeAdapter, ValidationError

from leptonai.core.errors import Corrupt, Invalid
from leptonai.core.ports import Store
from leptonai.data.spec import Import, SourceFile

_FILES = TypeAdapter(tuple[SourceFile, ...])


def listed(spec: Import, blobs: Store) -> tuple[SourceFile, ...]:
    """Return the files to import, from the spec or from its index. Raises `Invalid`."""
    if spec.index is None:
        return spec.files
    with blobs.open(spec.index) as file:
        data = file.read()
    try:
        files = _FILES.validate_json(data)
    except ValidationError as error:
        raise Invalid(f"the index of the files is not a list of files: {error.errors()[0]['msg']}") from error
    if not files:
        raise Invalid("the index of the files lists no file: name at least one")
    return files


def contents(
    files: Sequence[SourceFile], blobs: Store, told: Callable[[int], None]
) -> Iterator[tuple[SourceFile, bytes]]:
    """Yield each file with its bytes. Many small files share a part: the last one read is kept. `told` hears the files done."""
    kept, data = "", b""
    for number, file in enumerate(files, start=1):
        pieces = []
        for part in file.parts:
            if part != kept:
                with blobs.open(part) as opened:
                    kept, data = part, opened.read()
            pieces.append(data)
        whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if file.offset or len(whole) != file.size:
            whole = whole[file.offset : file.offset + file.size]
        if len(whole) != file.size:
            raise Corrupt(f"{file.name}: {len(whole):,} of its {file.size:,} bytes were uploaded: upload it again")
        yield file, whole
        if number % 200 == 0 or number == len(files):
            told(number)
