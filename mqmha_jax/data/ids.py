"""Ids of utterances, speakers and models: which ones are accepted, and how lists and tables write them.

One rule for every format. An id is any text without control characters that is more than white space. In lists that
separate fields by white space, an id with white space in it is written as a JSON string, ``"rec 0.wav"``. Of a path,
only the plain form counts: ``./a//0.wav`` is ``a/0.wav``.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

from mqmha_jax.errors import UserError

# White space, or a JSON string: from one quotation mark to the next that has no backslash before it.
_FIELD = re.compile(r'"(?:[^"\\]|\\.)*"(?=\s|$)|\S+')

_SEPARATORS = "\u2028\u2029"


def check_id(text: str, what: str) -> str:
    """Refuses what cannot be an id.

    Args:
      text: the id.
      what: names it in the message, with its place, e.g. ``"list.csv:3: path"``.

    Returns:
      The text.

    Raises:
      UserError: it is empty or white space, has a control character (a newline, a tab, an escape) or is not valid
        Unicode.
    """
    if not text or text.isspace():
        raise UserError(f"{what} {f'{text!r} is only white space' if text else 'is empty'}; give it a name.")
    if text.isprintable():  # millions of ids, in one fast call each
        return text
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") or character in _SEPARATORS:
            raise UserError(
                f"{what} {text!r} has the character {character!r} in it, which no list can carry and which can change "
                "what a terminal shows. Rename it."
            )
    return text


def plain_id(text: str) -> str:
    """The id that a text in a list means: of a path such as ``./a//0.wav`` the plain form, ``a/0.wav``."""
    if "./" not in text and "//" not in text:  # the millions of ids that are plain
        return text
    if "://" in text:
        return text
    parts = text.split("/")
    kept = [part for i, part in enumerate(parts) if part not in ("", ".") or (i == 0 and part == "")]
    return "/".join(kept) if any(kept) else text


class PlainIds(dict[str, str]):
    """``plain_id`` of each text that is looked up; equal ids are one string object, so long lists fit into memory."""

    def __missing__(self, text: str) -> str:
        plain = plain_id(text)
        self[text] = text if plain == text else self[plain]
        return self[text]


def quote_id(text: str) -> str:
    """An id as a field of a list that separates fields by white space; ``split_fields`` reads it back."""
    return json.dumps(text, ensure_ascii=False) if text[:1] == '"' or text.split() != [text] else text


def split_fields(line: str) -> list[str]:
    """The fields of a line that are separated by white space, where ``quote_id`` may have written some.

    Args:
      line: of a text file.

    Returns:
      The fields, without their quotation marks. A mark that opens no JSON string is part of its field.
    """
    if '"' not in line:
        return line.split()
    return [_unquote(field) for field in _FIELD.findall(line)]


def split_first(line: str) -> tuple[str, str]:
    """The first field of a line, as in ``split_fields``, and the rest without white space around it."""
    line = line.strip()
    field = _FIELD.match(line)
    if field is None:
        return "", ""
    return _unquote(field[0]), line[field.end() :].strip()


def check_spellings(ids: Iterable[str], what: str, *, known: Iterable[str] = ()) -> None:
    """Refuses ids that look the same.

    They differ in how Unicode writes the same letters ("é" can be one character, or an "e" and an accent; systems
    differ in which they write into names of files), in white space around them, in the number of blanks within them, or
    in the plain form of a path.

    Args:
      ids: each once.
      what: names them in the message, e.g. ``"utterances"``.
      known: other ids, which the ids must also differ from. Those that an earlier version accepted stay.

    Raises:
      UserError: two ids look the same, and which.
    """
    first = {_same_for_all(text): text for text in known}
    for text in ids:
        one = first.setdefault(_same_for_all(text), text)
        if one != text:
            raise UserError(
                f"Two {what} are spelled differently and look the same: {_spell(one)} and {_spell(text)}. Rename one "
                "of them, or both alike."
            )


def other_spelling(text: str, known: Iterable[str]) -> str | None:
    """The known id that looks the same as a text and differs from it, as in ``check_spellings``, if there is one."""
    wanted = _same_for_all(text)
    return next((name for name in known if name != text and _same_for_all(name) == wanted), None)


def _same_for_all(text: str) -> str:
    return unicodedata.normalize("NFC", plain_id(" ".join(text.split())))


def _spell(text: str) -> str:
    return repr(text) if text.isascii() else f"{text!r} ({text!a})"


def _unquote(field: str) -> str:
    if field[0] != '"' or field[-1] != '"' or len(field) < 2:
        return field
    try:
        text = json.loads(field)
    except (ValueError, RecursionError):
        return field
    return text if isinstance(text, str) else field


def hash_names(names: Sequence[str]) -> str:
    """SHA-256 of a list of names in their order, in hexadecimal."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()
