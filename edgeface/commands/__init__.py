"""The commands, one file each. They parse options, call the library and print; they hold no logic of their own.

Nothing heavier than typer is imported before a command runs, so that `edgeface --help` is quick.
"""
