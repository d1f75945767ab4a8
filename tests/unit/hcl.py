"""Works out the expressions of Terraform's language, which python-hcl2 parses.

Only what docs/terraform/aws uses is known; anything else raises.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote_plus

import hcl2
from hcl2.rules.abstract import LarkRule

Names = Mapping[str, Any]


class Reference(str):
    """A resource, or an attribute of one, which is known only when it is made: its address and the attribute's name."""

    __slots__ = ()


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _replace(text: str, old: str, new: str) -> str:
    assert not old.startswith("/"), "a regular expression"
    return text.replace(old, new)


def _one(items: list[Any]) -> Any:
    (item,) = items or [None]
    return item


def _regex(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if not found:
        raise LookupError(pattern)
    return found.group()


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "alltrue": all,
    "coalesce": lambda *values: next(value for value in values if value not in {None, ""}),
    "concat": lambda *lists: [item for items in lists for item in items],
    "contains": lambda items, item: item in items,
    "distinct": lambda items: list(dict.fromkeys(items)),
    "filebase64sha256": lambda path: f"digest of {path}",
    "jsondecode": json.loads,
    "jsonencode": _json,
    "keys": sorted,
    "length": len,
    "merge": lambda *maps: {name: value for each in maps for name, value in each.items()},
    "one": _one,
    "regex": _regex,
    "replace": _replace,
    "sha1": lambda text: hashlib.sha1(text.encode()).hexdigest(),  # noqa: S324 - a name, no secret
    "split": lambda separator, text: text.split(separator),
    "substr": lambda text, offset, length: text[offset : offset + length],
    "tostring": _text,
    "trimspace": str.strip,
    "urlencode": quote_plus,
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
}
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\", "$${": "${"}


@cache
def parsed(text: str) -> LarkRule:
    """Return a file's body."""
    (body,) = parts(hcl2.parses(text, discard_comments=True))
    assert isinstance(body, LarkRule)
    return body


def parts(node: LarkRule) -> list[Any]:
    """Return what a piece of the text is made of, without punctuation."""
    return [each for each in node.children if isinstance(each, LarkRule) and each.lark_name() != "new_line_or_comment"]


def word(node: Any) -> str:
    """Return a piece of the text as it is written."""
    return "".join(
        word(each) if isinstance(each, LarkRule) else str(each) for each in node.children if each is not None
    )


def kind(node: Any) -> str:
    """Return the name of a piece in the grammar."""
    return type(node).__name__.removesuffix("Rule")


def attributes(body: LarkRule) -> dict[str, Any]:
    """Return the expressions of a block by name."""
    return {word(parts(each)[0]): parts(each)[1] for each in parts(body) if kind(each) == "Attribute"}


def blocks(body: LarkRule) -> Iterator[tuple[list[str], Any]]:
    """Yield the labels and the body of each block."""
    for each in parts(body):
        if kind(each) == "Block":
            *labels, inner = parts(each)
            yield [word(label).strip('"') for label in labels], inner


class Expressions:
    """Works expressions out, in which `name` says what a name means."""

    def __init__(self, name: Callable[[str], Any]) -> None:
        self._name = name

    def value(self, node: Any, names: Names) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case for each piece of the grammar
        """Work an expression out."""
        match kind(node), parts(node):
            case "ExprTerm", [inner]:
                return self.value(inner, names)
            case "Identifier", _:
                return names[word(node)] if word(node) in names else self._name(word(node))
            case (("IntLit" | "FloatLit" | "LiteralValue"), _):
                return json.loads(word(node))
            case "String", pieces:
                return self._template(pieces, names)
            case "HeredocTrimTemplate", _:
                lines = word(node).splitlines(keepends=True)
                assert "${" not in word(node)
                return textwrap.dedent("".join(lines[1:-1]))
            case "Tuple", items:
                return [self.value(item, names) for item in items]
            case "Object", items:
                pairs = [parts(item) for item in items]
                return {self.key(name, names): self.value(value, names) for name, value in pairs}
            case "Conditional", [condition, yes, no]:
                return self.value(yes if self.value(condition, names) else no, names)
            case "UnaryOp", [operand]:
                value = self.value(operand, names)
                return not value if word(node).startswith("!") else -value
            case "BinaryOp", [left, right]:
                sign, operand = parts(right)
                return self._binary(left, sign, operand, names)
            case "GetAttrExprTerm", [term, attribute]:
                return self._attribute(self.value(term, names), word(parts(attribute)[0]))
            case "IndexExprTerm", [term, index]:
                return self.value(term, names)[self.value(parts(index)[0], names)]
            case "FullSplatExprTerm", [term, splat]:
                (attribute,) = parts(splat)
                return [self._attribute(item, word(parts(attribute)[0])) for item in self.value(term, names)]
            case "ForTupleExpr", [intro, item, *condition]:
                return [self.value(item, inner) for inner in self._each(intro, condition, names)]
            case "ForObjectExpr", [intro, name, item, *condition]:
                each = self._each(intro, condition, names)
                return {self.value(name, inner): self.value(item, inner) for inner in each}
            case "FunctionCall", [name, *arguments]:
                return self._call(word(name), arguments, names)
        raise AssertionError(f"not known: {kind(node)} {word(node)}")

    def key(self, node: Any, names: Names) -> str:
        """Return the name of an object's field."""
        (inner,) = parts(node)
        return word(inner) if kind(inner) == "Identifier" else _text(self.value(inner, names))

    def _template(self, pieces: list[Any], names: Names) -> Any:
        texts = []
        for piece in pieces:
            match parts(piece):
                case [interpolation]:
                    texts.append(_text(self.value(parts(interpolation)[0], names)))
                case _:
                    texts.append(re.sub(r"\\.|\$\$\{", lambda found: _ESCAPES[found.group()], word(piece)))
        return "".join(texts)

    def _binary(self, left: Any, sign: Any, right: Any, names: Names) -> Any:
        match word(sign).strip():
            case "&&":
                return self.value(left, names) and self.value(right, names)
            case "||":
                return self.value(left, names) or self.value(right, names)
            case name:
                return _OPERATORS[name](self.value(left, names), self.value(right, names))

    def _attribute(self, value: Any, name: str) -> Any:
        return Reference(f"{value}.{name}") if isinstance(value, Reference) else value[name]

    def _each(self, intro: Any, condition: list[Any], names: Names) -> Iterator[Names]:
        *variables, iterable = parts(intro)
        items = self.value(iterable, names)
        pairs = sorted(items.items()) if isinstance(items, dict) else enumerate(items)
        for key, item in pairs:
            words = [word(variable) for variable in variables]
            inner = {**names, words[-1]: item} | ({words[0]: key} if len(words) > 1 else {})
            if all(self.value(parts(test)[0], inner) for test in condition):
                yield inner

    def _call(self, name: str, arguments: list[Any], names: Names) -> Any:
        given = parts(arguments[0]) if arguments else []
        if name in {"try", "can"}:
            return self._try(name, given, names)
        values = [self.value(argument, names) for argument in given]
        if arguments and word(arguments[0]).endswith("..."):
            values[-1:] = values[-1]
        return _FUNCTIONS[name](*values)

    def _try(self, name: str, arguments: list[Any], names: Names) -> Any:
        for argument in arguments:
            try:
                value = self.value(argument, names)
            except (LookupError, TypeError):
                continue
            return True if name == "can" else value
        assert name == "can", "nothing that can be worked out"
        return False
