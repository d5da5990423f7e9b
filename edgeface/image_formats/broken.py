"""What a picture is refused for by its structure."""


class BrokenPicture(Exception):
    """The structure of a file does not hold.

    Args:
        reason: in words that follow the name of the file and a colon.
        cut: whether the file ends too early, as after a copy that broke off.
    """

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


def other_size(what: str, stated_wh: tuple[int, int], size_wh: tuple[int, int]) -> BrokenPicture:
    """Say that `what` states another size than the header; a decoder may go by either."""
    return BrokenPicture(
        f"it says {size_wh[0]} x {size_wh[1]} pixels at its start and {stated_wh[0]} x {stated_wh[1]} in {what}"
    )
