"""Every option of every command: it has a name of its own, its help says what was written, and a test gives it."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from edgeface.cli import app

TESTS = Path(__file__).parent
MISTAKES = ("test_odd_invocations.py",)
"""Files in which options are given so that they are refused."""
DEPTH = 4
"""So many names are followed from what is run to where its options are written."""


def commands(command=None, path=()):
    """Every command below one, with its path: ("gallery", "list")."""
    command = command or get_command(app)
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


TREE = dict(commands())
WORDS = {word for path in TREE for word in path}


def test_no_command_has_two_options_of_one_name():
    assert len(TREE) > 40 and ("gallery", "merge") in TREE
    for path, command in TREE.items():
        names = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
        names += ["-h", "--help"]
        twice = {name for name in names if names.count(name) > 1}
        assert not twice, f"edgeface {' '.join(path)} has {twice} twice"


# --- help


def words(text):
    return re.findall(r"[^\s│╭╮╰╯─]+", text)


@pytest.mark.parametrize("path", TREE, ids=" ".join)
def test_help_loses_no_word(path, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "400")
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    shown = " ".join(words(result.output))
    sources = source_texts()
    command = TREE[path]
    wanted = [sources[path]] if path else []
    wanted += [sources[(*path, parameter.name)] for parameter in command.params if (*path, parameter.name) in sources]
    assert len(wanted) >= len(command.params)
    for text in wanted:
        assert " ".join(words(text)) in shown


def source_texts():
    """What was written as help: of each command by its path, of each option by this and its parameter's name."""
    import inspect
    import typing

    texts = {}

    def add(typer_app, path):
        for info in typer_app.registered_commands:
            here = (*path, info.name)
            texts[here] = inspect.cleandoc(info.callback.__doc__)
            for name, kind in typing.get_type_hints(info.callback, include_extras=True).items():
                for extra in getattr(kind, "__metadata__", ()):
                    texts[(*here, name)] = extra.help
        for group in typer_app.registered_groups:
            texts[(*path, group.name)] = group.typer_instance.info.help
            add(group.typer_instance, (*path, group.name))

    add(app, ())
    assert app.registered_callback and app.registered_callback.callback
    hints = typing.get_type_hints(app.registered_callback.callback, include_extras=True)
    texts.update({(name,): hints[name].__metadata__[0].help for name in ("version", "verbose")})
    return texts


# --- which options tests give


class Module:
    """A file of tests, read to see which options it gives to which command.

    What is run is a call, list or tuple with the words of a command in it; its options are the words after these. A
    name in it stands for what its function, or else the file, sets it to or parametrizes it with, or for what a helper
    or fixture of that name holds.
    """

    def __init__(self, tree):
        self.functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inner = {id(node) for function in self.functions for node in ast.walk(function)}
        self.named = names_set(node for node in ast.walk(tree) if id(node) not in inner)
        for function in self.functions:
            self.named.setdefault(function.name, []).append(function)
        self.known = {}
        self.scopes = {}

    def given(self):
        """The commands and options that are given: (("gallery", "list"), "--json")."""
        for function in self.functions:
            scope = self.scope(function)
            for node in ast.walk(function):
                if isinstance(node, ast.Call | ast.List | ast.Tuple):
                    for path, rest in invocations(self.words(node, scope)):
                        yield from ((path, option) for word in rest for option in options_of(word))

    def scope(self, function):
        if id(function) not in self.scopes:
            self.scopes[id(function)] = self.find_names(function)
        return self.scopes[id(function)]

    def find_names(self, function):
        names = names_set(ast.walk(function))
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("parametrize"):
                for argument in function.args.args:
                    if argument.arg in ast.unparse(decorator.args[0]):
                        names.setdefault(argument.arg, []).append(decorator.args[1])
        return names

    def words(self, node, scope, depth=DEPTH):
        """The words of the strings of an expression in their order; an expression has one scope only."""
        key = (id(node), depth)
        if key not in self.known:
            self.known[key] = list(self.find_words(node, scope, depth))
        return self.known[key]

    def find_words(self, node, scope, depth):
        match node:
            case ast.Constant(value=str(text)):
                yield from telling(text)
            case ast.JoinedStr():
                yield from telling(
                    "".join(
                        str(part.value) if isinstance(part, ast.Constant) else " ".join(self.words(part, scope, depth))
                        for part in node.values
                    )
                )
            case ast.Name(id=name) | ast.Attribute(attr=name):
                if isinstance(node, ast.Attribute):
                    yield from self.words(node.value, scope, depth)
                for value in scope.get(name, self.named.get(name, ())) if depth else ():
                    if isinstance(value, ast.FunctionDef):
                        within = self.scope(value)
                        for statement in value.body:
                            yield from self.words(statement, within, depth - 1)
                    else:
                        yield from self.words(value, scope, depth - 1)
            case ast.Assert():
                pass
            case ast.List() | ast.Tuple():
                for child in node.elts:
                    found = self.words(child, scope, depth)
                    # A command within a list of commands is run by itself.
                    if not (isinstance(child, ast.List | ast.Tuple) and found and (found[0],) in TREE):
                        yield from found
            case ast.Call():
                for child in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                    yield from self.words(child, scope, depth)
            case _:
                for inner in ast.iter_child_nodes(node):
                    yield from self.words(inner, scope, depth)


def telling(text):
    """The words of a text that may be of a command or an option; all others would only be carried along."""
    return [word for word in text.split() if word.startswith("-") or word in WORDS]


def names_set(nodes):
    names: dict[str, list[ast.expr]] = {}
    for node in nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.AugAssign(target=ast.Name(id=name), value=value)
            ):
                names.setdefault(name, []).append(value)
    return names


def invocations(said):
    """Each command among words that begin with one, and the words after it."""
    for place, word in enumerate(said):
        if (word,) not in TREE:
            continue
        after = said[place + 1 :]
        if hasattr(TREE[(word,)], "commands"):
            if after and (word, after[0]) in TREE:
                yield (word, after[0]), after[1:]
        else:
            yield (word,), after


def options_of(word):
    """`--set` of `--set=run.epochs=1`, both letters of `-vq`."""
    if re.match(r"--[a-z]", word):
        yield word.split("=")[0]
    elif re.fullmatch(r"-[a-z]+", word):
        yield from (f"-{letter}" for letter in word[1:])


@pytest.fixture(scope="module")
def given():
    files = [file for file in sorted(TESTS.glob("test_*.py")) if file.name not in MISTAKES]
    return {each for file in files for each in Module(ast.parse(file.read_text())).given()}


SAME = {("gallery", "add"): ("enroll",)}
"""Commands that are another one under a second name."""


@pytest.mark.parametrize("path", [path for path in TREE if path], ids=" ".join)
def test_a_test_gives_every_option(path, given):
    of = SAME.get(path, path)
    flags = [names for option in TREE[path].params for names in (option.opts, option.secondary_opts) if names]
    flags = [names for names in flags if names[0].startswith("-")]
    missing = [names[0] for names in flags if not any((of, name) in given for name in names)]
    assert not missing, f"no test runs `edgeface {' '.join(path)}` with {', '.join(missing)}"


def test_the_reader_of_tests_sees_what_is_given_and_nothing_else():
    text = """
COMMON = ["--gallery", "g"]

def invoke(*arguments):
    return CliRunner().invoke(app, ["gallery", *arguments])

@pytest.mark.parametrize("extra", [["--forget"], ["--set=a=1"]])
def test_a(extra):
    invoke("remove", "Ada", *COMMON, *extra)
    options = f"--bundle {b} -q"
    run(["bench", options])

def test_b():
    options = ["--faces", "3"]
    assert "--image" in run("bench", "--help").output
    print("--runs")
"""
    seen = set(Module(ast.parse(text)).given())
    assert seen == {
        *((("gallery", "remove"), option) for option in ("--gallery", "--forget", "--set")),
        *((("bench",), option) for option in ("--bundle", "-q", "--help")),
    }
