"""Memory that all streams share: any one may have much of it, all no more than there is."""

OWN = 16
"""Places that each stream has to itself, whatever others take, and how many it gets at a time."""


class Room:
    """So many places, given out `OWN` at a time."""

    __slots__ = ("left",)

    def __init__(self, places: int) -> None:
        self.left = places

    def take(self) -> bool:
        """Take `OWN` places if there are."""
        if self.left < OWN:
            return False
        self.left -= OWN
        return True
