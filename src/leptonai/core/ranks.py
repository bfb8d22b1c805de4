"""Which of the processes of a Run this is: most Runs have one, a training may have several that learn together.

Those of a study help each other, and may be on other machines of its Site.
"""

from typing import NamedTuple


class Rank(NamedTuple):
    """Process `number` of a Run that has `of` of them. The first one, 0, is who speaks to the server of what the Run does.

    `meet`: the path of a file by which those on one machine find each other; "" where who started them has joined them.
    """

    number: int = 0
    of: int = 1
    meet: str = ""

    @property
    def words(self) -> str:
        """What it is called where people read it, such as "worker 2 of 4"."""
        return f"worker {self.number + 1} of {self.of}"


ALONE = Rank()
MOST = 1024  # processes that one Run may have
AWAY = "leptonai.agent.away:main"  # the entry of a process that helps a Run from another machine of its Site
LOST = 77  # the exit code of who stands in for a process on another machine, where that machine was lost
