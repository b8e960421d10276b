"""The record that a restored file carries: one entry of its edit history, in XMP.

XMP has a place for what programs did to a file: ``xmpMM:History``, a list of resource events
(XMP specification, part 2, 1.2.4 and 3.2). One entry is added there, as text, so that the rest of
a packet keeps its bytes. It holds no time: the same input, options and weights make the same
bytes. A packet that is odd in any way (not UTF-8, not well-formed, split in two, meant to be only
read) is left alone.
"""

from __future__ import annotations

import re
from typing import Final
from xml.parsers import expat

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_MM: Final = "http://ns.adobe.com/xap/1.0/mm/"
_EVENT: Final = "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
_RECORD: Final = (
    f'<rdf:li xmlns:rdf="{_RDF}" xmlns:stEvt="{_EVENT}" stEvt:action="edited"'
    ' stEvt:softwareAgent="%s" stEvt:changed="/" stEvt:parameters="%s"/>'
)
_ANY_RECORD: Final = re.compile(
    (re.escape(_RECORD) % ('restorepix [^"<>&]*', '[^"<>&]*')).encode(),
)
_DESCRIPTION: Final = (
    f'<rdf:Description xmlns:rdf="{_RDF}" rdf:about="" xmlns:xmpMM="{_MM}">'
    "<xmpMM:History><rdf:Seq>%s</rdf:Seq></xmpMM:History></rdf:Description>"
)
_PACKET: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
    "%s</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)
_HISTORY: Final = (f"{_RDF} RDF", f"{_RDF} Description", f"{_MM} History")
_ODD: Final = re.compile(rb"<!DOCTYPE|<!ENTITY|HasExtendedXMP|<\?xpacket\s+end=.r.")
_END_TAG: Final = re.compile(rb"</(?:[^\s<>:/]+:)?(?:RDF|Seq)\s*>")
_WEIGHTS_DIGITS: Final = 16


def build_record(version: str, hole_share: float, weights_sha256: str) -> str:
    """Return the history entry of a repair.

    Args:
        version: of restorepix.
        hole_share: repainted pixels per pixel, 0 to 1.
        weights_sha256: of the network's weights, in hex.
    """
    what = f"repainted {100 * hole_share:.4f} % of the pixels"
    weights = f"weights sha256 {weights_sha256[:_WEIGHTS_DIGITS]}"
    return _RECORD % (f"restorepix {version}", f"{what}, {weights}")


def find_record(packet: bytes) -> str | None:
    """Return the last entry of ours in a packet, or None."""
    found = _ANY_RECORD.findall(packet)
    return found[-1].decode() if found else None


def extend_packet(packet: bytes | None, record: str) -> bytes | None:
    """Return an XMP packet with one more history entry, all its own bytes kept.

    Args:
        packet: the packet, or None for a file that has none.
        record: from :func:`build_record`.

    Returns:
        The new packet, or None when the packet is odd and better left alone.
    """
    if packet is None:
        return (_PACKET % (_DESCRIPTION % record)).encode()
    if _ODD.search(packet):
        return None
    places = _Places()
    try:
        places.parse(packet)
    except (expat.ExpatError, UnicodeDecodeError):
        return None
    if places.histories > 1 or len(places.rdf) != 1 or len(places.events) != places.histories:
        return None
    place = (places.events or places.rdf)[0]
    if not _END_TAG.match(packet, place):  # an element without content has none
        return None
    text = record if places.events else _DESCRIPTION % record
    return packet[:place] + text.encode() + packet[place:]


def shorten_packet(packet: bytes, record: str) -> bytes | None:
    """Return the packet that :func:`extend_packet` made this one of; None for no packet at all.

    Returns:
        The same packet when it was not made by adding this record.
    """
    if packet == extend_packet(None, record):
        return None
    for text in (_DESCRIPTION % record, record):
        before, found, after = packet.rpartition(text.encode())
        if found and extend_packet(before + after, record) == packet:
            return before + after
    return packet


class _Places:
    """Where end tags stand in a packet, in bytes."""

    def __init__(self) -> None:
        self.rdf: list[int] = []
        """Of ``rdf:RDF``."""
        self.events: list[int] = []
        """Of the lists inside histories of the file itself, not of its ingredients."""
        self.histories = 0
        self._path: list[str] = []
        # The separator cannot be part of a namespace.
        self._parser = expat.ParserCreate("utf-8", " ")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def parse(self, packet: bytes) -> None:
        """Take a packet apart; some writers fill up with zeros."""
        packet.decode()
        self._parser.Parse(packet.rstrip(b"\0"), True)

    def _start(self, name: str, _: dict[str, str]) -> None:
        self._path.append(name)
        self.histories += self._is_below(_HISTORY)

    def _end(self, name: str) -> None:
        if name == _HISTORY[0]:
            self.rdf.append(self._parser.CurrentByteIndex)
        elif self._is_below((*_HISTORY, f"{_RDF} Seq")):
            self.events.append(self._parser.CurrentByteIndex)
        self._path.pop()

    def _is_below(self, names: tuple[str, ...]) -> bool:
        """Return whether the path is these names, inside ``x:xmpmeta`` or not."""
        at = len(self._path) - len(names)
        return at in (0, 1) and tuple(self._path[at:]) == names
