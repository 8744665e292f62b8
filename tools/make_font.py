"""Make bdd_tf/edge/fonts/BddSans.ttf: DejaVu Sans without hints, cut down to alphabets of file names and to smileys.

Pillow's built-in font has ASCII only. Needs matplotlib (which brings DejaVu Sans and fonttools)::

    python tools/make_font.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from fontTools import subset

OUTPUT = Path(__file__).resolve().parents[1] / "bdd_tf/edge/fonts/BddSans.ttf"
RANGES = (
    (0x0020, 0x024F),  # Latin
    (0x0300, 0x036F),  # combining marks
    (0x0370, 0x045F),  # Greek, Cyrillic
    (0x1E00, 0x1EFF),  # Vietnamese, further Latin
    (0x2010, 0x203A),  # punctuation
    (0x20AC, 0x20AC),  # euro
    (0x2190, 0x2193),  # arrows
    (0x2600, 0x2603),  # weather
    (0x2605, 0x2606),  # stars
    (0x263A, 0x2665),  # smiley, suits
    (0x1F600, 0x1F64F),  # emoticons
)


def main() -> None:
    """Write the font."""
    options = subset.Options(hinting=False, layout_features=["ccmp", "mark"], name_IDs=["*"])
    options.drop_tables += ["FFTM"]
    font = subset.load_font(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[code for first, last in RANGES for code in range(first, last + 1)])
    subsetter.subset(font)
    # Its licence permits changed fonts under another name.
    for record in font["name"].names:
        if record.nameID in (1, 3, 4, 6, 16):
            record.string = "BddSans" if record.nameID == 6 else "Bdd Sans"
    font["head"].modified = font["head"].created  # the same bytes whenever it is made
    font.recalcTimestamp = False
    font.save(OUTPUT)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size:,} bytes, {len(font.getBestCmap())} characters")


if __name__ == "__main__":
    main()
