from pathlib import Path

import pytest
from tests.support.imports import Importer


@pytest.fixture
def files(tmp_path: Path) -> Importer:
    """What imports files and reads them again."""
    return Importer(tmp_path / "run")
