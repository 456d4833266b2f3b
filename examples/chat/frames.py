"""What a page may say to the bridge, checked once, here. A frame is one JSON object."""

import json
import re
from typing import NamedTuple

FRAME_BYTES_MAX = 16 * 1024
TEXT_MAX = 2000
NAME_MAX = 30
ID = re.compile(r"[0-9a-f]{32}")


class Refused(Exception):
    """The frame is not one of those below, or asks for what is not there; says why, and which message it was."""

    def __init__(self, reason: str, id: str | None = None):
        super().__init__(reason)
        self.id = id


class Join(NamedTuple):
    """Listen to a topic, and to no other from now on."""
    name: str
    topic: str


class Say(NamedTuple):
    """Send a text to a room. The page chooses the id, and keeps it when it sends the text again."""
    id: str
    room: str
    text: str


def text_field(fields: dict, key: str, length_max: int) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Refused(f"{key} must be a text")
    if len(value) > length_max:
        raise Refused(f"{key} must have at most {length_max} characters")
    return value.strip()


def parse(frame: str | bytes) -> Join | Say:
    try:
        fields = json.loads(frame)
    except (ValueError, RecursionError):
        raise Refused("a frame must be JSON") from None
    if not isinstance(fields, dict):
        raise Refused("a frame must be a JSON object")
    match fields.get("type"):
        case "join":
            return Join(text_field(fields, "name", NAME_MAX), text_field(fields, "topic", 255))
        case "say":
            id = text_field(fields, "id", 32)
            if not ID.fullmatch(id):
                raise Refused("id must be 32 hexadecimal digits")
            return Say(id, text_field(fields, "room", 255), text_field(fields, "text", TEXT_MAX))
    raise Refused("type must be join or say")
