"""The program: `edgeface`, or `python -m edgeface`."""

from edgeface.commands.first_moments import leave_at_once


def main() -> None:
    """Run the command line; a signal ends it quietly from the first moment on."""
    leave_at_once()
    from edgeface.cli import main as run

    run()


if __name__ == "__main__":
    main()
