"""The process that decodes one HEIC: the library crashes on some broken files, and must not take ours with it.

Reads the file on its standard input; writes width, height and channels as three numbers of four bytes, and the pixels.
"""

import contextlib
import struct
import sys


def main() -> int:
    """Decode; returns the exit code, 1 with the reason on standard error if it cannot be done."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        most = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        import pi_heif

        file = pi_heif.open_heif(sys.stdin.buffer.read(), convert_hdr_to_8bit=True, bgr_mode=False)
        pixels = file.data
        width, height = file.size
    except Exception as error:  # it raises whatever comes to hand
        sys.stderr.write(f"{' '.join(str(error).split())[:120] or type(error).__name__}\n")
        return 1
    sys.stdout.buffer.write(struct.pack("<III", width, height, len(pixels) // (width * height)))
    sys.stdout.buffer.write(pixels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
