"""Parses XML that somebody else wrote: no document types, and so no entities that grow or name files."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers import expat

from research.errors import RequestError


def parse(text: bytes, name: str) -> ElementTree.Element:
    """Parses a document; errors are one line that begins with `name`.

    Raises:
      RequestError: the document is malformed, or declares a document type or entities.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise RequestError(f"{name}, line {parser.CurrentLineNumber}: a document type; expected plain XML without one")

    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        reason = expat.errors.messages[error.code]
        raise RequestError(f"{name}, line {error.lineno}: malformed XML ({reason})") from None
    return builder.close()
