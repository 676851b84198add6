"""Reads the histograms of report.json (HdrHistogram's V2-deflate in base64, nanoseconds), so that rounds can be added up."""
import base64
import struct
import zlib
from collections import Counter

COOKIE, COOKIE_DEFLATE, COOKIE_MASK = 0x1C849303, 0x1C849304, ~0xF0
SAMPLES_BEYOND_MIN = 10


def decode(text):
    """Value in nanoseconds (the highest that its bucket holds) → count."""
    if not text:
        return Counter()
    raw = base64.b64decode(text)
    cookie, length = struct.unpack_from(">II", raw)
    if cookie & COOKIE_MASK != COOKIE_DEFLATE & COOKIE_MASK:
        raise ValueError("not a V2-deflate histogram")
    plain = zlib.decompress(raw[8 : 8 + length])
    cookie, length, _offset, digits, lowest, _highest, _ratio = struct.unpack_from(">IIIIQQd", plain)
    if cookie & COOKIE_MASK != COOKIE & COOKIE_MASK:
        raise ValueError("not a V2 histogram")
    unit = max(lowest, 1).bit_length() - 1
    half_bits = (2 * 10**digits - 1).bit_length() - 1
    counts, index = Counter(), 0
    for number in _zigzag(plain[40 : 40 + length]):
        if number < 0:
            index -= number
        else:
            counts[_value(index, half_bits, unit)] += number
            index += 1
    counts.pop(0, None)
    return +counts


def _zigzag(data):
    """ZigZag LEB128 numbers of at most 9 bytes; the ninth holds 8 bits."""
    at = 0
    while at < len(data):
        number = shift = 0
        for place in range(9):
            byte = data[at]
            at += 1
            number |= (byte if place == 8 else byte & 0x7F) << shift
            shift += 7
            if place == 8 or not byte & 0x80:
                break
        yield (number >> 1) ^ -(number & 1)


def _value(index, half_bits, unit):
    bucket = (index >> half_bits) - 1
    sub = (index & ((1 << half_bits) - 1)) + (1 << half_bits)
    if bucket < 0:
        bucket, sub = 0, sub - (1 << half_bits)
    return ((sub + 1) << (bucket + unit)) - 1


def quantile_us(counts, quantile):
    """None where fewer than ten samples lie beyond it, as in report.json."""
    total = sum(counts.values())
    if total * (1 - quantile) < SAMPLES_BEYOND_MIN:
        return None
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= total * quantile:
            return value / 1000
    return None
