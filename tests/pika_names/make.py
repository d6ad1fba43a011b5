"""Prints the public names of the pika that is unpacked in the folder given, one a line, each with its arguments.

Names are read from the sources, because the old ones cannot be imported any more. Left out are constants, and how
pollers, workflows and adapters are made inside, which is nothing that a program names.

To make the files beside this one again, for VERSION 1.4.4 and 0.9.14:

    pip download --no-deps --no-binary :all: pika==VERSION
    tar xzf pika-VERSION.tar.gz
    python make.py pika-VERSION/pika > pika-VERSION.txt
"""

import ast
import re
import sys
from pathlib import Path

MODULES = ["callback", "channel", "connection", "credentials", "data", "delivery_mode", "exceptions", "exchange_type",
           "frame", "heartbeat", "spec", "adapters/*_connection", "adapters/utils/connection_workflow"]
INSIDE = re.compile(r"_.*|Abstract.*|AMQPConnector|.*(Adapter|Dispatcher|Event|Events|Evt|Impl|Poller|T)|ContentFrame.*"
                    r"|internal_connection_workflow|nbio|state_manager|WRAPPED_METHODS|do(Read|Write)|logPrefix"
                    r"|connection(Failed|Made|Lost|Ready)|callback_deferred|channel_closed|channel_impl|async_")


def is_named(name):
    return not INSIDE.fullmatch(name) and not name.isupper()


def arguments(function):
    listed = [*function.args.args, *function.args.kwonlyargs]
    return {one.arg for one in listed if one.arg not in ("self", "cls") and is_named(one.arg)}


def names_of_statement(statement):
    """What one statement of a class names, with its arguments."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        is_setter = any(isinstance(decorator, ast.Attribute) for decorator in statement.decorator_list)
        if not is_setter:
            yield statement.name, arguments(statement)
    elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from ((target.id, set()) for target in targets if isinstance(target, ast.Name))


def attributes(of):
    """What an object is given: `self.name = …`."""
    for node in ast.walk(of):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            yield node.attr, set()


def is_self(node):
    return isinstance(node, ast.Name) and node.id == "self"


def names_of_class(of, has_attributes):
    yield of.name, set()
    members = [member for statement in of.body for member in names_of_statement(statement)]
    for name, taken in [*members, *(attributes(of) if has_attributes else [])]:
        if name == "__init__":
            yield of.name, taken
        elif is_named(name):
            yield f"{of.name}.{name}", taken


def names_of_module(path):
    # `async` was a name before it was a word of the language.
    for node in ast.parse(re.sub(r"\.async\b", ".async_", path.read_text())).body:
        is_documented = path.stem != "spec" or node.__dict__.get("name") == "BasicProperties"
        if isinstance(node, ast.ClassDef) and is_documented and is_named(node.name):
            yield from names_of_class(node, path.parent.name == "pika")
        elif isinstance(node, ast.FunctionDef) and path.stem == "data":
            yield f"data.{node.name}", set()


names = {}
for module in MODULES:
    for path in Path(sys.argv[1]).glob(f"{module}.py"):
        for name, taken in names_of_module(path):
            names.setdefault(name, set()).update(taken)
for name in sorted(names):
    print(name, *sorted(names[name]))
