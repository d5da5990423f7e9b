"""`python -m edgeface` is the same as the command `edgeface`."""

from edgeface.cli import main

if __name__ == "__main__":
    main()
