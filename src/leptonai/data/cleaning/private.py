"""Steps that make data less personal, as steps of cleaning. What they write stays personal where it was."""

import pyarrow as pa

from leptonai.data import anonymise
from leptonai.data.cleaning.action import Action, Moved
from leptonai.data.cleaning.plan import Planned


class Anonymise(Action):
    """Mask, hash or generalise values."""

    def __init__(self, planned: Planned, pepper: bytes):
        super().__init__(planned)
        self._pepper = pepper  # the key of keyed digests of this dataset's values

    def apply(self, table: pa.Table) -> Moved:
        """Anonymise."""
        return Moved(table, anonymise.apply(table, self.step, self._pepper))
