"""Reading bit by bit."""


class Bits:
    """Reads numbers from bytes, the highest bit first.

    Raises:
        IndexError: when the bytes are used up.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        value = 0
        for _ in range(count):
            byte = self._data[self._at >> 3]
            value = value << 1 | byte >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def read_exponential(self) -> int:
        """Return a number in Exp-Golomb coding, as H.264 and H.265 have it."""
        zeros = 0
        while not self.read(1):
            zeros += 1
            if zeros > 32:
                raise IndexError("a number of more than 32 bits")
        return (1 << zeros) - 1 + self.read(zeros)
