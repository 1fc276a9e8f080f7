"""Pictures, one of them a phone's, and EXIF blocks as no library would write them."""

from __future__ import annotations

import base64
import struct

import numpy as np
from PIL import Image


def picture(size: tuple[int, int] = (50, 40)) -> Image.Image:
    """A smooth one: what is compared is where things are and which colour they have, not each codec's noise."""
    rough = np.random.default_rng(3).integers(0, 256, (6, 7, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def exif(kind: int, count: int, value: bytes, tag: int = 0x0112) -> bytes:
    """An EXIF block of one entry: orientation, of TIFF's type number `kind`, with `count` values, 4 bytes of them."""
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", tag, kind, count) + value + b"\0\0\0\0"


#: What says nothing about the orientation, or nothing that can be read.
BROKEN = {
    "a text": exif(2, 2, b"6\0\0\0"),
    "a long text elsewhere": exif(2, 100, struct.pack("<I", 9999)),
    "no number": exif(3, 0, struct.pack("<I", 6)),
    "numbers elsewhere": exif(3, 60, struct.pack("<I", 5000)),
    "a fraction elsewhere": exif(5, 1, struct.pack("<I", 5000)),
    "bytes of no kind": exif(7, 4, b"\x06\0\0\0"),
    "a type that is none": exif(99, 1, struct.pack("<I", 6)),
    "nine": exif(3, 1, struct.pack("<HH", 9, 0)),
    "zero": exif(3, 1, struct.pack("<HH", 0, 0)),
    "much more": exif(4, 1, struct.pack("<I", 1 << 31)),
    "minus one": exif(9, 1, struct.pack("<i", -1)),
    "cut off": exif(3, 1, struct.pack("<HH", 6, 0))[:20],
    "only a header": b"Exif\0\0II*\0",
    "a directory elsewhere": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "no EXIF at all": b"Exif\0\0something else entirely",
}

#: 16 x 16 pixels, red on the left and blue on the right, by libheif.
HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004eZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE07O6l"
    "0RRC200001pa1~?00000002J#001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002|X>f9I0002oX>en20001WX"
    "m(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDMA4O18@KU0|1Z!00RI30{|YNAb|yz>aLpR;31"
    "&EfB*mtfB*mk0EA)y0RRR>0l{;@i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000G000010000G00001|NsBc"
    "00002|NsBc000020000GaA|mH000000|*ER0000OX>e^}0000000001009Mo0s{qv0000-ZDe6|0000xC;_h%A#{^K<uLpGr%j%GIBHdC(G<Uu_8"
    "Rqq3h4djLtsDyLMI>O;loNbK;_()iGM^Is^|C6g6+T"
)
