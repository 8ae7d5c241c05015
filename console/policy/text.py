"""Read a rules document written in YAML, or in JSON, which is YAML too; every refusal says line and column.

The YAML here is small on purpose: mappings, lists, text, whole numbers, true and false. What YAML lets mean two things
(anchors, tags, merge keys, `no`, `1:30`, `1e3`, dates, second documents) is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import yaml

from console.policy.lookalikes import check_lookalikes
from custody.canonical import Json
from custody.errors import MalformedError
from custody.policy import Policy, parse_policy

MAX_TEXT_BYTES = 2 * 1024 * 1024  # a document is at most 512 KiB as canonical JSON; people add comments and indent
MAX_DEPTH = 32  # as canonical JSON allows
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_AMBIGUOUS = re.compile(
    r"(?i:~|null|yes|no|on|off|y|n|true|false|[-+]?\.?(inf|nan))"  # words that some YAML reads as no text
    r"|[-+]?(0[box])?[0-9][0-9_,]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9_]+([eE][-+]?[0-9]+)?"  # any other number
    r"|[0-9]+(:[0-9]+)+(\.[0-9]*)?|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*"  # base 60, dates
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the file; both count from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Written:
    """A document as it was written. value: JSON.  places: by path, "policy.rules[3].match.amount"."""

    name: str
    value: Mapping[str, Json]
    places: Mapping[str, Place]

    def place(self, path: str) -> Place:
        """Return where `path` stands, or what holds it."""
        while path not in self.places and path != "policy":
            path = path[: max(path.rfind("."), path.rfind("["))] if "." in path or "[" in path else "policy"
        return self.places[path]


def read_text(text: str, name: str) -> Written:
    """Return the document in `text`, a file called `name`.

    Raises:
        MalformedError: YAML_SYNTAX, YAML_DUPLICATE_KEY, YAML_AMBIGUOUS, YAML_ANCHOR, YAML_TAG, YAML_KEY, YAML_NUMBER,
            YAML_LOOKALIKE, YAML_TOO_LARGE, YAML_DOCUMENTS, YAML_EMPTY; each message begins NAME:LINE:COLUMN.
    """
    value, places = read_value(text, name)
    if not isinstance(value, dict):
        raise MalformedError("YAML_EMPTY", f"{name}:1:1: expected a mapping")
    written = Written(name, value, places)
    check_lookalikes(value, lambda path, code, message: _refuse(name, written.place(path), code, message))
    return written


def read_value(text: str, name: str) -> tuple[Json, Mapping[str, Place]]:
    """Return the value of the only document in `text`, whatever it holds, and where each part of it stands.

    Raises:
        MalformedError: as `read_text`, without YAML_LOOKALIKE.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_TEXT_BYTES:
        raise MalformedError("YAML_TOO_LARGE", f"{name}: expected at most {MAX_TEXT_BYTES} bytes")
    reader = _Reader(name, text)
    return reader.document(), reader.places


def parse_written(written: Written) -> Policy:
    """Return the rules in `written`.

    Raises:
        MalformedError: as `parse_policy`, each message with NAME:LINE:COLUMN in front.
    """
    try:
        return parse_policy(written.value)
    except MalformedError as error:
        _refuse(written.name, written.place(_path_of(error.message)), error.code, error.message)


def _path_of(message: str) -> str:
    """Return the path that a refusal of the parser begins with; an unknown field stands inside it."""
    path, _, rest = message.partition(": ")
    unknown = re.search(r"unknown field '([^']*)'", rest)
    return f"{path}.{unknown.group(1)}" if unknown else path


def _refuse(name: str, place: Place, code: str, message: str) -> NoReturn:
    raise MalformedError(code, f"{name}:{place}: {message}")


class _Reader:
    """Builds JSON from the events of PyYAML's parser, which resolve nothing by themselves."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self.places: dict[str, Place] = {}
        self._events = self._checked(text)

    def document(self) -> Json:
        """Return the only document of the text."""
        self._expect(yaml.StreamStartEvent)
        first = next(self._events)
        if isinstance(first, yaml.StreamEndEvent):
            raise MalformedError("YAML_EMPTY", f"{self._name}:1:1: expected a document")
        if getattr(first, "version", None) or getattr(first, "tags", None):
            self._no(first, "YAML_TAG", "expected no directive")
        value = self._value(next(self._events), "policy", MAX_DEPTH)
        self._expect(yaml.DocumentEndEvent)
        last = next(self._events)
        if not isinstance(last, yaml.StreamEndEvent):
            self._no(last, "YAML_DOCUMENTS", "expected one document, found a second")
        return value

    def _checked(self, text: str) -> Iterator[yaml.Event]:
        try:
            for event in yaml.parse(text, Loader=yaml.SafeLoader):
                if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                    self._no(event, "YAML_ANCHOR", "expected no anchor or alias: write it out")
                if tag := getattr(event, "tag", None):
                    self._no(event, "YAML_TAG", f"expected no tag, found {tag[:40]!r}")
                yield event
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
            raise MalformedError("YAML_SYNTAX", f"{self._name}:{place}: {error.problem}") from error
        except yaml.YAMLError as error:  # characters that YAML knows nothing of
            raise MalformedError("YAML_SYNTAX", f"{self._name}:1:1: {str(error).splitlines()[0]}") from error

    def _expect(self, kind: type[yaml.Event]) -> None:
        event = next(self._events)
        assert isinstance(event, kind), event  # noqa: S101 - the order of events is the parser's own promise

    def _value(self, event: yaml.Event, path: str, depth: int) -> Json:
        self.places.setdefault(path, _place(event))
        if depth == 0:
            self._no(event, "YAML_SYNTAX", f"expected at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(path, depth)
        assert isinstance(event, yaml.ScalarEvent)  # noqa: S101 - aliases were refused
        return self._scalar(event)

    def _mapping(self, path: str, depth: int) -> Json:
        found: dict[str, Json] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in found:
                first = self.places[f"{path}.{key}"]
                self._no(event, "YAML_DUPLICATE_KEY", f"expected each key once, found {key!r} of {first} again")
            self.places[f"{path}.{key}"] = _place(event)
            found[key] = self._value(next(self._events), f"{path}.{key}", depth - 1)
        return found

    def _list(self, path: str, depth: int) -> Json:
        found: list[Json] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            found.append(self._value(event, f"{path}[{len(found)}]", depth - 1))
        return found

    def _key(self, event: yaml.Event) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            self._no(event, "YAML_KEY", "expected a word as key")
        key: str = event.value
        if event.style is None and key in ("<<", "="):
            self._no(event, "YAML_KEY", "expected no merge key: write it out")
        if not key.isascii() or not key.isprintable() or not key:
            self._no(event, "YAML_KEY", f"expected a key of ASCII letters, found {key[:40]!a}")
        return key

    def _scalar(self, event: yaml.ScalarEvent) -> Json:
        text: str = event.value
        if event.style is not None:  # quoted, or a block of text
            return text
        if text in ("true", "false"):
            return text == "true"
        if _INTEGER.fullmatch(text):
            if len(text) > 17:
                self._no(event, "YAML_NUMBER", "expected a number inside 2^53, or text in quotes")
            return int(text)
        if not text or _AMBIGUOUS.fullmatch(text):
            self._no(
                event, "YAML_AMBIGUOUS", f"expected a whole number or text, found {text[:40]!r}: put text in quotes"
            )
        return text

    def _no(self, event: yaml.Event, code: str, message: str) -> NoReturn:
        _refuse(self._name, _place(event), code, message)


def _place(event: yaml.Event) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


class _Dumper(yaml.SafeDumper):
    """Writes text so that `read_text` reads the same back."""

    def ignore_aliases(self, data: object) -> bool:
        """Write everything out: what one value shares with another is nobody's business."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    is_plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9._/-]*", text) and not _AMBIGUOUS.fullmatch(text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _text)


def write_text(document: Mapping[str, Json]) -> str:
    """Return `document` as YAML for people: `read_text` gives the same value, so the same hash."""
    written: str = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=10**6)
    return written
