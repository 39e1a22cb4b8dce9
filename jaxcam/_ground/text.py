"""Text of others - names of files, classes, networks - on its way to a terminal or a picture."""

import unicodedata

_KEPT = "\n\t"
_TURNS = {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def printable(text: str) -> str:
    r"""The text with control characters written out, `\x1b`: none reaches a terminal.

    Neither do marks that turn the direction of text; line ends and tabs stay, as do letters of all
    scripts. Bytes that are no text become question marks.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_written, text.encode("utf-8", "replace").decode()))


def in_line(text: str) -> str:
    """The printable text in one line."""
    return " ".join(printable(text).split())


def counted(count: int, noun: str) -> str:
    """A number and what it counts: "1 photo", "2 photos", "2 classes"."""
    ending = "es" if noun.endswith(("s", "x")) else "s"
    return f"{count} {noun}{'' if count == 1 else ending}"


def _written(character: str) -> str:
    control = unicodedata.category(character) == "Cc" and character not in _KEPT
    if control or character in _TURNS:
        return character.encode("unicode_escape").decode()
    return character
